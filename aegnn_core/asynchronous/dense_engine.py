"""The engine that is right for every model: keep the events, run the model on their graph when asked."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.graph import GraphConfig, build_graph
from aegnn_core.graph.build import first_live
from aegnn_core.nn.networks import GraphNetwork

__all__ = ["DenseEngine"]


class DenseEngine:
    """Runs the whole model at every output. With ``expiry="graph"`` it keeps the live events only, otherwise all."""

    def __init__(self, model: nn.Module, graph: GraphConfig) -> None:
        self._model, self._graph = model, graph
        self.reset()

    @staticmethod
    def refusal(model: nn.Module, graph: GraphConfig) -> str | None:
        """Why this engine cannot run the model on such a graph, or None."""
        if graph.bounded and graph.expiry == "readout" and not isinstance(model, GraphNetwork):
            return "the model does not know which nodes are live, choose expiry='graph'"
        return None

    def reset(self) -> None:
        """Forget all events."""
        self._events = np.empty(0, EVENT_DTYPE)

    def update(self, events: np.ndarray) -> None:
        """Keep the events, and drop those that cannot matter any more."""
        new = np.empty(len(events), EVENT_DTYPE)
        for name in EVENT_DTYPE.names or ():
            new[name] = events[name]
        self._events = np.concatenate([self._events, new])
        if self._graph.expiry == "graph":
            times = self._events["t"]
            self._events = self._events[first_live(times, self._graph, int(times[-1])) :]

    def output(self, time: int) -> Tensor:
        """Build the graph and run the model."""
        parameter = next(self._model.parameters(), torch.empty(0))
        data = build_graph(self._events, self._graph, time=time, dtype=parameter.dtype)
        return self._model(data.to(parameter.device))

    def describe(self) -> list[str]:
        """Every layer runs densely."""
        return [f"{type(self._model).__name__}: dense, the whole graph at every output"]
