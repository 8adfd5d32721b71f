# SPDX-License-Identifier: Apache-2.0
"""The sequence of operations of a forward, and what each of them keeps until the next update."""

from __future__ import annotations

from typing import Any

from aegnn_core.asynchronous.incremental.local_operations import SHAPES, Call, sizes_key
from aegnn_core.asynchronous.incremental.values import EdgeValue, OperationState, RowValue

__all__ = ["Tape"]


class Tape:
    """Operations in the order in which the forward calls them.

    The n-th operation of an update finds the state that the n-th of the last one left, if the two are the same. If
    not, the forward has taken another way: that state and all behind it are dropped.
    """

    def __init__(self) -> None:
        self.states: list[OperationState] = []
        self._next = 0

    def begin(self) -> None:
        """An update begins."""
        self._next = 0

    def end(self) -> None:
        """The update is complete; operations that it did not reach are out of date."""
        del self.states[self._next :]

    def clear(self) -> None:
        """Drop all states."""
        self.states.clear()

    def next(self, signature: Any) -> OperationState:
        """The state of the operation that comes now."""
        at = self._next
        self._next += 1
        if at < len(self.states) and self.states[at].signature == signature:
            state = self.states[at]
            state.fresh = False
            return state
        del self.states[at:]
        state = OperationState(signature, at)
        self.states.append(state)
        return state

    def of(self, call: Call) -> OperationState:
        """The state of the operation that comes now, a call of a torch function."""
        if call.func in SHAPES and isinstance(call.args[0], (RowValue, EdgeValue)):
            return self.next((call.func, call.args[0].origin, sizes_key(call)))
        return self.next(call.key)

    @property
    def nbytes(self) -> int:
        """Memory of the rows held."""
        return sum(state.nbytes for state in self.states)
