# SPDX-License-Identifier: Apache-2.0
"""Calls of torch functions during an update: what is in their arguments, and the same call for some rows only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous.incremental.local_operations import Call
from aegnn_core.asynchronous.incremental.nesting import replaced
from aegnn_core.asynchronous.incremental.tracked import Tracked
from aegnn_core.asynchronous.incremental.values import RowCount, Value
from aegnn_core.asynchronous.torch_internals import count_of_writes, undispatched

__all__ = ["CallReader", "for_rows"]

#: Arguments that are their own signature.
_PLAIN = frozenset({int, float, bool, str, type(None), torch.dtype, torch.device, type(Ellipsis)})


class CallReader:
    """Reads calls: values for tracked tensors, and a signature by which the next update knows the operation again.

    Args:
        constants: names of the tensors that are the same in every update, by id.
    """

    def __init__(self, constants: dict[int, Any]) -> None:
        self._constants = constants
        self._made: dict[int, tuple[Tensor, Any, int]] = {}

    def make_constant(self, tensor: Tensor, name: Any) -> None:
        """A tensor that the forward has made is the same in every update, until it is written to."""
        if id(tensor) not in self._constants and not tensor.is_inference():
            # Held as long as its id has a meaning.
            self._made[id(tensor)] = tensor, name, count_of_writes(tensor)

    def give_away(self, tensor: Tensor) -> bool:
        """Somebody may write into this tensor and its views without being seen: they are constants no more.

        Returns:
            False for a tensor that the model holds, which is looked at when the forward has ended.
        """
        if id(tensor) in self._constants:
            return False
        if not tensor.is_inference():
            torch.autograd.graph.increment_version(tensor)
        return True

    def constant(self, tensor: Tensor) -> Any:
        """The name of a tensor that is the same in every update; None for any other."""
        name = self._constants.get(id(tensor))
        if name is not None or id(tensor) not in self._made:
            return name
        _, name, writes = self._made[id(tensor)]
        with undispatched():
            return name if count_of_writes(tensor) == writes else None

    def read(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """A call with values in place of tracked tensors, and what its signature is."""
        call = Call(func)
        call.args, key = self._read_all(args, call)
        call.key = (func, key)
        if kwargs:
            values, key = self._read_all(tuple(kwargs.values()), call)
            call.kwargs = dict(zip(kwargs, values, strict=True))
            call.key = (*call.key, tuple(kwargs), key)
        return call

    def _read_all(self, arguments: Any, call: Call) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        values, keys = [], []
        for value in arguments:
            kind = type(value)
            key: Any
            if kind is Tracked:
                value = value.value
                key = value.origin
                call.values.append(value)
            elif kind in _PLAIN:
                key = (kind, value)
            elif isinstance(value, Value):
                key = value.origin
                call.values.append(value)
            elif isinstance(value, Tensor):
                key = self.constant(value)
                if key is None:
                    call.constant = False
            elif kind is RowCount:
                key = (int, int(value))
            elif isinstance(value, (tuple, list)):
                parts, key = self._read_all(value, call)
                call.nested = True
                value = type(value)(*parts) if hasattr(value, "_fields") else kind(parts) if kind is list else parts
            elif kind is slice:
                key = (slice, *self._read_all((value.start, value.stop, value.step), call)[1])
            elif isinstance(value, dict):
                parts, keys_inside = self._read_all(tuple(value.values()), call)
                call.nested = True
                key = (tuple(value), keys_inside)
                value = dict(zip(value, parts, strict=True))
            elif kind is np.ndarray:
                key = (kind, value.shape, value.dtype)
                call.constant = False
            else:
                key = (kind, value)
            values.append(value)
            keys.append(key)
        return tuple(values), tuple(keys)


def for_rows(call: Call) -> Callable[..., Any]:
    """The call with the rows of its values put in their places."""
    if not call.nested and not any(isinstance(value, Value) for value in call.kwargs.values()):
        places = [n for n, arg in enumerate(call.args) if isinstance(arg, Value)]
        func, kwargs = call.func, call.kwargs
        if places == [0]:
            others = call.args[1:]
            return lambda n, row: func(row, *others, **kwargs)

        def flat(n: int, *rows: Tensor) -> Any:
            args = list(call.args)
            for place, value in zip(places, rows, strict=True):
                args[place] = value
            return func(*args, **kwargs)

        return flat

    def nested(n: int, *rows: Tensor) -> Any:
        following = iter(rows)
        replace = lambda leaf: next(following) if isinstance(leaf, Value) else leaf  # noqa: E731
        args = replaced(call.args, replace)
        return call.func(*args, **replaced(call.kwargs, replace))

    return nested
