# SPDX-License-Identifier: Apache-2.0
"""AEDAT 1.0, 2.0 (jAER) and 3.1 (cAER): ``.aedat``, told apart by their first line.

After iniVation's descriptions of the formats, and jAER's addresses of the cameras' pixels.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream, make_events
from aegnn_core.events.decoders import DecoderCounts
from aegnn_core.events.files.header import is_text_line
from aegnn_core.events.files.stream_checks import (
    EventChunks,
    ReadOptions,
    camera_stream,
    drop_outside,
    first_known,
    unwrapped,
)

__all__ = ["read_aedat"]

_FIRST_LINE = re.compile(rb"#!AER-DAT(\d)\.(\d)\s*$")
_LONGEST_LINE = 1 << 16
_HEADER_END = b"#!END-HEADER"


class _Chip(NamedTuple):
    """A sensor and, of jAER's address words, where they have what.

    Attributes:
        width, height: sensor size [px].
        x_shift, x_bits, y_shift, y_bits, p_bit: of the address; x counts from the right.
        on: value of the polarity bit for ON.
        other: bits of addresses that are not pixels': external events, frames, inertial measurements.
    """

    width: int
    height: int
    x_shift: int
    x_bits: int
    y_shift: int
    y_bits: int
    p_bit: int
    on: int
    other: int


def _davis(width: int, height: int) -> _Chip:
    return _Chip(width, height, 12, 10, 22, 9, 11, 1, 0x8000_0400)


#: By part of their name, in lower case; the first that fits counts.
_CHIPS = (
    ("dvs128", _Chip(128, 128, 1, 7, 8, 7, 0, 0, 0x8000)),
    ("davis240", _davis(240, 180)),
    ("sbret10", _davis(240, 180)),
    ("davis346", _davis(346, 260)),
    ("davis640", _davis(640, 480)),
    ("davis128", _davis(128, 128)),
    ("davis208", _davis(208, 192)),
)
#: Files that name no chip are those of jAER's first camera.
_FIRST_CHIP = "dvs128"
_FIRST_CHIP_BITS = 16

#: A packet of AEDAT 3.1: type, source, event size, place of the time in an event, overflows of the time, capacity,
#: number of events, number of valid ones.
_PACKET = np.dtype(
    [
        ("type", "<u2"),
        ("source", "<i2"),
        ("event_bytes", "<i4"),
        ("time_place", "<i4"),
        ("overflow", "<i4"),
        ("capacity", "<i4"),
        ("number", "<i4"),
        ("valid", "<i4"),
    ]
)
_POLARITY = 1
_POLARITY_EVENT = np.dtype([("data", "<u4"), ("t", "<i4")])
_OVERFLOW_BITS = 31
#: Of a packet's type, where its bytes are packed; their number then stands for its capacity.
_PACKED = 0x8000
#: How cAER's headers call what is in the packets.
_FORMATS = ("raw", "serializedts", "pngframes", "compressed")
#: Words in which the next run is looked for at once.
_LOOKED_AHEAD = 4096


def read_aedat(path: Path, options: ReadOptions) -> EventStream:
    """Read an AEDAT file older than version 4.

    The sensor is that which the header names; files that name none are of the DVS128.

    Raises:
        EventFormatError: not AEDAT, a version or packing that is not known, several cameras and none chosen, or no
            events.
    """
    with path.open("rb") as file:
        first = file.readline(_LONGEST_LINE)
        version = _FIRST_LINE.match(first)
        if version is None:
            raise EventFormatError(f"{path}: begins with {first[:24]!r}, expected '#!AER-DAT2.0' or '#!AER-DAT3.1'")
        major, minor = int(version[1]), int(version[2])
        if major in (1, 2):
            if options.stream is not None:
                raise EventFormatError(
                    f"{path}: is AEDAT {major}.{minor}, which has one stream, found stream={options.stream!r}"
                )
            return _turned(_read_jaer(path, file, major, options), options)
        if (major, minor) == (3, 1):
            return _turned(_read_caer(path, file, options), options)
    hint = "; rename the file to .aedat4" if major == 4 else ""
    raise EventFormatError(f"{path}: is AEDAT {major}.{minor}, expected 1.0, 2.0 or 3.1{hint}")


def _turned(stream: EventStream, options: ReadOptions) -> EventStream:
    """The stream with its rows counted from the upper edge."""
    if options.rows == "up":
        stream.events["y"] = stream.height - 1 - stream.events["y"]
    return stream


def _header_lines(file: BinaryIO) -> list[str]:
    """The lines that begin with '#', up to the end mark or the first that is none."""
    lines: list[str] = []
    while True:
        start = file.tell()
        line = file.readline(_LONGEST_LINE)
        if not line.startswith(b"#") or not line.endswith(b"\n") or not is_text_line(line):
            file.seek(start)
            return lines
        lines.append(line.decode("utf8", "replace").strip())
        if line.startswith(_HEADER_END):
            return lines


def _chip(names: str) -> _Chip | None:
    return next((chip for part, chip in _CHIPS if part in names.lower()), None)


def _read_jaer(path: Path, file: BinaryIO, version: int, options: ReadOptions) -> EventStream:
    """Pairs of a big-endian address, of 16 bits in version 1 and 32 since, and a time [µs] of 32 bits."""
    lines = _header_lines(file)
    named = " ".join(line for line in lines if re.match(r"#\s*(AEChip|HardwareInterface)", line))
    chip = _chip(named) or (_chip(_FIRST_CHIP) if "AEChip" not in named else None)
    if chip is None:
        known = ", ".join(part for part, _ in _CHIPS)
        raise EventFormatError(f"{path}: is of the chip {named[:100]!r}, expected one of {known}")
    word = np.dtype([("address", ">u2" if version == 1 else ">u4"), ("t", ">u4")])
    start = file.tell()
    count, trailing = divmod(path.stat().st_size - start, word.itemsize)
    options.check_count(path, count)
    words = np.fromfile(path, word, count, offset=start)
    address, t = words["address"].astype(np.int64), unwrapped(words["t"], 32)
    if not named and np.count_nonzero(address >> _FIRST_CHIP_BITS) > len(address) // 2:
        known = ", ".join(part for part, _ in _CHIPS)
        raise EventFormatError(
            f"{path}: names no chip, and its addresses have more than the {_FIRST_CHIP_BITS} bits of a {_FIRST_CHIP},"
            f" expected a line '# AEChip: ...' in the header that names one of {known}"
        )
    is_event = address & chip.other == 0
    address, t = address[is_event], t[is_event]
    x = chip.width - 1 - ((address >> chip.x_shift) & ((1 << chip.x_bits) - 1))
    y = (address >> chip.y_shift) & ((1 << chip.y_bits) - 1)
    inside = x >= 0
    p = ((address >> chip.p_bit) & 1) == chip.on
    counts = DecoderCounts(trailing_bytes=trailing, outside_events=int(np.count_nonzero(~inside)))
    events = make_events(t[inside], x[inside], y[inside], p[inside])
    size = first_known(options.size, (chip.width, chip.height))
    return camera_stream(path, drop_outside(events, size, counts), counts, size)


def _read_caer(path: Path, file: BinaryIO, options: ReadOptions) -> EventStream:
    """Packets of events of one type; those of polarity hold pixel and time of each event, packed or not."""
    lines = _header_lines(file)
    stated = next((line.partition(":")[2].strip() for line in lines if line.lower().startswith("#format")), "RAW")
    if any(name.strip().lower() not in _FORMATS for name in stated.split(",")):
        raise EventFormatError(f"{path}: is packed as {stated}, expected RAW or SerializedTS")
    sources = {
        int(found[1]): found[2] for line in lines if (found := re.match(r"#\s*Source\s+(\d+)\s*:\s*(.*)", line, re.I))
    }
    chunks: dict[int, EventChunks] = {}
    counts = DecoderCounts()
    left = path.stat().st_size - file.tell()
    while left >= _PACKET.itemsize:
        (header,) = np.frombuffer(file.read(_PACKET.itemsize), _PACKET)
        left -= _PACKET.itemsize
        kind = int(header["type"])
        packed = bool(kind & _PACKED)
        size = int(header["capacity"]) if packed else int(header["event_bytes"]) * int(header["number"])
        if header["event_bytes"] < 0 or header["number"] < 0 or size < 0:
            raise EventFormatError(f"{path}: a packet states {size} bytes of events, expected a positive number")
        if kind & ~_PACKED != _POLARITY:
            file.seek(min(size, left), 1)
        elif header["event_bytes"] != _POLARITY_EVENT.itemsize:
            raise EventFormatError(f"{path}: events have {header['event_bytes']} bytes, expected 8")
        else:
            own = chunks.setdefault(int(header["source"]), EventChunks(path, options))
            payload = file.read(min(size, left))
            if packed:
                options.check_count(path, len(own) + int(header["number"]))
                events = _unpacked(payload)
                if size <= left and len(events) != header["number"]:
                    raise EventFormatError(
                        f"{path}: a packet unpacks to {len(events)} events, expected {header['number']} as it states"
                    )
            else:
                events = np.frombuffer(payload, _POLARITY_EVENT, len(payload) // _POLARITY_EVENT.itemsize)
            events = events[events["data"] & 1 == 1]
            data, overflow = events["data"], int(header["overflow"]) << _OVERFLOW_BITS
            own.add(make_events(events["t"] + np.int64(overflow), data >> 17, (data >> 2) & 0x7FFF, (data >> 1) & 1))
        if size > left:  # cut off: of what is there, the whole events are kept
            left = left % _POLARITY_EVENT.itemsize if kind == _POLARITY else left
            break
        left -= size
    counts.trailing_bytes += left
    source = _chosen_source(path, chunks, options)
    chip = _chip(sources.get(source, ""))
    size_stated = first_known(options.size, (chip.width, chip.height) if chip else (None, None))
    events = chunks[source].together() if source in chunks else make_events(*np.empty((4, 0), np.int64))
    return camera_stream(path, drop_outside(events, size_stated, counts), counts, size_stated)


def _unpacked(payload: bytes) -> np.ndarray:
    """The whole events of a packet in which events of the same time share it (cAER's serialized timestamps).

    The time of a run's first event has its highest bit set, that of the second is how many more there are, and these
    have no time of their own.
    """
    words = np.frombuffer(payload, "<u4", len(payload) // 4)
    parts, start = [], 0
    while start + 1 < len(words):
        times = words[start + 1 : start + _LOOKED_AHEAD : 2]
        runs = np.flatnonzero(times >> 31)
        plain = int(runs[0]) if len(runs) else len(times)
        parts.append(words[start : start + 2 * plain].reshape(-1, 2))
        start += 2 * plain
        if not len(runs):
            continue
        if start + 3 >= len(words):
            break
        rest = words[start + 4 : start + 4 + int(words[start + 3])]
        data = np.concatenate([words[start : start + 3 : 2], rest])
        parts.append(np.stack([data, np.full(len(data), words[start + 1] & 0x7FFF_FFFF)], axis=1))
        start += 4 + len(rest)
    pairs = np.concatenate(parts) if parts else np.empty((0, 2), np.uint32)
    return np.ascontiguousarray(pairs, "<u4").view(_POLARITY_EVENT).reshape(-1)


def _chosen_source(path: Path, chunks: dict[int, EventChunks], options: ReadOptions) -> int:
    known = [source for source, own in chunks.items() if len(own)]
    if options.stream is None and len(known) <= 1:
        return known[0] if known else -1
    for source in known:
        if options.stream == str(source):
            return source
    found = ", ".join(map(str, known)) or "none"
    raise EventFormatError(f"{path}: holds events of the sources {found}, expected a choice of one with stream=")
