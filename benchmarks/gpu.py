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
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch_geometric.data import Batch, Data

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous, network
from aegnn_core.asynchronous import ENGINES, LiveModel
from aegnn_core.asynchronous.cuda import CudaEngine
from aegnn_core.asynchronous.cuda.self_check import disagreement, known_disagreement
from aegnn_core.events import make_events
from aegnn_core.events.simulation import simulate_recognition
from aegnn_core.nn import spline_triton
from aegnn_core.nn.checkpoint import load_model
from aegnn_core.nn.graph_network import GraphNetwork

PACKETS = (100, 1_000, 10_000, 100_000)
#: Where one packet takes long.
FEWER_PACKETS = (1_000, 10_000)
DRY_PACKETS = (1, 20)
#: Live nodes that the window is chosen for, and events per pixel and second.
WINDOW_NODES, RATE = 10_000, 8
#: The longest that one figure may take to measure [s].
SECONDS = 0.3
GRAPHS_AT_ONCE = 16
TRAINING_STEPS = 200


@dataclass(frozen=True)
class Result:
    """One network, engine and packet size: medians over packets, and of an answer behind each, of a frozen model.

    Packets are timed one by one, each until the device has done with it, and then one after the other, which only the
    last is waited for: so a node feeds it.
    """

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
    """Steps of a batch of graphs forwards and backwards; the loss after as many steps as a GPU was given."""

    device: str
    threads: int
    precision: str
    graphs_per_step: int
    steps_per_second: float
    loss: float | None


