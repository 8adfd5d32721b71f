# SPDX-License-Identifier: Apache-2.0
"""AEDAT4 (iniVation), through the library ``aedat``, which is given only what is whole."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream, make_events
from aegnn_core.events.files.stream_checks import EventChunks, ReadOptions, checked_stream, first_known

__all__ = ["read_aedat4"]

_FIRST_LINE = b"#!AER-DAT4.0\r\n"
#: In front of each packet: its stream, and its size [bytes].
_PACKET_HEADER = np.dtype([("stream", "<i4"), ("size", "<i4")])
#: The field of the header, a flatbuffer, that says where a table of the packets begins, behind the last of them.
_TABLE_FIELD = 1


def read_aedat4(path: Path, options: ReadOptions) -> EventStream:
    """Read an event stream of an AEDAT4 file; the file states the sensor's size.

    Of a file that is cut off, the whole packets are read, with a warning.

    Raises:
        EventFormatError: not AEDAT4, damaged, with several event streams and none chosen, or without events.
    """
    import aedat

    whole, cut = _whole_packets(path, *_check_header(path))
    flaws = [f"cut off, {cut} bytes of the last packet are left out"] if cut else []
    chunks = EventChunks(path, options)
    size = options.size
    try:
        decoder = aedat.Decoder(str(path))
        sensors = {key: stream for key, stream in sorted(decoder.id_to_stream().items()) if stream["type"] == "events"}
        chosen = _chosen_stream(path, sensors, options.stream)
        size = first_known(size, (sensors[chosen]["width"], sensors[chosen]["height"]))
        for packet in islice(decoder, whole):
            if packet["stream_id"] == chosen and "events" in packet:
                columns = packet["events"]
                chunks.add(make_events(columns["t"], columns["x"], columns["y"], columns["on"]))
    except EventFormatError:
        raise
    except BaseException as error:
        # On some corrupt files the library panics, with an exception that is no Exception and has no public name.
        if not isinstance(error, RuntimeError) and type(error).__name__ != "PanicException":
            raise
        if not (cut and len(chunks)):
            raise EventFormatError(f"{path}: {str(error)[:300]}, expected a complete AEDAT4 recording") from error
    return checked_stream(path, chunks.together(), size, flaws)


def _chosen_stream(path: Path, sensors: dict[int, dict[str, Any]], asked: str | None) -> int:
    """The number of the stream asked for, or of the only one."""
    if not sensors:
        raise EventFormatError(f"{path}: holds no event stream, expected one")
    chosen = [key for key in sensors if asked is None or str(key) == asked]
    if len(chosen) == 1:
        return chosen[0]
    found = ", ".join(f"{key} ({stream['width']} x {stream['height']} px)" for key, stream in sensors.items())
    raise EventFormatError(f"{path}: holds the event streams {found}, expected a choice of one with stream=")


def _check_header(path: Path) -> tuple[int, int]:
    """Refuse what does not begin with AEDAT4's first line and well-formed XML: the library could abort on it.

    Returns:
        Where the packets begin and end.
    """
    with path.open("rb") as file:
        first_line = file.read(len(_FIRST_LINE))
        if first_line != _FIRST_LINE:
            raise EventFormatError(f"{path}: begins with {first_line!r}, expected {_FIRST_LINE!r}")
        length = int.from_bytes(file.read(4), "little")
        if length > path.stat().st_size:
            raise EventFormatError(
                f"{path}: states a header of {length} bytes, out of range in a file of {path.stat().st_size},"
                " expected a complete AEDAT4 recording"
            )
        header = file.read(length)
        start = file.tell()
    try:
        ElementTree.fromstring(header[header.find(b"<dv") :].rstrip(b"\0"))
    except ElementTree.ParseError as error:
        raise EventFormatError(f"{path}: {error} in the header, expected a description in XML") from error
    size, table = path.stat().st_size, _table_position(header)
    return start, table if start <= table <= size else size


def _table_position(header: bytes) -> int:
    """Where the table of the packets begins; -1 where the header does not say so."""

    def number(at: int, size: int, signed: bool = False) -> int:
        if not 0 <= at <= len(header) - size:
            raise ValueError("the header points outside itself")
        return int.from_bytes(header[at : at + size], "little", signed=signed)

    try:
        root = number(0, 4)
        fields = root - number(root, 4, signed=True)
        entry = 4 + 2 * _TABLE_FIELD
        place = number(fields + entry, 2) if number(fields, 2) > entry else 0
        return number(root + place, 8, signed=True) if place else -1
    except ValueError:
        return -1


def _whole_packets(path: Path, start: int, stop: int) -> tuple[int, int]:
    """Number of packets from ``start`` to ``stop`` that have all their bytes, and bytes behind the last of them.

    The library allocates what a packet states as its size before it reads; a damaged one would end the process.
    """
    at, count = start, 0
    with path.open("rb") as file:
        while at < stop:
            file.seek(at)
            header = np.frombuffer(file.read(_PACKET_HEADER.itemsize), np.uint8)
            if len(header) < _PACKET_HEADER.itemsize:
                break
            (packet,) = header.view(_PACKET_HEADER)
            behind = at + _PACKET_HEADER.itemsize + int(packet["size"])
            if packet["size"] < 0 or behind > stop:
                break
            at, count = behind, count + 1
    return count, stop - at
