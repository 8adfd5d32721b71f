"""The live model's answer is the network's answer on the graph of the rule, whatever came and in which packets."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, global_max_pool

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous, network, read_events
from aegnn_core.asynchronous import packet_engine
from aegnn_core.events import make_events, rescale
from aegnn_core.nn.networks import GraphNetwork
from tests.graph.reference import graph_configs, streams
from tests.nn.networks import randomize

SENSOR = (12, 9)
NETWORKS = {
    "graph_res": {"name": "graph_res", "dataset": "nmnist", "options": {}},
    "graph_res_mean": {"name": "graph_res", "dataset": "nmnist", "options": {"position": "mean"}},
    "graph_res_detector": {"name": "graph_res", "dataset": "simulated", "options": {"task": "detection"}},
    "graph_wen": {"name": "graph_wen", "dataset": "nmnist", "options": {}},
    "graph_grid": {"name": "graph_grid", "dataset": "simulated", "options": {"task": "detection", "dim": 2}},
}


def make_network(kind: str, seed: int, sensor: tuple[int, int] = SENSOR) -> GraphNetwork:
    choice = NETWORKS[kind]
    module = network(choice["name"], dataset=choice["dataset"], sensor=sensor, **choice["options"])
    return randomize(module.double(), seed)


def dense(module: nn.Module, events: np.ndarray, graph: GraphConfig, time: int | None = None) -> torch.Tensor:
    """The reference: the network over the graph of all events."""
    with torch.no_grad():
        return module(build_graph(events, graph, time=time, dtype=next(module.parameters()).dtype))


def assert_equal(live: torch.Tensor, reference: torch.Tensor, tolerance: float = 1e-9) -> None:
    assert live.shape == reference.shape
    assert float((live - reference).abs().max()) <= tolerance * max(1.0, float(reference.abs().max()))


@pytest.mark.parametrize("kind", NETWORKS)
@settings(max_examples=25)
@given(
    events=streams(),
    graph=graph_configs(directed=True),
    cuts=st.lists(st.integers(0, 120), max_size=6),
    later=st.sampled_from([0, 1, 30_000, 10**8]),
    seed=st.integers(0, 3),
)
def test_live_equals_dense_after_every_packet(
    kind: str, events: np.ndarray, graph: GraphConfig, cuts: list[int], later: int, seed: int
) -> None:
    module = make_network(kind, seed)
    live = make_model_asynchronous(module, graph, engine="packet")
    borders = sorted({0, len(events), *(min(cut, len(events)) for cut in cuts)})
    assert_equal(live.output(), dense(module, events[:0], graph))
    for start, stop in pairwise(borders):
        live.update(events[start:stop])
        live.update(events[stop:stop])
        assert_equal(live.output(), dense(module, events[:stop], graph))
    if len(events):
        time = int(events["t"][-1]) + later
        assert_equal(live.output(time), dense(module, events, graph, time))
        assert_equal(live.output(), dense(module, events, graph))


@pytest.mark.parametrize("kind", ["graph_res", "graph_grid"])
def test_one_event_at_a_time(kind: str) -> None:
    rng = np.random.default_rng(0)
    events = make_events(
        np.sort(rng.integers(0, 90_000, 150)),
        rng.integers(0, 12, 150),
        rng.integers(0, 9, 150),
        rng.integers(0, 2, 150),
    )
    graph = GraphConfig(window=30_000, max_neighbors=6)
    module = make_network(kind, 0)
    live = make_model_asynchronous(module, graph)
    for k in range(len(events)):
        live.update(events[k : k + 1])
        assert_equal(live.output(), dense(module, events[: k + 1], graph))


@settings(max_examples=10)
@given(events=streams(max_events=100), graph=graph_configs(directed=True))
def test_rings_that_wrap_and_grow_change_nothing(events: np.ndarray, graph: GraphConfig) -> None:
    """The same with rings that begin tiny and packets that are worked through in parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packet_engine, "_EVENTS_AT_ONCE", 7)
        patch.setattr(packet_engine, "_SMALLEST_CAPACITY", 2)
        module = make_network("graph_res", 1)
        live = make_model_asynchronous(module, graph, engine="packet")
        for start in range(0, len(events), 33):
            live.update(events[start : start + 33])
            assert_equal(live.output(), dense(module, events[: start + 33], graph))


def test_memory_is_bounded_by_the_window() -> None:
    graph = GraphConfig(window=1_000, max_neighbors=4)
    live = make_model_asynchronous(make_network("graph_res", 0), graph)
    rng = np.random.default_rng(0)
    held = []
    for n in range(60):
        t = n * 5_000 + np.sort(rng.integers(0, 5_000, 500))
        live.update(make_events(t, rng.integers(0, 12, 500), rng.integers(0, 9, 500), rng.integers(0, 2, 500)))
        held.append(sum(live.memory().values()))
    assert len(live) == 30_000
    assert held[-1] == held[0]


