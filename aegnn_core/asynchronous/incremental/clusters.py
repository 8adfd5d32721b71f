# SPDX-License-Identifier: Apache-2.0
"""Nodes in clusters, the maximum of each cluster, and the edges between clusters: kept, and brought up to date."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous.incremental.graphs import EdgeBatch, Graph
from aegnn_core.asynchronous.incremental.rows import NO_ROWS, Rows, RowSet
from aegnn_core.asynchronous.incremental.values import RowValue
from aegnn_core.machine_code import kernel

__all__ = ["ClusterEdges", "ClusterGraph", "ClusterMaximum", "Grouping", "Members", "means"]

_NONE = -1


@kernel
def _remove(slots, base, key, before, after, first, last, count):
    for slot in slots:
        k = key[slot]
        if before[slot] < 0:
            first[k] = after[slot]
        else:
            after[before[slot] - base] = after[slot]
        if after[slot] < 0:
            last[k] = before[slot]
        else:
            before[after[slot] - base] = before[slot]
        count[k] -= 1
        key[slot] = -1


@kernel
def _add(slots, keys, base, key, before, after, first, last, count):
    for i in range(len(slots)):
        slot, k = slots[i], keys[i]
        before[slot] = last[k]
        after[slot] = -1
        if last[k] < 0:
            first[k] = slot + base
        else:
            after[last[k] - base] = slot + base
        last[k] = slot + base
        count[k] += 1
        key[slot] = k


@kernel
def _maximum_lost(slots, keys, base, winner, rescan, touched, size):
    """Mark the clusters that have a maximum from a row that is gone or changed; append them to ``touched``."""
    for i in range(len(slots)):
        k = keys[i]
        if k < 0 or rescan[k] == 2:
            continue
        for c in range(winner.shape[1]):
            if winner[k, c] == slots[i] + base:
                if rescan[k] == 0:
                    touched[size] = k
                    size += 1
                rescan[k] = 2
                break
    return size


@kernel
def _maximum_raised(slots, key, base, x, out, winner, rescan, touched, size):
    """Compare changed rows with the maxima of clusters that still have theirs."""
    for slot in slots:
        k = key[slot]
        if k < 0 or rescan[k] == 2:
            continue
        for c in range(winner.shape[1]):
            if winner[k, c] < 0 or x[slot, c] > out[k, c]:
                out[k, c] = x[slot, c]
                winner[k, c] = slot + base
                if rescan[k] == 0:
                    rescan[k] = 1
                    touched[size] = k
                    size += 1
    return size


@kernel
def _maximum_anew(clusters, base, first, after, x, out, winner, rescan):
    """Recompute the maxima of the marked clusters from all members, and unmark them; returns the number of members."""
    work = 0
    for k in clusters:
        if rescan[k] == 2:
            for c in range(winner.shape[1]):
                winner[k, c] = -1
                out[k, c] = 0
            number = first[k]
            while number >= 0:
                slot = number - base
                work += 1
                for c in range(winner.shape[1]):
                    if winner[k, c] < 0 or x[slot, c] > out[k, c]:
                        out[k, c] = x[slot, c]
                        winner[k, c] = number
                number = after[slot]
        rescan[k] = 0
    return work


@kernel
def means(clusters, base, first, after, count, pos, out):
    """Mean positions of the nodes of ``clusters``, from ``pos [capacity, 3]`` into ``out [all clusters, 3]``."""
    for k in clusters:
        for c in range(pos.shape[1]):
            total = 0.0
            number = first[k]
            while number >= 0:
                total += pos[number - base, c]
                number = after[number - base]
            if count[k] > 0:
                out[k, c] = total / count[k]


class Members:
    """Which nodes are in which cluster: for every cluster a list of its nodes.

    Attributes:
        count: nodes per cluster.
        changed: clusters whose members are not those of the last update.
    """

    def __init__(self, clusters: int) -> None:
        self._clusters = clusters
        self.count = np.zeros(clusters, np.int64)
        self.first = np.full(clusters, _NONE)
        self._last = np.full(clusters, _NONE)
        self.base = 0
        self.key = np.empty(0, np.int64)
        self._before = np.empty(0, np.int64)
        self.after = np.empty(0, np.int64)
        self.changed = np.empty(0, np.int64)
        self.removed_keys = np.empty(0, np.int64)
        self._touched = RowSet(clusters)

    def clear(self) -> None:
        """All clusters are empty."""
        self.count[:] = 0
        self.first[:] = _NONE
        self._last[:] = _NONE
        self.key[:] = _NONE

    def move(self, base: int, capacity: int) -> None:
        """Let slot 0 mean node number ``base``, and have that many slots."""
        if (base, capacity) == (self.base, len(self.key)):
            return
        shift = base - self.base
        kept = max(0, min(len(self.key) - shift, capacity))
        for name in ("key", "_before", "after"):
            old = getattr(self, name)
            moved = np.full(capacity, _NONE)
            moved[:kept] = old[shift : shift + kept]
            setattr(self, name, moved)
        self.base = base

    def update(self, removed: np.ndarray, added: np.ndarray, keys: np.ndarray) -> None:
        """Take out the nodes in slots ``removed``, and put those in slots ``added`` into the clusters ``keys``."""
        self.removed_keys = self.key[removed]
        if len(removed):
            _remove(removed, self.base, self.key, self._before, self.after, self.first, self._last, self.count)
        if len(added):
            _add(added, keys, self.base, self.key, self._before, self.after, self.first, self._last, self.count)
        self.changed = self._touched.union((self.removed_keys, keys))

    @property
    def nbytes(self) -> int:
        """Memory held."""
        arrays = (self.count, self.first, self._last, self.key, self._before, self.after)
        return sum(array.nbytes for array in arrays)


class ClusterMaximum:
    """Per cluster and channel the maximum over its nodes, and which node has it.

    Attributes:
        table: maxima ``[clusters, C]``, 0 where a cluster is empty.
    """

    def __init__(self, clusters: int, channels: int, dtype: torch.dtype) -> None:
        self.table = torch.zeros(clusters, channels, dtype=dtype, device="cpu")
        self._winner = np.full((clusters, channels), _NONE)
        self._rescan = np.zeros(clusters, np.int8)
        self._touched = np.empty(clusters, np.int64)

    def clear(self) -> None:
        """All clusters are empty."""
        self.table.zero_()
        self._winner[:] = _NONE

    def update(self, members: Members, removed: np.ndarray, changed: np.ndarray, x: Tensor) -> tuple[np.ndarray, int]:
        """Bring the maxima up to date after nodes left and rows of ``x [capacity, C]`` changed.

        Returns:
            The clusters whose maximum is another node's, or that of a node whose row changed; and comparisons made.
        """
        values, out, base = x.numpy(), self.table.numpy(), members.base
        size = _maximum_lost(removed, members.removed_keys, base, self._winner, self._rescan, self._touched, 0)
        size = _maximum_lost(changed, members.key[changed], base, self._winner, self._rescan, self._touched, size)
        size = _maximum_raised(changed, members.key, base, values, out, self._winner, self._rescan, self._touched, size)
        touched = self._touched[:size].copy()
        work = _maximum_anew(touched, base, members.first, members.after, values, out, self._winner, self._rescan)
        return touched, (work + len(changed)) * x.shape[1]

    def follow(self, members: Members, x: RowValue, fresh: bool) -> tuple[np.ndarray, int]:
        """As :meth:`update`, with what an update changed in ``x``."""
        if fresh:
            self.clear()
            return self.update(members, x.space.removed.numpy()[:0], x.space.all.numpy(), x.table())
        return self.update(members, x.space.removed.numpy(), x.changed.numpy(), x.table())

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.table.nbytes + self._winner.nbytes + self._rescan.nbytes + self._touched.nbytes


@kernel
def _count_edges(sources, targets, step, neighbors, multiplicity, length, changed, size):
    """Add ``step`` to the multiplicity of edges in the lists of their targets.

    Positions in ``changed`` of those that begin or cease to exist are written there. Returns how many there are, and
    the first edge for which a list was too short, or -1.
    """
    for e in range(len(sources)):
        s, t = sources[e], targets[e]
        if s == t or s < 0 or t < 0:
            continue
        at = 0
        while at < length[t] and neighbors[t, at] != s:
            at += 1
        if at == length[t]:
            if at == neighbors.shape[1]:
                return size, e
            neighbors[t, at] = s
            multiplicity[t, at] = 0
            length[t] += 1
        before = multiplicity[t, at]
        multiplicity[t, at] = before + step
        if before == 0 or before + step == 0:
            changed[size] = e
            size += 1
        if before + step == 0:
            length[t] -= 1
            neighbors[t, at] = neighbors[t, length[t]]
            multiplicity[t, at] = multiplicity[t, length[t]]
    return size, -1


@kernel
def _lists(rows, neighbors, length, other, position):
    size = 0
    for i in range(len(rows)):
        for n in range(length[rows[i]]):
            other[size] = neighbors[rows[i], n]
            position[size] = i
            size += 1
    return size


class _Lists:
    """For every cluster the clusters at the other end of its edges, and the number of edges to each."""

    def __init__(self, clusters: int) -> None:
        self._neighbors = np.empty((clusters, 8), np.int64)
        self._multiplicity = np.empty((clusters, 8), np.int64)
        self._length = np.zeros(clusters, np.int64)

    def clear(self) -> None:
        self._length[:] = 0

    def count(self, others: np.ndarray, owners: np.ndarray, step: int) -> np.ndarray:
        """Add ``step`` edges for every pair; positions of the pairs that begin or cease to be one."""
        changed = np.empty(len(others), np.int64)
        size, done = 0, 0
        while done < len(others):
            before = size
            size, full = _count_edges(
                others[done:], owners[done:], step, self._neighbors, self._multiplicity, self._length, changed, size
            )
            changed[before:size] += done
            if full < 0:
                break
            done += full
            self._neighbors = np.concatenate([self._neighbors, np.empty_like(self._neighbors)], 1)
            self._multiplicity = np.concatenate([self._multiplicity, np.empty_like(self._multiplicity)], 1)
        return changed[:size]

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Clusters at the other ends, and positions in ``rows``."""
        bound = int(self._length[rows].sum())
        other, position = np.empty(bound, np.int64), np.empty(bound, np.int64)
        _lists(rows, self._neighbors, self._length, other, position)
        return other, position

    @property
    def nbytes(self) -> int:
        return self._neighbors.nbytes + self._multiplicity.nbytes + self._length.nbytes


