# SPDX-License-Identifier: Apache-2.0
"""What a tensor of the model's forward is during an update: rows of nodes, values on edges, or one whole tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous.incremental.graphs import EdgeBatch, Graph, Space
from aegnn_core.asynchronous.incremental.rows import Buffer, Rows

__all__ = [
    "ComputedEdges",
    "ComputedRows",
    "ConstantRows",
    "EdgeAttributes",
    "EdgeEnd",
    "EdgeIndex",
    "EdgeValue",
    "ElapsedTimes",
    "LiftedRows",
    "NodeNumbers",
    "OperationState",
    "RowCount",
    "RowValue",
    "StoredRows",
    "Value",
    "WholeValue",
    "part_of",
]


class RowCount(int):
    """A number of rows that knows which rows: sizes made from it follow the graph."""

    space: Space

    @classmethod
    def of(cls, space: Space) -> RowCount:
        """The number of rows of a space."""
        count = cls(len(space.all))
        count.space = space
        return count

    def __radd__(self, other: int) -> int:
        # sum() begins with 0, and Data.num_nodes is a sum.
        return self if other == 0 else int(self) + other


class OperationState:
    """What one operation of the forward keeps between updates.

    Attributes:
        signature: the operation and its arguments, as far as they must be the same again.
        origin: its place in the sequence of operations.
        fresh: nothing was kept, everything has to be computed.
        tail: shape of a result's row.
        buffer: the result's rows, where unchanged rows were needed.
        kept: whatever else the operation keeps.
        result: its result, where that is a whole tensor or several.
        reduced: the result of a reduction over all rows.
    """

    def __init__(self, signature: Any, origin: int) -> None:
        self.signature, self.origin = signature, origin
        self.fresh = True
        self.tail: tuple[int, ...] | None = None
        self.dtype, self.device = torch.float32, torch.device("cpu")
        self.buffer: Buffer | None = None
        self.kept: Any = None
        self.result: Any = None
        self.reduced = torch.empty(0, dtype=torch.float32, device="cpu")

    def describe(self, result: Tensor) -> None:
        """Take the shape of a row, type and device from a result ``[R, *tail]``."""
        self.tail, self.dtype, self.device = tuple(result.shape[1:]), result.dtype, result.device

    def table(self, space: Space) -> Tensor:
        """The buffer's table in the present slots, allocated if there is none."""
        assert self.tail is not None
        if self.buffer is None:
            self.buffer = Buffer(space.base, space.capacity, self.tail, self.dtype, self.device)
        return self.buffer.move(space.base, space.capacity)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        kept = getattr(self.kept, "nbytes", 0)
        whole = sum(leaf.nbytes for leaf in nested(self.result) if isinstance(leaf, Tensor))
        return kept + whole + (0 if self.buffer is None else self.buffer.nbytes)


class Value:
    """A tensor of the forward.

    Attributes:
        origin: the operation that made it, the same in every update.
        device: where the dense model would see it.
        view: it shares memory with another tensor, as far as the model can tell.
    """

    origin: Any
    dtype: torch.dtype
    device: torch.device
    view = False

    @property
    def shape(self) -> torch.Size:
        """The shape that the dense model would see."""
        raise NotImplementedError

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def changes(self) -> bool:
        """Whether anything of it, its rows included, has changed since the last update."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Bring it up to date in a new update, after the values that it is computed from."""

    def full(self) -> Tensor:
        """The tensor that the dense model would see."""
        raise NotImplementedError


class RowValue(Value):
    """One row per node, or per other row of a space.

    Attributes:
        space: the rows.
        tail: shape of a row.
        changed: rows whose value is not that of the last update, all added rows among them.
        guessed: that it has a row per row of the space was told from its length alone.
    """

    space: Space
    tail: tuple[int, ...]
    changed: Rows
    guessed = False

    @property
    def shape(self) -> torch.Size:
        return torch.Size((RowCount.of(self.space), *self.tail))

    @property
    def rank(self) -> int:
        return len(self.tail) + 1

    @property
    def changes(self) -> bool:
        return len(self.changed) > 0 or len(self.space.removed) > 0

    def at(self, rows: Rows) -> Tensor:
        """The values of some rows ``[R, *tail]``."""
        return rows.take(self.table())

    def table(self) -> Tensor:
        """All values by slot, ``[capacity, *tail]``; slots without a row hold anything."""
        raise NotImplementedError

    def full(self) -> Tensor:
        return self.at(self.space.all)


class StoredRows(RowValue):
    """Rows in a table that is up to date."""

    def __init__(self, origin: Any, space: Space, look: Callable[[], tuple[Tensor, Rows]]) -> None:
        self.origin, self.space, self._look = origin, space, look
        self.refresh()
        self.tail, self.dtype = tuple(self._table.shape[1:]), self._table.dtype
        self.device = self._table.device

    def refresh(self) -> None:
        self._table, self.changed = self._look()

    def table(self) -> Tensor:
        return self._table


