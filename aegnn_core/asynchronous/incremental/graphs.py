# SPDX-License-Identifier: Apache-2.0
"""Graphs as an update sees them: their nodes and edges now, and what of them is new or gone since the last update."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous.incremental.event_store import EventStore
from aegnn_core.asynchronous.incremental.rows import NO_ROWS, Rows, RowSet

__all__ = ["EdgeBatch", "EventGraph", "Graph", "Space"]

_Kept = TypeVar("_Kept")


class Space:
    """The rows of a table, such as the nodes of a graph, during one update.

    Attributes:
        base: number of the row in slot 0.
        capacity: slots.
        all: the rows that are there, in the order of the dense model.
        added: those of them that the update before did not have.
        removed: slots that the update before had, and this one has not.
        slots: a collector of slots.
        graph: the graph whose nodes these are.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.base = self.capacity = 0
        self.all = self.added = self.removed = NO_ROWS
        self.slots = RowSet(0)

    def union(self, *parts: Rows) -> Rows:
        """The rows in any of the parts."""
        # Asked for some thirty times per event, nearly always of parts of which only one has rows.
        first, several = NO_ROWS, False
        for part in parts:
            if part is not first and part.stop > part.start:
                first, several = part, first is not NO_ROWS
                if several:
                    break
        if not several:
            return first
        first, *rest = (part for part in parts if len(part))
        if first.contiguous and all(part.contiguous for part in rest):
            start, stop = min(p.start for p in (first, *rest)), max(p.stop for p in (first, *rest))
            if any(p.start == start and p.stop == stop for p in (first, *rest)):
                return Rows(start, stop)
        for part in (first, *rest):
            if part is self.all:
                return part
        return self.collect(part.numpy() for part in (first, *rest))

    def collect(self, parts: Iterable[np.ndarray]) -> Rows:
        """The rows in any of some arrays of slots, which may have repeats."""
        self.slots.reserve(self.capacity)
        return Rows.of(self.slots.union(parts))


class EdgeBatch:
    """Edges into some nodes, or all edges: what edge values are computed for.

    Attributes:
        source: slots of the sources ``[E]``.
        target: slots of the targets ``[E]``.
        values: what was computed for these edges, by what it was computed from.
    """

    def __init__(self, graph: Graph, source: np.ndarray, target: np.ndarray) -> None:
        self.graph, self.source, self.target = graph, source, target
        self.values: dict[Any, Tensor] = {}
        self._rows: dict[str, Rows] = {}

    def end(self, which: str) -> Rows:
        """The rows at the ``"source"`` or the ``"target"`` of every edge, with repeats."""
        if which not in self._rows:
            self._rows[which] = Rows.of(getattr(self, which))
        return self._rows[which]

    def once(self, key: Any, compute: Callable[[EdgeBatch], Tensor]) -> Tensor:
        """What ``compute`` returns for these edges, edge by edge; computed once for this key."""
        if key not in self.values:
            self.values[key] = compute(self)
        return self.values[key]

    def __len__(self) -> int:
        return len(self.source)


class RowEdges(EdgeBatch):
    """All edges into some rows, row by row.

    Attributes:
        starts: ``[R + 1]``, row r has the edges ``starts[r] .. starts[r + 1] - 1``.
    """

    def __init__(self, graph: Graph, rows: np.ndarray) -> None:
        source, self._position = graph.in_edges(rows)
        super().__init__(graph, source, rows[self._position])
        self.starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(np.bincount(self._position, minlength=len(rows)), out=self.starts[1:])

    def positions(self) -> np.ndarray:
        """The row ``[E]`` that every edge leads to, counted from 0."""
        return self._position


class LongerRowEdges(RowEdges):
    """The edges into rows that begin with others, whose edges are there already."""

    def __init__(self, graph: Graph, rows: np.ndarray, begun: RowEdges, done: int) -> None:
        self._begun, self._rest = begun, RowEdges(graph, rows[done:])
        EdgeBatch.__init__(
            self,
            graph,
            np.concatenate([begun.source, self._rest.source]),
            np.concatenate([begun.target, self._rest.target]),
        )
        self.starts = np.concatenate([begun.starts, self._rest.starts[1:] + len(begun)])

    def positions(self) -> np.ndarray:
        return np.concatenate([self._begun.positions(), self._rest.positions() + len(self._begun.starts) - 1])

    def once(self, key: Any, compute: Callable[[EdgeBatch], Tensor]) -> Tensor:
        if key not in self.values:
            self.values[key] = torch.cat([self._begun.once(key, compute), self._rest.once(key, compute)])
        return self.values[key]


