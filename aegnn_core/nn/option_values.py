# SPDX-License-Identifier: Apache-2.0
"""Whether the options of a network are of the kinds that its signature says: they come from files and command lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

__all__ = ["described", "fits"]

_ONE = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}
_SEVERAL = {int: "whole numbers", float: "numbers", str: "texts", NoneType: "nulls"}


def fits(value: Any, kind: Any) -> bool:
    """Whether a value of YAML or JSON, in which tuples are lists, is of a kind: a type as it stands in a signature.

    Whole numbers are numbers, true and false are none, and neither is what no floating point number can be.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin in (tuple, Sequence):
        if not isinstance(value, (list, tuple)):
            return False
        kinds = parts if origin is tuple else parts * len(value)
        return len(value) == len(kinds) and all(map(fits, value, kinds))
    if kind in (int, float):
        number = Integral if kind is int else Real
        return isinstance(value, number) and not isinstance(value, bool) and _is_finite(value)
    return isinstance(value, kind)


def _is_finite(number: Any) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number beyond those of floating point
        return False


def described(kind: Any) -> str:
    """What is expected of a value of a kind, for messages."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(map(described, parts))
    if origin is tuple:
        return f"a list of {len(parts)} {_several(parts[0])}"
    if origin is Sequence:
        return f"a list of {_several(parts[0])}"
    return _ONE[kind]


def _several(kind: Any) -> str:
    return " or ".join(_SEVERAL[part] for part in get_args(kind) or (kind,))