class ClusterEdges:
    """The edges between clusters: one where at least one edge between their nodes is."""

    def __init__(self, clusters: int) -> None:
        self.into, self.out_of = _Lists(clusters), _Lists(clusters)

    def clear(self) -> None:
        """No edges."""
        self.into.clear()
        self.out_of.clear()

    def count(self, sources: np.ndarray, targets: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Add (1) or take away (-1) an edge per pair of clusters: sources and targets of those that are new or gone."""
        changed = self.into.count(sources, targets, step)
        self.out_of.count(targets, sources, step)
        return sources[changed], targets[changed]

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.into.nbytes + self.out_of.nbytes


class ClusterGraph(Graph):
    """Clusters as nodes. A cluster's slot is its number; it is there while it has a member."""

    def __init__(self, clusters: int) -> None:
        super().__init__(torch.device("cpu"))
        self.nodes.capacity = clusters
        self._edges = ClusterEdges(clusters)
        self._sources = self._targets = np.empty(0, np.int64)
        self._lost = self._new = (self._sources, self._sources)
        self.attribute_table = torch.empty(0, 3, dtype=torch.float32, device="cpu")
        self.attributes_of: Callable[[Tensor], Tensor] = torch.nn.Identity()

    def begin(
        self,
        members: Members,
        fresh: bool,
        lost: tuple[np.ndarray, np.ndarray],
        new: tuple[np.ndarray, np.ndarray],
        keys_before: np.ndarray,
    ) -> None:
        """Begin an update: edges between nodes were ``lost`` and are ``new``, pairs of clusters."""
        nodes = self.nodes
        self._cache.clear()
        if fresh:
            self._edges.clear()
            lost = (np.empty(0, np.int64), np.empty(0, np.int64))
        self._lost = self._edges.count(lost[0], lost[1], -1)
        self._new = self._edges.count(new[0], new[1], 1)
        occupied = members.count[members.changed] > 0
        was = keys_before[members.changed] > 0
        added, removed = members.changed[occupied & ~was], members.changed[~occupied & was]
        self.renumbered = len(added) > 0 or len(removed) > 0
        if fresh or self.renumbered:
            nodes.all = Rows.of(np.flatnonzero(members.count))
        if fresh:
            nodes.added = self.changed_in_edges = nodes.all
            nodes.removed = NO_ROWS
            return
        nodes.added = Rows.of(added) if len(added) else NO_ROWS
        nodes.removed = Rows.of(removed) if len(removed) else NO_ROWS
        if not len(added) and not len(self._lost[0]) and not len(self._new[0]):
            self.changed_in_edges, self._sources = NO_ROWS, added
            return
        targets = np.concatenate([self._lost[1], self._new[1]])
        self.changed_in_edges = nodes.union(nodes.added, Rows.of(np.unique(targets[members.count[targets] > 0])))
        sources = np.concatenate([self._lost[0], self._new[0]])
        self._sources = np.unique(sources[members.count[sources] > 0])

    def in_edges(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._edges.into.of(rows)

    def readers(self, rows: np.ndarray) -> np.ndarray:
        return self._edges.out_of.of(rows)[0]

    def out_edges(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        targets, position = self._edges.out_of.of(rows)
        return rows[position], targets

    def changed_out_edges(self) -> Rows:
        return self.nodes.all if self.nodes.added is self.nodes.all else Rows.of(self._sources)

    def lost_and_new_edges(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        return self._lost, self._new

    def all_edges(self) -> EdgeBatch:
        def find() -> EdgeBatch:
            rows = self.nodes.all.numpy()
            source, position = self.in_edges(rows)
            order = np.lexsort((source, position))
            return EdgeBatch(self, source[order], rows[position[order]])

        return self._once("all", None, find)

    def numbers(self, slots: np.ndarray) -> Tensor:
        return torch.from_numpy(np.searchsorted(self.nodes.all.numpy(), slots))

    def attributes(self, edges: EdgeBatch) -> Tensor:
        pos = self.attribute_table
        return self.attributes_of(pos[torch.from_numpy(edges.source)] - pos[torch.from_numpy(edges.target)])

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._edges.nbytes


class Grouping:
    """Nodes in clusters, by a number computed from one of their values, and the graph of the clusters.

    Args:
        clusters: numbers of clusters are below this.
        edges: also follow the edges between clusters.
    """

    def __init__(self, clusters: int, edges: bool) -> None:
        self.members = Members(clusters)
        self.graph = ClusterGraph(clusters) if edges else None

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.members.nbytes + (0 if self.graph is None else self.graph.nbytes)

    def regroup(
        self, value: RowValue, keys_of: Callable[[Tensor], np.ndarray], fresh: bool, graph: Graph | None
    ) -> bool:
        """Bring the members up to date, and the clusters' graph if there is one, from the nodes' ``graph``.

        Returns:
            Whether that was done anew: it is where a node has moved from one cluster to another.
        """
        space, members = value.space, self.members
        members.move(space.base, space.capacity)
        moved = value.changed.numpy()
        keys = keys_of(value.at(value.changed)) if len(moved) else moved
        if value.changed is not space.added and not fresh:
            added = np.isin(moved, space.added.numpy(), assume_unique=True)
            fresh = bool((members.key[moved[~added]] != keys[~added]).any())
            moved, keys = moved[added], keys[added]
        if fresh:
            members.clear()
            moved, keys = space.all.numpy(), keys_of(value.full())
        counts = members.count.copy() if self.graph is not None else members.count
        none = np.empty(0, np.int64)
        lost = new = none, none
        if graph is not None and not fresh:
            lost, new = graph.lost_and_new_edges()
            lost = members.key[lost[0]], members.key[lost[1]]
        elif graph is not None:
            everything = graph.all_edges()
            new = everything.source, everything.target
        members.update(none if fresh else space.removed.numpy(), moved, keys)
        if self.graph is not None:
            self.graph.begin(members, fresh, lost, (members.key[new[0]], members.key[new[1]]), counts)
        return fresh
