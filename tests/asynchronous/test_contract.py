# SPDX-License-Identifier: Apache-2.0
"""The contract of all engines: the live answer is the network's on the graph of the rule, whatever came in packets.

Every engine in ``ENGINES`` is held to it, with every network and graph that it does not refuse.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, global_max_pool

import aegnn_core
from aegnn_core import GraphConfig, build_graph, make_model_asynchronous, network
from aegnn_core.asynchronous import ENGINES
from aegnn_core.asynchronous.cuda import engine as cuda_engine
from aegnn_core.asynchronous.incremental import incremental_engine
from aegnn_core.events import make_events, rescale
from aegnn_core.nn.graph_network import GraphNetwork
from tests.asynchronous.engines import KEEPING_FEATURES
from tests.graph.reference import graph_configs, streams
from tests.nn.random_networks import randomize, taken_by
from tests.recordings import recordings

SENSOR = (12, 9)
NETWORKS = {
    "graph_res": {"name": "graph_res", "dataset": "nmnist", "options": {}},
    "graph_res_mean": {"name": "graph_res", "dataset": "nmnist", "options": {"position": "mean"}},
    "graph_res_anywhere": {
        "name": "graph_res",
        "dataset": "nmnist",
        "options": {"widths": [8, 8], "halving": True, "root_weight": True},
    },
    "graph_res_detector": {"name": "graph_res", "dataset": "simulated", "options": {"task": "detection"}},
    "graph_wen": {"name": "graph_wen", "dataset": "nmnist", "options": {}},
    "graph_grid": {"name": "graph_grid", "dataset": "simulated", "options": {"task": "detection", "dim": 2}},
    "graph_grid_ages": {
        "name": "graph_grid",
        "dataset": "nmnist",
        "options": {"least_ages": [10_000, 20_000], "root_weight": True},
    },
    "histogram": {"name": "histogram", "dataset": "nmnist", "options": {}},
    "histogram_ages": {
        "name": "histogram",
        "dataset": "simulated",
        "options": {"task": "detection", "least_ages": [5_000, 20_000, 40_000]},
    },
    "graph_histogram": {
        "name": "graph_histogram",
        "dataset": "simulated",
        "options": {"task": "detection", "least_ages": [5_000, 20_000], "feature_ages": [15_000]},
    },
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


#: How often hypothesis tries: the slower the engine, the fewer.
EXAMPLES = {"dense": 3, "incremental": 12, "cuda": 2}


def graphs_for(engine: str) -> st.SearchStrategy[GraphConfig]:
    """Graph rules of every kind that the engine takes."""
    if engine in KEEPING_FEATURES:
        return graph_configs(directed=True)
    return st.one_of(graph_configs(directed=True), graph_configs(directed=False), graph_configs())


def crowd(count: int, seed: int = 0) -> np.ndarray:
    """Events all over a sensor of 12 x 9 px, within 90 ms."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 90_000, count))
    return make_events(t, rng.integers(0, 12, count), rng.integers(0, 9, count), rng.integers(0, 2, count))


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("engine", ENGINES)
def test_live_equals_dense_after_every_packet(engine: str, kind: str) -> None:
    if reason := ENGINES[engine].refusal(make_network(kind, 0), GraphConfig()):
        pytest.skip(f"{engine} does not take {kind}: {reason}")

    @settings(max_examples=EXAMPLES.get(engine, 25 if kind != "graph_wen" else 8))
    @given(
        events=streams(max_events=60 if kind == "graph_wen" else 120),
        graph=graphs_for(engine),
        cuts=st.lists(st.integers(0, 120), max_size=6),
        later=st.sampled_from([0, 1, 30_000, 10**8]),
        seed=st.integers(0, 3),
    )
    def holds(events: np.ndarray, graph: GraphConfig, cuts: list[int], later: int, seed: int) -> None:
        module = make_network(kind, seed)
        live = make_model_asynchronous(module, graph, engine=engine)
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

    holds()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("time_scale", [3e-5, 2**-15])
