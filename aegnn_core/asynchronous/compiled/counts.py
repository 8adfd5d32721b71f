# SPDX-License-Identifier: Apache-2.0
"""Events counted per cell, polarity and part of the past, as they come, grow older and leave; compiled kernels.

Events are numbered in the order in which they come, event n in slot ``n % capacity`` of the rings. Every part of the
past is a run of numbers: part 0 holds the events from ``begin[0]`` on, part k those from ``begin[k]`` to
``begin[k - 1] - 1``. So an event that grows older moves the beginning of a part by one.

Counts lie cell by cell: those of part 0, OFF and ON, of part 1, and so on. An event's *place* is that of its count in
part 0. What a head sees are their logarithms, which are looked up when it is asked, where counts have changed.
"""

from __future__ import annotations

import math

import numpy as np

from aegnn_core.atomics import exchange, store_release
from aegnn_core.machine_code import inlined, kernel
from aegnn_core.simd import prefetch

__all__ = ["AT_WORK", "append_places", "count_until", "hide_expired", "log_table", "logarithm", "logarithms"]

#: In place of how many events are counted, while they are.
AT_WORK = -1

#: Logarithms of counts below this are looked up.
_TABLE = 1 << 12
#: So many events ahead, what will be needed is brought into the cache.
_AHEAD = 32


def log_table(dtype: type) -> np.ndarray:
    """``log(1 + n)`` for the smaller counts n."""
    return np.log1p(np.arange(_TABLE, dtype=np.float64)).astype(dtype)


@kernel(error_model="numpy")
def logarithm(count, table):
    """``log(1 + count)``, looked up in a :func:`log_table` where that reaches so far."""
    return table[count] if count < len(table) else math.log1p(count)


@kernel(error_model="numpy")
def logarithms(counts, table, image):
    """Write ``log(1 + n)`` of all counts ``[N]`` into ``image [N]``."""
    for place in range(len(counts)):
        image[place] = logarithm(counts[place], table)


@kernel(error_model="numpy")
def append_places(events, size, column_of, row_of, columns, channels, ring_t, ring_place):
    """Write down when and where events happened, on a grid of so many ``columns`` and counts per cell."""
    mask = len(ring_t) - 1
    t, x, y, p = events["t"], events["x"], events["y"], events["p"]
    for k in range(len(events)):
        slot = (size + k) & mask
        ring_t[slot] = t[k]
        cell = np.int64(row_of[y[k]]) * columns + column_of[x[k]]
        ring_place[slot] = cell * channels + (p[k] > 0)


@inlined(error_model="numpy")
def _bring(number, part, ring_place, counts):
    """Begin to bring the counts of an event's cell into the cache; the number may be of one that has not come yet."""
    prefetch(counts, np.int64(ring_place[(number + _AHEAD) & (len(ring_place) - 1)]) + 2 * part)


@kernel(error_model="numpy")
def count_until(size, first, counted, begin, least_ages, ring_t, ring_place, counts):
    """Bring the counts up to date.

    Args:
        size: number of events that have come; the youngest of them is what ages are counted from.
        first: number of the oldest that is live.
        counted: ``[1]`` how many events had come when this was done last; is brought up to date, last of all. Until
            then it is :data:`AT_WORK`: a process that is forked meanwhile has counts that are neither old nor new.
        begin: ``[parts]`` where each part of the past began then; is brought up to date.
        least_ages: ``[parts - 1]`` the age [µs] at which each part but the first begins.
        ring_t, ring_place: times [µs] and places of the events.
        counts: ``[cells · parts · 2]`` the numbers of events.

    Returns:
        The number of additions.
    """
    mask = len(ring_t) - 1
    parts = len(begin)
    work = 0
    done = exchange(counted, 0, AT_WORK)
    part = parts - 1
    for number in range(begin[part], min(first, done)):
        while number >= (begin[part - 1] if part > 0 else done):
            part -= 1
        _bring(number, part, ring_place, counts)
        counts[2 * part + ring_place[number & mask]] -= 1
        work += 1
    for part in range(parts):
        begin[part] = max(begin[part], first)
    for number in range(max(done, first), size):
        _bring(number, 0, ring_place, counts)
        counts[ring_place[number & mask]] += 1
        work += 1
    youngest = ring_t[(size - 1) & mask]
    for part in range(1, parts):
        number = begin[part - 1]
        # Where this part ends at its young side, which is where the one before it begins.
        while number < size and youngest - ring_t[number & mask] >= least_ages[part - 1]:
            _bring(number, part, ring_place, counts)
            place = np.int64(ring_place[number & mask])
            counts[2 * (part - 1) + place] -= 1
            counts[2 * part + place] += 1
            work += 2
            number += 1
        begin[part - 1] = number
    store_release(counted, 0, size)
    return work


@kernel(error_model="numpy")
def hide_expired(first, size, begin, ring_place, counts):
    """Take the events before ``first`` out of a copy of the counts.

    They will have expired at a later time at which somebody asks for an answer; at the next one they may be live again.
    """
    mask = len(ring_place) - 1
    parts = len(begin)
    part = parts - 1
    for number in range(begin[part], min(first, size)):
        while number >= (begin[part - 1] if part > 0 else size):
            part -= 1
        counts[2 * part + ring_place[number & mask]] -= 1
