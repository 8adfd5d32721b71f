# SPDX-License-Identifier: Apache-2.0
"""The compiled engine beyond the contract that all engines share: every shape of network, extremes, long runs."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous, network
from aegnn_core.asynchronous.compiled import engine
from aegnn_core.events import make_events
from aegnn_core.nn.blocks import ConvBlock, Residual
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.pooling import GridPooling, VoxelPooling
from tests.graph.reference import graph_configs, streams
from tests.nn.random_networks import randomize

SENSOR = (12, 9)


class FlatHead(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 3)

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        return self.linear(grid.flatten(1))


@st.composite
def networks(draw: st.DrawFn) -> GraphNetwork:
    """Networks of every shape that can be declared: kernels per axis, widths, residuals, root weights, poolings."""
    dim = draw(st.sampled_from([2, 3]))
    width = st.sampled_from([1, 3, 8, 16, 17, 24])

    def blocks(inputs: int, kernel_size: int, aggr: str) -> tuple[list[nn.Module], int]:
        made: list[nn.Module] = []
        for kind in draw(st.lists(st.sampled_from(["block", "residual"]), min_size=1, max_size=2)):
            options = {"dim": dim, "kernel_size": kernel_size}
            options |= {"root_weight": draw(st.booleans()), "bias": draw(st.booleans())}
            if kind == "residual":
                inner = draw(width)
                parts = [ConvBlock(inputs, inner, **options), ConvBlock(inner, inputs, **options)]
                made.append(Residual(parts))
            else:
                outputs = draw(width)
                parts = [ConvBlock(inputs, outputs, **options)]
                made.extend(parts)
                inputs = outputs
            for part in parts:
                part.conv.aggr = aggr
        return made, inputs

    aggr = draw(st.sampled_from(["mean", "add"]))
    on_events, channels = blocks(1, draw(st.sampled_from([2, 2, 3, 8])), aggr)
    stages = []
    for size in draw(st.sampled_from([[], [(4, 3)], [(5, 4)], [(2, 2)], [(2.5, 2), (5, 6)]])):
        on_voxels, channels = blocks(channels, draw(st.sampled_from([2, 2, 5])), "mean")
        stages.append((VoxelPooling(SENSOR, size), on_voxels))
    head = FlatHead(channels * 6)
    module = GraphNetwork(SENSOR, "recognition", dim, on_events, stages, GridPooling(SENSOR, (3, 2)), head)
    return randomize(module.double(), draw(st.integers(0, 3))).eval()


def dense(module: GraphNetwork, events: np.ndarray, graph: GraphConfig, time: int | None = None) -> torch.Tensor:
    with torch.no_grad():
        return module(build_graph(events, graph, time=time, dtype=next(module.parameters()).dtype))


def assert_equal(live: torch.Tensor, reference: torch.Tensor, tolerance: float = 1e-9) -> None:
    assert live.shape == reference.shape
    assert float((live - reference).abs().max()) <= tolerance * max(1.0, float(reference.abs().max()))


def random_events(count: int, sensor: tuple[int, int], duration_us: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return make_events(
        np.sort(rng.integers(0, duration_us, count)),
        rng.integers(0, sensor[0], count),
        rng.integers(0, sensor[1], count),
        rng.integers(0, 2, count),
    )


@settings(max_examples=120)
@given(
    module=networks(),
    events=streams(),
    graph=graph_configs(directed=True),
    cuts=st.lists(st.integers(0, 120), max_size=5),
    later=st.lists(st.sampled_from([0, 1, 5_000, 30_000, 10**8]), min_size=6, max_size=6),
    at_once=st.sampled_from([1, 3, 64]),
    capacity=st.sampled_from([1, 8, 4096]),
    threads=st.sampled_from([1, 2, 3]),
)
def test_any_declared_network_equals_dense(
    module: GraphNetwork,
    events: np.ndarray,
    graph: GraphConfig,
    cuts: list[int],
    later: list[int],
    at_once: int,
    capacity: int,
    threads: int,
) -> None:
    """In any packets, by any threads, at any times of output, earlier after later ones, in rings that wrap and grow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_MOST_AT_ONCE", at_once)
        patch.setattr(engine, "_SMALLEST_CAPACITY", capacity)
        live = make_model_asynchronous(module, graph, engine="compiled", threads=threads)
        assert_equal(live.output(), dense(module, events[:0], graph))
        borders = sorted({0, len(events), *(min(cut, len(events)) for cut in cuts)})
        for (start, stop), delay in zip(pairwise(borders), later, strict=False):
            live.update(events[start:stop])
            time = int(events["t"][stop - 1]) + delay
            assert_equal(live.output(time), dense(module, events[:stop], graph, time))
        assert_equal(live.output(), dense(module, events, graph))