@pytest.mark.parametrize("kind", ["graph_grid_ages", "histogram_ages", "graph_histogram"])
@pytest.mark.parametrize("engine", ENGINES)
def test_nodes_change_their_age_when_the_network_says_so(
    engine: str, kind: str, time_scale: float, dtype: torch.dtype
) -> None:
    """Times that are whole parts apart, where a rounding error would move nodes, and long after the beginning."""
    graph = GraphConfig(max_neighbors=4, time_scale=time_scale, window=400_000)
    if reason := ENGINES[engine].refusal(make_network(kind, 0), graph):
        pytest.skip(f"{engine} does not take {kind}: {reason}")
    events = crowd(80)
    events["t"] = 10_000 * np.sort(np.random.default_rng(0).integers(0, 300, len(events)))
    events["t"][40:] += 777_777_777
    module = make_network(kind, 0).to(dtype)
    live = make_model_asynchronous(module, graph, engine=engine)
    for begin in range(0, len(events), 8):
        live.update(events[begin : begin + 8])
        reference = dense(module, events[: begin + 8], graph)
        assert_equal(live.output(), reference, 1e-4 if dtype == torch.float32 else 1e-9)
    later = int(events["t"][-1]) + 300_000
    assert_equal(live.output(later), dense(module, events, graph, later), 1e-4)
    copy = make_model_asynchronous(module, graph, engine=engine)
    copy.load_state_dict(live.state_dict())
    assert torch.equal(copy.output(), live.output())


