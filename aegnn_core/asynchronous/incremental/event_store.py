# SPDX-License-Identifier: Apache-2.0
"""The nodes of the event graph with their edges both ways, in flat arrays that move rather than grow."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from aegnn_core.events.array import make_events
from aegnn_core.graph import GraphConfig, NeighborSearch
from aegnn_core.graph.build import edge_attributes
from aegnn_core.graph.neighbors import FOREVER
from aegnn_core.machine_code import kernel

__all__ = ["EventStore"]

_SMALLEST_CAPACITY = 1 << 10


@kernel
def _link(first, count, base, shift, neighbors, counts, out_first, out_last, out_next, out_count):
    """Enter the new edges into their sources' lists, which are in the order of the targets.

    Edge ``(number << shift) + i`` is the i-th edge into a node; an array over edges begins with those of node ``base``.
    """
    for number in range(first, first + count):
        slot = number - base
        out_first[slot] = -1
        out_last[slot] = -1
        out_count[slot] = 0
        for i in range(counts[slot]):
            edge = (number << shift) + i
            at = edge - (base << shift)
            source = neighbors[at] - base
            out_next[at] = -1
            if out_last[source] < 0:
                out_first[source] = edge
            else:
                out_next[out_last[source] - (base << shift)] = edge
            out_last[source] = edge
            out_count[source] += 1


@kernel
def _in_edges(rows, first, undirected, base, shift, neighbors, counts, out_first, out_next, source, target):
    """Edges from nodes at or behind slot ``first`` into ``rows [R]``: slots of the sources, positions in ``rows``."""
    size = 0
    offset = base << shift
    for position in range(len(rows)):
        slot = rows[position]
        begin = slot << shift
        for i in range(counts[slot]):
            neighbor = neighbors[begin + i] - base
            if neighbor >= first:
                source[size] = neighbor
                target[size] = position
                size += 1
        if undirected:
            edge = out_first[slot]
            while edge >= 0:
                source[size] = (edge >> shift) - base
                target[size] = position
                size += 1
                edge = out_next[edge - offset]
    return size


@kernel
def _readers(rows, first, undirected, base, shift, neighbors, counts, out_first, out_next, out):
    """Slots at or behind ``first`` of the nodes that edges lead to from ``rows [R]``, with repeats."""
    size = 0
    offset = base << shift
    for slot in rows:
        edge = out_first[slot]
        while edge >= 0:
            reader = (edge >> shift) - base
            if reader >= first:
                out[size] = reader
                size += 1
            edge = out_next[edge - offset]
        if undirected:
            begin = slot << shift
            for i in range(counts[slot]):
                neighbor = neighbors[begin + i] - base
                if neighbor >= first:
                    out[size] = neighbor
                    size += 1
    return size


@kernel
def _out_edges(rows, first, undirected, base, shift, neighbors, counts, out_first, out_next, source, target):
    """Edges from ``rows [R]`` to nodes at or behind slot ``first``: slots of both ends."""
    size = 0
    offset = base << shift
    for slot in rows:
        edge = out_first[slot]
        while edge >= 0:
            source[size], target[size] = slot, (edge >> shift) - base
            size += 1
            edge = out_next[edge - offset]
        if undirected:
            begin = slot << shift
            for i in range(counts[slot]):
                neighbor = neighbors[begin + i] - base
                if neighbor >= first:
                    source[size], target[size] = slot, neighbor
                    size += 1
    return size


@kernel
def _older_pairs(rows, first, base, shift, neighbors, counts, source, target):
    size = 0
    for slot in rows:
        for i in range(counts[slot]):
            neighbor = neighbors[(slot << shift) + i] - base
            if neighbor >= first:
                source[size], target[size] = neighbor, slot
                size += 1
    return size


@kernel
def _younger_pairs(rows, last, base, shift, out_first, out_next, source, target):
    size = 0
    for slot in rows:
        edge = out_first[slot]
        while edge >= 0:
            younger = (edge >> shift) - base
            if younger >= last:  # the list is in the order of its targets
                break
            source[size], target[size] = slot, younger
            size += 1
            edge = out_next[edge - (base << shift)]
    return size


@kernel
def _all_edges(first, last, undirected, base, shift, neighbors, counts, source, target):
    """All edges between slots ``first .. last - 1`` in the order of ``build_graph``."""
    size = 0
    for slot in range(first, last):
        begin = slot << shift
        for i in range(counts[slot]):
            neighbor = neighbors[begin + i] - base
            if neighbor >= first:
                source[size], target[size] = neighbor, slot
                size += 1
                if undirected:
                    source[size], target[size] = slot, neighbor
                    size += 1
    return size


@kernel
def _attributes(source, target, x, y, t, radius, time_scale, out):
    for e in range(len(source)):
        j, k = source[e], target[e]
        u, v, w = edge_attributes(float(x[j] - x[k]), float(y[j] - y[k]), float(t[j] - t[k]), radius, time_scale)
        out[e, 0], out[e, 1], out[e, 2] = u, v, w


@kernel
def _degrees(rows, undirected, counts, out_count):
    """At most so many edges lead into the rows, and out of them."""
    into, out = 0, 0
    for slot in rows:
        into += counts[slot]
        out += out_count[slot]
    if undirected:
        return into + out, into + out
    return into, out


@kernel
def _first_younger(t, first, last, time, window):
    while first < last and time - t[first] >= window:
        first += 1
    return first


class EventStore:
    """Nodes by number, from ``held`` to ``size - 1``. A node's slot is its number less ``base``.

    Args:
        graph: the rule.
        sensor: width and height [px], None where events may tell it only as they come.
        dtype: of features and positions.
        device: where they and edge attributes are; all else stays on the CPU.
    """

    def __init__(
        self, graph: GraphConfig, sensor: tuple[int, int] | None, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.graph, self.dtype, self.device = graph, dtype, device
        self._sensor = sensor or (1, 1)
        self._grows = sensor is None
        self._shift = max(0, graph.max_neighbors - 1).bit_length()
        self.base = self.held = self.size = 0
        self.origin: int | None = None
        self.capacity = _SMALLEST_CAPACITY
        self._search = NeighborSearch(graph, *self._sensor, _SMALLEST_CAPACITY)
        self._allocate(_SMALLEST_CAPACITY)

    def _allocate(self, capacity: int) -> None:
        edges = capacity << self._shift
        self.t, self.x, self.y = (np.empty(capacity, np.int64) for _ in range(3))
        self._counts, self._out_count = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
        self._out_first, self._out_last = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
        self._neighbors, self._out_next = np.empty(edges, np.int64), np.empty(edges, np.int64)
        self.features = torch.empty(capacity, 1, dtype=self.dtype, device=self.device)
        self.pos = torch.empty(capacity, 3, dtype=self.dtype, device=self.device)
        self.capacity = capacity

    @property
    def times(self) -> torch.Tensor:
        """Sensor times [µs] of the nodes by slot, ``[capacity]``."""
        return torch.from_numpy(self.t).to(self.device)

    def insert(self, events: np.ndarray) -> None:
        """Append nodes and find their neighbours."""
        t, x, y = (np.ascontiguousarray(events[name], np.int64) for name in "txy")
        count, first = len(t), self.size
        if self.origin is None:
            self.origin = int(t[0])
        if self._grows:
            self._cover(int(x.max()) + 1, int(y.max()) + 1)
        self._reserve(count)
        self._reserve_search(int(t[0]), count)
        slots = slice(first - self.base, first - self.base + count)
        self.t[slots], self.x[slots], self.y[slots] = t, x, y
        polarity = np.where(events["p"] > 0, 1.0, -1.0)
        self.features[slots, 0] = torch.from_numpy(polarity).to(self.device, self.dtype)
        scaled = self.graph.time_scale * (t - self.origin)  # float64, as build_graph
        self.pos[slots] = torch.from_numpy(np.stack([x, y, scaled], 1)).to(self.device, self.dtype)
        width = 1 << self._shift
        self._search.insert(t, x, y, self._neighbors.reshape(-1, width)[slots], self._counts[slots])
        self.size += count
        _link(
            first, count, self.base, self._shift, self._neighbors, self._counts, self._out_first, self._out_last,
            self._out_next, self._out_count,
        )  # fmt: skip

    def first_live(self, time: int, first: int, lives: int = 1) -> int:
        """Number of the oldest node that is live at ``time``, given that all before number ``first`` are not.

        With ``lives``, of the oldest that would be live if nodes lived so many times as long.
        """
        if self.graph.max_nodes is not None:
            first = max(first, self.size - lives * self.graph.max_nodes)
        if self.graph.window is None:
            return first
        window = min(lives * self.graph.window, FOREVER)
        younger = _first_younger(self.t, first - self.base, self.size - self.base, time, window)
        return self.base + int(younger)

    def drop(self, first: int) -> None:
        """Nodes before number ``first`` will not be asked for again."""
        self.held = max(self.held, first)

    def in_edges(self, rows: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Edges into ``rows [R]`` from nodes at or behind slot ``first``: source slots and positions in ``rows``."""
        bound, _ = _degrees(rows, not self.graph.directed, self._counts, self._out_count)
        source, target = np.empty(bound, np.int64), np.empty(bound, np.int64)
        size = _in_edges(
            rows, first, not self.graph.directed, self.base, self._shift, self._neighbors, self._counts,
            self._out_first, self._out_next, source, target,
        )  # fmt: skip
        return source[:size], target[:size]

    def readers(self, rows: np.ndarray, first: int) -> np.ndarray:
        """Slots at or behind ``first`` that edges from ``rows [R]`` lead to, with repeats."""
        _, bound = _degrees(rows, not self.graph.directed, self._counts, self._out_count)
        out = np.empty(bound, np.int64)
        size = _readers(
            rows, first, not self.graph.directed, self.base, self._shift, self._neighbors, self._counts,
            self._out_first, self._out_next, out,
        )  # fmt: skip
        return out[:size]

    def out_edges(self, rows: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Edges from ``rows [R]``, themselves at or behind slot ``first``, to such nodes: slots of both ends."""
        _, bound = _degrees(rows, not self.graph.directed, self._counts, self._out_count)
        source, target = np.empty(bound, np.int64), np.empty(bound, np.int64)
        size = _out_edges(
            rows, first, not self.graph.directed, self.base, self._shift, self._neighbors, self._counts,
            self._out_first, self._out_next, source, target,
        )  # fmt: skip
        return source[:size], target[:size]

    def older_pairs(self, rows: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Slots of the neighbours, at or behind slot ``first``, that ``rows [R]`` found on coming, and of the rows."""
        bound = int(self._counts[rows].sum())
        source, target = np.empty(bound, np.int64), np.empty(bound, np.int64)
        size = _older_pairs(rows, first, self.base, self._shift, self._neighbors, self._counts, source, target)
        return source[:size], target[:size]

    def younger_pairs(self, rows: np.ndarray, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Slots of ``rows [R]``, and of the nodes before slot ``last`` that found them when they came."""
        bound = int(self._out_count[rows].sum())
        source, target = np.empty(bound, np.int64), np.empty(bound, np.int64)
        size = _younger_pairs(rows, last, self.base, self._shift, self._out_first, self._out_next, source, target)
        return source[:size], target[:size]

    def all_edges(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Source and target slots of the edges between slots ``first .. last - 1``, in the order of ``build_graph``."""
        bound = int(self._counts[first:last].sum()) * (1 if self.graph.directed else 2)
        source, target = np.empty(bound, np.int64), np.empty(bound, np.int64)
        size = _all_edges(
            first, last, not self.graph.directed, self.base, self._shift, self._neighbors, self._counts, source, target
        )
        return source[:size], target[:size]

    def attributes(self, source: np.ndarray, target: np.ndarray) -> torch.Tensor:
        """``edge_attr [E, 3]`` of edges between slots."""
        out = torch.empty(len(source), 3, dtype=self.dtype, device="cpu")
        _attributes(source, target, self.x, self.y, self.t, self.graph.radius, self.graph.time_scale, out.numpy())
        return out.to(self.device)

    def _reserve(self, count: int) -> None:
        """Make room for that many more nodes; the cost of moving is amortised over the nodes since the last move."""
        needed = self.size + count - self.held
        if self.size + count - self.base <= self.capacity:
            return
        capacity = max(self.capacity, 1 << (2 * needed - 1).bit_length())
        old = {name: getattr(self, name) for name in _PER_NODE + _PER_EDGE}
        begin, stop = self.held - self.base, self.size - self.base
        self._allocate(capacity)
        for name, values in old.items():
            scale = self._shift if name in _PER_EDGE else 0
            getattr(self, name)[: (stop - begin) << scale] = values[begin << scale : stop << scale]
        self.base = self.held

    def _reserve_search(self, time: int, count: int) -> None:
        first = self.first_live(time, self.held)
        needed = 1 << max(0, self.size + count - first - 1).bit_length()
        if needed > self._search.capacity:
            self._search.resize(needed)

    def _cover(self, width: int, height: int) -> None:
        if width <= self._sensor[0] and height <= self._sensor[1]:
            return
        self._sensor = (_grown(self._sensor[0], width), _grown(self._sensor[1], height))
        self._search.cover(*self._sensor)

    def events(self) -> np.ndarray:
        """The nodes held. Their edges follow from them."""
        held = slice(self.held - self.base, self.size - self.base)
        return make_events(self.t[held], self.x[held], self.y[held], self.features[held, 0].cpu().numpy() > 0)

    def restore(self, events: np.ndarray, origin: int) -> None:
        """Insert the nodes that another store held; this one is empty. Positions count time from ``origin`` [µs].

        Older nodes are missing as neighbours; since neighbours are taken most recent first, all edges between the nodes
        held are the same as before.
        """
        if len(events):
            self.origin = origin
            self.insert(events)

    def memory(self) -> dict[str, int]:
        """Bytes held, by part."""
        nodes = sum(_nbytes(getattr(self, name)) for name in _PER_NODE)
        edges = sum(_nbytes(getattr(self, name)) for name in _PER_EDGE)
        search = sum(array.nbytes for array in self._search.arrays)
        return {"nodes": nodes, "edges": edges, "neighbour search": search}


_PER_NODE = ("t", "x", "y", "_counts", "_out_count", "_out_first", "_out_last", "features", "pos")
_PER_EDGE = ("_neighbors", "_out_next")


def _grown(size: int, needed: int) -> int:
    return size if needed <= size else 1 << (needed - 1).bit_length()


def _nbytes(values: Any) -> int:
    return int(values.nbytes)
