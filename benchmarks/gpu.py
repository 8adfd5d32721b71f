# SPDX-License-Identifier: Apache-2.0
"""How fast events go through the networks on a GPU, beside the same machine's CPU: `scripts/on_gpu.sh` runs it.

Everything is compared with the CPU's engine first. Two files are written, `DIR/gpu.json` and `DIR/gpu.md`. With `--dry`
there need not be a GPU: Triton's interpreter takes its place, on a few events, to see that this program works. What it
writes then are no figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch_geometric.data import Batch

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous, network
from aegnn_core.asynchronous import ENGINES, LiveModel
from aegnn_core.asynchronous.cuda import CudaEngine
from aegnn_core.asynchronous.cuda.self_check import disagreement
from aegnn_core.events import make_events
from aegnn_core.nn import spline_triton
from aegnn_core.nn.checkpoint import load_model
from aegnn_core.nn.networks import GraphNetwork

PACKETS = (100, 1_000, 10_000, 100_000)
DRY_PACKETS = (1, 20)
#: Live nodes that the window is chosen for, and events per pixel and second.
WINDOW_NODES, RATE = 10_000, 8
#: The longest that one figure may take to measure [s].
SECONDS = 1.0
GRAPHS_AT_ONCE = 16


@dataclass(frozen=True)
class Result:
    """One network, engine and packet size: medians over packets, and of an answer behind each."""

    network: str
    engine: str
    device: str
    threads: int
    packet: int
    packets: int
    us_per_packet: float
    events_per_second: float
    answer_ms: float


@dataclass(frozen=True)
class Training:
    """Steps of a batch of graphs forwards and backwards."""

    device: str
    threads: int
    graphs_per_step: int
    steps_per_second: float


def networks(dry: bool) -> dict[str, tuple[GraphNetwork, GraphConfig]]:
    """What is measured: AEGNN's network at two sizes, counts alone, and the packaged detectors."""
    made: dict[str, dict[str, Any]] = {
        "graph_res, N-Cars": {"name": "graph_res", "dataset": "ncars"},
        "histogram, simulated": {"name": "histogram", "dataset": "simulated", "task": "detection"},
    }
    if not dry:
        made["graph_res, Gen1"] = {"name": "graph_res", "dataset": "gen1", "task": "detection"}
    chosen: dict[str, tuple[GraphNetwork, GraphConfig]] = {}
    for name, options in made.items():
        model = network(**options)
        width, height = model.sensor
        chosen[name] = model, GraphConfig(window=int(1e6 * WINDOW_NODES / (RATE * width * height)))
    for packaged in () if dry else ("scenes_detector", "scenes_graph_detector"):
        trained = load_model(packaged)
        chosen[packaged] = trained.network, trained.graph
    return chosen


def stream(sensor: tuple[int, int], count: int) -> np.ndarray:
    """Events anywhere on a sensor."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 1 + int(count / (RATE * sensor[0] * sensor[1]) * 1e6), count))
    return make_events(t, *(rng.integers(0, high, count) for high in (*sensor, 2)))


def wait(device: str) -> None:
    """Let a GPU finish what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(work: Callable[[], object], device: str) -> float:
    """Seconds until the work is done, on a GPU too."""
    wait(device)
    begin = perf_counter()
    work()
    wait(device)
    return perf_counter() - begin


def measure(name: str, live: LiveModel, engine: str, device: str, packet: int, seconds: float) -> Result:
    """Fill the window, then time packets for some seconds, and an answer behind each of the first."""
    sensor = live.engine._model.sensor  # type: ignore[attr-defined]
    events = stream(sensor, (WINDOW_NODES if seconds else 0) + packet * (60 if seconds else 3))
    start = len(events) - packet * (60 if seconds else 3)
    live.reset()
    if start:
        live.update(events[:start])
    updates: list[float] = []
    answers: list[float] = []
    begin = perf_counter()
    for first in range(start, len(events), packet):
        part = events[first : first + packet]
        updates.append(timed(lambda part=part: live.update(part), device))  # type: ignore[misc]
        if len(answers) < 10:
            answers.append(timed(live.output, device))
        if len(updates) > 3 and perf_counter() - begin > seconds:
            break
    middle = float(np.median(updates[1:]))
    threads = torch.get_num_threads() if device == "cpu" else 0
    return Result(
        name, engine, device, threads, packet, len(updates) - 1, middle * 1e6, packet / middle,
        float(np.median(answers[1:])) * 1e3,
    )  # fmt: skip


def cpu_engine(model: nn.Module, graph: GraphConfig) -> str:
    """The fastest engine that the CPU has for a model."""
    return next(name for name, kind in ENGINES.items() if name != "cuda" and kind.refusal(model, graph) is None)


def measure_network(
    name: str, model: GraphNetwork, graph: GraphConfig, device: str, packets: tuple[int, ...], seconds: float
) -> list[Result]:
    """The engine cuda, the engine packet on the same device, and the CPU's with one thread and with all."""
    results = []
    on_device = deepcopy(model).to(device)
    for engine in ("cuda", "packet"):
        if ENGINES[engine].refusal(on_device, graph) is None:
            live = make_model_asynchronous(on_device, graph, engine=engine)
            results += [measure(name, live, engine, device, packet, seconds) for packet in packets]
    engine = cpu_engine(model, graph)
    live = make_model_asynchronous(model, graph, engine=engine)
    for threads in sorted({1, os.cpu_count() or 1}):
        torch.set_num_threads(threads)
        results += [measure(name, live, engine, "cpu", packet, seconds) for packet in packets]
    return results