def networks(dry: bool) -> dict[str, tuple[GraphNetwork, GraphConfig]]:
    """What is measured: AEGNN's network at two sizes, counts alone, and the packaged detectors."""
    made: dict[str, dict[str, Any]] = {
        "graph_res, N-Cars": {"name": "graph_res", "dataset": "ncars"},
        "histogram, simulated": {"name": "histogram", "dataset": "simulated", "task": "detection"},
        "graph_res, Gen1": {"name": "graph_res", "dataset": "gen1", "task": "detection"},
    }
    chosen: dict[str, tuple[GraphNetwork, GraphConfig]] = {}
    for name, options in list(made.items())[: 2 if dry else None]:
        model = network(**options)
        width, height = model.sensor
        chosen[name] = model, GraphConfig(window=int(1e6 * WINDOW_NODES / (RATE * width * height)))
    for packaged in () if dry else ("scenes_detector", "scenes_graph_detector"):
        trained = load_model(packaged)
        chosen[packaged] = trained.network, trained.graph
    if not dry:
        del chosen["histogram, simulated"]  # the packaged one is the same
        chosen["graph_res, Gen1"] = chosen.pop("graph_res, Gen1")  # the longest comes last
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
    packets = 61 if seconds else 5
    events = stream(sensor, (WINDOW_NODES if seconds else 0) + packet * packets)
    start = len(events) - packet * packets
    live.reset()
    if start:
        live.update(events[:start])
    parts = iter(np.split(events[start:], packets))
    updates: list[float] = []
    answers: list[float] = []
    begin = perf_counter()
    while len(updates) < min(20, packets // 2) and (len(updates) < 2 or perf_counter() - begin < seconds):
        updates.append(timed(lambda: live.update(next(parts)), device))
        if len(answers) < 10:
            answers.append(timed(live.output, device))
    middle = float(np.median(updates[1:]))
    if device == "cuda":
        followed = min(packets - len(updates), max(1, int(seconds / middle)))

        def one_after_the_other() -> None:
            for _ in range(followed):
                live.update(next(parts))

        rate = followed * packet / timed(one_after_the_other, device)
    else:
        rate = packet / middle
    threads = 0 if device == "cuda" else live.threads
    return Result(
        name, engine, device, threads, packet, len(updates) - 1, middle * 1e6, rate,
        float(np.median(answers[1:])) * 1e3,
    )  # fmt: skip


def cpu_engine(model: nn.Module, graph: GraphConfig) -> str:
    """The fastest engine that the CPU has for a model."""
    return next(name for name, kind in ENGINES.items() if name != "cuda" and kind.refusal(model, graph) is None)


def measure_network(
    name: str,
    model: GraphNetwork,
    graph: GraphConfig,
    device: str,
    packets: tuple[int, ...],
    threads_on_cpu: list[int],
    seconds: float,
) -> list[Result]:
    """The engine cuda, the engine packet on the same device, and the CPU's with one thread and with more."""
    results = []
    fewer = FEWER_PACKETS if seconds else packets
    on_device = deepcopy(model).to(device)
    for engine in ("cuda", "packet"):
        if ENGINES[engine].refusal(on_device, graph) is None:
            live = make_model_asynchronous(on_device, graph, engine=engine, frozen=True)
            sizes = packets if engine == "cuda" else fewer
            results += [measure(name, live, engine, device, packet, seconds) for packet in sizes]
    engine = cpu_engine(model, graph)
    for threads in threads_on_cpu:
        live = make_model_asynchronous(model, graph, engine=engine, threads=threads, frozen=True)
        if live.threads == threads:  # some engines have nothing for a second one to do
            torch.set_num_threads(threads)
            results += [measure(name, live, engine, "cpu", packet, seconds) for packet in fewer]
    return results


def threads_to_try() -> list[int]:
    """One, two, four and so on, and as many as there are processors."""
    cores = os.cpu_count() or 1
    return sorted({cores, *(1 << n for n in range(cores.bit_length()) if 1 << n < cores)})


def recordings(count: int, dry: bool) -> list[Data]:
    """Graphs to train on, with labels: simulated recordings."""
    graph = GraphConfig(max_neighbors=16, time_scale=3e-5)
    graphs = []
    for seed in range(count):
        sample = simulate_recognition(seed)
        events = sample.stream.events[: 40 if dry else None]
        graphs.append(build_graph(events, graph))
        graphs[-1].y = torch.tensor([sample.label])
    return graphs


def measure_training(graphs: list[Data], device: str, threads: int, precision: str, seconds: float) -> Training:
    """Train `graph_res` on the same graphs again and again; a step is without the search for edges."""
    torch.set_num_threads(threads)
    batches = [
        Batch.from_data_list(graphs[n : n + GRAPHS_AT_ONCE]).to(device) for n in range(0, len(graphs), GRAPHS_AT_ONCE)
    ]
    torch.manual_seed(0)
    model = network("graph_res", dataset="simulated").to(device).train()
    optimizer = torch.optim.Adam(model.parameters())
    kind = {"32": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}[precision]
    scaler = torch.amp.GradScaler(device, enabled=kind is torch.float16)
    losses: list[Tensor] = []

    def step() -> None:
        batch = batches[len(losses) % len(batches)]
        optimizer.zero_grad()
        with torch.autocast(device, kind, enabled=kind is not None):
            loss = cross_entropy(model(batch), batch.y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.detach())

    times = [timed(step, device) for _ in range(2)]
    begin = perf_counter()
    most = TRAINING_STEPS if device == "cuda" else 1_000_000
    while len(times) < most and (device == "cuda" or perf_counter() - begin < seconds):
        times.append(timed(step, device))
    last = torch.stack(losses[-10:]).mean().item() if device == "cuda" else None
    return Training(device, threads, precision, GRAPHS_AT_ONCE, 1 / float(np.median(times[1:])), last)


def training_check(device: str, dry: bool) -> str | None:
    """How the kernels of training differ from torch, for the layers of `graph_res`, or None."""
    for inputs, outputs in ((1, 8),) if dry else ((1, 8), (8, 16), (16, 16), (16, 32), (32, 32)):
        layer = torch.float32, (2, 2, 2), inputs, outputs
        if found := spline_triton.disagreement(torch.device(device), *layer, nodes=10 if dry else 100):
            return f"{inputs} → {outputs}: {found}"
    return None


def kernel_times(model: GraphNetwork, graph: GraphConfig, packet: int) -> dict[str, float]:
    """Microseconds of our kernels and of all others for a packet and an answer, as torch's profiler sees them."""
    live = make_model_asynchronous(deepcopy(model).cuda(), graph, engine="cuda")
    from aegnn_core.asynchronous.cuda import kernels

    events = stream(model.sensor, 11 * packet)
    live.update(events[:packet])
    live.output()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for start in range(packet, 11 * packet, packet):
            live.update(events[start : start + packet])
            live.output()
        torch.cuda.synchronize()
    times = dict.fromkeys([*kernels.__all__, "of torch and its libraries"], 0.0)
    for row in profile.key_averages():
        name = row.key if row.key in times else "of torch and its libraries"
        times[name] += float(getattr(row, "device_time_total", 0) or getattr(row, "cuda_time_total", 0)) / 10
    return {name: time for name, time in times.items() if time}


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
    if training:
        columns = ("training on", "threads", "precision", "graphs per step", "steps/s", f"loss after {TRAINING_STEPS}")
        lines += ["", f"| {' | '.join(columns)} |", "| --- | ---: | --- | ---: | ---: | ---: |"]
    lines += [
        f"| {row.device} | {row.threads} | {row.precision} | {row.graphs_per_step} | {row.steps_per_second:.2f} |"
        f" {'' if row.loss is None else f'{row.loss:.4f}'} |"
        for row in training
    ]
    for name, times in facts.get("kernels", {}).items():
        lines += ["", f"| kernel, {name} | µs |", "| --- | ---: |"]
        lines += [f"| {kernel} | {time:.1f} |" for kernel, time in times.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="where gpu.json and gpu.md are written")
    parser.add_argument("--dry", action="store_true", help="in Triton's interpreter, a few events")
    parser.add_argument("--device-only", action="store_true", help="leave out the CPU's engines and the training")
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
        on_device = deepcopy(model).to(device)
        check = (
            disagreement(CudaEngine, on_device, graph, 40) if dry else known_disagreement(CudaEngine, on_device, graph)
        )
        facts["self_check"][name] = check
        threads = [] if arguments.device_only else threads_to_try()
        threads = [threads[0], threads[-1]] if threads and results else threads  # one network shows how they add up
        results += measure_network(name, model, graph, device, packets, threads, seconds)
        write()
    if not arguments.device_only:
        facts["self_check"]["training"] = training_check(device, dry)
        graphs = recordings(GRAPHS_AT_ONCE if dry else 2 * GRAPHS_AT_ONCE, dry)
        for precision in ("32",) if dry else ("32", "bf16-mixed", "16-mixed"):
            training.append(measure_training(graphs, device, 1, precision, seconds))
        training.append(measure_training(graphs, "cpu", os.cpu_count() or 1, "32", 5 * seconds))
        write()
    if not dry:  # last, because profilers may be missing or not allowed
        facts["kernels"] = {name: kernel_times(model, graph, 10_000) for name, (model, graph) in chosen.items()}
        write()
    print((arguments.folder / "gpu.md").read_text())


if __name__ == "__main__":
    main()