def part_of(value: RowValue, space: Space) -> StoredRows:
    """The same for the rows of a space that is a span of the value's own."""

    def look() -> tuple[Tensor, Rows]:
        slots = value.changed.numpy()
        inside = slots[(slots >= space.all.start) & (slots < space.all.stop)]
        changed = value.changed if len(inside) == len(slots) else Rows.of(inside)
        return value.table(), space.union(changed, space.added)

    return StoredRows((value.origin, "part"), space, look)


class ElapsedTimes(RowValue):
    """Times of nodes [µs] since the first event, computed where they are needed.

    Args:
        space: the nodes.
        look: gives the sensor times of the nodes by slot.
        first: sensor time of the first event.
    """

    origin, tail, dtype = "t", (), torch.long

    def __init__(self, space: Space, look: Callable[[], Tensor], first: int) -> None:
        self.space, self._look, self._first, self.device = space, look, first, space.graph.device

    @property
    def changed(self) -> Rows:  # type: ignore[override]
        return self.space.added

    def at(self, rows: Rows) -> Tensor:
        return rows.take(self._look()) - self._first

    def table(self) -> Tensor:
        return self._look() - self._first


class NodeNumbers(RowValue):
    """The numbers that the dense model gives to the nodes of a graph."""

    tail = ()
    dtype = torch.long

    def __init__(self, graph: Graph) -> None:
        self.origin, self.space, self.device = ("numbers", id(graph)), graph.nodes, graph.device

    @property
    def changed(self) -> Rows:  # type: ignore[override]
        return self.space.all if self.space.graph.renumbered else self.space.added

    def table(self) -> Tensor:
        return self.space.graph.numbers(np.arange(self.space.capacity))


class ConstantRows(RowValue):
    """The same value in all rows, such as the index of the only graph in the batch."""

    def __init__(self, origin: Any, space: Space, row: Tensor, guessed: bool = False) -> None:
        self.origin, self.space, self.guessed = origin, space, guessed
        self.row, self.tail, self.dtype, self.device = row, tuple(row.shape), row.dtype, row.device
        self.refresh()

    def refresh(self) -> None:
        self.changed = self.space.added

    def at(self, rows: Rows) -> Tensor:
        return self.row.expand(len(rows), *self.tail)

    def table(self) -> Tensor:
        return self.row.expand(self.space.capacity, *self.tail)


class ComputedRows(RowValue):
    """Rows that are computed from the same rows of other values."""

    def __init__(
        self, state: OperationState, inputs: Sequence[RowValue], apply: Callable[..., Tensor], space: Space
    ) -> None:
        self.origin, self.space = state.origin, space
        self._state, self._inputs, self._apply = state, inputs, apply
        self._value: Tensor | None = None
        self.refresh()
        assert state.tail is not None
        self.tail, self.dtype, self.device = state.tail, state.dtype, state.device

    @property
    def guessed(self) -> bool:  # type: ignore[override]
        return all(value.guessed for value in self._inputs)

    def refresh(self) -> None:
        state, space = self._state, self.space
        if state.fresh:
            self.changed = space.all
        elif len(self._inputs) == 1:
            self.changed = self._inputs[0].changed
        else:
            self.changed = space.union(*[value.changed for value in self._inputs])
        self._value = None
        if len(self.changed) or state.tail is None:
            self._value = self._compute(self.changed)
            state.describe(self._value)
        if state.buffer is not None:
            table = state.table(space)
            if self._value is not None:
                self.changed.put(table, self._value)

    def _compute(self, rows: Rows) -> Tensor:
        return self._apply(len(rows), *[value.at(rows) for value in self._inputs])

    def at(self, rows: Rows) -> Tensor:
        if rows is self.changed and self._value is not None:
            return self._value
        return rows.take(self.table())

    def table(self) -> Tensor:
        if self._state.buffer is None:
            values = self.full()
            self.space.all.put(self._state.table(self.space), values)
        return self._state.table(self.space)

    def full(self) -> Tensor:
        if self._state.buffer is not None:
            return self.space.all.take(self._state.table(self.space))
        if self.changed is self.space.all and self._value is not None:
            return self._value
        return self._apply(len(self.space.all), *(value.full() for value in self._inputs))


