"""A model's answers at some moments of a recording: from the dense network, or from the live model."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous import make_model_asynchronous
from aegnn_core.graph import build_graph
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_core.nn.spline import SplineConv

__all__ = ["ANSWERS", "DenseAnswers", "LiveAnswers"]


class DenseAnswers:
    """The network on the graph of the events until each moment."""

    def __init__(self, model: TrainedModel) -> None:
        self._network, self._graph = model.network, model.graph
        self._memory_us = self._find_memory()

    def __call__(self, events: np.ndarray, moments: Sequence[int]) -> Iterator[Tensor]:
        """One output of the network per moment [µs], in ascending order."""
        parameter = next(self._network.parameters())
        for moment in moments:
            # np.searchsorted would copy the times, every time.
            first, last = (bisect_right(events["t"], time) for time in (moment - self._memory_us, moment))
            with torch.no_grad():
                graph = build_graph(events[first:last], self._graph, time=moment, dtype=parameter.dtype)
                yield self._network(graph.to(parameter.device))

    def _find_memory(self) -> int:
        """No event older than this [µs] reaches the output: the window, and what can be passed on from layer to layer.

        Without a window it is longer than any recording.
        """
        if self._graph.window is None:
            return 2**62
        step = self._graph.radius / self._graph.time_scale
        if self._graph.time_horizon is not None:
            step = min(step, self._graph.time_horizon)
        layers = sum(isinstance(module, SplineConv) for module in self._network.event_blocks.modules())
        return self._graph.window + layers * math.ceil(step) + 1


class LiveAnswers:
    """The live model, which is given the events between one moment and the next."""

    def __init__(self, model: TrainedModel) -> None:
        self._live = make_model_asynchronous(model.network, model.graph)

    def __call__(self, events: np.ndarray, moments: Sequence[int]) -> Iterator[Tensor]:
        """One output of the network per moment [µs], in ascending order."""
        self._live.reset()
        seen = 0
        for moment in moments:
            until = bisect_right(events["t"], moment, seen)
            self._live.update(events[seen:until])
            seen = until
            yield self._live.output(moment)


#: By the name that the command line gives them.
ANSWERS: dict[str, Callable[[TrainedModel], DenseAnswers | LiveAnswers]] = {
    "dense": DenseAnswers,
    "asynchronous": LiveAnswers,
}
