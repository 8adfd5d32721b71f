"""AEDAT4 (iniVation), through the library ``aedat``."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import aedat
import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream, make_events
from aegnn_core.events.files.recording import Size, checked_stream, first_known

__all__ = ["read_aedat4"]

_FIRST_LINE = b"#!AER-DAT4.0\r\n"


def read_aedat4(path: Path, size: Size) -> EventStream:
    """Read the one event stream of an AEDAT4 file; the file states the sensor's size.

    Raises:
        EventFormatError: not AEDAT4, cut off, with no or several event streams, or without events.
    """
    _check_header(path)
    try:
        decoder = aedat.Decoder(str(path))
        sensors = {key: stream for key, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
        chunks = [packet["events"] for packet in decoder if packet["stream_id"] in sensors and "events" in packet]
    except BaseException as error:
        # On some corrupt files the library panics, with an exception that is no Exception and has no public name.
        if not isinstance(error, RuntimeError) and type(error).__name__ != "PanicException":
            raise
        raise EventFormatError(f"{path}: {error}, expected a complete AEDAT4 recording") from error
    if len(sensors) != 1:
        raise EventFormatError(f"{path}: holds {len(sensors)} event streams, expected one")
    (sensor,) = sensors.values()
    columns = np.concatenate(chunks) if chunks else np.empty(0, [(name, np.int64) for name in ("t", "x", "y", "on")])
    events = make_events(columns["t"], columns["x"], columns["y"], columns["on"])
    return checked_stream(path, events, first_known(size, (sensor["width"], sensor["height"])))


def _check_header(path: Path) -> None:
    """Refuse what does not begin with AEDAT4's first line and well-formed XML: the library could abort on it."""
    with path.open("rb") as file:
        first_line = file.read(len(_FIRST_LINE))
        if first_line != _FIRST_LINE:
            raise EventFormatError(f"{path}: begins with {first_line!r}, expected {_FIRST_LINE!r}")
        header = file.read(int.from_bytes(file.read(4), "little"))
    try:
        ElementTree.fromstring(header[header.find(b"<dv") :].rstrip(b"\0"))
    except ElementTree.ParseError as error:
        raise EventFormatError(f"{path}: {error} in the header, expected a description in XML") from error
