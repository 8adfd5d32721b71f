# SPDX-License-Identifier: Apache-2.0
"""What engines do when there is no memory: nothing is lost, or the message says what is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous, network
from aegnn_core.asynchronous import packet_engine
from aegnn_core.asynchronous.compiled import engine as compiled_engine
from aegnn_core.asynchronous.cuda import interpreted
from aegnn_core.events import make_events
from aegnn_core.graph import build
from aegnn_core.graph.build import most_live
from aegnn_core.machine_code import kernel
from aegnn_core.nn.spline import SplineConv
from tests.graph.reference import graph_configs, live_nodes, streams
from tests.nn.random_networks import randomize

SENSOR = (12, 9)


def some_events(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 100_000, count))
    return make_events(t, rng.integers(0, 12, count), rng.integers(0, 9, count), rng.integers(0, 2, count))


@given(events=streams(max_events=60), graph=graph_configs(directed=True), cut=st.integers(0, 60))
def test_rings_are_large_enough_for_the_most_live_nodes(events: np.ndarray, graph: GraphConfig, cut: int) -> None:
    cut = min(cut, len(events))
    if cut == len(events):
        return
    before = len(live_nodes(events[:cut], graph, int(events["t"][cut])))
    most = most_live(events["t"][cut:].astype(np.int64), graph, before)
    for stop in range(cut + 1, len(events) + 1):
        assert len(live_nodes(events[:stop], graph, int(events["t"][stop - 1]))) <= most


@pytest.mark.parametrize("engine", ["compiled", "packet"])
def test_no_memory_for_larger_rings_leaves_the_state_as_it_was(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = randomize(network("graph_res", dataset="nmnist", sensor=SENSOR).double(), 0)
    live = make_model_asynchronous(module, GraphConfig(), engine=engine)
    events = some_events(30_000)
    live.update(events[:3_000])
    before = live.output()

    def refuse(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        if engine == "compiled":
            patch.setattr(compiled_engine, "aligned", refuse)
        else:
            patch.setattr(torch.Tensor, "new_empty", refuse)
        with pytest.raises(MemoryError, match=r"no memory for rings of .* nodes: without a window or max_nodes"):
            live.update(events[3_000:])
    assert torch.equal(live.output(), before)
    assert len(live) == 3_000
    live.update(events[3_000:])
    whole = make_model_asynchronous(module, GraphConfig(), engine=engine)
    whole.update(events)
    # To rounding: the engine packet multiplies as many rows at a time as there are events.
    torch.testing.assert_close(live.output(), whole.output(), rtol=1e-9, atol=1e-9)


def test_a_device_is_waited_for_only_after_somebody_asked_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU stands for a device with a queue."""
    waits: list[torch.device] = []
    monkeypatch.setattr(packet_engine, "_QUEUED", ("cpu",))
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    events = some_events(40)
    live = make_model_asynchronous(network("graph_res", dataset="nmnist", sensor=SENSOR), engine="packet")
    live.update(events[:20])
    live.output()
    live.flops()
    assert waits == []
    live.runtime()
    live.update(events[20:30])
    live.output()
    assert len(waits) > sum(name.startswith("event_blocks") for name in live.runtime().layers) > 0
    asked = len(waits)
    live.reset()
    live.update(events[30:])
    assert len(waits) > asked


def test_a_packet_that_does_not_fit_on_the_device_is_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    module = randomize(network("graph_res", dataset="nmnist", sensor=SENSOR).double(), 0)
    graph = GraphConfig(window=30_000)
    events = some_events(1_000)
    live = make_model_asynchronous(module, graph, engine="packet")
    sizes = []

    convolve = SplineConv.convolve

    def limited(self: SplineConv, features: torch.Tensor, own: torch.Tensor, edges: object) -> torch.Tensor:
        if len(own) > limit and self.in_channels == 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(own))
        return convolve(self, features, own, edges)

    limit = 100
    monkeypatch.setattr(SplineConv, "convolve", limited)
    live.update(events[:900])
    assert max(sizes[-5:]) <= 100
    limit = 0
    with pytest.raises(MemoryError, match=r"no memory on cpu for event 0 of the packet's 100: none of them was taken"):
        live.update(events[900:])
    limit = 1_000_000
    live.update(events[900:])
    with torch.no_grad():
        expected = module(build_graph(events, graph, dtype=torch.float64))
    torch.testing.assert_close(live.output(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rule", [{"window": 5_000}, {"max_nodes": 25}])
def test_a_packet_that_is_taken_back_changes_nothing_in_rings_that_have_gone_round(
    rule: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every packet first finds no memory at all, and then enough for some events at a time."""
    monkeypatch.setattr(packet_engine, "_SMALLEST_CAPACITY", 8)
    monkeypatch.setattr(packet_engine, "_EVENTS_AT_ONCE", 16)
    # Single events and packets in turn, and between them a pause of more than the window.
    packet_sizes = 4 * [*20 * [1], 16]
    events = some_events(sum(packet_sizes))
    events["t"] = 100 * np.arange(len(events)) + 10_000 * np.repeat(np.arange(8), 4 * [20, 16])
    module, graph = randomize(network("graph_grid", dataset="nmnist", sensor=SENSOR).double(), 0), GraphConfig(**rule)
    live = make_model_asynchronous(module, graph, engine="packet")
    convolve = SplineConv.convolve

    def limited(self: SplineConv, features: torch.Tensor, own: torch.Tensor, edges: object) -> torch.Tensor:
        if len(own) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return convolve(self, features, own, edges)

    monkeypatch.setattr(SplineConv, "convolve", limited)
    start = 0
    for size in packet_sizes:
        packet, before, limit = events[start : start + size], live.output(), 0
        with pytest.raises(MemoryError, match="none of them was taken"):
            live.update(packet)
        assert torch.equal(live.output(), before)
        limit = 5
        live.update(packet)
        start, limit = start + size, len(events)
        with torch.no_grad():
            expected = module(build_graph(events[:start], graph, dtype=torch.float64))
        torch.testing.assert_close(live.output(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_what_the_cpu_gives() -> None:
    module = randomize(network("graph_res", dataset="ncars"), 0)
    graph = GraphConfig(window=40_000)
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 100_000, 8_000))
    events = make_events(t, rng.integers(0, 120, 8_000), rng.integers(0, 100, 8_000), rng.integers(0, 2, 8_000))
    live = make_model_asynchronous(module, graph)
    live.update(events)
    expected = live.output()
    on_gpu = make_model_asynchronous(module.cuda(), graph)
    for start in range(0, len(events), 1_000):
        on_gpu.update(events[start : start + 1_000])
    assert ("engine=packet" if interpreted() else "engine=cuda") in repr(on_gpu)
    torch.testing.assert_close(on_gpu.output().cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("engine", "name"), [("compiled", "graph_grid"), ("counting", "histogram")])
def test_no_event_waits_for_what_larger_rings_need_to_be_compiled(
    engine: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = kernel(build._most_within.py_func)
    monkeypatch.setattr(build, "_most_within", fresh)
    module = network(name, dataset="nmnist", sensor=SENSOR)
    live = make_model_asynchronous(module, GraphConfig(window=1_000), engine=engine)
    ready = list(fresh.signatures)
    assert ready
    live.update(some_events(5_000))
    assert fresh.signatures == ready