def test_float32_equals_dense_to_its_rounding() -> None:
    module = randomize(network("graph_res", dataset="ncars"), 0)
    graph = GraphConfig(window=40_000)
    events = random_events(8_000, (120, 100), 80_000)
    live = make_model_asynchronous(module, graph, engine="compiled")
    for start in range(0, len(events), 1_000):
        live.update(events[start : start + 1_000])
        assert_equal(live.output(), dense(module, events[: start + 1_000], graph), 1e-4)


@pytest.mark.parametrize("limits", [{"window": 20_000}, {"max_nodes": 3_000}])
def test_a_million_events_in_random_packets(limits: dict[str, int]) -> None:
    """Compared at some moments with the graph of the events that can have had an influence until then."""
    sensor = (40, 30)
    graph = GraphConfig(time_horizon=3_000, max_neighbors=16, **limits)
    module = randomize(network("graph_res", dataset="ncars", sensor=sensor).double(), 0)
    layers = 5
    events = random_events(1_000_000, sensor, 5_000_000)
    live = make_model_asynchronous(module, graph, engine="compiled")
    rng = np.random.default_rng(1)
    start, compared = 0, 0
    while start < len(events):
        stop = min(len(events), start + int(rng.choice([1, 7, 300, 5_000, 40_000])))
        live.update(events[start:stop])
        if stop // 120_000 > start // 120_000:
            horizon = int(events["t"][stop - 1]) - 20_000 - layers * 3_000
            first = int(np.searchsorted(events["t"], horizon))
            assert_equal(live.output(), dense(module, events[first:stop], graph))
            compared += 1
        start = stop
    assert compared == 8
    assert len(live) == len(events)


@pytest.mark.parametrize("limits", [{"window": 500}, {"max_nodes": 20}])
def test_a_million_events_at_one_pixel(limits: dict[str, int]) -> None:
    graph = GraphConfig(**limits)
    events = make_events(np.arange(1_000_000), *np.zeros((3, 1_000_000), int))
    module = randomize(network("graph_res", dataset="nmnist", sensor=SENSOR).double(), 0)
    live = make_model_asynchronous(module, graph, engine="compiled")
    held = sum(live.memory().values())
    live.update(events)
    # 32 neighbours back in each of five layers is as far as a feature can look.
    assert_equal(live.output(), dense(module, events[-2_000:], graph))
    assert sum(live.memory().values()) == held


def test_all_events_at_one_moment_and_a_packet_larger_than_the_window() -> None:
    rng = np.random.default_rng(0)
    events = make_events(np.full(3_000, 7), rng.integers(0, 12, 3_000), rng.integers(0, 9, 3_000), np.ones(3_000, int))
    module = randomize(network("graph_res", dataset="nmnist", sensor=SENSOR).double(), 0)
    for graph in (GraphConfig(window=1), GraphConfig(max_nodes=50), GraphConfig()):
        live = make_model_asynchronous(module, graph, engine="compiled")
        live.update(events)
        assert_equal(live.output(), dense(module, events, graph))
        assert_equal(live.output(8), dense(module, events, graph, 8))


def test_a_state_goes_on_in_another_live_model() -> None:
    module = randomize(network("graph_res", dataset="nmnist", sensor=SENSOR).double(), 0)
    graph = GraphConfig(window=30_000)
    events = random_events(12_000, SENSOR, 60_000)
    live = make_model_asynchronous(module, graph, engine="compiled")
    live.update(events[:9_000])
    other = make_model_asynchronous(module, graph, engine="compiled")
    other.update(events[:5])
    other.load_state_dict(live.state_dict())
    assert_equal(other.output(), live.output(), 0)
    for one in (live, other):
        one.update(events[9_000:])
    assert_equal(other.output(), live.output(), 0)
    assert_equal(live.output(), dense(module, events, graph))


