# SPDX-License-Identifier: Apache-2.0
"""How fast graphs are built, stored and read: `python benchmarks/graph_building.py [--threads N] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from aegnn_core.datasets import open_dataset
from aegnn_core.datasets.default_graphs import DEFAULT_GRAPHS
from aegnn_core.datasets.preprocessing import preprocess
from aegnn_core.datasets.samples import EventSamples, labelled_graph
from aegnn_core.datasets.stored_graphs import open_graphs
from aegnn_core.events import EventStream, make_events, read_events
from aegnn_core.events.simulation import SceneConfig, simulate_scene
from aegnn_core.graph import GraphConfig, NeighborSearch, build_graph
from aegnn_core.option_types import count
from aegnn_core.torch_threads import torch_team

DATA = Path(__file__).parents[2] / "shared" / "data"
RECORDINGS = DATA / "raw"
REPEATS = 9


@dataclass(frozen=True)
class Result:
    """One row of the table; speeds in million events per second, the best of :data:`REPEATS` runs."""

    source: str
    directed: bool
    events: int
    mean_degree: float
    search_mev_s: float
    build_mev_s: float


def uniform() -> EventStream:
    """Events anywhere on an N-Cars sensor at 100 kev/s: with the default rule about 31 neighbours for every node."""
    rng, count = np.random.default_rng(0), 200_000
    t = np.sort(rng.integers(0, 10 * count, count))
    return EventStream(
        make_events(t, rng.integers(0, 120, count), rng.integers(0, 100, count), rng.integers(0, 2, count)), 120, 100
    )


def measure(source: str, stream: EventStream, graph: GraphConfig) -> Result:
    """Build the graph of a stream, and make the neighbour search in it alone."""
    events = stream.events
    t, x, y = (np.ascontiguousarray(events[name], np.int64) for name in "txy")
    capacity = 1 << len(events).bit_length()
    neighbors = np.empty((len(events), graph.max_neighbors), np.int32)
    counts = np.empty(len(events), np.int32)
    search, build = [], []
    data = build_graph(events, graph)
    for _ in range(REPEATS):
        nodes = NeighborSearch(graph, stream.width, stream.height, capacity)
        start = perf_counter()
        nodes.insert(t, x, y, neighbors, counts, torch_team())
        search.append(perf_counter() - start)
        start = perf_counter()
        data = build_graph(events, graph)
        build.append(perf_counter() - start)
    mega = len(events) * 1e-6
    degree = float(counts.mean())
    assert data.num_edges == int(counts.sum()) * (1 if graph.directed else 2)
    return Result(source, graph.directed, len(events), degree, mega / min(search), mega / min(build))


@dataclass(frozen=True)
class StoringResult:
    """One row of the second table: recordings of one object, in graphs per second, the best of three runs.

    Attributes:
        source: of the recordings.
        events: per recording.
        build_per_s: read the recording and build its graph, which is what a loader without stored graphs does.
        store_per_s: the same, and write the graph to the disk, as ``aegnn preprocess`` does with one process.
        read_per_s: read the stored graph.
        bytes_per_event: of the stored graphs.
    """

    source: str
    events: float
    build_per_s: float
    store_per_s: float
    read_per_s: float
    bytes_per_event: float


def measure_storing(root: Path, source: str) -> StoringResult:
    """Build, store and read the graphs of the recordings of the data set nmnist below ``root``."""
    dataset = open_dataset("nmnist", "validation", task="recognition", root=root)
    graph = DEFAULT_GRAPHS["recognition"]
    samples = EventSamples(dataset, graph, "recognition")
    count = len(samples)
    build, store, read = [], [], []
    for _ in range(3):
        with TemporaryDirectory() as folder:
            start = perf_counter()
            for number in range(count):
                labelled_graph(samples[number], graph)
            build.append(perf_counter() - start)
            start = perf_counter()
            stored = preprocess(dataset, graph, "recognition", Path(folder))
            store.append(perf_counter() - start)
            graphs = open_graphs(dataset, graph, "recognition", Path(folder))
            start = perf_counter()
            for number in range(count):
                graphs[number]
            read.append(perf_counter() - start)
    per_second = (count / min(times) for times in (build, store, read))
    return StoringResult(source, stored.events / count, *per_second, stored.bytes / stored.events)


def write_simulated_digits(root: Path) -> None:
    """Events at random in N-MNIST's files: about as many as there, 4 200 in 300 ms on 34 × 34 px."""
    rng = np.random.default_rng(0)
    for number in range(100):
        t = np.sort(rng.integers(0, 300_000, 4200))
        x, y, p = rng.integers(0, 34, t.shape), rng.integers(0, 34, t.shape), rng.integers(0, 2, t.shape)
        file = root / "nmnist" / "validation" / str(number % 10) / f"{number:05d}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8).tofile(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=count, default=1, metavar="N", help="that share a graph")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    streams = {
        "uniform 120 x 100": uniform(),
        "simulated scene": simulate_scene(0, SceneConfig(duration_us=2_000_000)).stream,
    }
    for name in ("evt3_sample.raw", "evt2_sample.raw"):
        if (RECORDINGS / name).is_file():
            streams[name] = read_events(RECORDINGS / name)
    results = [
        measure(source, stream, GraphConfig(max_neighbors=32, directed=directed))
        for source, stream in streams.items()
        for directed in (True, False)
    ]
    table = Table("source", "edges", "events", "mean degree", "search Mev/s", "build_graph Mev/s")
    for result in results:
        table.add_row(
            result.source,
            "directed" if result.directed else "undirected",
            f"{result.events:,}",
            f"{result.mean_degree:.1f}",
            f"{result.search_mev_s:.2f}",
            f"{result.build_mev_s:.2f}",
        )
    storing = []
    with TemporaryDirectory() as folder:
        write_simulated_digits(Path(folder))
        storing.append(measure_storing(Path(folder), "random events"))
    if (DATA / "nmnist").is_dir():
        storing.append(measure_storing(DATA, "nmnist"))
    graphs = Table("source", "events", "build graphs/s", "store graphs/s", "read graphs/s", "bytes per event")
    for row in storing:
        figures = (row.events, row.build_per_s, row.store_per_s, row.read_per_s)
        graphs.add_row(row.source, *(f"{figure:,.0f}" for figure in figures), f"{row.bytes_per_event:.1f}")
    console = Console()
    console.print(table)
    console.print(graphs)
    if arguments.json:
        document = {
            "graph_building": [asdict(row) for row in results],
            "stored_graphs": [asdict(row) for row in storing],
        }
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
