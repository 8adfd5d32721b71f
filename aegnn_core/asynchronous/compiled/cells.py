# SPDX-License-Identifier: Apache-2.0
"""Maxima over the live nodes of every cell of a grid, as nodes come and go; compiled kernels on flat arrays.

The nodes of a cell are a queue: the oldest leaves first. It is kept as two stacks. New nodes go to the *back*, whose
maximum is a running one. The oldest leave from the *front*, where each node's features have been replaced by the
maximum over itself and all younger nodes of the front. When the front is empty, the back is turned over and becomes the
front. Every node is turned over once, so a maximum over the sliding window costs a constant number of operations per
event, and no memory besides the features.

``link`` chains the nodes of a stack by the difference of their numbers, 0 at its end: in the back from younger to
older, in the front from older to younger.
"""

from __future__ import annotations

from aegnn_core.machine_code import inlined
from aegnn_core.simd import broadcast, load, maximum, store

__all__ = ["enter_cell", "leave_cell", "read_cell"]


@inlined(error_model="numpy")
def _raise_to(values, at, other, other_at, channels):
    """``values[at …] = max(values[at …], other[other_at …])`` over a row of ``channels``."""
    zero = broadcast(values.dtype.type(0), 8)
    for c in range(0, channels, 8):
        store(values, at + c, maximum(load(values, at + c, zero), load(other, other_at + c, zero)))


@inlined(error_model="numpy")
def _copy_row(source, source_at, target, target_at, channels):
    zero = broadcast(source.dtype.type(0), 8)
    for c in range(0, channels, 8):
        store(target, target_at + c, load(source, source_at + c, zero))


@inlined(error_model="numpy")
def enter_cell(number, slot, cell, features, base, channels, link, back_newest, back_oldest, back_maximum):
    """Let node ``number``, its features at ``features[base + slot · channels]``, enter a cell."""
    row = base + slot * channels
    if back_newest[cell] < 0:
        back_oldest[cell] = number
        link[slot] = 0
        _copy_row(features, row, back_maximum, cell * channels, channels)
    else:
        _raise_to(back_maximum, cell * channels, features, row, channels)
        link[slot] = number - back_newest[cell]
    back_newest[cell] = number


@inlined(error_model="numpy")
def leave_cell(number, mask, cell, features, base, channels, link, front_oldest, back_newest):
    """Let node ``number``, the oldest of a cell, leave it."""
    if front_oldest[cell] < 0:
        at = back_newest[cell]
        younger = at
        while True:
            slot = at & mask
            _raise_to(features, base + slot * channels, features, base + (younger & mask) * channels, channels)
            to_older = link[slot]
            link[slot] = younger - at
            if to_older == 0:
                break
            younger = at
            at -= to_older
        back_newest[cell] = -1
    to_younger = link[number & mask]
    front_oldest[cell] = number + to_younger if to_younger > 0 else -1


@inlined(error_model="numpy")
def read_cell(
    first, mask, cell, features, base, channels, link, front_oldest, back_newest, back_oldest, back_maximum, out
):
    """Write the maximum over a cell's nodes ``first`` and younger to ``out [channels]``; False if there are none."""
    number = front_oldest[cell]
    while 0 <= number < first:
        to_younger = link[number & mask]
        number = number + to_younger if to_younger > 0 else -1
    youngest = back_newest[cell]
    if number >= 0:
        _copy_row(features, base + (number & mask) * channels, out, 0, channels)
        if youngest >= 0:
            _raise_to(out, 0, back_maximum, cell * channels, channels)
        return True
    if youngest < first:
        return False
    if back_oldest[cell] >= first:
        _copy_row(back_maximum, cell * channels, out, 0, channels)
        return True
    _copy_row(features, base + (youngest & mask) * channels, out, 0, channels)
    number = youngest - link[youngest & mask]
    while number >= first:
        _raise_to(out, 0, features, base + (number & mask) * channels, channels)
        # The end of the back, its oldest node, is not live here, or the whole back would be.
        number -= link[number & mask]
    return True
