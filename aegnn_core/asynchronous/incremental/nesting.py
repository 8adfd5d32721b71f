# SPDX-License-Identifier: Apache-2.0
"""What stands in nested tuples, lists and dictionaries, as arguments and results do, and in answers of models."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data.data import BaseData

from aegnn_core.asynchronous.incremental.values import RowCount

__all__ = ["leaves", "replaced", "replaced_answer"]

_PLAIN = (type(None), int, float, complex, str, bytes, np.generic, torch.dtype, torch.device)


def leaves(value: Any) -> Iterator[Any]:
    """What stands in nested tuples, lists and dictionaries."""
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    else:
        yield value


def replaced(value: Any, replace: Callable[[Any], Any]) -> Any:
    """The same nesting with every leaf replaced."""
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        parts = [replaced(item, replace) for item in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {name: replaced(item, replace) for name, item in value.items()}
    return replace(value)


def replaced_answer(value: Any, replace: Callable[[Tensor], Tensor], other: Callable[[Any], Any]) -> Any:
    """What a model returned, with its tensors replaced: also those in dataclasses, ``Data`` and their like.

    Args:
        value: what was returned; it is not written to.
        replace: what comes for a tensor.
        other: what comes for anything else that might hold tensors.
    """

    def again(part: Any) -> Any:
        return replaced_answer(part, replace, other)

    if isinstance(value, Tensor):
        return replace(value)
    if isinstance(value, (tuple, list)):
        parts = [again(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    twin: Any
    if isinstance(value, dict):
        twin = copy.copy(value)
        for name, part in value.items():
            twin[name] = again(part)
        return twin
    if isinstance(value, BaseData):
        twin = copy.copy(value)
        for store in twin.stores:
            for name, part in list(store.items()):
                store[name] = again(part)
        return twin
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        twin = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(twin, field.name, again(getattr(value, field.name)))
        return twin
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) is RowCount:
        return int(value)
    return value if isinstance(value, _PLAIN) else other(value)
