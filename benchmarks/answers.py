# SPDX-License-Identifier: Apache-2.0
"""How long an answer of a packaged histogram takes: its head in compiled code beside torch's, and a detector's boxes.

A simulated stream comes in packets of a given duration, an answer is asked for after each. All ways are measured in
turn at the same moments, so that a noisy machine does not favour one, and by the time that the one thread had of its
processor. The median, and the least, of each are printed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter, sleep, thread_time
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from aegnn_core import load_model, make_model_asynchronous
from aegnn_core.asynchronous.compiled.head import make_head
from aegnn_core.asynchronous.counting_engine import CountingEngine
from aegnn_core.asynchronous.folded_head import TorchHead, fold_norms
from aegnn_core.events.simulation import SceneConfig, SensorModel, simulate_scene
from aegnn_core.graph.build import build_nodes
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_core.nn.detection import suppress
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.option_types import count, positive, thread_counts

#: From an update to the answer, where threads are compared [ms].
_PAUSES_MS = (0, 4, 30)


def _decode_all(network: GraphNetwork, output: Tensor) -> list[np.ndarray]:
    return suppress(network.predictions(output), network.sensor)


def _events(trained: TrainedModel, packet_us: int, answers: int) -> np.ndarray:
    """Of a simulated scene, for so many answers behind a whole window."""
    width, height = trained.network.sensor
    duration = (trained.graph.window or 0) + (answers + 1) * packet_us
    config = SceneConfig(sensor=SensorModel(width=width, height=height), duration_us=duration)
    return simulate_scene(0, config).stream.events


def _packets(events: np.ndarray, window: int, packet_us: int, answers: int) -> Iterator[tuple[int, int, int]]:
    """First event of every packet, the one behind its last, and its end [µs]. The first packet is a whole window."""
    start = 0
    for end in track(range(window, window + answers * packet_us, packet_us), transient=True):
        stop = int(np.searchsorted(events["t"], end))
        yield start, stop, end
        start = stop


def _read_answer(network: GraphNetwork, output: Tensor) -> object:
    """What a node makes of an output."""
    return network.detections(output) if network.task == "detection" else output.softmax(1)


def compare_threads(name: str, counts: Sequence[int], packet_us: int, answers: int) -> dict[str, list[float]]:
    """Seconds of the clock per answer, a detector's boxes included, by number of threads and time since the update."""
    trained = load_model(name)
    network = trained.network
    lives = {n: make_model_asynchronous(network, trained.graph, threads=n, frozen=True) for n in counts}
    events = _events(trained, packet_us, answers)
    seconds: dict[str, list[float]] = {}
    for pause_ms in _PAUSES_MS:
        for live in lives.values():
            live.reset()
        for start, stop, _ in _packets(events, trained.graph.window or 0, packet_us, answers):
            for n, live in lives.items():
                live.update(events[start:stop])
                sleep(1e-3 * pause_ms)
                begin = perf_counter()
                _read_answer(network, live.output())
                seconds.setdefault(f"{n} threads, {pause_ms} ms after an update", []).append(perf_counter() - begin)
    return seconds


def measure(name: str, packet_us: int, answers: int) -> dict[str, list[float]]:
    """Seconds of the processor that every way took, answer by answer; and the FLOPs of the heads, by the same names."""
    trained = load_model(name)
    network = trained.network
    live = make_model_asynchronous(network, trained.graph)
    engine = live.engine
    assert isinstance(engine, CountingEngine)
    assert network.counts is not None
    columns, rows = network.counts.shape
    shape = (network.counts.channels, rows, columns)
    ways: dict[str, Any] = {
        "head, torch": network.head,
        "head, torch, norms folded": TorchHead(fold_norms(network.head)),
        "head, compiled, whole image": make_head(network.head, shape, np.float32),
        "head, compiled, what changed": make_head(network.head, shape, np.float32),
    }
    seconds: dict[str, list[float]] = {}

    def timed(way: str, function: Callable[..., Any], *arguments: Any) -> Any:
        begin = thread_time()
        result = function(*arguments)
        seconds.setdefault(way, []).append(thread_time() - begin)
        return result

    window = trained.graph.window or 0
    events = _events(trained, packet_us, answers)
    for start, stop, end in _packets(events, window, packet_us, answers):
        live.update(events[start:stop])
        output = timed("output()", live.output)
        nodes = build_nodes(events[int(np.searchsorted(events["t"], end - window)) : stop], trained.graph)
        image = network.counts(nodes.x, nodes.pos, torch.zeros_like(nodes.t), 1, nodes.t)
        with torch.no_grad():
            for way, head in ways.items():
                if way == "head, compiled, whole image":
                    head(image + 1)
                timed(way, head, image)
        if network.task == "detection":
            timed("boxes", _read_answer, network, output)
            timed("boxes, all cells decoded", _decode_all, network, output)
    for way, head in ways.items():
        if way != "head, torch":
            seconds[f"{way}: FLOP"] = [head.flops]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="scenes_detector", help="a packaged model that only counts events")
    parser.add_argument("--packet-ms", type=positive, default=33, help="time from one answer to the next")
    parser.add_argument("--answers", type=count, default=100)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--threads", type=thread_counts, metavar="N,N", help="compare answers by these numbers instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    packet_us = round(1e3 * arguments.packet_ms)
    if arguments.threads:
        seconds = compare_threads(arguments.model, arguments.threads, packet_us, arguments.answers)
    else:
        seconds = measure(arguments.model, packet_us, arguments.answers)
    table = Table(
        "what", "median ms", "least ms", title=f"{arguments.model}, an answer every {arguments.packet_ms:g} ms"
    )
    figures = {}
    for way, times in seconds.items():
        if way.endswith("FLOP"):
            table.add_row(way, f"{times[0]:,}", "")
        else:
            figures[way] = {"median_ms": 1e3 * float(np.median(times)), "least_ms": 1e3 * min(times)}
            table.add_row(way, f"{figures[way]['median_ms']:.2f}", f"{figures[way]['least_ms']:.2f}")
    Console(width=120).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
