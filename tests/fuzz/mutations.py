# SPDX-License-Identifier: Apache-2.0
"""Damage to bytes and to plain values, as disks, networks and people do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["mutated", "mutated_value"]

#: Numbers at which programs fail, little-endian and of every width.
_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]
_TEXTS = [
    b"",
    b"-1",
    b"0",
    b"nan",
    b"1e400",
    b"9" * 30,
    b"\xff\xfe",
    b"\0",
    b"\n",
    b"{",
    b"&a *a",
    b"%",
    b"# ",
    b"[" * 5_000,
]
_VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2, 7, 65_535, 10**6, 2**31, 2**63, 10**30, -(2**63), 0.5, -1e-300, 1e308, float("nan"),
    float("inf"), "", "graph_res", "\0", "x" * 5_000, [], {}, [[]], [1, 2], {"": None}, {"radius": 1}, [1e9, 1e9],
]  # fmt: skip


def mutated(data: bytes, rng: np.random.Generator, others: Sequence[bytes] = ()) -> bytes:
    """One to eight damages to the bytes; now and then a piece of others among them."""
    result = bytearray(data)
    for _ in range(int(rng.integers(1, 9)) if rng.random() < 0.3 else 1):
        size = len(result)
        at = int(rng.integers(size + 1)) if rng.random() < 0.6 else int(rng.integers(min(size, 256) + 1))
        length = min(size - at, int(2 ** rng.uniform(0, 8)))
        kind = int(rng.integers(9))
        if kind == 0 and at < size:
            result[at] ^= 1 << int(rng.integers(8))
        elif kind == 1 and at < size:
            result[at] = int(rng.integers(256))
        elif kind == 2:
            del result[at : at + length]
        elif kind == 3:
            result[at:at] = rng.bytes(length)
        elif kind == 4:
            result[at:at] = result[at : at + length] * int(rng.integers(1, 20))
        elif kind == 5:
            width = int(2 ** rng.integers(4))
            number = _NUMBERS[rng.integers(len(_NUMBERS))] & (1 << 8 * width) - 1
            result[at : at + width] = number.to_bytes(width, "little" if rng.random() < 0.8 else "big")
        elif kind == 6:
            result[at : at + length] = _TEXTS[rng.integers(len(_TEXTS))]
        elif kind == 7 and others:
            other = others[rng.integers(len(others))]
            begin = int(rng.integers(len(other) + 1))
            result[at : at + length] = other[begin : begin + length]
        elif kind == 8:
            del result[at:]
    return bytes(result)


def mutated_value(value: Any, rng: np.random.Generator) -> Any:
    """A copy of nested lists and dictionaries in which something is another thing, is missing, or is there twice."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        changed = dict(value)
        name = list(changed)[rng.integers(len(changed))]
        kind = rng.random()
        if kind < 0.1:
            del changed[name]
        elif kind < 0.2:
            changed[["", "more", "expiry", "options"][rng.integers(4)]] = changed[name]
        else:
            changed[name] = mutated_value(changed[name], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = int(rng.integers(len(value)))
        kind = rng.random()
        if kind < 0.2:
            return value[:at] + value[at + 1 :]
        if kind < 0.4:
            return value * int(rng.integers(2, 200))
        return [*value[:at], mutated_value(value[at], rng), *value[at + 1 :]]
    if type(value) is int and rng.random() < 0.5:
        return int(value * 10.0 ** rng.integers(-2, 6)) + int(rng.integers(-2, 3))
    if type(value) is float and rng.random() < 0.5:
        return value * 10.0 ** float(rng.integers(-9, 9))
    return _VALUES[rng.integers(len(_VALUES))]
