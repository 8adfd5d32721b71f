# SPDX-License-Identifier: Apache-2.0
"""Graphs whose edges a CUDA device finds, in Triton's interpreter: they are those of the CPU."""

import warnings
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from aegnn_core import GraphConfig, build_graph
from aegnn_core.asynchronous.cuda import edge_finder
from aegnn_core.asynchronous.cuda.edge_finder import EdgeFinder, in_order
from aegnn_core.events import make_events
from aegnn_core.graph.build import build_nodes
from aegnn_core.triton_support import interpreted

pytestmark = pytest.mark.skipif(
    find_spec("triton") is None or not interpreted(), reason="needs Triton, and TRITON_INTERPRET=1"
)
SENSOR = (9, 7)
CPU = torch.device("cpu")


def stream(seed: int, count: int) -> np.ndarray:
    """Crowded events, many at the same time."""
    rng = np.random.default_rng(seed)
    t = 10**6 + np.sort(rng.integers(0, 40_000, count)) // 100 * 100
    return make_events(t, *(rng.integers(0, high, count) for high in (*SENSOR, 2)))


@pytest.mark.parametrize(
    "graph",
    [
        GraphConfig(radius=2.2, max_neighbors=3),
        GraphConfig(radius=2.2, max_neighbors=16, window=9_000, directed=False),
        GraphConfig(radius=3, max_neighbors=5, max_nodes=8, time_horizon=20_000, time_scale=1e-4),
    ],
)
def test_edges_of_a_batch_are_those_of_the_cpu(graph: GraphConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_finder, "_EVENTS_AT_ONCE", 16)  # the graphs begin and end within packets
    streams = [stream(seed, count) for seed, count in enumerate((21, 0, 1, 26))]
    expected = Batch.from_data_list([build_graph(events, graph) for events in streams])
    find_edges = EdgeFinder(graph, SENSOR, CPU)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of edges that are found on the CPU
        found = find_edges(Batch.from_data_list([build_nodes(events, graph) for events in streams]))
    edges = found.edge_index, found.edge_attr
    assert all(map(torch.equal, in_order(*edges), in_order(expected.edge_index, expected.edge_attr)))
    younger = found.edge_index.amax(0)
    assert torch.equal(younger, younger.sort().values)
    assert found.num_edges > 5
    assert find_edges(Batch.from_data_list([build_nodes(stream(0, 0), graph)] * 2)).num_edges == 0
    for key in ("x", "pos", "t", "batch"):
        assert torch.equal(found[key], expected[key])


@pytest.mark.parametrize("gap", [2**32 - 30_000, 2**32, 2**50])
def test_graphs_begin_at_any_time_and_may_last_for_years(gap: int) -> None:
    graph, streams = GraphConfig(radius=2.2, max_neighbors=3), [stream(0, 30), stream(1, 30)]
    for events in streams:
        events["t"][20:] += gap
    streams[0]["t"] -= 2**51
    expected = Batch.from_data_list([build_graph(events, graph) for events in streams])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = EdgeFinder(graph, SENSOR, CPU)(Batch.from_data_list([build_nodes(events, graph) for events in streams]))
    edges = found.edge_index, found.edge_attr
    assert all(map(torch.equal, in_order(*edges), in_order(expected.edge_index, expected.edge_attr)))


def test_a_device_that_finds_other_edges_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, events = GraphConfig(radius=2.2, max_neighbors=3), stream(0, 20)
    find_edges = EdgeFinder(graph, SENSOR, CPU)
    search = EdgeFinder._search

    def forgetful(self: EdgeFinder, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        distance, counts = search(self, *given)
        return distance, (counts - 1).clamp(min=0)

    monkeypatch.setattr(EdgeFinder, "_search", forgetful)
    expected = build_graph(events, graph).edge_index
    assert find_edges(build_nodes(events[:0], graph)).num_edges == 0  # which says nothing about the device
    with pytest.warns(UserWarning, match="are found on the CPU and not on cpu: they are not those that the CPU finds"):
        found = find_edges(build_nodes(events, graph))
    for _ in range(2):
        assert torch.equal(found.edge_index, expected)
        found = find_edges(build_nodes(events, graph))  # without a warning


def test_batches_that_cannot_be_searched_are_refused_first_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = GraphConfig(radius=2.2, max_neighbors=3)
    good = build_nodes(stream(0, 20), graph)
    outside = build_nodes(make_events([0, 1], [0, SENSOR[0]], [0, 0], [1, 1]), graph)
    find_edges = EdgeFinder(graph, SENSOR, CPU)
    monkeypatch.setattr(edge_finder, "_MOST_PIXELS", 2 * find_edges._disc.size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of edges that are found on the CPU
        for _ in range(2):
            with pytest.raises(ValueError, match="the sensor has 9 x 7 px, found an event outside of it"):
                find_edges(outside)
            with pytest.raises(ValueError, match="2 graphs of 143 px are too many at once, expected a smaller batch"):
                find_edges(Batch.from_data_list([good, good]))
            assert find_edges(good.clone()).num_edges == build_graph(stream(0, 20), graph).num_edges


def test_a_device_that_had_no_memory_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    graph, events = GraphConfig(radius=2.2, max_neighbors=3), stream(0, 20)
    find_edges = EdgeFinder(graph, SENSOR, CPU)
    with monkeypatch.context() as patch:
        patch.setattr(EdgeFinder, "_search", full)
        with pytest.raises(torch.OutOfMemoryError):
            find_edges(build_nodes(events, graph))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of edges that are found on the CPU
        assert find_edges(build_nodes(events, graph)).num_edges == build_graph(events, graph).num_edges
