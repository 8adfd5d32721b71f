# SPDX-License-Identifier: Apache-2.0
"""Prophesee ``.dat`` (N-Cars, Gen1, 1 Mpx): a text header, two bytes on the events, then pairs of 32-bit words."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream, make_events
from aegnn_core.events.decoders import DecoderCounts
from aegnn_core.events.files.header import read_header, sensor_size
from aegnn_core.events.files.stream_checks import (
    ReadOptions,
    Size,
    camera_stream,
    drop_outside,
    first_known,
    unwrapped,
)

__all__ = ["read_dat"]

#: Event types of change detection: 2D events, and the same as newer software names them.
_CD_TYPES = (0, 12)
_EVENT_BYTES = 8
_TIME_BITS = 32


class _Pixel(NamedTuple):
    """Where the second word has what: x begins at bit 0."""

    x_bits: int
    y_bits: int

    @property
    def p_bit(self) -> int:
        return self.x_bits + self.y_bits


#: ATIS's files, and everything since.
_VERSION_1 = _Pixel(9, 8)
_VERSION_2 = _Pixel(14, 14)


def read_dat(path: Path, options: ReadOptions) -> EventStream:
    """Read a ``.dat`` file; N-Cars' headers state no sensor size, so it is found from the events there.

    Raises:
        EventFormatError: not a ``.dat`` file, of other events than change detection, or without events.
    """
    with path.open("rb") as file:
        header = read_header(file, path)
        layout = file.read(2)
        start = file.tell()
    if len(layout) < 2:
        raise EventFormatError(f"{path}: ends after its header, expected two bytes with event type and event size")
    event_type, event_bytes = layout
    if event_type not in _CD_TYPES or event_bytes != _EVENT_BYTES:
        raise EventFormatError(
            f"{path}: event type {event_type} of {event_bytes} bytes, expected type {_CD_TYPES[0]} or {_CD_TYPES[1]}"
            f" of {_EVENT_BYTES} bytes"
        )
    count, trailing = divmod(path.stat().st_size - start, _EVENT_BYTES)
    options.check_count(path, count)
    words = np.fromfile(path, "<u4", 2 * count, offset=start).reshape(-1, 2)
    pixel = words[:, 1]
    stated = sensor_size(header, path)
    bits = _layout_of(header, pixel, stated)
    x, y = pixel & ((1 << bits.x_bits) - 1), (pixel >> bits.x_bits) & ((1 << bits.y_bits) - 1)
    events = make_events(unwrapped(words[:, 0], _TIME_BITS), x, y, (pixel >> bits.p_bit) & 1)
    size = first_known(options.size, stated)
    counts = DecoderCounts(trailing_bytes=trailing)
    return camera_stream(path, drop_outside(events, size, counts), counts, size)


def _layout_of(header: dict[str, str], pixel: np.ndarray, size: Size) -> _Pixel:
    """By the version in the header; without one, that of files that use no bit above version 1's is 1.

    Where the size is known, version 2 has to be impossible too: it would put events outside the sensor.
    """
    version = header.get("version", "").partition(".")[0]
    if version.isdecimal():
        return _VERSION_1 if int(version) < 2 else _VERSION_2
    old = len(pixel) > 0 and int(pixel.max()) >> (_VERSION_1.p_bit + 1) == 0
    if old and size[0] is not None:
        old = bool(((pixel & ((1 << _VERSION_2.x_bits) - 1)) >= size[0]).any())
    return _VERSION_1 if old else _VERSION_2
