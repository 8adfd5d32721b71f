# SPDX-License-Identifier: Apache-2.0
"""How fast events go through the network: `python benchmarks/asynchronous.py [--json FILE] [--plot FILE] [--device D]`.

One thread. Speeds are compared with the rate at which the same thread, in the same process, multiplies large matrices:
``arithmetic_floor_us`` is what the products that an event needs would take at that rate, ``times_floor`` how many times
as long an event takes, with everything else in it. A noisy machine changes both alike.

``--threads 1,2`` compares numbers of threads instead: live models with so many take turns in one process. Packets come
one behind the other, and with pauses, as from a camera: then threads have to be woken for each.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous, network, read_events
from aegnn_core.asynchronous import LiveModel
from aegnn_core.asynchronous.costs import Costs
from aegnn_core.cores import usable_cores
from aegnn_core.doctor import processor
from aegnn_core.evaluation.speed import sgemm_gflops, simulated_events, time_updates
from aegnn_core.events import make_events, rescale
from aegnn_core.nn import DATASETS
from aegnn_core.option_types import positive, thread_counts

RECORDINGS = Path(__file__).parents[2] / "shared" / "data" / "raw"
#: Live nodes that the window is chosen for.
WINDOW_NODES = 10_000
PACKETS = (1, 10, 100, 1_000, 10_000)
#: Events that are timed per packet size, after the window has filled.
TIMED = {1: 20_000, 10: 50_000, 100: 100_000, 1_000: 100_000, 10_000: 100_000}
#: Before every packet, where packets come as from a camera.
_PAUSE_MS = 4.0
LIVE_NODES = (1_000, 5_000, 20_000, 50_000, 100_000, 200_000)


@dataclass(frozen=True)
class Result:
    """One network, stream, engine and packet size. Times in µs, ``p50`` and ``p99`` of single updates, per event."""

    network: str
    source: str
    engine: str
    packet: int
    live_nodes: int
    mean_degree: float
    us_per_event: float
    p50_us: float
    p99_us: float
    search_us: float
    convolutions_us: float
    pooling_us: float
    readout_us: float | None
    flop_per_event: float
    sgemm_gflops: float
    arithmetic_floor_us: float
    times_floor: float
    bytes_per_node: float


@dataclass(frozen=True)
class DenseResult:
    """The dense network on the window's graph, graph building included, beside an update by one event."""

    network: str
    live_nodes: int
    dense_ms: float
    update_us: float
    ratio: float


@dataclass(frozen=True)
class FlatResult:
    """Time per event in packets of 1,000 when so many nodes are live.

    ``growing`` is what makes them so many: the ``"memory"`` of one sensor, or the ``"sensor"``.
    """

    engine: str
    growing: str
    live_nodes: int
    us_per_event: float


@dataclass(frozen=True)
class ThreadsResult:
    """Packets of one size with so many threads: the median time per event, and how many times the first is of that.

    ``pause_ms`` lies before every packet; ``waiting_us`` is what all threads together waited for each other, per event.
    """

    network: str
    packet: int
    pause_ms: float
    threads: int
    us_per_event: float
    speedup: float
    waiting_us: float


def recorded(sensor: tuple[int, int]) -> np.ndarray | None:
    """A real recording at the sensor's size, slowed down to a rate that the size would have, if it is there."""
    path = RECORDINGS / "evt2_sample.raw"
    if not path.is_file():
        return None
    stream = read_events(path)
    return rescale(stream.events, (stream.width, stream.height), sensor)


