# SPDX-License-Identifier: Apache-2.0
"""Prophesee ``.raw``: a text header, then EVT2, EVT2.1, EVT3 or EVT4 words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.decoders import (
    Decoder,
    Evt2Decoder,
    Evt3Decoder,
    Evt4Decoder,
    Evt21Decoder,
    Evt21LegacyDecoder,
)
from aegnn_core.events.files.header import read_header, sensor_size
from aegnn_core.events.files.stream_checks import EventChunks, ReadOptions, Size, camera_stream, first_known

__all__ = ["read_raw"]

_DECODERS: dict[str, type[Decoder]] = {"2": Evt2Decoder, "21": Evt21Decoder, "3": Evt3Decoder, "4": Evt4Decoder}
_FORMATS = "EVT2, EVT2.1, EVT3 or EVT4"

#: The byte order of EVT2.1 in which IMX636 sends it: the upper half of a word first.
_LEGACY = "legacy"

_VGA, _HD, _GENX320 = (640, 480), (1280, 720), (320, 320)

#: Sensors by the names in older headers, which state no size: camera plug-in or sensor, width and height [px].
_SENSORS = (
    ("genx320", _GENX320),
    ("saphir", _GENX320),
    ("imx636", _HD),
    ("imx646", _HD),
    ("imx637", _VGA),
    ("imx647", _VGA),
    ("gen4", _HD),
    ("gen3", _VGA),
)

#: What older headers say instead of a size and at times of an encoding: the camera's number, in Prophesee's list of
#: systems. The bit 0x80 marks the same one behind a proxy.
_SYSTEMS: dict[int, tuple[tuple[int, int], str]] = {
    **dict.fromkeys((0x15, 0x17, 0x19, 0x1C, 0x1D, 0x21, 0x22, 0x23, 0x29), (_VGA, "2")),
    **dict.fromkeys((0x28, 0x34, 0x36), (_VGA, "3")),
    **dict.fromkeys((0x1A, 0x1F, 0x27), (_HD, "2")),
    **dict.fromkeys((0x1E, 0x20, 0x2E, 0x30, 0x31, 0x32, 0x35, 0x3A), (_HD, "3")),
    **dict.fromkeys((0x37, 0x3B, 0x40), (_GENX320, "21")),
}
_PROXY = 0x80
#: Systems before this one send EVT2.1 in the legacy order.
_FIRST_LITTLE_ENDIAN = 0x37

#: All encodings address a pixel with 11 bits per axis.
_ADDRESSABLE = 1 << 11

#: Bytes decoded at once; a multiple of all word sizes, it bounds the memory beside the events themselves.
_CHUNK = 1 << 22
#: More bytes than this without an event are a hole in the file: even of a camera that sees nothing they would be many
#: minutes.
_MOST_EVENTLESS = 1 << 27
#: So many bytes say in which order the halves of EVT2.1's words are.
_TRIED = 1 << 16
#: A file with more unknown words than this, and than events or a fifth of its words, is in another encoding than its
#: header says.
_MOST_UNKNOWN = 100
_MOST_UNKNOWN_SHARE = 0.2
#: So is one of more events than this of which more than one in five is earlier than the one before it.
_FEW_EVENTS = 100
_MOST_STEPS_BACK = 0.2


def read_raw(path: Path, options: ReadOptions) -> EventStream:
    """Read a ``.raw`` file; without a size in the header, the sensor is known by its name or found from the events.

    Raises:
        EventFormatError: not a ``.raw`` file, in another encoding, or without events.
    """
    chunks = EventChunks(path, options)
    with path.open("rb") as file:
        header = read_header(file, path)
        make = _decoder_of(header, path)
        size = first_known(options.size, _known_size(header, path))
        sides = [_ADDRESSABLE if side is None else side for side in size]
        if make is Evt21Decoder or make is Evt21LegacyDecoder:
            make = _byte_order(file, header, make, sides)
        decoder = make(*sides)
        empty, eventless = True, 0
        while payload := file.read(_CHUNK):
            empty, before = False, len(chunks)
            for part in decoder.decode_parts(payload):
                chunks.add(part)
            eventless = 0 if len(chunks) > before else eventless + len(payload)
            if eventless > _MOST_EVENTLESS:
                raise EventFormatError(
                    f"{path}: has no event in the {eventless} bytes before byte {file.tell()}, as no camera sends them,"
                    " expected a complete recording"
                )
    if empty:
        raise EventFormatError(f"{path}: ends after its header, expected {decoder.encoding.upper()} words")
    events, counts, name = chunks.together(), decoder.counts, decoder.encoding.upper()
    words = path.stat().st_size // decoder.word.itemsize
    if counts.unknown_words > max(_MOST_UNKNOWN, min(counts.events, _MOST_UNKNOWN_SHARE * words)):
        raise EventFormatError(
            f"{path}: {counts.unknown_words} of {words} words are not of {name}, as the header calls them, and"
            f" {counts.events} events are, expected {_FORMATS} as stated"
        )
    back = int(np.count_nonzero(np.diff(events["t"]) < 0))
    if len(events) > _FEW_EVENTS and back > _MOST_STEPS_BACK * len(events):
        raise EventFormatError(
            f"{path}: read as {name}, as the header calls it, {back} of {len(events)} events are earlier than the one"
            f" before them, expected {_FORMATS} as stated"
        )
    return camera_stream(path, events, counts, size)


def _byte_order(
    file: BinaryIO, header: dict[str, str], usual: type[Evt21Decoder], sides: list[int]
) -> type[Evt21Decoder]:
    """The decoder for EVT2.1 words in the order that the header states, otherwise in the one that makes more sense."""
    if _stated_order(header):
        return usual
    start = file.tell()
    words = file.read(_TRIED)
    file.seek(start)
    orders: list[type[Evt21Decoder]] = [Evt21Decoder, Evt21LegacyDecoder]
    orders.sort(key=lambda order: order is not usual)
    return min(orders, key=lambda order: _nonsense(order(*sides), words))


def _nonsense(decoder: Decoder, words: bytes) -> float:
    """How much of the words makes no sense: what is not defined or not on the sensor, and steps back in time."""
    events = decoder.decode(words[: len(words) // decoder.word.itemsize * decoder.word.itemsize])
    back = int(np.count_nonzero(np.diff(events["t"]) < 0))
    return (decoder.counts.malformed + back) / len(events) if len(events) else np.inf


def _decoder_of(header: dict[str, str], path: Path) -> type[Decoder]:
    """The decoder for what the header says: ``evt 3.0`` in older files, ``format EVT3;…`` in newer ones."""
    system = _system(header)
    if "format" in header:
        found = header["format"].partition(";")[0].strip()
    elif "evt" in header:
        found = f"EVT{header['evt']}"
    elif system in _SYSTEMS:
        found = f"EVT{_SYSTEMS[system][1]}"
    else:
        found = "no line 'evt' or 'format' in the header"
    version = re.fullmatch(r"EVT\s*([234])\.?([01]?)", found, re.IGNORECASE)
    name = version[1] + version[2].strip("0") if version else ""
    if name not in _DECODERS:
        raise EventFormatError(f"{path}: event format is {found}, expected {_FORMATS}")
    if name == "21" and _is_legacy(header, system):
        return Evt21LegacyDecoder
    return _DECODERS[name]


def _is_legacy(header: dict[str, str], system: int | None) -> bool:
    """Whether EVT2.1 words come with their upper half first: as stated, otherwise as the camera is known to do it."""
    if order := _stated_order(header):
        return order == _LEGACY
    return system is not None and 0 < system < _FIRST_LITTLE_ENDIAN


def _stated_order(header: dict[str, str]) -> str:
    """The order of EVT2.1's halves as the header calls it, or nothing."""
    stated = re.search(r"endianness=(\w+)", header.get("format", ""), re.IGNORECASE)
    return (stated[1] if stated else header.get("endianness", "")).lower()


def _system(header: dict[str, str]) -> int | None:
    """The camera's number, where a header has one."""
    try:
        number = int(header.get("system_id", ""), 0)
    except ValueError:
        return None
    return number if number in _SYSTEMS else number & ~_PROXY


def _known_size(header: dict[str, str], path: Path) -> Size:
    """Sensor size as stated, or as known from the sensor's name or the camera's number."""
    stated = sensor_size(header, path)
    if stated != (None, None):
        return stated
    names = " ".join(header.get(key, "") for key in ("sensor_name", "plugin_name", "plugin_integrator_name"))
    generation = header.get("generation", header.get("sensor_generation", ""))
    names = f"{names} gen{generation}".lower()
    by_name = next((size for name, size in _SENSORS if name in names), None)
    by_system = _SYSTEMS.get(_system(header) or 0)
    return by_name or (by_system[0] if by_system else (None, None))
