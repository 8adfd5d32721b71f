# SPDX-License-Identifier: Apache-2.0
"""The engine for any model: after every update, the model's own forward runs, on what the update changed."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn.conv import MessagePassing

from aegnn_core.asynchronous.costs import CostMeter, Costs
from aegnn_core.asynchronous.event_layers import mixed_nodes
from aegnn_core.asynchronous.failures import writes_weights
from aegnn_core.asynchronous.incremental.cluster_pooling import FOLLOWED_MAX_POOLING
from aegnn_core.asynchronous.incremental.event_store import EventStore
from aegnn_core.asynchronous.incremental.forward import Forward
from aegnn_core.asynchronous.incremental.graphs import EventGraph
from aegnn_core.asynchronous.incremental.incremental_convolution import (
    follow_aggregation,
    follow_convolution,
    follow_splines,
    reach_of,
)
from aegnn_core.asynchronous.incremental.incremental_pooling import follow_counts, follow_grid, follow_voxels
from aegnn_core.asynchronous.incremental.nesting import replaced_answer
from aegnn_core.asynchronous.incremental.scripted_functions import FOLLOWED_SCRIPTS
from aegnn_core.asynchronous.incremental.tape import Tape
from aegnn_core.asynchronous.incremental.tracked import MisjudgedError, Tracked, UntrackableError
from aegnn_core.asynchronous.incremental.values import (
    ConstantRows,
    EdgeAttributes,
    EdgeIndex,
    ElapsedTimes,
    RowValue,
    StoredRows,
    part_of,
)
from aegnn_core.asynchronous.layer_names import LayerNames
from aegnn_core.asynchronous.model_call import call_on_graph
from aegnn_core.asynchronous.saved_state import check_features
from aegnn_core.asynchronous.shared_copy import Settings, constants_of, modes_of, shared_copy
from aegnn_core.asynchronous.torch_internals import has_hooks, undispatched
from aegnn_core.asynchronous.weights import WeightsVersion
from aegnn_core.graph import GraphConfig
from aegnn_core.nn.event_network import EventNetwork
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.pooling import CountPooling, GridPooling, VoxelPooling
from aegnn_core.nn.spline import SplineConv

__all__ = ["IncrementalEngine"]

#: Larger packets are worked through in parts, so that memory depends on the window and not on the packet.
_EVENTS_AT_ONCE = 4096

#: The package's layers that are brought up to date in a way of their own: how, and what that touches on the CPU and on
#: another device.
_FOLLOWED: dict[type[nn.Module], tuple[Callable[..., None], str, str]] = {
    SplineConv: (
        follow_splines,
        "affected nodes with their incoming edges",
        "affected nodes with their incoming edges",
    ),
    VoxelPooling: (follow_voxels, "touched voxels", "all live nodes"),
    GridPooling: (follow_grid, "touched cells", "all live nodes"),
    CountPooling: (follow_counts, "all live nodes", "all live nodes"),
}


class IncrementalEngine:
    """State of any model on any graph: the event graph, and what each operation needs for the next update."""

    def __init__(self, model: nn.Module, graph: GraphConfig) -> None:
        self._model, self._graph = model, graph
        self._copy = shared_copy(model)
        self._modes = modes_of(self._copy)
        self._device = _device_of(model)
        self._running: Forward | None = None
        self._follow_copy()
        self._weights = WeightsVersion(model)
        self._hops = sum(isinstance(module, SplineConv) for module in model.modules())
        self._dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        self._defaults = _defaults()
        self._meter = CostMeter()
        self._ours = isinstance(model, GraphNetwork) and not _has_own_forward(model)
        #: No module has code of the user that could take another branch in another update.
        self._straight = self._ours and all(type(m).__module__.startswith(_STRAIGHT) for m in model.modules())
        self._as_a_whole: str | None = None
        self.reset()

    @staticmethod
    def refusal(model: nn.Module, graph: GraphConfig) -> str | None:
        """Why this engine cannot run the model on such a graph, or None."""
        if graph.bounded and graph.resolved_expiry == "readout":
            if not isinstance(model, GraphNetwork):
                return "the model does not know which nodes are live, choose expiry='graph'"
            if _has_own_forward(model):
                return "the forward may read nodes that are not live any more, choose expiry='graph'"
            if reason := mixed_nodes(model.event_blocks):
                return f"{reason}, or choose expiry='graph'"
        if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
            return "it cannot look into what torch.jit has made of a module"
        tensors = [*model.parameters(), *model.buffers()]
        devices = sorted({str(t.device) for t in tensors})
        if len(devices) > 1 or any(t.device.type not in _DEVICES for t in tensors):
            return f"it works on the CPU or on one CUDA device, the model is on {' and '.join(devices)}"
        if other := next((t.dtype for t in tensors if t.is_floating_point() and t.dtype not in _FLOATS), None):
            return f"it computes in float32 or float64, the model in {other}"
        return None

    def _follow_copy(self) -> None:
        """Make the modules of the copy take part in updates, as their attributes are."""
        self._constants = constants_of(self._copy)
        self._layers = LayerNames(self._copy)
        self._followed: dict[str, str] = {}
        for name, module in self._copy.named_modules():
            how = self._follow(module)
            if how:
                self._followed[name] = f"{name or type(module).__name__} ({type(module).__name__}): {how}"
        self._settings = Settings(self._model, self._copy)

    def _copy_anew(self) -> None:
        """Attributes have changed, and perhaps which nodes a layer depends on: only a new copy follows all of that."""
        self._copy = shared_copy(self._model)
        for name, module in self._copy.named_modules():
            module.training = self._modes.get(name, module.training)
        warned = self._layers.dense
        self._follow_copy()
        self._layers.dense.update(warned)

    def _follow(self, module: nn.Module) -> str | None:
        """Make a module of the copy take part in updates; says how."""

        def running() -> Forward | None:
            return self._running

        for kind, (follow, on_cpu, elsewhere) in _FOLLOWED.items():
            if isinstance(module, kind):
                follow(module, running)
                return on_cpu if self._device.type == "cpu" else elsewhere
        if isinstance(module, MessagePassing):
            reach = reach_of(module)
            if reach is None:
                follow_aggregation(module, running)
                return "step by step, as far as its steps are local"
            follow_convolution(module, reach, running)
            hops = f" over {reach.hops} hops" if reach.hops > 1 else ""
            return f"affected nodes with their incoming edges{hops}"
        return None

    def reset(self) -> None:
        """Forget all events and costs."""
        sensor = self._model.sensor if isinstance(self._model, EventNetwork) else None
        self._device = _device_of(self._model)
        self._store = EventStore(self._graph, sensor, self._dtype, self._device)
        readout = self._graph.resolved_expiry == "readout" and self._graph.bounded
        self._nodes = EventGraph(self._store, forgets=not readout)
        self._live = EventGraph(self._store, forgets=True) if readout else self._nodes
        self._tape = Tape()
        self._replayed: tuple[list[Callable[[], None]], Any] | None = None
        self._last: Any = None
        self._is_unfinished = False
        self._meter.reset()

    @torch.inference_mode(False)  # its tensors are written to later, perhaps elsewhere
    def update(self, events: np.ndarray) -> None:
        """Enter the events into the graph. With ``expiry="readout"``, nodes are also computed before they are lost."""
        self._meter.begin_update()
        for start in range(0, len(events), _EVENTS_AT_ONCE):
            part = events[start : start + _EVENTS_AT_ONCE]
            self._store.insert(part)
            time = int(part["t"][-1])
            if self._live is not self._nodes:
                if self._nodes.behind() >= _EVENTS_AT_ONCE:
                    with torch.no_grad():
                        self.output(time)
                continue
            first = self._store.first_live(time, self._store.held)
            if self._nodes.behind() <= max(_EVENTS_AT_ONCE, self._store.size - first):
                first = min(first, self._nodes.first)
            else:
                self._nodes.forget()
            self._store.drop(first)

    def output(self, time: int) -> Tensor:
        """Run the forward on what changed since the last output."""
        store = self._store
        if (device := _device_of(self._model)) != self._device:
            raise ValueError(f"the model was moved from {self._device} to {device}: call reset()")
        changed_weights = self._weights.changed()
        if self._settings.follow():
            changed_weights = self._is_unfinished = True
            self._weights = WeightsVersion(self._model)
            self._copy_anew()
        if (defaults := _defaults()) != self._defaults:  # what the forward makes of them is another constant then
            changed_weights = True
        if changed_weights or self._is_unfinished:
            self._constants = constants_of(self._copy)
            self._nodes.forget()
            self._live.forget()
            self._weights.accept()
            self._settings.accept()
            self._defaults = defaults
        live = store.first_live(time, store.held)
        if self._nodes is self._live:
            kept = live
        else:
            last = int(store.t[store.size - 1 - store.base]) if store.size else time
            kept = self._nodes.first if not changed_weights else store.held
        if self._nodes.unchanged(kept) and self._live.unchanged(live):
            return self._copied_output()
        self._is_unfinished = True  # until all of this is done: what an interrupted one leaves is of no use
        useful = self._nodes.begin(kept)
        if self._live is not self._nodes:
            useful &= self._live.begin(live)
        if not useful:
            self._tape.clear()
            self._replayed = None
        self._last = self._forward()
        if self._weights.changed():
            raise ValueError(writes_weights(self._model))
        if self._live is not self._nodes:
            # A node reads others that were live when it came, and these read older ones.
            self._nodes.retire(store.first_live(last, store.held, lives=self._hops + 1))
            store.drop(self._nodes.first)
        self._is_unfinished = False
        return self._copied_output()

    def _copied_output(self) -> Tensor:
        # Safe from what its receiver does to it.
        output: Tensor = replaced_answer(self._last, Tensor.clone, copy.deepcopy)
        return output

    def _forward(self) -> Any:
        if self._replayed is not None:
            steps, result = self._replayed
            for step in steps:
                step()
            return replaced_answer(result, _full, _unknown)
        if self._as_a_whole is not None:
            return self._whole()
        try:
            return self._followed_forward()
        except UntrackableError as error:
            reason = None if isinstance(error, MisjudgedError) else str(error)
        except Exception as error:
            reason = " ".join([f"{type(error).__name__} while it was followed:", *str(error).splitlines()[:1]])
        self._tape.clear()
        output = self._whole()  # what fails here too is the model's own
        if reason is None:
            return output
        self._as_a_whole = reason
        warnings.warn(f"{type(self._model).__name__} runs on the whole graph at every update: {reason}", stacklevel=4)
        return output

    def _followed_forward(self) -> Any:
        forward = Forward(self._tape, self._constants, self._layers, self._meter)
        known = len(self._layers.dense)
        self._tape.begin()
        self._layers.begin()
        self._running = forward
        try:
            with FOLLOWED_MAX_POOLING, FOLLOWED_SCRIPTS, forward:
                result = self._call(forward)
            forward.finish()
        finally:
            self._running = None
        self._tape.end()
        answer = replaced_answer(result, _full, _unknown)
        for name in list(self._layers.dense)[known:]:
            warnings.warn(
                f"{name} is not local, or not known to be: it runs on the whole graph at every update", stacklevel=5
            )
        if self._straight and not forward.observed and not any(state.fresh for state in self._tape.states):
            self._replayed = forward.steps, result
        return answer

    def _whole(self) -> Any:
        """The forward on the whole graph."""
        self._settings.restore()  # what a forward that could not be followed has set
        data = Data(**{name: value.full().clone() for name, value in self._values(self._nodes).items()})
        if self._live is not self._nodes:
            numbers = torch.arange(self._nodes.nodes.all.start, self._nodes.nodes.all.stop, device=self._device)
            data.live = numbers >= self._live.nodes.all.start
        forward = Forward(Tape(), self._constants, self._layers, self._meter)
        self._layers.begin()
        with forward:
            return forward.meter.execute(type(self._model).__name__, call_on_graph, (self._copy, data), {})

    def _values(self, graph: EventGraph) -> dict[str, Any]:
        """What the model gets, see :func:`aegnn_core.graph.build_graph`."""
        nodes, store = graph.nodes, self._store
        values: dict[str, Any] = {
            "x": StoredRows("x", nodes, lambda: (store.features, nodes.added)),
            "pos": StoredRows("pos", nodes, lambda: (store.pos, nodes.added)),
            "edge_index": EdgeIndex(graph),
            "edge_attr": EdgeAttributes(graph, 3, self._dtype),
            "t": ElapsedTimes(nodes, lambda: store.times, store.origin or 0),
        }
        if self._graph.resolved_expiry == "readout" and self._live is self._nodes:
            values["live"] = ConstantRows("live", nodes, torch.ones((), dtype=torch.bool, device=self._device))
        return values

    def _call(self, forward: Forward) -> Any:
        with undispatched():
            data = Data(**{name: forward.track(value) for name, value in self._values(self._nodes).items()})
        model = self._copy
        if not self._ours:
            return call_on_graph(model, data)
        assert isinstance(model, GraphNetwork)
        x = model.event_blocks(data.x, data.edge_index, data.edge_attr)
        live = self._live.nodes
        with undispatched():
            rows: RowValue = x.value
            if live is not rows.space:
                rows = part_of(rows, live)
            batch = ConstantRows("batch", live, torch.zeros((), dtype=torch.long, device=self._device))
            pos = StoredRows("pos", live, lambda: (self._store.pos, live.added))
            index = forward.track(EdgeIndex(self._live))
            polarity = StoredRows("polarity", live, lambda: (self._store.features, live.added))
            t = StoredRows("t", live, lambda: (self._store.times, live.added))
        return model.readout(
            forward.track(rows),
            forward.track(pos),
            index,
            forward.track(batch),
            1,
            polarity=forward.track(polarity) if model.counts is not None else None,
            t=forward.track(t) if model.needs_times else None,
        )

    def describe(self) -> list[str]:
        """One line per layer that knows of nodes and edges, and what runs on the whole graph."""
        if self._as_a_whole is not None:
            return [
                f"{type(self._model).__name__}: dense, the whole graph at every output, because of {self._as_a_whole}"
            ]
        lines = [*self._followed.values(), "all else: changed rows"]
        return [*lines, *(f"{name}: dense, the whole graph at every output" for name in self._layers.dense)]

    def memory(self) -> dict[str, int]:
        """Bytes held, by part."""
        return {**self._store.memory(), "features": self._tape.nbytes}

    def flops(self) -> Costs:
        """FLOPs by layer."""
        return self._meter.flops()

    def runtime(self) -> Costs:
        """Seconds by layer."""
        return self._meter.runtime()

    def held(self) -> tuple[np.ndarray, list[Tensor]]:
        """The events of the graph; features are computed from it anew."""
        return self._store.events(), []

    def restore(self, events: np.ndarray, features: list[Any], origin: int) -> None:
        """Go on from the graph of another engine."""
        check_features(features, [], len(events), self._dtype)
        self._store.restore(events, origin)


_STRAIGHT = ("aegnn_core.nn.", "torch.nn.modules.")
_FLOATS = (torch.float32, torch.float64)
#: Where models may be: what is not on the CPU is left to torch, but for the bookkeeping.
_DEVICES = ("cpu", "cuda")


def _device_of(model: nn.Module) -> torch.device:
    tensor = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def _defaults() -> tuple[torch.dtype, torch.device]:
    """Type and device of the tensors that a forward makes without saying which."""
    made = torch.empty(0)
    return made.dtype, made.device


def _has_own_forward(model: nn.Module) -> bool:
    """Whether a call of a network is more than the forward of the package's networks."""
    return type(model).forward is not GraphNetwork.forward or "forward" in vars(model) or has_hooks(model)


def _full(tensor: Tensor) -> Tensor:
    """The numbers of a tensor that a forward has returned."""
    if not isinstance(tensor, Tracked):
        return tensor
    full: Tensor = tensor.value.full()
    return full


def _unknown(value: Any) -> Any:
    raise UntrackableError(f"its forward returns a {type(value).__name__}, which may hold tensors")
