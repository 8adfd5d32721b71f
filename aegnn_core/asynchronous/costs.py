# SPDX-License-Identifier: Apache-2.0
"""What a live model's work costs, layer by layer: FLOPs and seconds, of the last update and since the reset."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cost", "CostMeter", "Costs"]


@dataclass(frozen=True)
class Cost:
    """Of ``last``, the work since the last ``update`` began, and of ``total``, all work since the reset."""

    last: float
    total: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.last + other.last, self.total + other.total)


@dataclass(frozen=True)
class Costs:
    """Costs by layer, in the order in which the layers first ran.

    Attributes:
        unit: ``"FLOP"`` (defined in docs/flops.md) or ``"s"``.
        layers: by the layer's name in the model.
    """

    unit: str
    layers: dict[str, Cost]

    @property
    def total(self) -> Cost:
        """The sum over all layers."""
        return sum(self.layers.values(), Cost(0, 0))

    def __str__(self) -> str:
        rows = [*self.layers.items(), ("total", self.total)]
        width = max(len(name) for name, _ in rows)
        lines = [f"{name:{width}}  {cost.last:>14,.6g}  {cost.total:>14,.6g}" for name, cost in rows]
        return "\n".join([f"{f'[{self.unit}]':{width}}  {'last update':>14}  {'since reset':>14}", *lines])


class CostMeter:
    """Adds up what the layers of a model cost."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all costs."""
        self._update = 0
        #: By layer: FLOPs and seconds, each of its last update and in all, and the number of that update.
        self._layers: dict[str, list[float]] = {}

    def begin_update(self) -> None:
        """From here on, costs belong to a new update."""
        self._update += 1

    def add(self, layer: str, flops: float, seconds: float) -> None:
        """A layer has worked."""
        sums = self._layers.get(layer)
        if sums is None:
            sums = self._layers[layer] = [0, 0, 0, 0, self._update]
        if sums[4] != self._update:
            sums[0], sums[2], sums[4] = 0, 0, self._update
        sums[0] += flops
        sums[1] += flops
        sums[2] += seconds
        sums[3] += seconds

    def flops(self) -> Costs:
        """FLOPs by layer."""
        return self._costs("FLOP", 0)

    def runtime(self) -> Costs:
        """Seconds by layer."""
        return self._costs("s", 2)

    def _costs(self, unit: str, first: int) -> Costs:
        layers = {
            layer: Cost(sums[first] if sums[4] == self._update else 0, sums[first + 1])
            for layer, sums in self._layers.items()
        }
        return Costs(unit, layers)