class EdgeValue(Value):
    """One value per edge, computed for the edges that are needed.

    Attributes:
        graph: the edges.
        tail: shape of an edge's value.
        nodes: values of nodes that it is computed from.
    """

    graph: Graph
    tail: tuple[int, ...]
    nodes: Sequence[RowValue] = ()

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.graph.all_edges()), *self.tail))

    @property
    def rank(self) -> int:
        return len(self.tail) + 1

    @property
    def changes(self) -> bool:
        nodes = self.graph.nodes
        return len(self.graph.changed_in_edges) > 0 or len(nodes.removed) > 0 or any(v.changes for v in self.nodes)

    def at(self, edges: EdgeBatch) -> Tensor:
        """The values of some edges ``[E, *tail]``."""
        return edges.once(self.origin, self._compute)

    def _compute(self, edges: EdgeBatch) -> Tensor:
        raise NotImplementedError

    def full(self) -> Tensor:
        return self.at(self.graph.all_edges())


class EdgeAttributes(EdgeValue):
    """The edge attributes of a graph."""

    def __init__(self, graph: Graph, channels: int, dtype: torch.dtype) -> None:
        self.origin, self.graph, self.tail, self.dtype = ("edge_attr", id(graph)), graph, (channels,), dtype
        self.device = graph.device

    def _compute(self, edges: EdgeBatch) -> Tensor:
        return self.graph.attributes(edges)


class EdgeEnd(EdgeValue):
    """The nodes at one end of the edges: ``edge_index[0]`` or ``[1]``."""

    dtype = torch.long
    tail = ()

    def __init__(self, graph: Graph, which: str) -> None:
        self.origin, self.graph, self.which = (which, id(graph)), graph, which
        self.device = graph.device

    @property
    def nodes(self) -> Sequence[RowValue]:  # type: ignore[override]
        return (NodeNumbers(self.graph),)

    def _compute(self, edges: EdgeBatch) -> Tensor:
        return self.graph.numbers(getattr(edges, self.which))


class EdgeIndex(Value):
    """The ``edge_index [2, E]`` of a graph."""

    dtype = torch.long

    def __init__(self, graph: Graph) -> None:
        self.origin, self.graph, self.device = ("edge_index", id(graph)), graph, graph.device

    rank = 2

    def end(self, which: int) -> EdgeEnd:
        """Sources (0) or targets (1)."""
        return EdgeEnd(self.graph, ("source", "target")[which])

    @property
    def shape(self) -> torch.Size:
        return torch.Size((2, len(self.graph.all_edges())))

    @property
    def changes(self) -> bool:
        return self.end(0).changes

    def full(self) -> Tensor:
        edges = self.graph.all_edges()
        return torch.stack([self.end(0).at(edges), self.end(1).at(edges)])


class LiftedRows(EdgeValue):
    """The value of the node at one end of every edge, ``x[edge_index[0]]``."""

    def __init__(self, origin: Any, rows: RowValue, end: EdgeEnd) -> None:
        self.origin, self.graph, self._rows, self._which = origin, end.graph, rows, end.which
        self.tail, self.dtype, self.nodes, self.device = rows.tail, rows.dtype, (rows,), rows.device

    def _compute(self, edges: EdgeBatch) -> Tensor:
        return self._rows.at(edges.end(self._which))


class ComputedEdges(EdgeValue):
    """Values that are computed from values of the same edges."""

    def __init__(self, state: OperationState, inputs: Sequence[EdgeValue], apply: Callable[..., Tensor]) -> None:
        self.origin, self.graph = state.origin, inputs[0].graph
        self._inputs, self._apply = inputs, apply
        self.nodes = tuple(dict.fromkeys(node for value in inputs for node in value.nodes))
        if state.tail is None:
            none = np.empty(0, np.int64)
            nothing = self._compute(EdgeBatch(self.graph, none, none))
            state.describe(nothing)
        assert state.tail is not None
        self.tail, self.dtype, self.device = state.tail, state.dtype, state.device

    def _compute(self, edges: EdgeBatch) -> Tensor:
        return self._apply(len(edges), *(value.at(edges) for value in self._inputs))


class WholeValue(Value):
    """A tensor that is computed as a whole, such as what is left of a graph behind a global pooling."""

    def __init__(self, origin: Any, value: Tensor | Callable[[], Tensor], changes: bool) -> None:
        self.origin = origin
        self.set(value, changes)

    def set(self, value: Tensor | Callable[[], Tensor], changes: bool) -> None:
        """What it is in this update."""
        self._value, self._changes = value, changes

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        return self.full().dtype

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.full().device

    @property
    def shape(self) -> torch.Size:
        return self.full().shape

    @property
    def changes(self) -> bool:
        return self._changes

    def full(self) -> Tensor:
        if not isinstance(self._value, Tensor):
            self._value = self._value()
        return self._value


def nested(value: Any) -> Iterator[Any]:
    """The leaves of arguments: what stands in tuples, lists, dictionaries and slices."""
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from nested(item)
    elif isinstance(value, dict):
        yield from nested(list(value.values()))
    else:
        yield value
