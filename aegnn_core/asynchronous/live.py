# SPDX-License-Identifier: Apache-2.0
"""The live model: a network that follows a stream of events, and answers exactly as it would for the whole graph."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn.conv import MessagePassing

from aegnn_core.asynchronous.compiled import CompiledEngine
from aegnn_core.asynchronous.costs import Costs
from aegnn_core.asynchronous.counting_engine import CountingEngine
from aegnn_core.asynchronous.cuda import CudaEngine, interpreted
from aegnn_core.asynchronous.dense_engine import DenseEngine
from aegnn_core.asynchronous.engine_contract import Engine, EngineClass
from aegnn_core.asynchronous.failures import UNFINISHED, NoRoomError
from aegnn_core.asynchronous.incremental import IncrementalEngine
from aegnn_core.asynchronous.packet_engine import PacketEngine
from aegnn_core.asynchronous.saved_state import (
    check_number,
    check_parts,
    digest_of,
    events_of,
    parts_of,
)
from aegnn_core.asynchronous.shared_copy import Layers, in_modes, modes_of
from aegnn_core.asynchronous.threads import chosen_threads
from aegnn_core.asynchronous.torch_internals import (
    AUTOCAST_DEVICES,
    DROPOUT_LAYERS,
    NORM_LAYERS,
    eager,
    under_autocast,
)
from aegnn_core.asynchronous.weights import architecture_digest, weights_digest
from aegnn_core.events.array import LONGEST_STREAM_US, check_events, too_long
from aegnn_core.graph import GraphConfig, check_same_edges
from aegnn_core.graph.neighbors import check_extent
from aegnn_core.nn.event_network import EventNetwork
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.spline import SplineConv

__all__ = ["ENGINES", "LiveModel", "make_model_asynchronous"]


#: Engines by name, the fastest first.
ENGINES: dict[str, EngineClass] = {
    "counting": CountingEngine,
    "cuda": CudaEngine,
    "compiled": CompiledEngine,
    "packet": PacketEngine,
    "incremental": IncrementalEngine,
    "dense": DenseEngine,
}

_STATE_VERSION = 2
#: Engines that go on from one another's states: the live nodes, and their features behind every layer.
_SAME_STATES = {"compiled", "cuda", "packet"}
#: Engines that are made from ``(model, graph, threads, frozen)``. The others have no work for a second thread, and look
#: at the weights at every output even if they are said to be frozen.
_COMPILED = {"compiled", "counting"}
#: Modules whose attributes an engine reads when it is made, and never again; what is not here reads them every time.
_READ_ONCE: dict[str, tuple[type[nn.Module], ...]] = {
    "compiled": (nn.Module,),
    "counting": (nn.Module,),
    "cuda": (nn.Module,),
    "packet": (SplineConv,),  # all layers are taken to sum as the first does
}
#: What a state has besides its version and what it belongs to.
_PARTS = ("events", "first_time", "last_time", "t", "x", "y", "p", "features", "digest")


def _make_engine(name: str, model: nn.Module, graph: GraphConfig, threads: int, frozen: bool) -> Engine:
    options = {"threads": threads, "frozen": frozen} if name in _COMPILED else {}
    return ENGINES[name](model, graph, **options)


def _plain_tensors() -> Any:
    """Within it, tensors have the model's precision and can be written to later.

    That is so even if the caller is under autocast or in inference mode.
    """
    return _without_autocast() if under_autocast() else torch.inference_mode(False)


@contextmanager
def _without_autocast() -> Iterator[None]:
    with torch.inference_mode(False), ExitStack() as stack:
        for device in filter(torch.is_autocast_enabled, AUTOCAST_DEVICES):
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


class LiveModel:
    """A network following a stream of events; made by :func:`make_model_asynchronous`.

    ``live.output()`` equals ``model(build_graph(all events since the reset, live.graph))`` to rounding, at any time and
    for any division of the stream into packets. It has the model's precision, whatever autocast the caller is under.

    Threads may share it: one at a time is served, the others wait. ``copy.deepcopy`` and ``pickle`` take a copy of the
    model along. It runs the model in the mode in which it was made, evaluation mode for all that matters, and so do its
    copies, even if the model itself is trained.

    Attributes:
        graph: the graph rule.
        engine: what keeps the state.
    """

    def __init__(self, engine: Engine, name: str, model: nn.Module, graph: GraphConfig, frozen: bool = False) -> None:
        self.engine, self.graph = engine, graph
        self._name, self._model, self._frozen = name, model, frozen
        self._sensor = model.sensor if isinstance(model, EventNetwork) else (None, None)
        #: In which the engine runs the model, whatever mode its owner changes to.
        self._modes = modes_of(model)
        read_once = _READ_ONCE.get(name, ())
        self._layers = Layers(model, settings=read_once)
        self._looks_at_update = not frozen and nn.Module not in read_once
        self._lock = threading.RLock()
        self._unfinished = self._is_resetting = False
        self._first_time = self._last_time = 0
        self._on_sensor, self._extent = self._sensor[0] is not None, (0, 0)
        self._events = 0
        _ALL.add(self)

    def after_fork(self) -> None:
        """In a child process, whoever of the parent's threads was being served is not there to let others in."""
        self._lock = threading.RLock()

    @property
    def engine_name(self) -> str:
        """The engine's name in :data:`ENGINES`."""
        return self._name

    @property
    def threads(self) -> int:
        """Threads that work on an update: those asked for, or 1 with an engine that has no use for more."""
        return int(getattr(self.engine, "threads", 1))

    def update(self, events: np.ndarray) -> None:
        """Take new events.

        Args:
            events: structured array ``[N]`` with fields t [µs], x, y [px] and p, in time order, none before
                an earlier one.

        Raises:
            ValueError: anything else, or a model that cannot be run any more as it was; the state is then as it was
                before. Or an earlier update was interrupted, by Ctrl-C for example: nothing but a :meth:`reset` is
                possible then.
        """
        events = check_events(events, *self._sensor)
        if len(events) == 0:
            return
        times = events["t"]
        first, last = times.item(0), times.item(-1)
        with self._lock:
            if self._unfinished:
                raise ValueError(UNFINISHED)
            if self._looks_at_update:
                self._layers.check()
            if not self._events:
                self._first_time = first
            elif first < self._last_time:
                raise ValueError(
                    f"events begin at {first} µs, before the last one so far at {self._last_time} µs: reset() starts"
                    " anew"
                )
            elif last - self._first_time > LONGEST_STREAM_US:
                raise ValueError(f"events: {too_long(self._first_time, last)}: reset() starts anew")
            extent = self._extent if self._on_sensor else self._reach_with(events, *self._extent)
            # Whatever ends the engine's work early may leave half of the packet behind.
            self._unfinished = True
            try:
                # Most engines make no tensors here, and the others see to inference mode themselves.
                update = _plain_tensors()(self.engine.update) if under_autocast() else self.engine.update
                update(events)
            except NoRoomError:
                self._unfinished = False
                raise
            self._last_time, self._extent = last, extent
            self._events += len(events)
            self._unfinished = False

    def _reach_with(self, events: np.ndarray, width: int, height: int) -> tuple[int, int]:
        """Width and height [px] over which the stream reaches with further events, where the model does not say."""
        if not self._on_sensor and len(events):
            width, height = max(width, int(events["x"].max()) + 1), max(height, int(events["y"].max()) + 1)
            check_extent(width, height)
        return width, height

    def output(self, time: int | None = None) -> Tensor:
        """The network's output for the events so far, a batch of one.

        Args:
            time: sensor time [µs] at which nodes are live or not, at least the last event's; that is also the default.

        Raises:
            ValueError: ``time`` is no whole number of 64 bits or before the last event, an update was interrupted, or
                the model cannot be run any more as it was.
        """
        with self._lock:
            if self._unfinished:
                raise ValueError(UNFINISHED)
            time = self._last_time if time is None else self._checked(time)
            if not self._frozen:
                self._layers.check()
            with _plain_tensors(), torch.no_grad():
                return self.engine.output(time)

    def _checked(self, time: int) -> int:
        """The time of an output, as a whole number."""
        if isinstance(time, bool) or not isinstance(time, (int, float, np.integer, np.floating)) or time % 1 != 0:
            raise ValueError(f"time must be a whole number of µs, found {time!r}")
        time = int(time)
        if not -(2**63) <= time < 2**63:
            raise ValueError(f"time must be a time of 64 bits, found {time} µs")
        if self._events and time < self._last_time:
            raise ValueError(f"time is {time} µs, before the last event at {self._last_time} µs")
        if self._events and time - self._first_time > LONGEST_STREAM_US:
            raise ValueError(f"time: {too_long(self._first_time, time)}")
        return time if self._events else 0

    def reset(self) -> None:
        """Forget all events, as if newly made.

        One that is interrupted, by Ctrl-C for example, or fails, leaves a live model of which nothing but another
        :meth:`reset` or a :meth:`load_state_dict` is possible; everything else raises ``ValueError``.
        """
        with self._lock:
            self._unfinished = self._is_resetting = True
            self._events = 0
            self._first_time = self._last_time = 0
            self._extent = 0, 0
            with _plain_tensors():
                self.engine.reset()
            self._unfinished = self._is_resetting = False

    def _check_reset(self) -> None:
        """Raise ``ValueError`` if the engine is in the middle of a reset, and may have none of the arrays it needs."""
        if self._is_resetting:
            raise ValueError(UNFINISHED)

    def flops(self) -> Costs:
        """FLOPs (docs/flops.md) by layer: of the last update with the outputs after it, and since the reset."""
        with self._lock:
            self._check_reset()
            return self.engine.flops()

    def runtime(self) -> Costs:
        """Seconds by layer: of the last update with the outputs after it, and since the reset.

        On a CUDA device they are seconds of the host. The engine ``packet`` waits there for every layer from the first
        call on, so that the seconds are the layer's.
        """
        with self._lock:
            self._check_reset()
            return self.engine.runtime()

    def memory(self) -> dict[str, int]:
        """Bytes that the live state holds, by part."""
        with self._lock:
            self._check_reset()
            return self.engine.memory()

    def state_dict(self) -> dict[str, Any]:
        """The live state, for ``torch.save``; :meth:`load_state_dict` goes on from it, in another process too.

        Raises:
            ValueError: there is none, because an update was interrupted or the weights have changed since.
        """
        with self._lock:
            if self._unfinished:
                raise ValueError(UNFINISHED)
            self._layers.check()
            with _plain_tensors():
                events, features = self.engine.held()
                state = {
                    "version": _STATE_VERSION,
                    **self._identity(),
                    "events": self._events,
                    "first_time": self._first_time,
                    "last_time": self._last_time,
                    **parts_of(events),
                    "features": features,
                }
                return {**state, "digest": digest_of(state)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the live model stopped that made ``state`` by :meth:`state_dict`.

        Everything in it is checked before anything is taken.

        Raises:
            ValueError: it is not such a state, is damaged, or is for another engine, graph, model or weights; the
                message says which part. The live model is then as it was. The engines compiled, cuda and packet take
                one another's.
        """
        version = repr(state.get("version")) if isinstance(state, dict) else type(state).__name__
        if version != repr(_STATE_VERSION):
            raise ValueError(f"state: expected a live state of version {_STATE_VERSION}, found {version[:50]}")
        with self._lock, _plain_tensors():
            self._layers.check()
            identity = self._identity()
            check_parts(state, {"version", *identity, *_PARTS})
            for name, expected in identity.items():
                if name == "engine" and isinstance(state[name], str) and {state[name], expected} <= _SAME_STATES:
                    continue
                if (found := repr(state[name])) != repr(expected):
                    length = 8 if name in ("model", "weights") else 300
                    found, wanted = (text.strip("'")[:length] for text in (found, repr(expected)))
                    raise ValueError(f"state: it is for another {name}, {found}, expected {wanted}")
            events = events_of(state, self._sensor)
            extent = self._reach_with(events, 0, 0)
            count = check_number("events", state["events"], len(events), 2**62)
            first = check_number("first_time", state["first_time"], -(2**63), int(events["t"][0]) if count else 0)
            last = check_number("last_time", state["last_time"], first, first + LONGEST_STREAM_US)
            if (count > 0) != (len(events) > 0) or last != (events["t"][-1] if count else 0):
                raise ValueError(f"state: the last of {count} events at {last} µs is not among those held")
            with in_modes(self._model, self._modes):
                engine = _make_engine(self._name, self._model, self.graph, self.threads, self._frozen)
            engine.restore(events, state["features"], first)
            digest = digest_of({name: value for name, value in state.items() if name != "digest"})
            if repr(state["digest"]) != repr(digest):
                raise ValueError("state: it is damaged, its digest is not that of its content")
            self._unfinished = True
            self.engine = engine
            self._events, self._first_time, self._last_time = count, first, last
            self._extent = extent
            self._unfinished = self._is_resetting = False

    def __reduce__(self) -> tuple[Any, ...]:
        state = self.state_dict()
        return _go_on, (self._model, self.graph, self._name, state, self.threads, self._frozen, self._modes)

    def _identity(self) -> dict[str, Any]:
        """What a live state belongs to."""
        return {
            "engine": self._name,
            "graph": self.graph.to_dict(),
            "model": architecture_digest(self._model),
            "weights": weights_digest(self._model),
        }

    def __len__(self) -> int:
        """Events since the reset."""
        return self._events

    def __repr__(self) -> str:
        with self._lock:
            lines = "\n".join(f"  {line}" for line in self.engine.describe())
            threads = f", threads={self.threads}" if self.threads > 1 else ""
            return f"LiveModel(engine={self._name}{threads}, events={self._events}\n{lines}\n)"


#: All live models of the process.
_ALL: weakref.WeakSet[LiveModel] = weakref.WeakSet()


def _after_fork() -> None:
    for live in list(_ALL):
        live.after_fork()


if hasattr(os, "register_at_fork"):  # not where processes cannot fork
    os.register_at_fork(after_in_child=_after_fork)


def make_model_asynchronous(
    model: nn.Module,
    graph: GraphConfig | None = None,
    *,
    engine: str = "auto",
    threads: int | None = None,
    frozen: bool = False,
) -> LiveModel:
    """Make a graph network follow a stream of events. The model is left as it was; its parameters are shared.

    Args:
        model: a network in evaluation mode that takes a ``Data`` as :func:`aegnn_core.graph.build_graph` returns, or
            arguments named as what is in it (``x``, ``pos``, ``edge_index``, ``edge_attr``).
        graph: the graph rule; by default the one that the model was trained with, if it knows it. Where it leaves
            ``expiry`` open, that is ``"graph"`` for a model that is not one of the package's networks.
        engine: ``"counting"`` counts events for a network that reads nothing else of them (on the CPU),
            ``"compiled"`` computes only new nodes, in machine code (directed graphs, ``expiry="readout"``, the
            package's networks, on the CPU), ``"cuda"`` does so in Triton kernels on a CUDA device,
            ``"packet"`` in torch operations on any device,
            ``"incremental"`` runs any model on what an update changes (on the CPU), ``"dense"`` runs the whole model at
            every output, ``"auto"`` takes the first of these that can.
        threads: how many work on an update or an output, 1 to 64; by default what the environment variable
            ``AEGNN_THREADS`` says, or else 1. The engine ``compiled`` shares packets of some hundred events among them,
            ``compiled`` and ``counting`` the outputs of a head of images, with the same bits as one thread; where
            nobody has a use for more than one, ``live.threads`` is 1. They begin with the first of these, no more of
            them than there are cores that the process may use, sleep in between, and end with the live model.
        frozen: nobody will write to the model's weights, or replace its layers. Otherwise the engines read all of them
            at every output, so that it is that of the model as it is then.

    Raises:
        ValueError: what is no model, a model in training mode, with weights that are not finite, or trained for other
            edges than the graph's; an unknown engine, or one that cannot run this model exactly; not such a number of
            threads.
    """
    if not isinstance(model, nn.Module):
        hint = ": pass its network" if isinstance(getattr(model, "network", None), nn.Module) else ""
        raise ValueError(f"model must be a torch.nn.Module, found {type(model).__name__}{hint}")
    threads = chosen_threads(threads)
    model = eager(model)
    trained_for = getattr(model, "graph", None)  # may be anything, a layer for example
    if graph is None:
        graph = trained_for if isinstance(trained_for, GraphConfig) else GraphConfig()
    elif isinstance(trained_for, GraphConfig):
        check_same_edges(trained_for, graph)
    if not isinstance(model, GraphNetwork) and graph.expiry is None:
        graph = replace(graph, expiry="graph")  # the model does not know that nodes may be there and not be live
    _check_evaluable(model)
    if engine not in ("auto", *ENGINES):
        raise ValueError(f"unknown engine {engine!r}, known are auto, {', '.join(ENGINES)}")
    reasons = []
    for name, kind in ENGINES.items():
        if engine not in ("auto", name):
            continue
        if engine == "auto" and kind is CudaEngine and interpreted():
            continue  # Triton's interpreter is for those who ask for it by name
        with _plain_tensors():
            if reason := kind.refusal(model, graph):
                reasons.append(f"{name}: {reason}")
                continue
            if engine == "auto" and kind is DenseEngine:
                warnings.warn(f"the whole model runs at every output, because {'; '.join(reasons)}", stacklevel=2)
            return LiveModel(_make_engine(name, model, graph, threads, frozen), name, model, graph, frozen)
    raise ValueError(f"no engine can run this model exactly ({'; '.join(reasons)})")


def _check_evaluable(model: nn.Module) -> None:
    for name, module in model.named_modules():
        called = name or type(module).__name__
        random = isinstance(module, DROPOUT_LAYERS) or isinstance(getattr(module, "dropout", None), float)
        if module.training and (isinstance(module, NORM_LAYERS) or (random and _drops(module))):
            raise ValueError(
                f"{called} is in training mode, in which its output depends on the batch or on chance:"
                " call model.eval() first"
            )
        if isinstance(module, MessagePassing) and getattr(module, "cached", False):
            raise ValueError(f"{called} keeps the normalisation of the first graph: make it with cached=False")
    for name, parameter in model.state_dict().items():
        if not isinstance(parameter, Tensor):
            continue  # of quantised modules
        if isinstance(parameter, nn.UninitializedParameter):
            raise ValueError(f"parameter {name} has no shape yet: run the model once")
        if parameter.device.type != "meta" and not parameter.is_quantized and not bool(torch.isfinite(parameter).all()):
            raise ValueError(f"parameter {name} holds values that are not finite")


def _drops(module: nn.Module) -> bool:
    return bool(getattr(module, "p", None) or getattr(module, "dropout", None))


def _go_on(
    model: nn.Module,
    graph: GraphConfig,
    engine: str,
    state: dict[str, Any],
    threads: int = 1,
    frozen: bool = False,
    modes: dict[str, bool] | None = None,
) -> LiveModel:
    """A live model in the state of another: what copies and pickles are made by.

    It runs the model in the ``modes`` in which the other does; the model itself stays in its own.
    """
    with in_modes(model, modes or {}):
        live = make_model_asynchronous(model, graph, engine=engine, threads=threads, frozen=frozen)
    live.load_state_dict(state)
    return live
