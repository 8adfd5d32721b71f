# SPDX-License-Identifier: Apache-2.0
"""AER-40 ``.bin`` (N-MNIST, N-Caltech101): five bytes per event and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream, make_events
from aegnn_core.events.decoders import DecoderCounts
from aegnn_core.events.files.stream_checks import ReadOptions, camera_stream, drop_outside

__all__ = ["read_aer40"]

_EVENT_BYTES = 5

#: The row of no event: it says that the camera's counter of 13 bits [µs] has started again.
_OVERFLOW_ROW = 240
_OVERFLOW_US = 1 << 13


def read_aer40(path: Path, options: ReadOptions) -> EventStream:
    """Read an AER-40 file: x, y, then polarity in the top bit of 24 and the time [µs] in the rest, big-endian.

    Marks in the row 240 (ATIS) add 8,192 µs to all that follows. Nothing in the file says that it is one, nor the
    sensor's size: that is found from the events.

    Raises:
        EventFormatError: no events, nothing but zeros, or not in time order, which is what other files look like.
    """
    count, trailing = divmod(path.stat().st_size, _EVENT_BYTES)
    options.check_count(path, count)
    columns = np.fromfile(path, np.uint8, count * _EVENT_BYTES).reshape(-1, _EVENT_BYTES).T
    if count and not columns.any():
        raise EventFormatError(f"{path}: holds {count * _EVENT_BYTES} zeros, expected events of five bytes")
    upper, middle, lower = columns[2:].astype(np.int64)
    overflow = columns[1] == _OVERFLOW_ROW
    t = ((upper & 0x7F) << 16 | middle << 8 | lower) + np.cumsum(overflow) * _OVERFLOW_US
    events = make_events(t, columns[0], columns[1], columns[2] >> 7)[~overflow]
    counts = DecoderCounts(trailing_bytes=trailing)
    return camera_stream(path, drop_outside(events, options.size, counts), counts, options.size)