RULES: dict[str, dict[str, Any]] = {
    "directed": {},
    "directed, window": {"window": 30_000},
    "directed, nodes leave with their edges": {"window": 30_000, "expiry": "graph"},
    "undirected": {"directed": False},
    "undirected, window": {"directed": False, "window": 30_000},
    "undirected, nodes leave the readout": {"directed": False, "window": 20_000, "expiry": "readout"},
    "undirected, last 40 nodes": {"directed": False, "max_nodes": 40},
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("engine", ENGINES)
def test_one_event_at_a_time(engine: str, rule: str) -> None:
    events = crowd(40 if engine in ("dense", "cuda") else 150)  # cuda runs in Triton's interpreter
    graph = GraphConfig(max_neighbors=6, **RULES[rule])
    for kind in ("graph_res", "graph_grid"):
        module = make_network(kind, 0)
        if ENGINES[engine].refusal(module, graph):
            pytest.skip(f"{engine} does not take {rule}")
        live = make_model_asynchronous(module, graph, engine=engine)
        for k in range(len(events)):
            live.update(events[k : k + 1])
            if k % 7 == 0:
                assert_equal(live.output(), dense(module, events[: k + 1], graph))


@pytest.mark.parametrize("expiry", ["readout", "graph"])
@pytest.mark.parametrize("engine", ENGINES)
def test_memory_is_bounded_by_the_window(engine: str, expiry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = GraphConfig(window=1_000, max_neighbors=4, expiry=expiry)
    module = make_network("graph_res", 0)
    if ENGINES[engine].refusal(module, graph) or (engine, expiry) == ("dense", "readout"):
        pytest.skip(f"{engine} does not take it, or keeps all events by definition")
    packets, size = 60, 500
    if engine == "cuda":  # in Triton's interpreter: fewer events, but more than its rings hold at first, all the same
        monkeypatch.setattr(cuda_engine, "_SMALLEST_CAPACITY", 1 << 10)
        packets, size = 20, 100
    live = make_model_asynchronous(module, graph, engine=engine)
    rng = np.random.default_rng(0)
    held = []
    for n in range(packets):
        t = n * 5_000 + np.sort(rng.integers(0, 5_000, size))
        live.update(make_events(t, rng.integers(0, 12, size), rng.integers(0, 9, size), rng.integers(0, 2, size)))
        held.append(sum(live.memory().values()))
    assert len(live) == packets * size
    assert max(held[packets // 2 :]) <= 1.5 * max(held[: packets // 2]), "memory grows while nobody asks for the output"


@pytest.mark.parametrize(
    "recording",
    recordings("made/street.raw", "raw/evt3_sample.raw", "pedro/frame0013230.npy", "raw/ncars_004397_td.dat"),
    indirect=True,
)
@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "dense"])
def test_live_equals_dense_on_recordings(recording: Path, engine: str) -> None:
    stream = aegnn_core.read_events(recording)
    count = {"cuda": 1_500, "incremental": 3_000}.get(engine, 6_000)
    events = rescale(stream.events, (stream.width, stream.height), (160, 120))[:count]
    directed = engine != "incremental"
    window = int(events["t"][-1] - events["t"][0]) // 3
    graph = GraphConfig(window=window, max_neighbors=16 if directed else 8, directed=directed)
    module = make_network("histogram_ages" if engine == "counting" else "graph_grid", 0, (160, 120))
    live = make_model_asynchronous(module, graph, engine=engine, threads=3)
    packet = len(events) // 3 if engine == "cuda" else 900
    for start in range(0, len(events), packet):
        live.update(events[start : start + packet])
        assert_equal(live.output(), dense(module, events[: start + packet], graph))


@pytest.mark.parametrize("engine", ENGINES)
def test_single_precision_is_exact_to_rounding(engine: str) -> None:
    events = crowd(900, 3)
    graph = GraphConfig(window=30_000)
    module = make_network(taken_by(engine), 0).float()
    live = make_model_asynchronous(module, graph, engine=engine)
    for start in range(0, 900, 71):
        live.update(events[start : start + 71])
    assert live.output().dtype == torch.float32
    assert_equal(live.output(), dense(module, events, graph), 1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_autocast_around_calls_changes_no_answer(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incremental_engine, "_EVENTS_AT_ONCE", 8)  # so that an update computes, too
    events, module = crowd(60), make_network(taken_by(engine), 0).float()
    graph = GraphConfig(max_neighbors=4, window=60_000)
    live = make_model_asynchronous(module, graph, engine=engine)
    live.update(events[:40])
    expected = live.output()
    live.update(events[40:])
    later = live.output()
    with torch.autocast("cpu", torch.bfloat16):
        in_autocast = make_model_asynchronous(module, graph, engine=engine)
        in_autocast.update(events[:40])
        assert torch.equal(in_autocast.output(), expected)
        assert torch.is_autocast_enabled("cpu")
    in_autocast.update(events[40:])
    assert torch.equal(in_autocast.output(), later)


@pytest.mark.parametrize("engine", ["incremental", "dense"])
def test_autocast_in_a_models_forward_counts(engine: str) -> None:
    class Mixed(Foreign):
        def forward(self, data: Data) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.conv.lin(super().forward(data)[:, :1])

    events, module, graph = crowd(60), Mixed().eval(), GraphConfig(max_neighbors=4)
    live = make_model_asynchronous(module, graph, engine=engine)
    live.update(events)
    expected = dense(module, events, graph)
    assert expected.dtype == torch.bfloat16
    assert torch.equal(live.output(), expected)
    with torch.autocast("cpu", torch.float16):
        assert torch.equal(live.output(), expected)


@pytest.mark.parametrize("rule", ["directed, window", "undirected, window"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_state_goes_on_where_it_was_saved(engine: str, rule: str, tmp_path: Path) -> None:
    events, module = crowd(120), make_network("graph_res", 0)
    graph = GraphConfig(max_neighbors=6, **RULES[rule])
    if ENGINES[engine].refusal(module, graph):
        pytest.skip(f"{engine} does not take {rule}")
    live = make_model_asynchronous(module, graph, engine=engine)
    live.update(events[:80])
    before = live.output()
    torch.save(live.state_dict(), tmp_path / "state.pt")
    moved = make_model_asynchronous(module, graph, engine=engine)
    moved.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert len(moved) == 80
    assert_equal(moved.output(), before)
    for start in range(80, 120, 10):
        moved.update(events[start : start + 10])
        assert_equal(moved.output(), dense(module, events[: start + 10], graph))
    with pytest.raises(ValueError, match="before the last one so far"):
        moved.update(events[:1])


def test_a_state_of_something_else_is_refused() -> None:
    module, graph = make_network("graph_res", 0), GraphConfig(window=50)
    state = make_model_asynchronous(module, graph, engine="incremental").state_dict()
    others = {
        "another engine, incremental, expected dense": (module, graph, "dense"),
        "another graph": (module, GraphConfig(window=51), "incremental"),
        "another model": (make_network("graph_grid", 0), graph, "incremental"),
        "another weights": (make_network("graph_res", 1), graph, "incremental"),
    }
    for message, (model, rule, engine) in others.items():
        other = make_model_asynchronous(model, rule, engine=engine)
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(state)
    with pytest.raises(ValueError, match="expected a live state of version 2, found None"):
        make_model_asynchronous(module, graph).load_state_dict({})


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_that_change_are_seen(engine: str) -> None:
    events, module, graph = crowd(60), make_network(taken_by(engine), 0), GraphConfig(max_neighbors=6)
    live = make_model_asynchronous(module, graph, engine=engine)
    live.update(events[:50])
    live.output()
    module.load_state_dict(make_network(taken_by(engine), 1).state_dict())
    live.update(events[50:])
    try:
        live.output()
    except ValueError:  # says an engine that keeps no events
        return
    assert_equal(live.output(), dense(module, events, graph))
    module.load_state_dict(make_network(taken_by(engine), 2).state_dict())
    assert_equal(live.output(), dense(module, events, graph))


@pytest.mark.parametrize("engine", ENGINES)
def test_costs_are_metered(engine: str) -> None:
    events, module = crowd(60), make_network(taken_by(engine), 0)
    live = make_model_asynchronous(module, GraphConfig(max_neighbors=6), engine=engine)
    live.update(events[:59])
    live.output()
    first = live.flops()
    live.update(events[59:])
    live.output()
    flops, runtime = live.flops(), live.runtime()
    assert flops.unit == "FLOP"
    assert runtime.unit == "s"
    assert 0 < flops.total.last < flops.total.total
    assert flops.total.total == first.total.total + flops.total.last
    assert 0 < runtime.total.last < runtime.total.total
    first_layer = "counts" if engine == "counting" else "event_blocks.0"
    conv = [cost for name, cost in flops.layers.items() if name.startswith(first_layer)]
    assert sum(cost.last for cost in conv) > 0
    assert "total" in str(flops)
    live.reset()
    assert live.flops().total.total == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_reset_forgets(engine: str) -> None:
    events = make_events([5, 6, 7], [1, 2, 3], [1, 1, 1], [0, 1, 0])
    module = make_network(taken_by(engine), 0)
    live = make_model_asynchronous(module, engine=engine)
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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("events", "message"), BAD)
def test_bad_events_are_refused_and_the_state_is_kept(engine: str, events: np.ndarray, message: str) -> None:
    good = make_events([5, 10], [1, 2], [1, 1], [0, 1])
    module = make_network(taken_by(engine), 0)
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


def test_the_engine_is_chosen_and_shown() -> None:
    ours = make_network("graph_res", 0)
    shown = repr(make_model_asynchronous(ours))
    assert "engine=compiled" in shown
    assert "SplineConv(1, 8, kernel=2x2x2, aggr=mean): compiled, new nodes only" in shown
    shown = repr(make_model_asynchronous(ours, GraphConfig(directed=False)))
    assert "engine=incremental" in shown
    assert "event_blocks.0.conv (SplineConv): affected nodes with their incoming edges" in shown
    assert make_model_asynchronous(ours, engine="dense").engine_name == "dense"
    # A model that does not know of live nodes forgets with the graph, unless told otherwise.
    foreign = make_model_asynchronous(Foreign().eval(), GraphConfig(window=5))
    assert foreign.graph.expiry == "graph"
    assert foreign.engine_name == "incremental"
    with pytest.raises(ValueError, match="packet: in an undirected graph older nodes change"):
        make_model_asynchronous(ours, GraphConfig(directed=False), engine="packet")
    with pytest.raises(ValueError, match="does not know which nodes are live"):
        make_model_asynchronous(Foreign().eval(), GraphConfig(window=5, expiry="readout"))
    with pytest.raises(
        ValueError, match="unknown engine 'warp', known are auto, counting, cuda, compiled, packet, incremental, dense"
    ):
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
