"""How fast graphs are built, on one core: `python benchmarks/graph_building.py [--json FILE]`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table

from aegnn_core.events import EventStream, make_events, read_events
from aegnn_core.events.simulation import SceneConfig, simulate_scene
from aegnn_core.graph import GraphConfig, NeighborSearch, build_graph

RECORDINGS = Path(__file__).parents[2] / "shared" / "data" / "raw"
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


def uniform(count: int = 200_000, seed: int = 0) -> EventStream:
    """Events anywhere on an N-Cars sensor at 100 kev/s: with the default rule about 31 neighbours for every node."""
    rng = np.random.default_rng(seed)
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
        nodes.insert(t, x, y, neighbors, counts)
        search.append(perf_counter() - start)
        start = perf_counter()
        data = build_graph(events, graph)
        build.append(perf_counter() - start)
    mega = len(events) * 1e-6
    degree = float(counts.mean())
    assert data.num_edges == int(counts.sum()) * (1 if graph.directed else 2)
    return Result(source, graph.directed, len(events), degree, mega / min(search), mega / min(build))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    arguments = parser.parse_args()

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
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"graph_building": [asdict(result) for result in results]}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
