# SPDX-License-Identifier: Apache-2.0
"""The parameters of the graph rule: which events are neighbours, and how long they live."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import yaml

__all__ = ["GraphConfig", "check_same_edges"]

EXPIRY_RULES = ("readout", "graph")

#: The largest values, by name. The time of a search grows with the area of the radius, memory with the neighbours, and
#: sums of two times have to fit 64 bits.
_LARGEST = {
    "radius": 100,
    "max_neighbors": 1024,
    "time_horizon": 1 << 62,
    "window": 1 << 62,
    "max_nodes": 1 << 62,
}


@dataclass(frozen=True)
class GraphConfig:
    """The graph rule, the same for training, evaluation and the live model.

    Node k is the k-th event, at ``pos = (x, y, time_scale · t)``. Its neighbours are the at most ``max_neighbors`` most
    recent earlier live nodes with ``dx² + dy² + (time_scale · dt)² <= radius²`` (float64, from integer px and µs).

    Attributes:
        radius: reach of an edge [px], at most 100.
        max_neighbors: most neighbours per node, at most 1024; the most recent are kept.
        time_scale: β, how many pixels one microsecond is worth [px/µs].
        directed: edges run from past to present only; otherwise the same pairs both ways.
        time_horizon: longest time an edge may span [µs], None for what the radius allows.
        window: a node is live while it is younger than this [µs], None for ever.
        max_nodes: a node is live while it is among this many last nodes, None for all.
        expiry: what the end of a node's life does. ``"readout"``: it leaves the pooling, what it passed on stays.
            ``"graph"``: it leaves with all its edges. None, the default, leaves that to :attr:`resolved_expiry`.

    Raises:
        ValueError: a value is out of its range; the message says which one is right.
    """

    radius: float = 3.0
    max_neighbors: int = 32
    time_scale: float = 5e-6
    directed: bool = True
    time_horizon: int | None = None
    window: int | None = None
    max_nodes: int | None = None
    expiry: str | None = None

    def __post_init__(self) -> None:
        for name in ("radius", "time_scale"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f"graph: {name} must be a positive, finite number, found {repr(value)[:300]}")
            object.__setattr__(self, name, float(value))
        for name in ("max_neighbors", "time_horizon", "window", "max_nodes"):
            value = getattr(self, name)
            if value is None and name != "max_neighbors":
                continue
            whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value % 1 == 0
            if not whole or value < 1:
                raise ValueError(f"graph: {name} must be a whole number of at least 1, found {repr(value)[:300]}")
            object.__setattr__(self, name, int(value))
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            if value is not None and value > largest:
                raise ValueError(f"graph: {name} must be at most {largest}, found {repr(value)[:300]}")
        if not isinstance(self.directed, bool):
            raise ValueError(f"graph: directed must be true or false, found {repr(self.directed)[:300]}")
        if self.expiry is not None and self.expiry not in EXPIRY_RULES:
            raise ValueError(f"graph: expiry must be one of {', '.join(EXPIRY_RULES)}, found {repr(self.expiry)[:300]}")

    @property
    def resolved_expiry(self) -> str:
        """``expiry``, or where that is None ``"readout"`` for directed edges and ``"graph"`` for others."""
        return self.expiry or ("readout" if self.directed else "graph")

    def resolved(self) -> GraphConfig:
        """The same rule with ``expiry`` filled in: rules that state their default equal those that omit it."""
        return replace(self, expiry=self.resolved_expiry)

    @property
    def bounded(self) -> bool:
        """Whether nodes ever leave, that is whether a window or a maximum number of nodes is set."""
        return self.window is not None or self.max_nodes is not None

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain values; ``GraphConfig(**d)`` makes it again."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GraphConfig:
        """The configuration from plain values; unknown names are a ``ValueError``."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted({str(name) for name in values} - known):
            raise ValueError(f"graph: unknown parameters {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        return cls(**values)

    def __str__(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False).strip()


def check_same_edges(trained_for: GraphConfig, graph: GraphConfig) -> None:
    """Raise ``ValueError`` unless both give the same edges; how long nodes live may differ."""
    for name in ("radius", "max_neighbors", "time_scale", "directed", "time_horizon"):
        expected, found = getattr(trained_for, name), getattr(graph, name)
        if expected != found:
            raise ValueError(f"the model was trained with graph {name} = {expected}, found {name} = {found}")
