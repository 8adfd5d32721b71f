"""Prophesee ``.dat`` (N-Cars, Gen1): a text header, two bytes on the events, then pairs of 32-bit words."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream, make_events
from aegnn_core.events.decoders import DecoderCounts
from aegnn_core.events.files.header import read_header, sensor_size
from aegnn_core.events.files.recording import Size, camera_stream, drop_outside, first_known

__all__ = ["read_dat"]

#: Event types of change detection: 2D events, and the same as newer software names them.
_CD_TYPES = (0, 12)
_EVENT_BYTES = 8


def read_dat(path: Path, size: Size) -> EventStream:
    """Read a ``.dat`` file; N-Cars' headers state no sensor size, so it is found from the events there.

    Raises:
        EventFormatError: not a ``.dat`` file, of other events than change detection, or without events.
    """
    with path.open("rb") as file:
        header = read_header(file, path)
        layout = file.read(2)
        payload = file.read()
    if len(layout) < 2:
        raise EventFormatError(f"{path}: ends after its header, expected two bytes with event type and event size")
    event_type, event_bytes = layout
    if event_type not in _CD_TYPES or event_bytes != _EVENT_BYTES:
        raise EventFormatError(
            f"{path}: event type {event_type} of {event_bytes} bytes, expected type {_CD_TYPES[0]} or {_CD_TYPES[1]}"
            f" of {_EVENT_BYTES} bytes"
        )
    count, trailing = divmod(len(payload), _EVENT_BYTES)
    words = np.frombuffer(payload, "<u4", 2 * count).reshape(-1, 2)
    pixel = words[:, 1]
    events = make_events(words[:, 0], pixel & 0x3FFF, (pixel >> 14) & 0x3FFF, (pixel >> 28) & 1)
    size = first_known(size, sensor_size(header, path))
    counts = DecoderCounts(trailing_bytes=trailing)
    return camera_stream(path, drop_outside(events, size, counts), counts, size)
