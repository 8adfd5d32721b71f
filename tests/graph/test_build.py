# SPDX-License-Identifier: Apache-2.0
"""Graphs have exactly the nodes and edges of the rule."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aegnn_core.events import make_events, read_events
from aegnn_core.graph import GraphConfig, NeighborSearch, build_graph
from aegnn_core.graph.build import find_neighbors
from tests.graph.reference import edges_by_rule, graph_configs, live_nodes, neighbors_by_rule, streams
from tests.recordings import recordings


def edge_set(data) -> set[tuple[int, int]]:
    pairs = [tuple(edge) for edge in data.edge_index.t().tolist()]
    assert len(pairs) == len(set(pairs)), "an edge is there twice"
    return set(pairs)


@settings(max_examples=150)
@given(events=streams(), graph=graph_configs(), later=st.sampled_from([0, 1, 40_000, 10**9]))
def test_edges_are_those_of_the_rule(events: np.ndarray, graph: GraphConfig, later: int) -> None:
    time = int(events["t"][-1]) + later if len(events) else later
    data = build_graph(events, graph, time=time)
    assert edge_set(data) == edges_by_rule(events, graph, time)
    live = live_nodes(events, graph, time)
    if graph.resolved_expiry == "readout":
        assert torch.nonzero(data.live)[:, 0].tolist() == live
        assert data.num_nodes == len(events)
    else:
        assert data.num_nodes == len(live)


@settings(max_examples=60)
@given(events=streams(), graph=graph_configs())
def test_neighbors_are_found_node_by_node(events: np.ndarray, graph: GraphConfig) -> None:
    counts, sources = find_neighbors(events, graph)
    rows = np.split(sources, np.cumsum(counts)[:-1]) if len(events) else []
    assert [sorted(row.tolist(), reverse=True) for row in rows] == neighbors_by_rule(events, graph)
    assert counts.sum() == len(sources)


@settings(max_examples=60)
@given(events=streams(), graph=graph_configs(directed=True), data=st.data())
def test_search_gives_the_same_neighbors_for_any_packets_and_rings_that_wrap(
    events: np.ndarray, graph: GraphConfig, data: st.DataObject
) -> None:
    """Rings hold the live nodes and one packet, as the live model sizes them, and no more."""
    expected = neighbors_by_rule(events, graph)
    packet = data.draw(st.integers(1, 20))
    most_live = max((len(live_nodes(events, graph, int(events["t"][k]), k + 1)) for k in range(len(events))), default=1)
    search = NeighborSearch(graph, 12, 9, 1 << (most_live + packet - 1).bit_length())
    t, x, y = (events[name].astype(np.int64) for name in "txy")
    for start in range(0, len(events), packet):
        part = slice(start, start + packet)
        neighbors = np.empty((len(t[part]), graph.max_neighbors), np.int64)
        counts = np.empty(len(t[part]), np.int32)
        search.insert(t[part], x[part], y[part], neighbors, counts)
        for k, (row, count) in enumerate(zip(neighbors, counts, strict=True), start):
            assert sorted(row[:count], reverse=True) == expected[k]


def test_rings_that_grow_forget_what_they_had_dropped_before() -> None:
    """The new slots of nodes that were overwritten long ago hold anything, which must not be taken for nodes."""
    graph = GraphConfig(window=25, time_scale=1e-3)
    search = NeighborSearch(graph, 11, 1, 4)
    neighbors, counts = np.empty((1, graph.max_neighbors), np.int64), np.empty(1, np.int32)
    crowd, rare = np.array([10]), np.array([0])
    for number in range(40):
        if number == 20:
            search.resize(64)
            dropped = np.setdiff1d(np.arange(64), np.arange(16, 20))
            search.nodes["t"][dropped] = 10 * number
            search.nodes["back"][dropped] = 2**32 - 1
        x = rare if number in (3, 19, 20) else crowd
        search.insert(np.array([10 * number]), x, np.array([0]), neighbors, counts)
        if number == 20:
            assert neighbors[0, : counts[0]].tolist() == [19]


def test_nodes_that_are_taken_back_are_not_taken_for_those_whose_slots_they_took() -> None:
    graph, slots, taken_back = GraphConfig(max_neighbors=15, radius=2.5), 16, 5
    search = NeighborSearch(graph, 6, 5, slots)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 60), rng.integers(0, 5, 60)
    neighbors, counts = np.empty((60, graph.max_neighbors), np.int64), np.empty(60, np.int32)

    def insert(part: slice) -> None:
        search.insert(np.zeros(len(x[part]), np.int64), x[part], y[part], neighbors[part], counts[part])

    insert(slice(0, 20))
    insert(slice(60 - taken_back, 60))
    search.remove_last(taken_back)
    held = 20 + taken_back - slots
    insert(slice(20, 60))
    for number in range(20, 60):
        near = (x - x[number]) ** 2 + (y - y[number]) ** 2 <= graph.radius**2
        expected = [j for j in reversed(range(max(held, number - slots + 1), number)) if near[j]]
        assert sorted(neighbors[number, : counts[number]], reverse=True) == expected[: graph.max_neighbors]


@settings(max_examples=30)
@given(events=streams(), graph=graph_configs(directed=True, bounded=False), cut=st.integers(0, 120))
def test_later_events_change_no_edge(events: np.ndarray, graph: GraphConfig, cut: int) -> None:
    before = edge_set(build_graph(events[:cut], graph))
    after = edge_set(build_graph(events, graph))
    assert {edge for edge in after if max(edge) < min(cut, len(events))} == before


def test_crowded_pixel_keeps_the_most_recent_neighbors() -> None:
    count = 500
    events = make_events(np.arange(count), np.full(count, 3), np.full(count, 3), np.ones(count))
    data = build_graph(events, GraphConfig(max_neighbors=4))
    last = data.edge_index[0, data.edge_index[1] == count - 1]
    assert sorted(last.tolist()) == [count - 5, count - 4, count - 3, count - 2]


def test_features_positions_and_attributes_of_a_graph_by_hand() -> None:
    events = make_events([100, 200, 300], [5, 6, 5], [7, 7, 9], [1, 0, 1])
    data = build_graph(events, GraphConfig(radius=2.5, time_scale=1e-3))
    assert data.x.tolist() == [[1], [-1], [1]]
    torch.testing.assert_close(data.pos, torch.tensor([[5, 7, 0], [6, 7, 0.1], [5, 9, 0.2]]))
    found = {tuple(edge): row for edge, row in zip(data.edge_index.t().tolist(), data.edge_attr, strict=True)}
    assert set(found) == {(0, 1), (0, 2), (1, 2)}
    # (pos_j - pos_k) / 5 + 1/2
    torch.testing.assert_close(found[0, 1], torch.tensor([0.3, 0.5, 0.48]))
    torch.testing.assert_close(found[0, 2], torch.tensor([0.5, 0.1, 0.46]))
    torch.testing.assert_close(found[1, 2], torch.tensor([0.7, 0.1, 0.48]))


def test_undirected_edges_are_the_same_pairs_both_ways_with_mirrored_attributes() -> None:
    rng = np.random.default_rng(0)
    events = make_events(
        np.sort(rng.integers(0, 9_000, 80)), rng.integers(0, 8, 80), rng.integers(0, 8, 80), rng.integers(0, 2, 80)
    )
    directed = build_graph(events, GraphConfig(), dtype=torch.float64)
    both = build_graph(events, GraphConfig(directed=False), dtype=torch.float64)
    attributes = dict(zip(map(tuple, both.edge_index.t().tolist()), both.edge_attr, strict=True))
    assert both.num_edges == 2 * directed.num_edges
    for (j, k), attribute in zip(directed.edge_index.t().tolist(), directed.edge_attr, strict=True):
        assert torch.equal(attributes[j, k], attribute)
        torch.testing.assert_close(attributes[k, j], 1 - attribute)


def test_edges_do_not_depend_on_the_time_origin() -> None:
    rng = np.random.default_rng(1)
    t = np.sort(rng.integers(0, 2_000_000, 400))
    x, y, p = rng.integers(0, 9, 400), rng.integers(0, 9, 400), rng.integers(0, 2, 400)
    near, far = (build_graph(make_events(t + origin, x, y, p), GraphConfig()) for origin in (0, 1_744_227_144_732_712))
    assert torch.equal(near.edge_index, far.edge_index)
    assert torch.equal(near.edge_attr, far.edge_attr)
    assert torch.equal(near.pos, far.pos)


def test_distance_is_compared_in_double_precision() -> None:
    """Two nodes at exactly the radius are neighbours, one microsecond more and they are not."""
    graph = GraphConfig(radius=5.0, time_scale=1e-3)
    for dt, expected in ((4_000, 1), (4_001, 0)):
        assert build_graph(make_events([0, dt], [0, 3], [0, 0], [1, 1]), graph).num_edges == expected


@pytest.mark.parametrize(
    "recording",
    recordings("made/street.raw", "raw/evt3_sample.raw", "pedro/frame0013230.npy", "raw/ncars_004397_td.dat"),
    indirect=True,
)
def test_edges_on_recordings_are_those_of_the_rule(recording: Path) -> None:
    events = read_events(recording).events[:1_500]
    for graph in (GraphConfig(), GraphConfig(window=400, max_neighbors=5)):
        assert edge_set(build_graph(events, graph)) == edges_by_rule(events, graph)


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (np.zeros((3, 4)), "fields t, x, y, p"),
        (make_events([5, 4], [0, 0], [0, 0], [0, 0]), "time order, but event 1 at 4 µs follows 5 µs"),
        (np.zeros(2, [("t", "f8"), ("x", "u2"), ("y", "u2"), ("p", "u1")]), "field t must be an integer"),
    ],
)
def test_anything_but_events_is_refused(events: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_graph(events, GraphConfig())


def test_a_time_before_the_last_event_is_refused() -> None:
    with pytest.raises(ValueError, match="time is 4 µs, before the last event at 5 µs"):
        build_graph(make_events([5], [0], [0], [1]), GraphConfig(), time=4)


def test_no_events_give_an_empty_graph() -> None:
    data = build_graph(make_events([], [], [], []), GraphConfig())
    assert (data.num_nodes, data.num_edges, data.x.shape, data.edge_attr.shape) == (0, 0, (0, 1), (0, 3))
