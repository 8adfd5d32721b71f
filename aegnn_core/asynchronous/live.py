"""The live model: a network that follows a stream of events, and answers exactly as it would for the whole graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn.conv import MessagePassing

from aegnn_core.asynchronous.compiled import CompiledEngine
from aegnn_core.asynchronous.costs import Costs
from aegnn_core.asynchronous.dense_engine import DenseEngine
from aegnn_core.asynchronous.incremental import IncrementalEngine
from aegnn_core.asynchronous.packet_engine import PacketEngine
from aegnn_core.asynchronous.weights import architecture_digest, weights_digest
from aegnn_core.events.array import LONGEST_STREAM_US, check_events, too_long
from aegnn_core.graph import GraphConfig, check_same_edges
from aegnn_core.nn.networks import GraphNetwork

__all__ = ["ENGINES", "Engine", "LiveModel", "make_model_asynchronous"]


class Engine(Protocol):
    """How a live model keeps its state and makes its answer.

    An engine class is made from ``(model, graph)`` and has a static method ``refusal(model, graph)``: why it cannot run
    the model on such a graph exactly, or None. The model's weights are shared with its owner. An engine that keeps
    anything computed from them sees when they change (:class:`~aegnn_core.asynchronous.weights.WeightsVersion`), and
    then computes it anew, or raises a ``ValueError`` where that is impossible because events it would need are gone.
    """

    def update(self, events: np.ndarray) -> None:
        """Take checked events, at least one, none of them before an earlier one."""

    def output(self, time: int) -> Tensor:
        """The network's output for the graph at ``time`` [µs], with the events so far."""

    def reset(self) -> None:
        """Forget all events and costs."""

    def describe(self) -> list[str]:
        """One line per layer: what runs it."""

    def memory(self) -> dict[str, int]:
        """Bytes held, by part."""

    def flops(self) -> Costs:
        """FLOPs by layer as docs/flops.md defines them; "last" is all work since the last ``update`` began."""

    def runtime(self) -> Costs:
        """Seconds by layer, the same way."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that depends on the events: tensors, numbers, strings, and lists and dictionaries of these."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the place of the engine that made ``state``: of the same class, weights and graph."""


#: Engines by name, the fastest first.
ENGINES: dict[str, Any] = {
    "compiled": CompiledEngine,
    "packet": PacketEngine,
    "incremental": IncrementalEngine,
    "dense": DenseEngine,
}

_STATE_VERSION = 1


