# SPDX-License-Identifier: Apache-2.0
"""What may happen to a live model between two events: it is saved, copied, interrupted, shared, and damaged."""

import contextlib
import copy
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, Sequential, global_add_pool, global_max_pool

from aegnn_core import GraphConfig, LiveModel, build_graph, make_model_asynchronous, network
from aegnn_core.asynchronous import ENGINES
from aegnn_core.asynchronous.compiled import CompiledEngine
from aegnn_core.asynchronous.compiled.readout import Readout
from aegnn_core.asynchronous.costs import CostMeter
from aegnn_core.asynchronous.counting_engine import CountingEngine
from aegnn_core.asynchronous.cuda import CudaEngine
from aegnn_core.asynchronous.incremental import incremental_engine
from aegnn_core.asynchronous.incremental.graphs import EventGraph
from aegnn_core.asynchronous.packet_engine import PacketEngine
from aegnn_core.asynchronous.saved_state import digest_of
from aegnn_core.asynchronous.shared_copy import Settings
from aegnn_core.events import make_events
from tests.asynchronous.engines import FOR_ANY_MODEL, KEEPING_FEATURES
from tests.asynchronous.interruptions import interrupted_behind
from tests.forked_children import end_after
from tests.nn.random_networks import randomize, taken_by

GRAPH = GraphConfig(max_neighbors=6, window=40_000)


