# SPDX-License-Identifier: Apache-2.0
"""Arguments and results of functions: what stands in nested tuples, lists and dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

__all__ = ["leaves", "replaced"]


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
