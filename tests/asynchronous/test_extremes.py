# SPDX-License-Identifier: Apache-2.0
"""Numbers at the ends of their types: nothing depends on where the clock stands, and nothing is taken for granted."""

import resource
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous, network
from aegnn_core.asynchronous import ENGINES
from aegnn_core.events import make_events
from aegnn_core.events.array import LONGEST_STREAM_US
from aegnn_core.nn.networks import NETWORKS
from tests.asynchronous.engines import FOR_ANY_MODEL
from tests.nn.random_networks import randomize

DAY_US = 86_400 * 10**6
SENSOR = (12, 9)


def crowd(first: int, count: int = 60) -> np.ndarray:
    """The same events in 90 ms, whenever they begin [µs]."""
    rng = np.random.default_rng(0)
    t = first + np.sort(rng.integers(0, 90_000, count))
    return make_events(t, rng.integers(0, 12, count), rng.integers(0, 9, count), rng.integers(0, 2, count))


class Foreign(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = GCNConv(1, 4)

    def forward(self, data: Data) -> torch.Tensor:
        return self.conv(data.x, data.edge_index).sum(0) + data.pos.sum(0)[:1]


def make_network(kind: str = "graph_res") -> nn.Module:
    if kind == "foreign":
        return randomize(Foreign().double(), 0).eval()
    return randomize(network(kind, dataset="nmnist", sensor=SENSOR).double(), 0)


def network_for(engine: str, graph: GraphConfig) -> nn.Module:
    """One of the package's networks that the engine takes."""
    modules = (make_network(kind) for kind in NETWORKS)
    return next(module for module in modules if ENGINES[engine].refusal(module, graph) is None)


def answers(engine: str, module: nn.Module, graph: GraphConfig, first: int) -> list[torch.Tensor]:
    """After every packet, later, and after having been saved; each is compared with the whole graph."""
    events = crowd(first)
    live = make_model_asynchronous(module, graph, engine=engine)
    found = []
    for start in range(0, 60, 20):
        live.update(events[start : start + 20])
        found.append(live.output())
        with torch.no_grad():
            dense = module(build_graph(events[: start + 20], live.graph, dtype=torch.float64))
        torch.testing.assert_close(found[-1], dense, rtol=1e-9, atol=1e-9)
    later = min(int(events["t"][-1]) + 20_000, 2**63 - 1)
    found.append(live.output(later))
    moved = make_model_asynchronous(module, graph, engine=engine)
    moved.load_state_dict(live.state_dict())
    found.append(moved.output())
    return found


RULES: dict[str, dict[str, Any]] = {
    "for ever": {},
    "a window": {"window": 30_000},
    "the longest window": {"window": 2**62, "time_horizon": 2**62},
    "very many nodes": {"max_nodes": 10**9},
    "most nodes": {"max_nodes": 2**62},
    "the widest reach": {"radius": 100.0, "max_neighbors": 1024},
    "undirected": {"directed": False, "window": 30_000},
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("engine", ENGINES)
def test_answers_do_not_depend_on_the_clock(engine: str, rule: str) -> None:
    # Triton's interpreter, in which the engine cuda runs here, takes its time.
    slow = engine == "cuda"
    for kind in ("graph_grid", "histogram") if slow else (*NETWORKS, "foreign"):
        graph, module = GraphConfig(**RULES[rule]), make_network(kind)
        if kind == "foreign":
            graph = GraphConfig(**{**graph.to_dict(), "expiry": "graph"})
        if ENGINES[engine].refusal(module, graph):
            continue
        expected = answers(engine, module, graph, 0)
        for first in (-(2**63),) if slow else (30 * DAY_US, 2**63 - 110_001, -(2**63)):
            for one, other in zip(answers(engine, module, graph, first), expected, strict=True):
                assert torch.equal(one, other)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_gap_of_years_is_a_gap_like_any_other(engine: str) -> None:
    graph = GraphConfig(window=30_000)
    module = network_for(engine, graph)
    events = np.concatenate([crowd(0), crowd(LONGEST_STREAM_US // 2)])
    live = make_model_asynchronous(module, graph, engine=engine)
    for start in range(0, 120, 30):
        live.update(events[start : start + 30])
    fresh = make_model_asynchronous(module, graph, engine=engine)
    fresh.update(events[60:])
    torch.testing.assert_close(live.output(), fresh.output(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_beyond_what_differences_hold_is_refused(engine: str) -> None:
    live = make_model_asynchronous(network_for(engine, GraphConfig()), GraphConfig(), engine=engine)
    live.update(crowd(-(10**6)))
    before = live.output()
    for refused in (lambda: live.update(crowd(LONGEST_STREAM_US)), lambda: live.output(LONGEST_STREAM_US)):
        with pytest.raises(ValueError, match=r"a stream may last .* \(285 years\), found one that began at"):
            refused()
    assert torch.equal(live.output(), before)
    live.reset()
    live.update(crowd(LONGEST_STREAM_US))


@pytest.mark.parametrize("time", [float("nan"), float("inf"), 10**6 + 0.5, "now", True, None.__class__])
def test_a_time_is_a_whole_number(time: Any) -> None:
    live = make_model_asynchronous(make_network(), GraphConfig())
    live.update(crowd(0))
    with pytest.raises(ValueError, match="time must be a whole number of µs, found"):
        live.output(time)
    assert torch.equal(live.output(np.float64(10**6)), live.output(10**6))


@pytest.mark.parametrize("time", [2**63, -(2**63) - 1, 1e19])
def test_a_time_has_64_bits(time: Any) -> None:
    live = make_model_asynchronous(make_network(), GraphConfig())
    live.update(crowd(2**63 - 10**6))
    last = live.output(2**63 - 1)
    with pytest.raises(ValueError, match=f"time must be a time of 64 bits, found {int(time)} µs"):
        live.output(time)
    assert torch.equal(live.output(2**63 - 1), last)


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_far_corners_of_no_sensor_are_refused(engine: str) -> None:
    """Two pixels that are worlds apart would want an image of all that is between them."""
    live = make_model_asynchronous(make_network("foreign"), GraphConfig(), engine=engine)
    live.update(make_events([0], [65_535], [0], [1]))
    before = live.output()
    with pytest.raises(ValueError, match="they reach over 65536 x 65536 px, neighbours can be searched among 33554432"):
        live.update(make_events([1], [0], [65_535], [1]))
    assert torch.equal(live.output(), before)
    live.update(make_events([1], [0], [500], [1]))
    live.output()
    with pytest.raises(ValueError, match="they reach over 65536 x 65536 px"):
        build_graph(make_events([0, 1], [0, 65_535], [0, 65_535], [1, 1]), GraphConfig())


@pytest.mark.parametrize("engine", ENGINES)
def test_limits_that_are_not_reached_take_no_memory(engine: str) -> None:
    graph = GraphConfig(max_nodes=10**9)
    module = network_for(engine, graph)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    live = make_model_asynchronous(module, graph, engine=engine)
    live.update(crowd(0))
    live.output()
    assert sum(live.memory().values()) < 2**27
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20, "KiB: a GiB"
