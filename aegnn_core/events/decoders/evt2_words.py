# SPDX-License-Identifier: Apache-2.0
"""What EVT2, EVT2.1 and EVT4 share: words with the upper 28 of 34 bits of the time, with pixels and with triggers."""

from __future__ import annotations

import numpy as np

from aegnn_core.machine_code import kernel

__all__ = [
    "CLOCK_DTYPE",
    "HIGH_MASK",
    "IN_DOUBT",
    "KNOWN",
    "UNKNOWN",
    "count_bits",
    "emit_run",
    "emit_trigger",
    "follow_clock",
    "forget_time",
    "new_clock",
    "time_of",
]

#: TIME_HIGH steps of 64 µs, wraps included, and what is known of them.
CLOCK_DTYPE = np.dtype([("high", np.int64), ("known", np.int64)])

# What has been seen of the clock: nothing, a TIME_HIGH, one that cannot be right after another.
UNKNOWN = 0
KNOWN = 1
IN_DOUBT = 2

#: A word, or bits of one.
Word = int | np.int64

_BITS = 28
HIGH_MASK = (1 << _BITS) - 1

#: A TIME_HIGH that steps back by up to this much is jitter.
TIME_HIGH_JITTER = 10


def new_clock() -> np.ndarray:
    """A clock that has not been told a time yet, ``[1]`` of :data:`CLOCK_DTYPE`."""
    return np.zeros(1, CLOCK_DTYPE)


@kernel
def follow_clock(clock: np.ndarray, stated: Word) -> int:
    """Take a TIME_HIGH; the time is in doubt after one that steps back by more than jitter, until the next one.

    Which of the two was wrong is open then, so that the next one counts as it is. Returns the number of wrong words.
    """
    half = 1 << (_BITS - 1)
    high = clock[0].high
    step = (stated - high + half) % (1 << _BITS) - half
    if clock[0].known == UNKNOWN:
        clock[0].high, clock[0].known = stated, KNOWN
    elif clock[0].known == IN_DOUBT or step >= -TIME_HIGH_JITTER:
        clock[0].high, clock[0].known = high + step, KNOWN
    else:
        clock[0].known = IN_DOUBT
        return 1
    return 0


def forget_time(clock: np.ndarray) -> None:
    """The next TIME_HIGH counts as it is, and there is no time until then."""
    if clock[0]["known"] != UNKNOWN:
        clock[0]["known"] = IN_DOUBT


@kernel
def time_of(clock: np.ndarray, word: Word) -> int:
    """Time [µs] of a word of pixels or of a trigger, which has the low six bits."""
    return int((clock[0].high << 6) | ((word >> 22) & 0x3F))


@kernel
def emit_run(
    clock: np.ndarray, word: Word, bits: Word, width: int, height: int, events: np.ndarray, n: int
) -> tuple[int, int]:
    """Write an event at x + i of a word of pixels for every bit i that is set, from ``events[n]`` on.

    Returns:
        Number of events in ``events``, and number of those left out because they are not on the sensor.
    """
    t = time_of(clock, word)
    x, y, p = (word >> 11) & 0x7FF, word & 0x7FF, (word >> 28) & 1  # the codes of OFF are even, those of ON odd
    outside = 0
    while bits:
        if bits & 1:
            if x < width and y < height:
                events[n].t = t
                events[n].x = x
                events[n].y = y
                events[n].p = p
                n += 1
            else:
                outside += 1
        bits >>= 1
        x += 1
    return n, outside


@kernel
def emit_trigger(clock: np.ndarray, word: Word, triggers: np.ndarray, n: int) -> int:
    """Write the edge of a trigger's word to ``triggers[n]`` where the time is known; returns the number of edges."""
    if clock[0].known != KNOWN:
        return n
    triggers[n].t = time_of(clock, word)
    triggers[n].channel = (word >> 8) & 0x1F
    triggers[n].p = word & 1
    return n + 1


@kernel
def count_bits(bits: Word) -> int:
    """Number of bits that are set."""
    count = 0
    while bits:
        bits &= bits - 1
        count += 1
    return count
