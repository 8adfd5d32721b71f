"""Prophesee ``.raw``: a text header, then EVT2 or EVT3 words."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.decoders import Decoder, Evt2Decoder, Evt3Decoder
from aegnn_core.events.files.header import read_header, sensor_size
from aegnn_core.events.files.recording import Size, camera_stream, first_known

__all__ = ["read_raw"]

_DECODERS: dict[str, type[Decoder]] = {"2": Evt2Decoder, "3": Evt3Decoder}

#: Sensors by the names in older headers, which state no size: camera plug-in or sensor, width and height [px].
_SENSORS = (("genx320", 320, 320), ("imx636", 1280, 720), ("gen4", 1280, 720), ("gen3", 640, 480))

#: Both encodings address a pixel with 11 bits per axis.
_ADDRESSABLE = 1 << 11

#: Bytes decoded at once; a multiple of both word sizes, it bounds the memory beside the events themselves.
_CHUNK = 1 << 24


def read_raw(path: Path, size: Size) -> EventStream:
    """Read a ``.raw`` file; without a size in the header, the sensor is known by its name or found from the events.

    Raises:
        EventFormatError: not a ``.raw`` file, neither EVT2 nor EVT3, or without events.
    """
    with path.open("rb") as file:
        header = read_header(file, path)
        make = _decoder_of(header, path)
        size = first_known(size, _known_size(header, path))
        decoder = make(*(_ADDRESSABLE if side is None else side for side in size))
        chunks = []
        while payload := file.read(_CHUNK):
            chunks.append(decoder.decode(payload))
    if not chunks:
        raise EventFormatError(f"{path}: ends after its header, expected {decoder.encoding.upper()} words")
    return camera_stream(path, np.concatenate(chunks), decoder.counts, size)


def _decoder_of(header: dict[str, str], path: Path) -> type[Decoder]:
    """The decoder for what the header says: ``evt 3.0`` in older files, ``format EVT3;…`` in newer ones."""
    if "format" in header:
        found = header["format"].partition(";")[0].strip()
    else:
        found = f"EVT{header['evt']}" if "evt" in header else "no line 'evt' or 'format' in the header"
    version = re.fullmatch(r"EVT([23])(\.0)?", found, re.IGNORECASE)
    if version is None:
        raise EventFormatError(f"{path}: event format is {found}, expected EVT2 or EVT3")
    return _DECODERS[version[1]]


def _known_size(header: dict[str, str], path: Path) -> Size:
    """Sensor size as stated, or as known from the sensor's name."""
    stated = sensor_size(header, path)
    if stated != (None, None):
        return stated
    names = f"{header.get('sensor_name', '')} {header.get('plugin_name', '')} gen{header.get('generation', '')}".lower()
    return next(((width, height) for name, width, height in _SENSORS if name in names), (None, None))
