"""AER-40 ``.bin`` (N-MNIST, N-Caltech101): five bytes per event and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aegnn_core.events.array import EventStream, make_events
from aegnn_core.events.decoders import DecoderCounts
from aegnn_core.events.files.recording import Size, camera_stream, drop_outside

__all__ = ["read_aer40"]

_EVENT_BYTES = 5


def read_aer40(path: Path, size: Size) -> EventStream:
    """Read an AER-40 file: x, y, then polarity in the top bit of 24 and the time [µs] in the rest, big-endian.

    Nothing in the file says that it is one, nor the sensor's size: that is found from the events.

    Raises:
        EventFormatError: no events, or not in time order, which is what other files look like.
    """
    payload = np.fromfile(path, np.uint8)
    count, trailing = divmod(len(payload), _EVENT_BYTES)
    columns = payload[: count * _EVENT_BYTES].reshape(-1, _EVENT_BYTES).T
    upper, middle, lower = columns[2:].astype(np.int64)
    t = (upper & 0x7F) << 16 | middle << 8 | lower
    events = make_events(t, columns[0], columns[1], columns[2] >> 7)
    counts = DecoderCounts(trailing_bytes=trailing)
    return camera_stream(path, drop_outside(events, size, counts), counts, size)
