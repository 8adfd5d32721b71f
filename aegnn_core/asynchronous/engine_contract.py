# SPDX-License-Identifier: Apache-2.0
"""What a live model asks of an engine: the methods that every one of them has, and how it is made."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from aegnn_core.asynchronous.costs import Costs
from aegnn_core.graph import GraphConfig

__all__ = ["Engine", "EngineClass"]


class Engine(Protocol):
    """How a live model keeps its state and makes its answer.

    The model's weights are shared with its owner. An engine that keeps anything computed from them sees when they
    change (:class:`~aegnn_core.asynchronous.weights.WeightsVersion`), and then computes it anew, or raises a
    ``ValueError`` where that is impossible because events it would need are gone.
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

    def held(self) -> tuple[np.ndarray, list[Tensor]]:
        """The events on which answers depend, and what cannot be computed from them, ``[N, channels]`` by layer."""

    def restore(self, events: np.ndarray, features: list[Any], origin: int) -> None:
        """Take the place of the engine that held these, of the same class, weights and graph. It has had no events yet.

        Args:
            events: checked.
            features: from anywhere.
            origin: time of the first event since the reset [µs].

        Raises:
            ValueError: an engine that held these events cannot have held these features.
        """


class EngineClass(Protocol):
    """What makes an engine; in code, the engine's class."""

    def __call__(self, model: Any, graph: GraphConfig) -> Engine:
        """An engine for a model and a graph rule that :meth:`refusal` says nothing against."""

    def refusal(self, model: nn.Module, graph: GraphConfig) -> str | None:
        """Why an engine of this kind cannot run the model on such a graph exactly, or None. A static method."""