def crowd(count: int, seed: int = 0) -> np.ndarray:
    """Events all over a sensor of 12 x 9 px, within 90 ms."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 90_000, count))
    return make_events(t, rng.integers(0, 12, count), rng.integers(0, 9, count), rng.integers(0, 2, count))


EVENTS = crowd(160)


def make_network(seed: int = 0, name: str = "graph_res") -> nn.Module:
    torch.manual_seed(seed)
    return randomize(network(name, dataset="nmnist", sensor=(12, 9)).double(), seed)


def made(engine: str, stop: int = 120, module: nn.Module | None = None) -> LiveModel:
    """A live model after some events."""
    live = make_model_asynchronous(module or make_network(name=taken_by(engine)), GRAPH, engine=engine)
    for start in range(0, stop, 30):
        live.update(EVENTS[start : min(start + 30, stop)])
    return live


def dense(module: nn.Module, events: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return module(build_graph(events, GRAPH, dtype=torch.float64))


def assert_goes_on(live: LiveModel, module: nn.Module, start: int = 120) -> None:
    """It answers as the network does, now and after further events."""
    torch.testing.assert_close(live.output(), dense(module, EVENTS[:start]), rtol=1e-9, atol=1e-9)
    for stop in (start + 1, start + 20, len(EVENTS)):
        live.update(EVENTS[start:stop])
        start = stop
        torch.testing.assert_close(live.output(), dense(module, EVENTS[:stop]), rtol=1e-9, atol=1e-9)


# Damage


def damaged(value: Any, rng: np.random.Generator) -> Any:
    """Another value in its place."""
    if isinstance(value, torch.Tensor) and (value.layout != torch.strided or value.device.type != "cpu"):
        return None  # it is something else already
    if isinstance(value, torch.Tensor):
        kinds: list[Callable[[], Any]] = [
            lambda: value[:-1],
            lambda: value[None],
            lambda: value.to(torch.float16),
            lambda: torch.zeros(1, dtype=value.dtype).expand(value.shape),
            lambda: value.numpy(),
            lambda: nn.Parameter(value, requires_grad=False),
            lambda: value.to_sparse(),
            lambda: value.to("meta"),
        ]
        if value.is_floating_point():
            kinds.append(lambda: torch.full_like(value, float("nan")))
        else:
            info = torch.iinfo(value.dtype)
            kinds.append(lambda: torch.from_numpy(rng.integers(info.min, info.max, value.shape)).to(value.dtype))
        return kinds[rng.integers(len(kinds))]()
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = int(rng.integers(len(value)))
        return [damaged(item, rng) if n == at else item for n, item in enumerate(value)]
    others = [None, -1, 2**70, 1.5, "", "graph", [], {}, torch.zeros(3), True, value + 1 if type(value) is int else 0]
    return others[rng.integers(len(others))]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_damaged_state_is_refused_and_the_old_one_stands(engine: str) -> None:
    """Every part in turn becomes something else, and the digest of the whole is made anew, as by somebody who means it.

    What is refused leaves the live model as it was. What is not (another polarity, a feature that is another number)
    is a state that such an engine can have, and it goes on from it.
    """
    module = make_network(name=taken_by(engine))
    rng = np.random.default_rng(0)
    good = made(engine, module=module).state_dict()
    live = made(engine, 60, module)
    before = live.output()
    messages = []
    rounds = 3 if engine == "cuda" else 12
    for name in sorted(good) * rounds:
        state = dict(good)
        state[name] = damaged(state[name], rng)
        if rng.random() < 0.1:
            del state[name]
        elif rng.random() < 0.1:
            state["nodes.layers"] = torch.zeros(3)
        with_digest = dict(state)
        with contextlib.suppress(NotImplementedError, RuntimeError, TypeError):
            with_digest["digest"] = digest_of({key: value for key, value in state.items() if key != "digest"})
        for tampered in (state, with_digest):
            try:
                live.load_state_dict(tampered)
            except ValueError as error:
                messages.append(str(error))
                assert len(live) == 60
                assert torch.equal(live.output(), before)
            else:
                live.update(EVENTS[-1:])
                live.output()
                live = made(engine, 60, module)
    assert len(messages) > (40 if engine == "cuda" else 200)
    assert not [message for message in messages if not message.startswith("state") or len(message) > 1_000]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_changed_without_a_digest_is_refused(engine: str) -> None:
    live = made(engine)
    state = live.state_dict()
    state["p"] = 1 - state["p"]
    with pytest.raises(ValueError, match=r"state: it is damaged, its digest is not that of its content"):
        live.load_state_dict(state)


@pytest.mark.parametrize("engine", ENGINES)
def test_events_that_contradict_each_other_are_refused(engine: str) -> None:
    live, state = made(engine), made(engine).state_dict()
    cases = {
        "order, but event": {"t": state["t"].flip(0)},
        "below the sensor's 12 px": {"x": state["x"] + 12},
        "y must not be negative": {"y": state["y"] - 9},
        "polarity must be": {"p": state["p"] + 2},
        "is not among those held": {"last_time": state["last_time"] + 1},
        "events must be a whole number": {"events": len(state["t"]) - 1},
        "first_time must be a whole number": {"first_time": int(state["t"][0]) + 1},
    }
    if engine in KEEPING_FEATURES:
        cases["events are not live any more"] = {
            "t": torch.cat([state["t"][:1] - 50_000, state["t"][1:]]),
            "first_time": -60_000,
        }
    for message, change in cases.items():
        tampered = {**state, **change}
        with pytest.raises(ValueError, match=message):
            live.load_state_dict(tampered)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_empty_state_is_one_too(engine: str) -> None:
    module = make_network(name=taken_by(engine))
    state = make_model_asynchronous(module, GRAPH, engine=engine).state_dict()
    live = made(engine, module=module)
    live.load_state_dict(state)
    assert len(live) == 0
    live.update(EVENTS[:120])
    assert_goes_on(live, module)


@pytest.mark.parametrize("engine", KEEPING_FEATURES)
def test_a_state_of_other_weights_than_its_features_cannot_be_saved(engine: str) -> None:
    module = make_network(name=taken_by(engine))
    live = made(engine, module=module)
    randomize(module, 1)
    with pytest.raises(ValueError, match="weights have changed"):
        live.state_dict()


@pytest.mark.parametrize("name", ["graph_res", "graph_wen", "graph_grid", "histogram", "graph_histogram"])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_network_goes_on_from_its_state(engine: str, name: str) -> None:
    """Saved while the queues of the cells have both a front and a back, and loaded where other events were before."""
    module = make_network(name=name)
    if reason := ENGINES[engine].refusal(module, GRAPH):
        pytest.skip(f"{engine} does not take {name}: {reason}")
    live, other = made(engine, 150, module), made(engine, 30, module)
    other.load_state_dict(live.state_dict())
    assert_goes_on(other, module, 150)
    assert_goes_on(live, module, 150)


# Copies


DUPLICATES = [copy.copy, copy.deepcopy, lambda live: pickle.loads(pickle.dumps(live))]


@pytest.mark.parametrize("duplicate", DUPLICATES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_copy_goes_its_own_way(engine: str, duplicate: Callable[[LiveModel], LiveModel]) -> None:
    module = make_network(name=taken_by(engine))
    live = made(engine, module=module)
    other = duplicate(live)
    assert other.graph == live.graph
    other.update(make_events([95_000], [1], [1], [1]))
    other.output()
    assert_goes_on(live, module)
    assert len(other) == 121


def loaded(live: LiveModel) -> LiveModel:
    live.load_state_dict(live.state_dict())
    return live


@pytest.mark.parametrize("duplicate", [*DUPLICATES, loaded])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_copy_is_in_evaluation_mode_while_the_model_is_trained(
    engine: str, duplicate: Callable[[LiveModel], LiveModel]
) -> None:
    """So is a live model that takes a state then; and the training goes on."""
    name = "histogram" if engine == "counting" else "graph_grid"
    module = randomize(network(name, dataset="nmnist", sensor=(12, 9), dropout=0.5).double().eval(), 0)
    live = made(engine, module=module)
    before, statistics = live.output(), copy.deepcopy(module.state_dict())
    module.train()
    other = duplicate(live)
    assert torch.equal(other.output(), before)
    assert torch.equal(live.output(), before)
    other.reset()
    other.update(EVENTS[:120])
    assert all(part.training for part in module.modules())
    assert all(torch.equal(value, statistics[part]) for part, value in module.state_dict().items())
    assert_goes_on(other, module.eval())


class Foreign(nn.Module):
    """A model that knows nothing of this package."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = GCNConv(1, 4)

    def forward(self, data: Data) -> torch.Tensor:
        return global_max_pool(self.conv(data.x, data.edge_index), data.batch, 1)


