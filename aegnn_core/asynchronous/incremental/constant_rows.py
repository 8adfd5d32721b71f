# SPDX-License-Identifier: Apache-2.0
"""Rows that are all the same, such as ``torch.zeros(num_nodes, 3)``: one is kept, whatever their number becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aegnn_core.asynchronous.incremental.call_reading import for_rows
from aegnn_core.asynchronous.incremental.graphs import Space
from aegnn_core.asynchronous.incremental.local_operations import IDENTITIES, VIEWS, Call, local_form
from aegnn_core.asynchronous.incremental.tape import Tape
from aegnn_core.asynchronous.incremental.values import ConstantRows, RowCount, RowValue, Value, WholeValue

__all__ = ["FACTORIES", "OWN_CONSTANTS", "ConstantRowMaker"]

#: Functions that make tensors of a size, and what they fill them with.
FACTORIES: dict[Any, float | None] = {torch.zeros: 0, torch.ones: 1, torch.full: None}
_NEW: dict[Any, float | None] = {Tensor.new_zeros: 0, Tensor.new_ones: 1, Tensor.new_full: None}
_LIKE: dict[Any, float] = {torch.zeros_like: 0, torch.ones_like: 1}
#: Functions that do to rows that are all the same what they do to one of them.
_OF_ONE_ROW = VIEWS | IDENTITIES
#: What of constant rows gives constant rows again.
OWN_CONSTANTS = _OF_ONE_ROW | {Tensor.expand_as, torch.zeros_like, torch.ones_like, *_NEW}


class ConstantRowMaker:
    """Makes constant rows where a forward asks for as many rows as there are nodes or edges.

    Args:
        tape: what the operations keep from update to update.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._counts: dict[int, RowCount] = {}

    def know(self, space: Space) -> None:
        """Sizes that begin with this space's number of rows mean its rows."""
        self._counts.setdefault(len(space.all), RowCount.of(space))

    def follow(self, call: Call) -> Value | None:
        """What a call gives whose result is the same in every row, or None if that is not so."""
        func, first = call.func, call.args[0] if call.args else None
        if func in _NEW and isinstance(first, Value):
            return self._new(call, first)
        if func in _LIKE and isinstance(first, RowValue) and not call.kwargs:
            row = torch.full(first.tail, _LIKE[func], dtype=first.dtype, device=first.device)
            return ConstantRows(self._tape.of(call).origin, first.space, row, first.guessed)
        if isinstance(first, ConstantRows) and func in _OF_ONE_ROW and len(call.values) == 1:
            form = local_form(call, first)
            if form is not False:
                apply = form if callable(form) else for_rows(call)
                row = apply(1, first.row[None])[0]
                return ConstantRows(self._tape.of(call).origin, first.space, row, first.guessed)
        if isinstance(first, ConstantRows) and func is Tensor.expand_as and isinstance(call.args[1], RowValue):
            other = call.args[1]
            if other.space is first.space and other.rank == first.rank:
                row = first.row.expand(other.tail)
                return ConstantRows(self._tape.of(call).origin, first.space, row)
        if (
            isinstance(first, ConstantRows)
            and func in (Tensor.max, torch.max, Tensor.min, torch.min)
            and (len(call.args) == 1 and not call.kwargs and len(first.space.all))
        ):
            return WholeValue(self._tape.of(call).origin, first.row.max(), False)
        return None

    def made(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Value | None:
        """What ``zeros(num_nodes, ...)`` gives, or None if the size is no number of rows."""
        fill = FACTORIES[func]
        if fill is None:
            sizes = args[0] if args else None
            fill = args[1] if len(args) > 1 else kwargs.get("fill_value")
        else:
            sizes = args[0] if args and isinstance(args[0], (tuple, list)) else args
        if not isinstance(sizes, (tuple, list)) or not sizes or not isinstance(fill, (int, float)):
            return None
        count = self._row_count(sizes, kwargs.get("dtype"))
        if count is None:
            return None
        tail, guessed = tuple(map(int, sizes[1:])), count is not sizes[0]
        state = self._tape.next((func, "rows", id(count.space), tail, fill, str(kwargs)))
        given = {name: kwargs[name] for name in ("dtype", "device") if name in kwargs}
        row = func(tail, **kwargs) if func is not torch.full else torch.full(tail, fill, **given)
        return ConstantRows(state.origin, count.space, row, guessed)

    def _row_count(self, sizes: Any, dtype: torch.dtype | None) -> RowCount | None:
        """The number of rows that sizes begin with, as far as one can tell."""
        if sizes and isinstance(sizes[0], RowCount):
            return sizes[0]
        # len(x) is a plain number. A vector of as many zeros is taken for one per row, as an index of graphs is; a
        # convolution, to which it may mean one per edge, does not rely on it. One float is more likely to be a number.
        if len(sizes) == 1 and isinstance(sizes[0], int) and (sizes[0] > 1 or dtype is torch.long):
            return self._counts.get(sizes[0])
        return None

    def _new(self, call: Call, like: Value) -> Value:
        """``x.new_zeros(...)``."""
        fill = _NEW[call.func]
        sizes: Any = call.args[1:] or (call.kwargs.get("size"),)
        if fill is None:
            fill = call.argument(2, ("fill_value",))
            sizes = sizes[:1]
        if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
            sizes = sizes[0]
        dtype, device = call.kwargs.get("dtype") or like.dtype, call.kwargs.get("device") or like.device
        count = self._row_count(sizes, dtype)
        if count is not None:
            tail = tuple(map(int, sizes[1:]))
            state = self._tape.next((call.func, "rows", id(count.space), tail, fill, dtype, str(device)))
            row = torch.full(tail, fill, dtype=dtype, device=device)
            return ConstantRows(state.origin, count.space, row, count is not sizes[0])
        shape = tuple(map(int, sizes))
        state = self._tape.next((call.func, shape, fill, dtype, str(device)))
        if state.fresh:
            state.result = torch.full(shape, fill, dtype=dtype, device=device)
        return WholeValue(state.origin, state.result, state.fresh)