class LiveModel:
    """A network following a stream of events; made by :func:`make_model_asynchronous`.

    ``live.output()`` equals ``model(build_graph(all events since the reset, live.graph))`` to rounding, at any time and
    for any division of the stream into packets.

    Attributes:
        graph: the graph rule.
        engine: what keeps the state.
    """

    def __init__(self, engine: Engine, name: str, model: nn.Module, graph: GraphConfig) -> None:
        self.engine, self.graph = engine, graph
        self._name, self._model = name, model
        self._sensor = model.sensor if isinstance(model, GraphNetwork) else (None, None)
        self._last_time: int | None = None
        self._events = 0

    def update(self, events: np.ndarray) -> None:
        """Take new events.

        Args:
            events: structured array ``[N]`` with fields t [µs], x, y [px] and p, in time order, none before
                an earlier one.

        Raises:
            ValueError: anything else; the state is then as it was before.
        """
        events = check_events(events, *self._sensor)
        if len(events) == 0:
            return
        times = events["t"]
        first, last = int(times[0]), int(times[-1])
        if self._last_time is None:
            self._first_time = first
        elif first < self._last_time:
            raise ValueError(
                f"events begin at {first} µs, before the last one so far at {self._last_time} µs: reset() starts anew"
            )
        elif last - self._first_time > LONGEST_STREAM_US:
            raise ValueError(f"events: {too_long(self._first_time, last)}: reset() starts anew")
        self.engine.update(events)
        self._last_time = last
        self._events += len(events)

    def output(self, time: int | None = None) -> Tensor:
        """The network's output for the events so far, a batch of one.

        Args:
            time: sensor time [µs] at which nodes are live or not, at least the last event's; that is also the default.

        Raises:
            ValueError: ``time`` is before the last event.
        """
        last = 0 if self._last_time is None else self._last_time
        if time is None:
            time = last
        elif self._last_time is not None and time < last:
            raise ValueError(f"time is {time} µs, before the last event at {last} µs")
        with torch.no_grad():
            return self.engine.output(time)

    def reset(self) -> None:
        """Forget all events, as if newly made."""
        self.engine.reset()
        self._last_time = None
        self._events = 0

    def flops(self) -> Costs:
        """FLOPs (docs/flops.md) by layer: of the last update with the outputs after it, and since the reset."""
        return self.engine.flops()

    def runtime(self) -> Costs:
        """Seconds by layer: of the last update with the outputs after it, and since the reset."""
        return self.engine.runtime()

    def memory(self) -> dict[str, int]:
        """Bytes that the live state holds, by part."""
        return self.engine.memory()

    def state_dict(self) -> dict[str, Any]:
        """The live state, for ``torch.save``; :meth:`load_state_dict` goes on from it, in another process too."""
        return {
            "version": _STATE_VERSION,
            **self._identity(),
            "last_time": self._last_time,
            "events": self._events,
            "state": self.engine.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the live model stopped that made ``state`` by :meth:`state_dict`.

        Raises:
            ValueError: it is not such a state, or one for another engine, graph, model or weights.
        """
        if not isinstance(state, dict) or state.get("version") != _STATE_VERSION:
            found = state.get("version") if isinstance(state, dict) else type(state).__name__
            raise ValueError(f"state: expected a live state of version {_STATE_VERSION}, found {found!r}")
        for name, expected in self._identity().items():
            if state[name] != expected:
                shown = (state[name], expected) if name in ("engine", "graph") else (state[name][:8], expected[:8])
                raise ValueError(f"state: it is for another {name}, {shown[0]}, expected {shown[1]}")
        self.engine.load_state_dict(state["state"])
        self._last_time, self._events = state["last_time"], state["events"]

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
        lines = "\n".join(f"  {line}" for line in self.engine.describe())
        return f"LiveModel(engine={self._name}, events={self._events}\n{lines}\n)"


def make_model_asynchronous(model: nn.Module, graph: GraphConfig | None = None, *, engine: str = "auto") -> LiveModel:
    """Make a graph network follow a stream of events. The model is left as it was; its parameters are shared.

    Args:
        model: a network in evaluation mode that takes a ``Data`` as :func:`aegnn_core.graph.build_graph` returns, or
            arguments named as what is in it (``x``, ``pos``, ``edge_index``, ``edge_attr``).
        graph: the graph rule; by default the one that the model was trained with, if it knows it. Where it leaves
            ``expiry`` open, that is ``"graph"`` for a model that is not one of the package's networks.
        engine: ``"compiled"`` computes only new nodes, in machine code (directed graphs, ``expiry="readout"``, the
            package's networks, on the CPU), ``"packet"`` does so in torch operations on any device,
            ``"incremental"`` runs any model on what an update changes (on the CPU), ``"dense"`` runs the whole model at
            every output, ``"auto"`` takes the first of these that can.

    Raises:
        ValueError: a model in training mode, with weights that are not finite, or trained for other edges than the
            graph's; an unknown engine, or one that cannot run this model exactly.
    """
    trained_for = getattr(model, "graph", None)
    if graph is None:
        graph = trained_for or GraphConfig()
    elif trained_for is not None:
        check_same_edges(trained_for, graph)
    if not isinstance(model, GraphNetwork) and not graph.expiry_given:
        graph = replace(graph, expiry="graph")  # the model does not know that nodes may be there and not be live
    _check_evaluable(model)
    if engine not in ("auto", *ENGINES):
        raise ValueError(f"unknown engine {engine!r}, known are auto, {', '.join(ENGINES)}")
    reasons = []
    for name, kind in ENGINES.items():
        if engine not in ("auto", name):
            continue
        if reason := kind.refusal(model, graph):
            reasons.append(f"{name}: {reason}")
            continue
        return LiveModel(kind(model, graph), name, model, graph)
    raise ValueError(f"no engine can run this model exactly ({'; '.join(reasons)})")


def _check_evaluable(model: nn.Module) -> None:
    for name, module in model.named_modules():
        called = name or type(module).__name__
        random = isinstance(module, nn.modules.dropout._DropoutNd) or isinstance(
            getattr(module, "dropout", None), float
        )
        if module.training and (isinstance(module, nn.modules.batchnorm._NormBase) or (random and _drops(module))):
            raise ValueError(
                f"{called} is in training mode, in which its output depends on the batch or on chance:"
                " call model.eval() first"
            )
        if isinstance(module, MessagePassing) and getattr(module, "cached", False):
            raise ValueError(f"{called} keeps the normalisation of the first graph: make it with cached=False")
    for name, parameter in model.state_dict().items():
        if isinstance(parameter, nn.UninitializedParameter):
            raise ValueError(f"parameter {name} has no shape yet: run the model once")
        if parameter.device.type != "meta" and not bool(torch.isfinite(parameter).all()):
            raise ValueError(f"parameter {name} holds values that are not finite")


def _drops(module: nn.Module) -> bool:
    return bool(getattr(module, "p", None) or getattr(module, "dropout", None))
