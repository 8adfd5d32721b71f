"""AEDAT4 (iniVation), through the library ``aedat``."""

from __future__ import annotations

from pathlib import Path

import aedat
import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream, make_events
from aegnn_core.events.files.recording import Size, checked_stream, first_known

__all__ = ["read_aedat4"]


def read_aedat4(path: Path, size: Size) -> EventStream:
    """Read the one event stream of an AEDAT4 file; the file states the sensor's size.

    Raises:
        EventFormatError: not AEDAT4, cut off, with no or several event streams, or without events.
    """
    chunks = []
    try:
        decoder = aedat.Decoder(str(path))
        sensors = {key: stream for key, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
        chunks = [packet["events"] for packet in decoder if packet["stream_id"] in sensors and "events" in packet]
    except RuntimeError as error:
        raise EventFormatError(f"{path}: {error}, expected a complete AEDAT4 recording") from error
    if len(sensors) != 1:
        raise EventFormatError(f"{path}: holds {len(sensors)} event streams, expected one")
    (sensor,) = sensors.values()
    columns = np.concatenate(chunks) if chunks else np.empty(0, [(name, np.int64) for name in ("t", "x", "y", "on")])
    events = make_events(columns["t"], columns["x"], columns["y"], columns["on"])
    return checked_stream(path, events, first_known(size, (sensor["width"], sensor["height"])))