def test_changed_weights_are_refused_until_a_reset() -> None:
    module = randomize(network("graph_res", dataset="nmnist", sensor=SENSOR).double(), 0)
    events = random_events(300, SENSOR, 3_000)
    live = make_model_asynchronous(module, GraphConfig(), engine="compiled")
    live.update(events)
    randomize(module, 1)
    with pytest.raises(ValueError, match="weights have changed"):
        live.output()
    live.reset()
    live.update(events)
    assert_equal(live.output(), dense(module, events, GraphConfig()))


def test_nothing_is_computed_twice() -> None:
    """Without new events an output costs nothing; an event in a voxel whose maximum stays costs its own layers only."""
    module = randomize(network("graph_res", dataset="nmnist", sensor=SENSOR).double(), 0)
    live = make_model_asynchronous(module, GraphConfig(), engine="compiled")
    live.update(random_events(2_000, SENSOR, 3_000))
    live.output()
    first = live.flops().total.total
    live.output()
    assert live.flops().total.total == first
    behind = [name for name in live.flops().layers if name.startswith("voxel_blocks") or name == "head"]
    before = sum(live.flops().layers[name].total for name in behind)
    for n in range(50):
        live.update(make_events(np.array([3_000 + n]), np.array([6]), np.array([4]), np.array([n % 2])))
        live.output()
    # Among 2,000 nodes few of fifty raise a maximum.
    assert sum(live.flops().layers[name].total for name in behind) - before < before * 50 / 4


def test_flops_are_those_of_the_nodes_and_edges() -> None:
    module = network("graph_res", dataset="nmnist", sensor=SENSOR).double()
    live = make_model_asynchronous(module, GraphConfig(), engine="compiled")
    events = random_events(100, SENSOR, 1_000)
    live.update(events[:60])
    live.update(events[60:])
    graph = build_graph(events, GraphConfig())
    layers = live.flops().layers
    nodes, edges = 100, graph.num_edges
    assert layers["event_blocks.1"].total == 2 * edges * 8 * 8 + 2 * nodes * 8 * 8 * 16 + 3 * nodes * 16
    new = int((graph.edge_index[1] >= 60).sum())
    assert layers["event_blocks.1"].last == 2 * new * 8 * 8 + 2 * 40 * 8 * 8 * 16 + 3 * 40 * 16
    assert set(live.runtime().layers) >= {"neighbour search", "event_blocks.1", "pooling", "head"}
    live.output()
    assert 0 < live.runtime().total.last <= live.runtime().total.total < 60


def test_memory_per_node_is_small() -> None:
    """At the size of N-Cars: a node's features in all layers and what finds it again."""
    live = make_model_asynchronous(network("graph_res", dataset="ncars"), GraphConfig(window=10_000_000))
    live.update(random_events(4_096 * 3, (120, 100), 1_000))
    assert live.memory()["nodes"] + live.memory()["neighbour search"] <= 1024 * 4_096 * 3


@pytest.mark.parametrize("kind", ["strided", "other types", "read-only"])
def test_any_event_array_is_taken(kind: str) -> None:
    module = randomize(network("graph_res", dataset="nmnist", sensor=SENSOR).double(), 0)
    events = random_events(400, SENSOR, 3_000)
    if kind == "strided":
        given_events, events = events[::2], events[::2].copy()
    elif kind == "other types":
        given_events = np.zeros(len(events), [("p", "?"), ("x", "i4"), ("y", "i8"), ("t", "u4"), ("extra", "f4")])
        for name in "pxyt":
            given_events[name] = events[name]
    else:
        given_events = np.frombuffer(events.tobytes(), events.dtype)
    live = make_model_asynchronous(module, GraphConfig(), engine="compiled")
    live.update(given_events)
    assert_equal(live.output(), dense(module, events, GraphConfig()))


def test_a_reset_needs_no_memory_beside_what_there_is() -> None:
    """Of a large sensor, two of all arrays might be more than the machine has."""
    module = network("graph_grid", dataset="simulated", task="detection", sensor=(640, 480))
    graph = GraphConfig(window=50_000, max_neighbors=4)
    # What compiling needs is not asked for, and it takes long where all of it is counted.
    make_model_asynchronous(module, graph, engine="compiled").output()
    tracemalloc.start()
    try:
        live = make_model_asynchronous(module, graph, engine="compiled")
        live.output()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        live.reset()
        assert tracemalloc.get_traced_memory()[1] <= 1.05 * held
    finally:
        tracemalloc.stop()