def uniform(sensor: tuple[int, int], count: int) -> np.ndarray:
    """Events anywhere on the sensor, eight per pixel and second."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, int(count / (8 * sensor[0] * sensor[1]) * 1e6), count))
    x, y, p = (rng.integers(0, high, count) for high in (*sensor, 2))
    return make_events(t, x, y, p)


def measure(
    name: str, source: str, engine: str, live: LiveModel, events: np.ndarray, packet: int, device: str
) -> Result:
    """Fill the window, then time packets."""
    assert live.graph.window is not None
    filled = int(np.searchsorted(events["t"], events["t"][0] + live.graph.window))
    timed = min(TIMED[packet], (len(events) - filled) // packet * packet)
    used = events[: filled + timed]
    live.reset()
    live.update(used[:filled])
    flops = work(live.flops())
    seconds = {layer: cost.total for layer, cost in live.runtime().layers.items()}
    rate = sgemm_gflops(device)
    updates, readouts = time_updates(live, used[filled:], packet, device, outputs=packet == 1_000)
    rate = max(rate, sgemm_gflops(device))
    spent = {layer: (cost.total - seconds.get(layer, 0)) / timed * 1e6 for layer, cost in live.runtime().layers.items()}
    flop = (work(live.flops()) - flops) / timed
    nodes = int((used["t"] > used["t"][-1] - live.graph.window).sum())
    memory = live.memory()
    mean = float(np.mean(updates)) / packet * 1e6
    return Result(
        network=name,
        source=source,
        engine=engine,
        packet=packet,
        live_nodes=nodes,
        mean_degree=build_graph(used, live.graph).num_edges / len(used),
        us_per_event=mean,
        p50_us=float(np.percentile(updates, 50)) / packet * 1e6,
        p99_us=float(np.percentile(updates, 99)) / packet * 1e6,
        search_us=spent["neighbour search"],
        convolutions_us=sum(time for layer, time in spent.items() if is_event_layer(layer)),
        pooling_us=spent.get("entering the pooling", 0.0),
        readout_us=float(np.median(readouts)) * 1e6 if readouts else None,
        flop_per_event=flop,
        sgemm_gflops=rate,
        arithmetic_floor_us=flop / rate * 1e-3,
        times_floor=mean / (flop / rate * 1e-3),
        bytes_per_node=(memory["nodes"] + memory["neighbour search"]) / nodes,
    )


def is_event_layer(layer: str) -> bool:
    """Whether that is part of the convolutions on events."""
    return layer == "splines" or layer.startswith("event_blocks")


def work(costs: Costs) -> float:
    """FLOPs of the convolutions on events so far."""
    return sum(cost.total for layer, cost in costs.layers.items() if is_event_layer(layer))


def compare_with_dense(
    name: str, model: nn.Module, graph: GraphConfig, events: np.ndarray, update_us: float
) -> DenseResult:
    """Time the dense network on the window's events."""
    assert graph.window is not None
    stop = int(np.searchsorted(events["t"], events["t"][0] + graph.window))
    times = []
    for _ in range(3):
        begin = perf_counter()
        with torch.no_grad():
            model(build_graph(events[:stop], graph))
        times.append(perf_counter() - begin)
    return DenseResult(name, stop, min(times) * 1e3, update_us, min(times) * 1e6 / update_us)


def measure_flatness(engine: str, device: str) -> list[FlatResult]:
    """Time packets with more and more nodes live, of events anywhere on the sensor, which no cache likes.

    Once with a longer and longer memory on one small sensor, where every node has its 32 neighbours from 5,000 live
    nodes on: what it costs that more is live. And once on larger and larger sensors, one live node per pixel: there,
    the nodes that an event reads lie anywhere in all of them. The sizes take turns, and the best of several rounds
    counts, so that a noisy machine does not favour one.
    """
    timed, rounds = 20_000, 5
    results = []
    for source, sides in (
        ("memory", dict.fromkeys(LIVE_NODES, 64)),
        ("sensor", {n: round(n**0.5) for n in LIVE_NODES}),
    ):
        lives, streams = {}, {}
        for nodes, side in sides.items():
            model = network("graph_res", dataset="ncars", sensor=(side, side)).to(device)
            lives[nodes] = make_model_asynchronous(model, GraphConfig(max_nodes=nodes), engine=engine)
            events = uniform((side, side), nodes + rounds * timed)
            lives[nodes].update(events[:nodes])
            streams[nodes] = events[nodes:]
        times: dict[int, list[float]] = {nodes: [] for nodes in sides}
        for start in range(0, rounds * timed, timed):
            for nodes, live in lives.items():
                updates, _ = time_updates(live, streams[nodes][start : start + timed], 1_000, device, outputs=False)
                times[nodes].append(float(np.median(updates)))
        results += [FlatResult(engine, source, nodes, min(seconds) * 1e3) for nodes, seconds in times.items()]
    return results


