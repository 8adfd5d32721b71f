# SPDX-License-Identifier: Apache-2.0
"""What one event costs in the incremental engine: `python benchmarks/any_model.py [--json FILE] [--plot FILE]`.

``graph_res`` at the paper's N-Cars size, one event at a time with the output after each, in windows that are full:

- 10 000 nodes, simulated and uniformly random events, directed and undirected, with the FLOPs per event;
- 1 000 to 100 000 nodes on sensors of such a size that the density stays the same;
- networks of other people's making on 10 000 nodes.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, thread_time

import numpy as np
import torch
import torch_geometric.nn as pyg
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch_geometric.data import Data

from aegnn_core import EventStream, GraphConfig, LiveModel, make_model_asynchronous, network
from aegnn_core.evaluation.event_flops import simulated_stream
from aegnn_core.events import make_events

SENSOR = (120, 100)
NODES = 10_000
EVENTS = 150
WARM_UP = 30
SIZES = (1_000, 5_000, 20_000, 100_000)


@dataclass(frozen=True)
class Result:
    """One row: milliseconds per event, its update and the output after it, and FLOPs per event.

    The processor's time is what the thread itself used: on a machine with other work to do, wall time says less.
    """

    model: str
    events: str
    directed: bool
    nodes: int
    median_ms: float
    p90_ms: float
    median_cpu_ms: float
    mega_flops: float
    mega_bytes: float


class PointNet(nn.Module):
    """Two point convolutions, the maximum over all nodes, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = pyg.PointNetConv(pyg.MLP([4, 16, 16])), pyg.PointNetConv(pyg.MLP([19, 32]))
        self.classifier = pyg.MLP([32, 16, 2])

    def forward(self, data: Data) -> Tensor:
        x = self.conv1(data.x, data.pos, data.edge_index).relu()
        x = self.conv2(x, data.pos, data.edge_index).relu()
        return self.classifier(pyg.global_max_pool(x, data.batch))


class Isomorphism(nn.Module):
    """Three graph isomorphism layers, all of them added up over all nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([pyg.GINConv(pyg.MLP([inputs, 16, 16])) for inputs in (1, 16, 16)])
        self.classifier = nn.Linear(48, 2)

    def forward(self, data: Data) -> Tensor:
        x, layers = data.x, []
        for conv in self.convs:
            x = conv(x, data.edge_index).relu()
            layers.append(x)
        return self.classifier(pyg.global_add_pool(torch.cat(layers, 1), data.batch))


def uniform(nodes: int, count: int) -> EventStream:
    """Random events, ``nodes`` of them within 100 ms on a sensor as densely covered as :data:`SENSOR` by 10 000."""
    scale = math.sqrt(nodes / NODES)
    width, height = round(SENSOR[0] * scale), round(SENSOR[1] * scale)
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, count * 100_000 // nodes, count))
    x, y = rng.integers(0, width, count), rng.integers(0, height, count)
    # Those behind the first window, which are measured, keep away from the border: there is less to do there.
    for pixel, size in ((x, width), (y, height)):
        margin = min(20, size // 2 - 1)
        pixel[nodes:] = rng.integers(margin, size - margin, count - nodes)
    return EventStream(make_events(t, x, y, rng.integers(0, 2, count)), width, height)


@dataclass(frozen=True)
class Case:
    """What is measured: a model on a stream whose first ``nodes`` events fill the window."""

    name: str
    model: nn.Module
    events: str
    stream: EventStream
    nodes: int
    directed: bool

    def start(self) -> LiveModel:
        """The live model with its window filled."""
        graph = GraphConfig(directed=self.directed, max_nodes=self.nodes)
        live = make_model_asynchronous(self.model, graph, engine="incremental")
        live.update(self.stream.events[: self.nodes])
        live.output()
        return live


def measure(cases: list[Case]) -> list[Result]:
    """Time single events; of all cases in turn, so that what else the machine does meets them alike."""
    lives = [case.start() for case in cases]
    seconds, cpu, flops = (np.empty((len(cases), WARM_UP + EVENTS)) for _ in range(3))
    for k in range(WARM_UP + EVENTS):
        for n, (case, live) in enumerate(zip(cases, lives, strict=True)):
            begin, cpu_begin = perf_counter(), thread_time()
            live.update(case.stream.events[case.nodes + k : case.nodes + k + 1])
            live.output()
            cpu[n, k], seconds[n, k] = thread_time() - cpu_begin, perf_counter() - begin
            flops[n, k] = live.flops().total.last
    seconds, cpu, flops = seconds[:, WARM_UP:], cpu[:, WARM_UP:], flops[:, WARM_UP:]
    return [
        Result(
            case.name,
            case.events,
            case.directed,
            case.nodes,
            1e3 * float(np.median(seconds[n])),
            1e3 * float(np.percentile(seconds[n], 90)),
            1e3 * float(np.median(cpu[n])),
            float(np.mean(flops[n])) / 1e6,
            sum(live.memory().values()) / 1e6,
        )
        for n, (case, live) in enumerate(zip(cases, lives, strict=True))
    ]


def results() -> list[Result]:
    """All measurements."""
    count = NODES + WARM_UP + EVENTS
    streams = {"simulated": simulated_stream(SENSOR, count), "uniform": uniform(NODES, count)}
    ours = network("graph_res", dataset="ncars")
    found = []
    for directed in (True, False):
        for source, stream in streams.items():
            found += measure([Case("graph_res", ours, source, stream, NODES, directed)])
        sized = []
        for nodes in SIZES:
            stream = uniform(nodes, nodes + WARM_UP + EVENTS)
            model = network("graph_res", dataset="ncars", sensor=(stream.width, stream.height))
            sized.append(Case("graph_res", model, "uniform, sensor to fit", stream, nodes, directed))
        found += measure(sized)
        for name, foreign in (("PointNet", PointNet()), ("GIN", Isomorphism())):
            found += measure([Case(name, foreign.eval(), "uniform", streams["uniform"], NODES, directed)])
    return found


def plot(found: list[Result], path: Path) -> None:
    """Draw the time per event over the number of live nodes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for directed in (True, False):
        rows = [r for r in found if r.model == "graph_res" and r.directed == directed and r.events != "simulated"]
        rows.sort(key=lambda r: r.nodes)
        axes.plot(
            [r.nodes for r in rows],
            [r.median_cpu_ms for r in rows],
            "o-",
            label="directed" if directed else "undirected",
        )
    axes.set(xscale="log", ylim=(0, None), xlabel="live nodes", ylabel="CPU ms per event (median)")
    axes.legend()
    figure.savefig(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw time over the number of nodes into an image")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # nothing here is to run densely
        found = results()
    table = Table("model", "events", "graph", "nodes", "median ms", "p90 ms", "CPU ms", "MFLOP", "MB")
    for r in found:
        kind = "directed" if r.directed else "undirected"
        numbers = (
            f"{r.median_ms:.2f}",
            f"{r.p90_ms:.2f}",
            f"{r.median_cpu_ms:.2f}",
            f"{r.mega_flops:.3f}",
            f"{r.mega_bytes:.0f}",
        )
        table.add_row(r.model, r.events, kind, f"{r.nodes:,}", *numbers)
    Console().print(table)
    if arguments.plot:
        plot(found, arguments.plot)
    if arguments.json:
        arguments.json.write_text(json.dumps({"any_model": [asdict(r) for r in found]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
