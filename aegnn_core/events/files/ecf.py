# SPDX-License-Identifier: Apache-2.0
"""ECF, the codec of Metavision's HDF5 files (HDF5 filter 0x8ECF): one chunk of events, column by column.

A chunk begins with a 32-bit word: the number of events above two bits that say how the columns are packed. All numbers
are little-endian. Then follow

- the first time, 64 bits, and per group of events of one time a byte: the step in time in the upper half and the number
  of events in the lower. A count of 15 means that 16 bits with the count follow; a step of 15 means that the lower half
  is four more bits, lowest first, of a longer step before the next group;
- packed together (bit 1): four events in three 32-bit words, y (11 bits), x (11 bits) and p (1 bit) each in 24 bits; or
- y: 16 bits per row, y above a count of 5 bits, 31 meaning that 16 bits with the count follow; then
- with bit 0: four events in three 16-bit words, x (11 bits) and p (1 bit) each in 12 bits; or
- x: 16 bits, x above five bits that say whether x + 1 to x + 5 have an event too; then p: a byte, p above a count of 7
  bits, 127 meaning that 16 bits with the count follow.

Written after the published description and behaviour of Prophesee's codec; no code of it is used.
"""

from __future__ import annotations

import numpy as np

from aegnn_core.events.array import EVENT_DTYPE, EventFormatError
from aegnn_core.machine_code import kernel

__all__ = ["ECF_FILTER", "decode_ecf"]

#: HDF5's number of the filter.
ECF_FILTER = 0x8ECF

#: The codec's own bound of a chunk.
_MOST_EVENTS = 65_535
_HEADER_BYTES = 12


@kernel
def _number(data, at, size):
    """Little-endian number of ``size`` bytes."""
    value = np.int64(0)
    for k in range(size):
        value |= np.int64(data[at + k]) << (8 * k)
    return value


@kernel
def _fill_runs(data, at, column, size, count_bits):
    """Fill a column of runs: a value above a count; returns where the runs end, -1 when the data do not suffice."""
    n = len(column)
    longest = (1 << count_bits) - 1
    i = 0
    while i < n:
        if at + size > len(data):
            return -1
        word = _number(data, at, size)
        at += size
        count, at = _run_length(data, at, word & longest, longest)
        if count == 0 or i + count > n:
            return -1
        column[i : i + count] = word >> count_bits
        i += count
    return at


@kernel
def _run_length(data, at, count, longest):
    """The length of a run, which stands in two bytes of its own where ``count`` is the longest, and what is behind it.

    The length is 0 when the data do not suffice.
    """
    if count != longest:
        return count, at
    if at + 2 > len(data):
        return 0, at
    return _number(data, at, 2), at + 2


@kernel
def _fill_times(data, at, t):
    """Fill the times; returns where they end, -1 when the data do not suffice."""
    n = len(t)
    now = _number(data, at, 8)
    at += 8
    i = 0
    while i < n:
        if at >= len(data):
            return -1
        step, count = int(data[at]) >> 4, int(data[at]) & 15
        at += 1
        if step == 15:
            long_step, shift = count, 4
            while at < len(data) and data[at] >> 4 == 15:
                if shift > 56:
                    return -1
                long_step |= (int(data[at]) & 15) << shift
                shift += 4
                at += 1
            now += long_step
            continue
        now += step
        count, at = _run_length(data, at, count, 15)
        if count == 0 or i + count > n:
            return -1
        t[i : i + count] = now
        i += count
    return at


@kernel
def _fill_packed(data, at, values, word_bytes):
    """Fill a column of four values in three words of 2 or 4 bytes, first value in the upper bits of the first word."""
    n = len(values)
    word_bits, value_bits = 8 * word_bytes, 6 * word_bytes
    for i in range(0, n, 4):
        if at + 3 * word_bytes > len(data):
            return -1
        first = _number(data, at, word_bytes)
        second = _number(data, at + word_bytes, word_bytes)
        third = _number(data, at + 2 * word_bytes, word_bytes)
        at += 3 * word_bytes
        quarter = word_bits // 4
        values[i] = first >> quarter
        if i + 1 < n:
            values[i + 1] = (first & ((1 << quarter) - 1)) | (second >> (2 * quarter)) << quarter
        if i + 2 < n:
            values[i + 2] = (second & ((1 << (2 * quarter)) - 1)) | (third >> (3 * quarter)) << (2 * quarter)
        if i + 3 < n:
            values[i + 3] = third & ((1 << value_bits) - 1)
    return at


@kernel
def _fill_neighbours(data, at, x):
    """Fill the columns of pixels that say which of the next five has an event too."""
    n = len(x)
    i = 0
    while i < n:
        if at + 2 > len(data):
            return -1
        word = _number(data, at, 2)
        at += 2
        x[i] = word >> 5
        i += 1
        for k in range(5):
            if word >> (4 - k) & 1 and i < n:
                x[i] = (word >> 5) + k + 1
                i += 1
    return at


@kernel
def _decode(data, together, x_with_p, t, x, y, p):
    at = _fill_times(data, 4, t)
    if at < 0:
        return False
    if together:
        at = _fill_packed(data, at, x, 4)
        for i in range(len(x)):
            y[i], p[i], x[i] = x[i] >> 12 & 0x7FF, x[i] & 1, x[i] >> 1 & 0x7FF
        return at >= 0
    at = _fill_runs(data, at, y, 2, 5)
    if at < 0:
        return False
    if x_with_p:
        at = _fill_packed(data, at, x, 2)
        for i in range(len(x)):
            p[i], x[i] = x[i] & 1, x[i] >> 1
        return at >= 0
    at = _fill_neighbours(data, at, x)
    return at >= 0 and _fill_runs(data, at, p, 1, 7) >= 0


def decode_ecf(chunk: bytes) -> np.ndarray:
    """The events of one chunk, as :data:`aegnn_core.events.array.EVENT_DTYPE`.

    Raises:
        EventFormatError: the chunk ends too early, or states more events than a chunk can have.
    """
    data = np.frombuffer(chunk, np.uint8)
    if len(data) < _HEADER_BYTES:
        raise EventFormatError(f"an ECF chunk has {len(data)} bytes, expected at least {_HEADER_BYTES}")
    header = int.from_bytes(chunk[:4], "little")
    count = header >> 2
    if count > _MOST_EVENTS:
        raise EventFormatError(f"an ECF chunk states {count} events, expected at most {_MOST_EVENTS}")
    t, x, y, p = (np.empty(count, np.int64) for _ in range(4))
    if not _decode(data, bool(header & 2), bool(header & 1), t, x, y, p):
        raise EventFormatError(f"an ECF chunk of {len(data)} bytes does not hold its {count} events")
    events = np.empty(count, EVENT_DTYPE)
    events["t"], events["x"], events["y"], events["p"] = t, x, y, p
    return events