def compare_threads(name: str, counts: list[int], packet: int, pause_ms: float, seconds: float) -> list[ThreadsResult]:
    """Time packets with several numbers of threads for so long, in turn, on the same events."""
    torch.manual_seed(0)
    model = network("graph_res", dataset=name, task="recognition")
    events = simulated_events(DATASETS[name].sensor, 260_000)
    duration = int(events["t"][-1] - events["t"][0]) + 1
    graph = GraphConfig(window=duration * WINDOW_NODES // len(events))
    lives = {n: make_model_asynchronous(model, graph, engine="compiled", threads=n) for n in counts}
    turn = 2 * max(PACKETS)
    for live in lives.values():
        live.update(events[:turn])
    waited = {n: waiting(live) for n, live in lives.items()}
    times: dict[int, list[float]] = {n: [] for n in counts}
    timed, start, end = 0, turn, perf_counter() + seconds
    while perf_counter() < end:
        if start + turn > len(events):
            events["t"] += duration
            start = 0
        part = events[start : start + turn]
        for n, live in lives.items():
            times[n] += time_updates(live, part, packet, "cpu", outputs=False, pause=1e-3 * pause_ms)[0]
        start += turn
        timed += turn // packet * packet
    medians = {n: float(np.median(updates)) / packet * 1e6 for n, updates in times.items()}
    return [
        ThreadsResult(
            network=name,
            packet=packet,
            pause_ms=pause_ms,
            threads=n,
            us_per_event=medians[n],
            speedup=medians[counts[0]] / medians[n],
            waiting_us=(waiting(live) - waited[n]) / timed * 1e6,
        )
        for n, live in lives.items()
    ]


def waiting(live: LiveModel) -> float:
    """What the threads of a live model have waited for each other [s]."""
    cost = live.runtime().layers.get("waiting for other threads")
    return 0.0 if cost is None else cost.total


def plot(path: Path, results: list[Result], flat: list[FlatResult]) -> None:
    """Time per event over the packet size, and over the live nodes."""
    from matplotlib.figure import Figure

    figure = Figure((10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for key in sorted({(r.network, r.engine) for r in results if r.source == "simulated"}):
        rows = [r for r in results if (r.network, r.engine) == key and r.source == "simulated"]
        line = left.loglog([r.packet for r in rows], [r.us_per_event for r in rows], "o-", label=" ".join(key))
        left.loglog([r.packet for r in rows], [r.arithmetic_floor_us for r in rows], ":", color=line[0].get_color())
    left.set(xlabel="events per packet", ylabel="µs per event (dotted: arithmetic alone)")
    left.legend(fontsize=7)
    for growing in sorted({r.growing for r in flat}):
        points = [r for r in flat if r.growing == growing]
        right.semilogx(
            [r.live_nodes for r in points], [r.us_per_event for r in points], "o-", label=f"growing {growing}"
        )
    right.set(xlabel="live nodes", ylabel="µs per event, packets of 1,000", ylim=(0, None))
    right.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them (needs matplotlib)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--threads", type=thread_counts, metavar="N,N", help="compare these numbers of threads, on N-Cars, and end"
    )
    parser.add_argument("--seconds", type=positive, default=15.0, help="for each packet size of that")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(1)
        show_threads(arguments.threads, arguments.seconds, arguments.json)
        return
    device = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("device cuda: this machine has no CUDA device that torch can use")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    engines = ("compiled", "packet") if device == "cpu" else ("packet",)

    results: list[Result] = []
    dense: list[DenseResult] = []
    for name in ("ncars", "ncaltech101", "gen1"):
        model = network("graph_res", dataset=name, task="recognition")
        sensor = DATASETS[name].sensor
        streams = {"simulated": simulated_events(sensor, 260_000), "recorded": recorded(sensor)}
        for engine in engines:
            live_model = model.to(device)
            for source, events in streams.items():
                if events is None:
                    continue
                window = int((events["t"][-1] - events["t"][0]) * WINDOW_NODES / len(events))
                live = make_model_asynchronous(live_model, GraphConfig(window=window), engine=engine)
                packets = PACKETS if engine == engines[0] and source == "simulated" else (1_000,)
                results.extend(
                    measure(name, source, engine, live, events, packet, device)
                    for packet in track(packets, f"{name}, {source}, {engine}", transient=True)
                )
        single = next(row for row in results if row.network == name and row.packet == 1)
        simulated = streams["simulated"]
        assert simulated is not None
        window = int((simulated["t"][-1] - simulated["t"][0]) * WINDOW_NODES / len(simulated))
        dense.append(compare_with_dense(name, model.cpu(), GraphConfig(window=window), simulated, single.p50_us))
    flat = measure_flatness(engines[0], device)
    show(results, dense, flat)
    name = torch.cuda.get_device_name() if device == "cuda" else f"{processor()}, one thread"
    if arguments.json:
        figures = {
            "device": name,
            "sgemm_gflops": max(row.sgemm_gflops for row in results),
            "results": [asdict(row) for row in results],
            "dense": [asdict(row) for row in dense],
            "flatness": [asdict(row) for row in flat],
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    if arguments.plot:
        plot(arguments.plot, results, flat)


def show_threads(counts: list[int], seconds: float, path: Path | None) -> None:
    """Compare numbers of threads, and print the table."""
    table = Table(
        "network", "packet", "pause ms", "threads", title=f"Numbers of threads, {usable_cores()} usable cores"
    )
    for heading in ("µs per event", "times as fast", "waiting µs"):
        table.add_column(heading, justify="right")
    results = []
    for packet, pause_ms in ((100, 0), (300, 0), (1_000, 0), (10_000, 0), (300, _PAUSE_MS), (1_000, _PAUSE_MS)):
        for row in compare_threads("ncars", counts, packet, pause_ms, seconds):
            figures = (f"{figure:.2f}" for figure in (row.us_per_event, row.speedup, row.waiting_us))
            table.add_row(row.network, f"{packet:,}", f"{pause_ms:g}", f"{row.threads}", *figures)
            results.append(asdict(row))
    Console().print(table)
    if path:
        path.write_text(json.dumps({"device": processor(), "threads": results}, indent=2) + "\n")


def show(results: list[Result], dense: list[DenseResult], flat: list[FlatResult]) -> None:
    """Print the tables."""
    console = Console(width=160)
    table = Table("network", "stream", "engine", "packet", "live", "degree", title="µs per event")
    for heading in ("mean", "p50", "p99", "search", "conv.", "pooling", "floor", "times", "readout µs", "B/node"):
        table.add_column(heading, justify="right")
    for row in results:
        figures = (row.us_per_event, row.p50_us, row.p99_us, row.search_us, row.convolutions_us, row.pooling_us)
        table.add_row(
            row.network, row.source, row.engine, f"{row.packet:,}", f"{row.live_nodes:,}", f"{row.mean_degree:.1f}",
            *(f"{figure:.2f}" for figure in (*figures, row.arithmetic_floor_us, row.times_floor)),
            "" if row.readout_us is None else f"{row.readout_us:.0f}", f"{row.bytes_per_node:.0f}",
        )  # fmt: skip
    console.print(table)
    table = Table("network", "live", "dense ms", "update µs", "ratio", title="Against dense recomputation per event")
    for ratio in dense:
        table.add_row(
            ratio.network,
            f"{ratio.live_nodes:,}",
            f"{ratio.dense_ms:.0f}",
            f"{ratio.update_us:.1f}",
            f"{ratio.ratio:,.0f}",
        )
    console.print(table)
    table = Table("growing", "live nodes", "µs per event", title="ncars, packets of 1,000, events anywhere")
    for point in flat:
        table.add_row(point.growing, f"{point.live_nodes:,}", f"{point.us_per_event:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