class Subgraph(EdgeBatch):
    """Some nodes with all edges into them, numbered from 0.

    Attributes:
        rows: the nodes.
        nodes: the nodes, and behind them the others that edges come from.
        edge_index: ``[2, E]``, numbers of the nodes.
    """

    def __init__(self, graph: Graph, rows: Rows, parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
        sources = np.concatenate([source for source, _ in parts]) if len(parts) > 1 else parts[0][0]
        targets = np.concatenate([target for _, target in parts]) if len(parts) > 1 else parts[0][1]
        super().__init__(graph, sources, targets)
        self.rows = rows
        slots = graph.nodes.slots
        slots.reserve(graph.nodes.capacity)
        nodes, local = slots.localize(rows.numpy(), np.concatenate([sources, targets]))
        self.nodes = rows if len(nodes) == len(rows) else Rows.of(nodes)
        self.edge_index = torch.from_numpy(local.reshape(2, -1)).to(graph.device)


class Graph:
    """Nodes and edges during one update. What derives from it says how edges are found.

    Attributes:
        nodes: the space of its nodes.
        changed_in_edges: nodes into which edges are new or gone, all added nodes among them.
        renumbered: the dense model gives other numbers to nodes than in the last update.
        edge_channels: components of the edge attributes.
        device: where the model is, and rows and edges as it sees them.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.nodes = Space(self)
        self.changed_in_edges = NO_ROWS
        self.renumbered = False
        self._cache: dict[Any, tuple[Any, Any]] = {}

    def in_edges(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Edges into ``rows [R]``: slots of the sources, and positions in ``rows`` of the targets."""
        raise NotImplementedError

    def readers(self, rows: np.ndarray) -> np.ndarray:
        """Slots of the nodes that edges from ``rows [R]`` lead to, with repeats."""
        raise NotImplementedError

    def out_edges(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Edges from ``rows [R]``: slots of the sources and of the targets."""
        raise NotImplementedError

    def changed_out_edges(self) -> Rows:
        """Nodes out of which edges are new or gone."""
        raise NotImplementedError

    def lost_and_new_edges(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Edges (sources, targets) that the last update had and this one has not, and the other way round."""
        raise NotImplementedError

    def all_edges(self) -> EdgeBatch:
        """All edges, in the order of the dense model."""
        raise NotImplementedError

    def attributes(self, edges: EdgeBatch) -> Tensor:
        """Edge attributes ``[E, channels]``."""
        raise NotImplementedError

    def numbers(self, slots: np.ndarray) -> Tensor:
        """The numbers that the dense model gives to the nodes in these slots."""
        return torch.from_numpy(slots - self.nodes.all.start).to(self.device)

    def affected(self, changed: Rows, hops: int, degrees: bool, out_degrees: bool) -> Rows:
        """Nodes that can see a change over that many edges.

        That is a changed row, or a new or lost edge; with ``degrees``, also the node that such an edge leads to, seen
        from one that reads it, and with ``out_degrees`` the node that it comes from.
        """
        key = (id(changed), hops, degrees, out_degrees)
        return self._once(key, changed, lambda: self._affected(changed, hops, degrees, out_degrees))

    def _affected(self, changed: Rows, hops: int, degrees: bool, out_degrees: bool) -> Rows:
        structure = self.changed_in_edges
        if changed is self.nodes.all or structure is self.nodes.all:
            return self.nodes.all
        if out_degrees:
            structure = self.nodes.union(structure, self.changed_out_edges())
        frontier = changed if hops == 1 and not degrees else self.nodes.union(changed, structure)
        result = self.nodes.union(changed, structure)
        for _ in range(hops):
            if not len(frontier):
                break
            result = frontier = self._grown(result, self.readers(frontier.numpy()))
        return result

    def _grown(self, rows: Rows, slots: np.ndarray) -> Rows:
        """The union; ``rows`` itself where that is no more."""
        if not len(slots):
            return rows
        if rows.contiguous and len(rows) and slots.min() >= rows.start and slots.max() < rows.stop:
            return rows
        grown = self.nodes.collect([rows.numpy(), slots])
        if len(grown) == len(rows):
            return rows
        grown.prefix = rows if len(rows) else None
        return grown

    def edges_into(self, rows: Rows) -> RowEdges:
        """The edges into some nodes."""

        def find() -> RowEdges:
            if rows.prefix is not None:
                return LongerRowEdges(self, rows.numpy(), self.edges_into(rows.prefix), len(rows.prefix))
            return RowEdges(self, rows.numpy())

        return self._once(("in", id(rows)), rows, find)

    def subgraph(self, rows: Rows, levels: int, out_edges: bool) -> Subgraph:
        """Some nodes with the edges into them, and into where those come from, and so on, so many levels deep.

        With ``out_edges``, also all edges out of these nodes.
        """
        key = ("subgraph", id(rows), levels, out_edges)
        return self._once(key, rows, lambda: self._subgraph(rows, levels, out_edges))

    def _subgraph(self, rows: Rows, levels: int, out_edges: bool) -> Subgraph:
        batch = self.edges_into(rows)
        parts = [(batch.source, batch.target)]
        reached = rows.numpy()
        for _ in range(levels - 1):
            self.nodes.slots.reserve(self.nodes.capacity)
            wider = self.nodes.slots.union([reached, parts[-1][0]])
            fringe = wider[len(reached) :]
            source, position = self.in_edges(fringe)
            parts.append((source, fringe[position]))
            reached = wider
        if out_edges:
            self.nodes.slots.reserve(self.nodes.capacity)
            reached = self.nodes.slots.union([reached, parts[-1][0]])
            source, target = self.out_edges(reached)
            parts = [(source, target)]
        return Subgraph(self, rows, parts)

    def _once(self, key: Any, keep: Any, compute: Callable[[], _Kept]) -> _Kept:
        """What ``compute`` returns, computed once per update; ``keep`` lives as long, so that its id stays its own."""
        if key not in self._cache:
            self._cache[key] = (keep, compute())
        kept: _Kept = self._cache[key][1]
        return kept


class EventGraph(Graph):
    """The nodes of a store from some number on.

    Args:
        store: the nodes.
        forgets: a node that leaves takes its edges along; otherwise nobody asks for what it still influenced.
    """

    def __init__(self, store: EventStore, forgets: bool) -> None:
        super().__init__(store.device)
        self._store, self._forgets = store, forgets
        self._first = self._last = 0
        self._before = (0, 0)
        self._known = False

    def forget(self) -> None:
        """Take everything for new at the next update."""
        self._known = False

    def behind(self) -> int:
        """Nodes that came since the last update."""
        return self._store.size - self._last

    def retire(self, first: int) -> None:
        """Nodes before number ``first`` will not be needed any more; that is not a change."""
        self._first = max(self._first, first)

    def unchanged(self, first: int) -> bool:
        """Whether an update that begins with node ``first`` would find what the last one left."""
        return self._known and first == self._first and self._store.size == self._last

    def begin(self, first: int) -> bool:
        """Begin an update in which the nodes are those from number ``first`` to the store's last.

        Returns:
            Whether what the last update left is of use: there are nodes that it had too.
        """
        store, nodes = self._store, self.nodes
        base, last = store.base, store.size
        self._cache.clear()
        nodes.base, nodes.capacity = base, store.capacity
        nodes.all = Rows(first - base, last - base)
        before = self._before = (self._first, self._last)
        known = self._known and self._last > first and self._first >= base
        self._first, self._last, self._known = first, last, True
        self.renumbered = first != before[0]
        if not known:
            nodes.added = self.changed_in_edges = nodes.all
            nodes.removed = NO_ROWS
            return False
        back = Rows(before[1] - base, last - base)
        front = Rows(first - base, before[0] - base)
        nodes.removed = Rows(before[0] - base, first - base)
        nodes.added = nodes.union(front, back)
        parts = []
        if len(front):
            parts.append(self.readers(front.numpy()))
        if not store.graph.directed and len(back):
            parts.append(self.in_edges(back.numpy())[0])
        if self._forgets and len(nodes.removed):
            parts.append(self.readers(nodes.removed.numpy()))
        beside = [part for part in parts if len(part)]
        self.changed_in_edges = nodes.collect([nodes.added.numpy(), *beside]) if beside else nodes.added
        return True

    @property
    def first(self) -> int:
        """Number of the first node at the last update."""
        return self._first

    def in_edges(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._store.in_edges(rows, self._first - self._store.base)

    def readers(self, rows: np.ndarray) -> np.ndarray:
        return self._store.readers(rows, self._first - self._store.base)

    def out_edges(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._store.out_edges(rows, self._first - self._store.base)

    def changed_out_edges(self) -> Rows:
        nodes = self.nodes
        if nodes.added is nodes.all:
            return nodes.all
        # Every edge that is new or gone has an end that is too; where that is its source, it is among the added nodes.
        added = nodes.added.numpy()
        parts = [added, self.in_edges(added)[0]]
        if self._forgets and len(nodes.removed) and not self._store.graph.directed:
            parts.append(self.readers(nodes.removed.numpy()))
        return nodes.collect(parts)

    def lost_and_new_edges(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        nodes, store = self.nodes, self._store
        first, last = self._before[0] - store.base, self._before[1] - store.base
        lost = store.younger_pairs(nodes.removed.numpy(), last)
        back = store.older_pairs(np.arange(max(last, nodes.all.start), nodes.all.stop), nodes.all.start)
        front = store.younger_pairs(np.arange(nodes.all.start, max(first, nodes.all.start)), last)
        new = np.concatenate([back[0], front[0]]), np.concatenate([back[1], front[1]])
        if store.graph.directed:
            return lost, new
        return _both_ways(lost), _both_ways(new)

    def all_edges(self) -> EdgeBatch:
        rows = self.nodes.all
        return self._once("all", None, lambda: EdgeBatch(self, *self._store.all_edges(rows.start, rows.stop)))

    def attributes(self, edges: EdgeBatch) -> Tensor:
        return self._store.attributes(edges.source, edges.target)


def _both_ways(edges: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(edges), np.concatenate(edges[::-1])