def measure_training(device: str, threads: int, events: int, seconds: float) -> Training:
    """Train `graph_res` on recordings of N-MNIST's size; a step is without the search for edges."""
    torch.set_num_threads(threads)
    graph = GraphConfig(max_neighbors=16, time_scale=3e-5)
    batch = Batch.from_data_list([build_graph(stream((34, 34), events), graph) for _ in range(GRAPHS_AT_ONCE)])
    batch = batch.to(device)
    model = network("graph_res", dataset="nmnist").to(device).train()
    optimizer = torch.optim.Adam(model.parameters())
    labels = torch.arange(GRAPHS_AT_ONCE, device=device) % 10

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(batch), labels).backward()
        optimizer.step()

    times = [timed(step, device) for _ in range(2)]
    begin = perf_counter()
    while perf_counter() - begin < seconds:
        times.append(timed(step, device))
    return Training(device, threads, GRAPHS_AT_ONCE, 1 / float(np.median(times[1:])))


def training_check(device: str, dry: bool) -> str | None:
    """How the kernels of training differ from torch, for the layers of `graph_res`, or None."""
    for inputs, outputs in ((1, 8),) if dry else ((1, 8), (8, 16), (16, 16), (16, 32), (32, 32)):
        layer = torch.float32, (2, 2, 2), inputs, outputs
        if found := spline_triton.disagreement(torch.device(device), *layer, nodes=10 if dry else 100):
            return f"{inputs} → {outputs}: {found}"
    return None


def kernel_times(model: GraphNetwork, graph: GraphConfig, packet: int) -> dict[str, float]:
    """Microseconds of every kernel for a packet and an answer, as torch's profiler sees them."""
    live = make_model_asynchronous(deepcopy(model).cuda(), graph, engine="cuda")
    events = stream(model.sensor, 11 * packet)
    live.update(events[:packet])
    live.output()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for start in range(packet, 11 * packet, packet):
            live.update(events[start : start + packet])
            live.output()
        torch.cuda.synchronize()
    return {
        row.key: float(getattr(row, "device_time_total", 0) or getattr(row, "cuda_time_total", 0)) / 10
        for row in profile.key_averages()
    }


def as_markdown(facts: dict[str, Any], results: list[Result], training: list[Training]) -> str:
    """The figures as tables."""
    lines = [f"{facts['device']}, {facts['date']}, torch {facts['torch']}, Triton {facts['triton']}", ""]
    lines += [f"- self-check of {name}: {found or 'passed'}" for name, found in facts["self_check"].items()]
    lines += ["", "| network | engine | on | threads | packet | µs/packet | events/s | answer ms |"]
    lines += ["| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {row.network} | {row.engine} | {row.device} | {row.threads or ''} | {row.packet:,} |"
        f" {row.us_per_packet:.0f} | {row.events_per_second:,.0f} | {row.answer_ms:.2f} |"
        for row in results
    ]
    lines += ["", "| training on | threads | graphs per step | steps/s |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {row.device} | {row.threads} | {row.graphs_per_step} | {row.steps_per_second:.2f} |" for row in training
    ]
    for name, times in facts.get("kernels", {}).items():
        lines += ["", f"| kernel, {name} | µs |", "| --- | ---: |"]
        lines += [f"| {kernel} | {time:.1f} |" for kernel, time in times.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="where gpu.json and gpu.md are written")
    parser.add_argument("--dry", action="store_true", help="in Triton's interpreter, a few events")
    arguments = parser.parse_args()
    dry, device = arguments.dry, "cpu" if arguments.dry else "cuda"
    if not dry and not torch.cuda.is_available():
        parser.error("this machine has no CUDA device that torch can use (--dry tries the program without one)")
    import triton

    arguments.folder.mkdir(parents=True, exist_ok=True)
    seconds, packets = (0.0, DRY_PACKETS) if dry else (SECONDS, PACKETS)
    facts: dict[str, Any] = {
        "device": f"dry run on {platform.machine()}, not figures" if dry else torch.cuda.get_device_name(),
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "self_check": {},
    }
    results: list[Result] = []
    training: list[Training] = []

    def write() -> None:
        figures = {**facts, "results": [asdict(row) for row in results], "training": [asdict(row) for row in training]}
        (arguments.folder / "gpu.json").write_text(json.dumps(figures, indent=2) + "\n")
        (arguments.folder / "gpu.md").write_text(as_markdown(facts, results, training))

    chosen = networks(dry)
    for name, (model, graph) in chosen.items():
        facts["self_check"][name] = disagreement(CudaEngine, deepcopy(model).to(device), graph, 40 if dry else 2_000)
        results += measure_network(name, model, graph, device, packets, seconds)
        write()
    facts["self_check"]["training"] = training_check(device, dry)
    for where, threads in ((device, 1), ("cpu", os.cpu_count() or 1)):
        training.append(measure_training(where, threads, 40 if dry else 4_200, 2 * seconds))
    write()
    if not dry:  # last, because profilers may be missing or not allowed
        facts["kernels"] = {name: kernel_times(model, graph, 10_000) for name, (model, graph) in chosen.items()}
        write()
    print((arguments.folder / "gpu.md").read_text())


if __name__ == "__main__":
    main()
