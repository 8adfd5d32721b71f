# SPDX-License-Identifier: Apache-2.0
"""Sums, means and extrema over all rows, kept in a tree of blocks: a changed row costs its block on every level.

Nothing is ever added to or subtracted from a running sum, so nothing drifts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous.incremental.local_operations import Call
from aegnn_core.asynchronous.incremental.rows import RowSet
from aegnn_core.asynchronous.incremental.values import ConstantRows, OperationState, RowValue, WholeValue
from aegnn_core.machine_code import kernel

__all__ = ["Later", "Reduction", "find"]

_SHIFT = 5
_SUM, _MAX, _MIN = 0, 1, 2


@dataclass
class Later:
    """A result that is computed when it is needed."""

    compute: Callable[[], Tensor]


#: What a reduction returns: its result, whether that may differ from the last update's, and FLOPs.
Reduction = Callable[[OperationState], tuple[Any, bool, int]]


@kernel
def _reduce_blocks(table: np.ndarray, start: int, stop: int, blocks: np.ndarray, kind: int, out: np.ndarray) -> int:
    """Reduce the rows in ``start .. stop - 1`` of every block in ``blocks [B]``: ``table [*, C]`` → ``out``."""
    work = 0
    for block in blocks:
        first = max(block << _SHIFT, start)
        last = min((block + 1) << _SHIFT, stop)
        work += max(0, last - first)
        for c in range(table.shape[1]):
            if first >= last:
                break
            result = table[first, c]
            for row in range(first + 1, last):
                value = table[row, c]
                if kind == 0:
                    result += value
                elif kind == 1:
                    if value > result or value != value:
                        result = value
                elif value < result or value != value:
                    result = value
            out[block, c] = result
    return work


class BlockTree:
    """The reduction of a span of rows, in blocks of 32."""

    def __init__(self, kind: int) -> None:
        self._kind = kind
        self._levels: list[np.ndarray] = []
        self._base = self._capacity = -1
        self._blocks = RowSet(0)

    def update(self, value: RowValue, fresh: bool) -> tuple[Tensor, int]:
        """The reduction over all rows ``[C]`` (there is at least one), and FLOPs."""
        space, table = value.space, value.table().reshape(value.space.capacity, -1)
        start, stop = space.all.start, space.all.stop
        fresh = fresh or (space.base, space.capacity) != (self._base, self._capacity)
        self._base, self._capacity = space.base, space.capacity
        if fresh:
            self._levels, size = [], space.capacity
            while size > 1 or not self._levels:
                size = (size - 1 >> _SHIFT) + 1
                self._levels.append(np.empty((size, table.shape[1]), table.numpy().dtype))
        touched = np.arange(start, stop) if fresh else value.changed.numpy()
        below, work = table.numpy(), 0
        for level in self._levels:
            # The blocks at both borders lose and gain rows without any of theirs being changed.
            border = np.array([start, stop - 1])
            self._blocks.reserve(len(level))
            touched = self._blocks.union([touched >> _SHIFT, border >> _SHIFT])
            work += _reduce_blocks(below, start, stop, touched, self._kind, level)
            below, start, stop = level, start >> _SHIFT, ((stop - 1) >> _SHIFT) + 1
        return torch.from_numpy(below[start].copy()).reshape(value.tail), work * table.shape[1]

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(level.nbytes for level in self._levels) + self._blocks.nbytes


_KINDS = {"sum": _SUM, "add": _SUM, "mean": _SUM, "amax": _MAX, "max": _MAX, "amin": _MIN, "min": _MIN}
_OVER_ROWS = {
    getattr(namespace, name): name
    for namespace in (torch, Tensor)
    for name in ("sum", "mean", "amax", "amin", "max", "min")
}


def find(call: Call) -> Reduction | None:
    """How to compute this call as a reduction over all rows, or None if it is not one."""
    if call.func in _OVER_ROWS and len(call.values) == 1 and isinstance(call.args[0], RowValue):
        return _over_rows(call, call.args[0], _OVER_ROWS[call.func])
    if call.func in (Tensor.scatter_add, torch.scatter_add, Tensor.scatter_reduce, torch.scatter_reduce):
        return _scatter(call)
    return None


def _reduce(value: RowValue, kind: str, state: OperationState) -> tuple[Tensor, int]:
    count = len(value.space.all)
    if isinstance(value, ConstantRows):
        return (value.row * count if kind in ("sum", "add") else value.row), 0
    if state.fresh or state.kept is None:
        state.kept = BlockTree(_KINDS[kind])
    result, flops = state.kept.update(value, state.fresh)
    return (result / count if kind == "mean" else result), flops


def _supported(value: RowValue) -> bool:
    if value.device.type != "cpu":
        return False
    return value.dtype in (torch.float32, torch.float64) and value.space.all.contiguous and len(value.space.all) > 0


def _over_rows(call: Call, value: RowValue, kind: str) -> Reduction | None:
    dim = call.argument(1, ("dim", "axis"))
    if isinstance(dim, (tuple, list)) and len(dim) == 1:
        dim = dim[0]
    rank = len(value.tail) + 1
    if not isinstance(dim, int) or not -rank <= dim < rank or dim % rank or not _supported(value):
        return None
    if set(call.kwargs) - {"dim", "axis", "keepdim"}:
        return None
    keep = bool(call.argument(2, ("keepdim",), False))

    def reduce(state: OperationState) -> tuple[Any, bool, int]:
        changes = state.fresh or value.changes
        flops = 0
        if changes:
            state.reduced, flops = _reduce(value, kind, state)
        result = state.reduced[None] if keep else state.reduced
        if kind not in ("max", "min"):
            return result, changes, flops
        where = Later(lambda: call.func(value.full(), 0, keep)[1])
        return getattr(torch.return_types, kind)((result, where)), changes, flops

    return reduce


def _scatter(call: Call) -> Reduction | None:
    """All rows into one row of a tensor, as PyG's global poolings do for a batch of one graph."""
    into, dim = call.args[0], call.argument(1, ("dim",))
    index, value = call.argument(2, ("index",)), call.argument(3, ("src",))
    kind = "sum" if "add" in call.func.__name__ else call.argument(4, ("reduce",))
    include = bool(call.kwargs.get("include_self", True))
    if not (
        isinstance(into, WholeValue)
        and isinstance(index, ConstantRows)
        and isinstance(value, RowValue)
        and dim == 0
        and index.space is value.space
        and index.tail == value.tail
        and kind in _KINDS
        and _supported(value)
        and (kind == "sum" or not include)
    ):
        return None
    rows: Tensor = index.row.unique()  # type: ignore[no-untyped-call]
    if len(rows) != 1:
        return None
    row = int(rows[0])

    def reduce(state: OperationState) -> tuple[Any, bool, int]:
        changes = state.fresh or value.changes or into.changes
        flops = 0
        if changes:
            total, flops = _reduce(value, kind, state)
            state.reduced = into.full().clone()
            state.reduced[row] = state.reduced[row] + total if include else total
        return state.reduced, changes, flops

    return reduce
