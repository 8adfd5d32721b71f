# SPDX-License-Identifier: Apache-2.0
"""A model's answers at some moments of a recording: from the dense network, or from the live model."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous import make_model_asynchronous
from aegnn_core.graph import build_graph
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.spline import SplineConv

__all__ = ["ANSWERS", "DenseAnswers", "LiveAnswers", "LiveCosts"]


@dataclass(frozen=True)
class LiveCosts:
    """What the live model's work on some recordings has cost.

    Attributes:
        events: that it was given.
        answers: that it gave.
        flops_per_event: FLOPs (docs/flops.md) of the updates by the number of events.
        flops_per_answer: FLOPs of the outputs by their number.
        us_per_event: time of the updates by the number of events [µs], the median of the recordings.
        us_per_answer: time of the outputs by their number [µs], the median of the recordings.
    """

    events: int
    answers: int
    flops_per_event: float
    flops_per_answer: float
    us_per_event: float
    us_per_answer: float


@dataclass
class _RecordingCosts:
    """What one recording has cost: numbers, FLOPs and seconds of events and of answers."""

    events: int = 0
    answers: int = 0
    update_flops: float = 0.0
    output_flops: float = 0.0
    update_s: float = 0.0
    output_s: float = 0.0


class DenseAnswers:
    """The network on the graph of the events until each moment."""

    def __init__(self, model: TrainedModel) -> None:
        self._network, self._graph, self._name = model.network, model.graph, model.name
        self._memory_us = self._find_memory()

    def __call__(self, events: np.ndarray, moments: Sequence[int]) -> Iterator[Tensor]:
        """One output of the network per moment [µs], in ascending order.

        Raises:
            ValueError: there is nan or infinity in an output.
        """
        placed = next(chain(self._network.parameters(), self._network.buffers()), torch.empty(0))
        for moment in moments:
            # np.searchsorted would copy the times, every time.
            first, last = (bisect_right(events["t"], time) for time in (moment - self._memory_us, moment))
            with torch.no_grad():
                graph = build_graph(events[first:last], self._graph, time=moment, dtype=placed.dtype)
                output = self._network(graph.to(placed.device))
            yield _checked(output, self._name, moment)

    def _find_memory(self) -> int:
        """The age [µs] beyond which no event affects the output: the window, and what layers pass on from before.

        Without a window it is longer than any recording.
        """
        if self._graph.window is None:
            return 2**62
        if not isinstance(self._network, GraphNetwork):
            return self._graph.window + 1  # no older event is in its graph
        step = self._graph.radius / self._graph.time_scale
        if self._graph.time_horizon is not None:
            step = min(step, self._graph.time_horizon)
        layers = sum(isinstance(module, SplineConv) for module in self._network.event_blocks.modules())
        return self._graph.window + layers * math.ceil(step) + 1


class LiveAnswers:
    """The live model, which is given the events between one moment and the next."""

    def __init__(self, model: TrainedModel) -> None:
        self._live, self._name = make_model_asynchronous(model.network, model.graph), model.name
        self._recordings: list[_RecordingCosts] = []

    def __call__(self, events: np.ndarray, moments: Sequence[int]) -> Iterator[Tensor]:
        """One output of the network per moment [µs], in ascending order.

        Raises:
            ValueError: there is nan or infinity in an output.
        """
        self._live.reset()
        costs = _RecordingCosts()
        self._recordings.append(costs)
        seen = 0
        for moment in moments:
            until = bisect_right(events["t"], moment, seen)
            start = perf_counter()
            self._live.update(events[seen:until])
            updated = perf_counter()
            update_flops = self._live.flops().total.last
            asked = perf_counter()
            output = self._live.output(moment)
            costs.output_s += perf_counter() - asked
            costs.update_s += updated - start
            costs.update_flops += update_flops
            costs.output_flops += self._live.flops().total.last - update_flops
            costs.events += until - seen
            costs.answers += 1
            seen = until
            yield _checked(output, self._name, moment)

    def costs(self) -> LiveCosts | None:
        """What all recordings so far have cost, None if there was no event or no answer."""
        events, answers = (sum(getattr(costs, name) for costs in self._recordings) for name in ("events", "answers"))
        if not events or not answers:
            return None
        return LiveCosts(
            events,
            answers,
            sum(costs.update_flops for costs in self._recordings) / events,
            sum(costs.output_flops for costs in self._recordings) / answers,
            1e6 * median(costs.update_s / costs.events for costs in self._recordings if costs.events),
            1e6 * median(costs.output_s / costs.answers for costs in self._recordings if costs.answers),
        )


def _checked(output: Tensor, name: str, moment: int) -> Tensor:
    """The output of the model by that name at a moment [µs]; -inf in it is an answer, too: that a class is impossible.

    Raises:
        ValueError: there is nan or infinity in it.
    """
    senseless = output[~(output < math.inf)]
    if len(senseless):
        raise ValueError(f"model {name} gives {senseless[0]:g} at {moment} µs of a recording, expected finite logits")
    return output


#: By the name that the command line gives them.
ANSWERS: dict[str, Callable[[TrainedModel], DenseAnswers | LiveAnswers]] = {
    "dense": DenseAnswers,
    "asynchronous": LiveAnswers,
}
