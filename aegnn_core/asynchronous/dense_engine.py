# SPDX-License-Identifier: Apache-2.0
"""The engine that works for every model: keep the events, run the model on their graph when asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aegnn_core.asynchronous.costs import CostMeter, Costs
from aegnn_core.asynchronous.failures import writes_weights
from aegnn_core.asynchronous.metering import Metering
from aegnn_core.asynchronous.model_call import call_on_graph
from aegnn_core.asynchronous.saved_state import check_features
from aegnn_core.asynchronous.shared_copy import Settings, in_modes, modes_of
from aegnn_core.asynchronous.weights import WeightsVersion
from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.graph import GraphConfig, build_graph
from aegnn_core.graph.build import first_live
from aegnn_core.nn.graph_network import GraphNetwork

__all__ = ["DenseEngine"]

#: Stands for the first parameter of a model that has none: such a model gets what ``build_graph`` makes.
_NO_PARAMETER = torch.empty(0, dtype=torch.float32, device="cpu")


class DenseEngine:
    """Runs the whole model at every output. With ``expiry="graph"`` it keeps the live events only, otherwise all."""

    def __init__(self, model: nn.Module, graph: GraphConfig) -> None:
        self._model, self._graph = model, graph
        self._meter = CostMeter()
        self._metering = Metering(model, self._meter)
        self._modes = modes_of(self._metering.model)
        self._settings = Settings(model, self._metering.model)
        self._weights = WeightsVersion(model)
        self.reset()

    @staticmethod
    def refusal(model: nn.Module, graph: GraphConfig) -> str | None:
        """Why this engine cannot run the model on such a graph, or None."""
        if graph.bounded and graph.resolved_expiry == "readout" and not isinstance(model, GraphNetwork):
            return "the model does not know which nodes are live, choose expiry='graph'"
        return None

    def reset(self) -> None:
        """Forget all events and costs."""
        self._events = np.empty(0, EVENT_DTYPE)
        self._origin: int | None = None
        self._meter.reset()

    def update(self, events: np.ndarray) -> None:
        """Keep the events, and drop those that cannot matter any more."""
        self._meter.begin_update()
        if self._origin is None:
            self._origin = int(events["t"][0])
        self._events = np.concatenate([self._events, events])
        if self._graph.resolved_expiry == "graph":
            times = self._events["t"]
            self._events = self._events[first_live(times, self._graph, int(times[-1])) :]

    def output(self, time: int) -> Tensor:
        """Build the graph and run the model."""
        parameter = next((p for p in self._model.parameters() if p.is_floating_point()), _NO_PARAMETER)
        exact = parameter.dtype if parameter.dtype in (torch.float32, torch.float64) else torch.float32
        data = build_graph(self._events, self._graph, time=time, dtype=exact)
        if self._origin is not None:
            # Positions count time from the first event of all, which may have been dropped.
            times = self._events["t"][len(self._events) - len(data.pos) :]
            data.t = torch.from_numpy(times - self._origin)
            data.pos[:, 2] = torch.from_numpy(self._graph.time_scale * (times - self._origin))
        # The package's networks take places of 32 bits: with 16, events would lie in other pixels.
        parts = ("x",) if isinstance(self._model, GraphNetwork) else ("x", "pos", "edge_attr")
        data = data.to(parameter.device).apply(lambda part: part.to(parameter.dtype), *parts)
        if self._settings.follow():
            self._weights = WeightsVersion(self._model)
            self._settings.accept()
        self._weights.changed()
        self._weights.accept()  # what changes from here on, the forward has written
        # What torch.jit has made is the model's own in the copy too, and changes its mode with the model.
        with in_modes(self._metering.model, self._modes), self._metering:
            output: Tensor = call_on_graph(self._metering.model, data)
        if self._weights.changed():
            raise ValueError(writes_weights(self._model))
        return output

    def describe(self) -> list[str]:
        """Every layer runs densely."""
        return [f"{type(self._model).__name__}: dense, the whole graph at every output"]

    def memory(self) -> dict[str, int]:
        """Bytes held between outputs, by part."""
        return {"events": self._events.nbytes}

    def flops(self) -> Costs:
        """FLOPs by layer."""
        return self._meter.flops()

    def runtime(self) -> Costs:
        """Seconds by layer."""
        return self._meter.runtime()

    def held(self) -> tuple[np.ndarray, list[Tensor]]:
        """The events kept; nothing is computed before it is asked for."""
        return self._events.copy(), []

    def restore(self, events: np.ndarray, features: list[Any], origin: int) -> None:
        """Go on from another engine's events."""
        check_features(features, [], len(events), torch.float32)
        if len(events):
            self._events, self._origin = events, origin