class WithFunction(nn.Module):
    """It prints the address of a function."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [(GCNConv(1, 2), "x, edge_index -> y"), (lambda x, y: x + y, "x, y -> x")]
        self.layers = Sequential("x, edge_index", layers)

    def forward(self, data: Data) -> torch.Tensor:
        return self.layers(data.x, data.edge_index)


def test_the_place_of_a_function_in_memory_is_no_part_of_a_model() -> None:
    models = [WithFunction().eval() for _ in range(2)]
    assert repr(models[0]) != repr(models[1])
    one, other = (make_model_asynchronous(model, GRAPH) for model in models)
    one.update(EVENTS)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.output(), one.output())


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_a_copy_of_a_foreign_model_keeps_its_rule(engine: str) -> None:
    live = made(engine, module=Foreign().double().eval())
    other = copy.deepcopy(live)
    assert other.graph.expiry == "graph"
    torch.testing.assert_close(other.output(), live.output())


# Interruptions and threads


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupted_update_is_not_gone_on_from(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes when the engine has taken the events, and before the live model knows."""
    module = make_network(name=taken_by(engine))
    live = made(engine, module=module)
    update = type(live.engine).update

    def interrupted(self: Any, events: np.ndarray) -> None:
        update(self, events)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(type(live.engine), "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            live.update(EVENTS[120:130])
    for refused in (lambda: live.update(EVENTS[130:]), live.output, live.state_dict, lambda: copy.deepcopy(live)):
        with pytest.raises(ValueError, match=r"did not come to its end.*reset\(\) first"):
            refused()
    live.reset()
    live.update(EVENTS[:120])
    assert_goes_on(live, module)


#: What engines call while they are reset.
RESETTING: dict[str, tuple[Any, str]] = {"compiled": (Readout, "reset"), "packet": (PacketEngine, "_see_changes")}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_live_model_whose_reset_was_interrupted_asks_for_another(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make_network(name=taken_by(engine))
    live = made(engine, module=module)
    state = live.state_dict()
    questions = (live.output, live.flops, live.runtime, live.memory, live.state_dict, lambda: copy.deepcopy(live))
    for begin_anew in (live.reset, lambda: live.load_state_dict(state)):
        owner, name = RESETTING.get(engine, (CostMeter, "reset"))
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupted_behind(getattr(owner, name)))
            with pytest.raises(KeyboardInterrupt):
                live.reset()
        assert len(live) == 0
        assert "events=0" in repr(live)
        for refused in (lambda: live.update(EVENTS[:30]), *questions):
            with pytest.raises(
                ValueError, match=r"a reset of this live model did not come to its end.*reset\(\) first"
            ):
                refused()
        begin_anew()
        for answered in questions:
            answered()
    assert_goes_on(live, module)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_interrupted_output_may_be_asked_for_again(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_network(name=taken_by(engine))
    live = made(engine, 90, module)
    live.output()
    live.update(EVENTS[90:120])
    forward = type(module.head).forward
    for place in ("layers", "head"):
        with monkeypatch.context() as patch:

            def interrupted(*args: Any) -> torch.Tensor:
                signal.raise_signal(signal.SIGINT)
                return forward(*args)

            if place == "head":
                patch.setattr(type(module.head), "forward", interrupted)
            elif engine == "compiled":
                patch.setattr("aegnn_core.asynchronous.compiled.readout.run_voxels", interrupted)
            elif engine == "incremental":
                patch.setattr(EventGraph, "begin", interrupted_behind(EventGraph.begin))
            else:
                continue
            with pytest.raises(KeyboardInterrupt):
                live.output()
    assert_goes_on(live, module)


#: Where engines do what new weights require; dense does it all at every output.
TAKING_WEIGHTS: dict[str, tuple[str, Any, str]] = {
    "counting": ("output", CountingEngine, "_take_weights"),
    "cuda": ("reset", CudaEngine, "_forget_launches"),
    "compiled": ("reset", CompiledEngine, "_take_weights"),
    "packet": ("output", Settings, "follow"),
    "incremental": ("output", incremental_engine, "constants_of"),
}


@pytest.mark.parametrize("engine", TAKING_WEIGHTS)
def test_new_weights_are_taken_after_an_interruption(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_network(name=taken_by(engine))
    live = made(engine, module=module)
    live.output()
    randomize(module, 1)
    call, owner, name = TAKING_WEIGHTS[engine]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted_behind(getattr(owner, name)))
        with pytest.raises(KeyboardInterrupt):
            getattr(live, call)()
    if engine in KEEPING_FEATURES:
        with pytest.raises(ValueError, match=r"reset\(\) first"):
            live.output()
        live.reset()
        live.update(EVENTS[:120])
    assert_goes_on(live, module)


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_share_a_live_model(engine: str) -> None:
    """Three threads bring events of one moment, in any order, and a fourth asks for answers meanwhile."""
    module = make_network(name="histogram" if engine == "counting" else "graph_grid")
    live = make_model_asynchronous(module, GRAPH, engine=engine)
    events = make_events(np.zeros(48, int), *np.divmod(np.arange(48), 8), np.ones(48, int))
    failures: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for k in range(start, 48, 3):
                live.update(events[k : k + 1])
                live.output()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(start,), daemon=True) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(200)
        assert not thread.is_alive()
    assert not failures
    assert len(live) == 48
    assert bool(torch.isfinite(live.output()).all())


class Waits(Foreign):
    """Its forward waits half way until it is let go on, unless there is nobody to wait for."""

    begun, go_on = threading.Event(), threading.Event()

    def forward(self, data: Data) -> torch.Tensor:
        x = self.conv(data.x, data.edge_index)
        Waits.begun.set()
        Waits.go_on.wait(60)
        return global_add_pool(x, data.batch, 1)


@pytest.fixture
def answering(engine: str) -> Iterator[LiveModel]:
    """A live model with 20 events that a thread is asking for its answer; it waits for :attr:`Waits.go_on`."""
    live = make_model_asynchronous(Waits().double().eval(), GRAPH, engine=engine)
    Waits.go_on.set()
    live.update(EVENTS[:10])
    live.output()
    live.update(EVENTS[10:20])
    Waits.begun.clear()
    Waits.go_on.clear()
    thread = threading.Thread(target=live.output, daemon=True)
    thread.start()
    Waits.begun.wait()
    yield live
    Waits.go_on.set()
    thread.join(20)
    torch.testing.assert_close(live.output(), dense_answer(live, 20), rtol=1e-9, atol=1e-9)


def dense_answer(live: LiveModel, events: int) -> torch.Tensor:
    with torch.no_grad():
        return live._model(build_graph(EVENTS[:events], live.graph, dtype=torch.float64))


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
@pytest.mark.parametrize("events", [20, 40])
def test_a_child_process_goes_on_whatever_threads_of_its_parent_were_at(answering: LiveModel, events: int) -> None:
    """It neither waits for them nor takes their half of an answer for one."""
    child = os.fork()
    if child == 0:
        end_after(20)
        Waits.go_on = threading.Event()
        Waits.go_on.set()
        answering.update(EVENTS[20:events])
        right = torch.allclose(answering.output(), dense_answer(answering, events), rtol=1e-9, atol=1e-9)
        os._exit(0 if right and len(answering) == events else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("engine", ["dense"])
@pytest.mark.parametrize("ask", [LiveModel.flops, LiveModel.runtime, LiveModel.memory, repr])
def test_whoever_asks_what_a_live_model_costs_waits_until_others_are_served(
    answering: LiveModel, ask: Callable[[LiveModel], object]
) -> None:
    thread = threading.Thread(target=ask, args=(answering,), daemon=True)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    Waits.go_on.set()
    thread.join(20)
    assert not thread.is_alive()


def test_a_model_made_in_inference_mode_goes_on_outside() -> None:
    for engine in ENGINES:
        with torch.inference_mode():
            module = make_network(name=taken_by(engine))
            live = made(engine, module=module)
            live.output()
        assert_goes_on(live, module)