@pytest.mark.parametrize("name", ["raw/evt3_sample.raw", "pedro/frame0013230.npy", "raw/ncars_004397_td.dat"])
def test_live_equals_dense_on_real_recordings(shared_data: Path, name: str) -> None:
    stream = read_events(shared_data / name)
    events = rescale(stream.events, (stream.width, stream.height), (160, 120))[:6_000]
    graph = GraphConfig(window=int(events["t"][-1] - events["t"][0]) // 3, max_neighbors=16)
    module = make_network("graph_grid", 0, (160, 120))
    live = make_model_asynchronous(module, graph)
    for start in range(0, len(events), 1_700):
        live.update(events[start : start + 1_700])
        assert_equal(live.output(), dense(module, events[: start + 1_700], graph))


def test_single_precision_is_exact_to_rounding() -> None:
    rng = np.random.default_rng(3)
    events = make_events(
        np.sort(rng.integers(0, 90_000, 900)),
        rng.integers(0, 12, 900),
        rng.integers(0, 9, 900),
        rng.integers(0, 2, 900),
    )
    graph = GraphConfig(window=30_000)
    module = make_network("graph_res", 0).float()
    live = make_model_asynchronous(module, graph)
    for start in range(0, 900, 71):
        live.update(events[start : start + 71])
    assert live.output().dtype == torch.float32
    assert_equal(live.output(), dense(module, events, graph), 1e-4)


def test_reset_forgets() -> None:
    events = make_events([5, 6, 7], [1, 2, 3], [1, 1, 1], [0, 1, 0])
    module = make_network("graph_res", 0)
    live = make_model_asynchronous(module)
    live.update(events)
    live.reset()
    assert len(live) == 0
    assert_equal(live.output(), dense(module, events[:0], GraphConfig()))
    live.update(events[:1])
    assert_equal(live.output(), dense(module, events[:1], GraphConfig()))


BAD = [
    (make_events([9], [0], [0], [0]), "events begin at 9 µs, before the last one so far at 10 µs"),
    (make_events([20, 19], [0, 0], [0, 0], [0, 0]), "time order"),
    (make_events([20], [12], [0], [0]), "x must be below the sensor's 12 px, found 12"),
    (make_events([20], [0], [9], [0]), "y must be below the sensor's 9 px, found 9"),
    (np.zeros((2, 4)), "structured array"),
]


@pytest.mark.parametrize("engine", ["packet", "dense"])
@pytest.mark.parametrize(("events", "message"), BAD)
def test_bad_events_are_refused_and_the_state_is_kept(engine: str, events: np.ndarray, message: str) -> None:
    good = make_events([5, 10], [1, 2], [1, 1], [0, 1])
    module = make_network("graph_res", 0)
    live = make_model_asynchronous(module, GraphConfig(), engine=engine)
    live.update(good)
    before = live.output()
    with pytest.raises(ValueError, match=message):
        live.update(events)
    assert len(live) == 2
    assert torch.equal(live.output(), before)


def test_an_output_before_the_last_event_is_refused() -> None:
    live = make_model_asynchronous(make_network("graph_res", 0))
    live.update(make_events([10], [1], [1], [0]))
    with pytest.raises(ValueError, match="time is 9 µs, before the last event at 10 µs"):
        live.output(9)


class Foreign(nn.Module):
    """A model that knows nothing of this package."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = GCNConv(1, 4)

    def forward(self, data: Data) -> torch.Tensor:
        batch = torch.zeros(data.num_nodes, dtype=torch.long)
        return global_max_pool(self.conv(data.x, data.edge_index), batch, 1)


@settings(max_examples=20)
@given(events=streams(max_events=60), graph=graph_configs(directed=False), cut=st.integers(0, 60))
def test_any_model_on_undirected_graphs_runs_densely(events: np.ndarray, graph: GraphConfig, cut: int) -> None:
    torch.manual_seed(0)
    module = Foreign().double().eval()
    live = make_model_asynchronous(module, graph)
    assert "dense" in repr(live)
    live.update(events[:cut])
    live.update(events[cut:])
    if len(events):
        assert_equal(live.output(), dense(module, events, graph))


def test_the_engine_is_chosen_and_shown() -> None:
    ours = make_network("graph_res", 0)
    shown = repr(make_model_asynchronous(ours))
    assert "engine=compiled" in shown
    assert "SplineConv(1, 8, kernel=2x2x2, aggr=mean): compiled, new nodes only" in shown
    assert "engine=dense" in repr(make_model_asynchronous(ours, GraphConfig(directed=False)))
    with pytest.raises(ValueError, match="packet: in an undirected graph older nodes change"):
        make_model_asynchronous(ours, GraphConfig(directed=False), engine="packet")
    with pytest.raises(ValueError, match="does not know which nodes are live"):
        make_model_asynchronous(Foreign().eval(), GraphConfig(window=5, expiry="readout"))
    with pytest.raises(ValueError, match="unknown engine 'warp', known are auto, compiled, packet, dense"):
        make_model_asynchronous(ours, engine="warp")


def test_models_that_cannot_be_exact_are_refused() -> None:
    with pytest.raises(ValueError, match=r"norm is in training mode.*call model.eval\(\) first"):
        make_model_asynchronous(network("graph_res", dataset="ncars").train())
    broken = network("graph_res", dataset="ncars")
    with torch.no_grad():
        broken.event_blocks[0].conv.weight[0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"event_blocks.0.conv.weight holds values that are not finite"):
        make_model_asynchronous(broken)


def test_the_model_is_left_as_it_was() -> None:
    module = make_network("graph_res", 0)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    live = make_model_asynchronous(module)
    live.update(make_events([5, 6, 7], [1, 2, 3], [1, 1, 1], [0, 1, 0]))
    live.output()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(name.startswith("asy") for name in vars(module))
