"""N-Cars as text: a folder with ``events.txt``, one event ``x y t p`` a line."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.files.columns import events_from_columns
from aegnn_core.events.files.recording import Size, checked_stream

__all__ = ["EVENTS_TEXT", "read_text"]

#: Name of the events' file in such a folder.
EVENTS_TEXT = "events.txt"


def read_text(path: Path, size: Size) -> EventStream:
    """Read a text file of events, or the one in an N-Cars folder.

    Times are microseconds; where any of them has a fraction, all are taken for seconds. The file does not state the
    sensor's size: it is found from the events.

    Raises:
        EventFormatError: not four numbers a line, no events, or events that are not in order or not on the sensor.
    """
    path = path / EVENTS_TEXT if path.is_dir() else path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # NumPy's on an empty file, which is an error below
            table = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise EventFormatError(f"{path}: {error}, expected four numbers x y t p a line") from error
    if table.size and table.shape[1] != 4:
        raise EventFormatError(f"{path}: {table.shape[1]} numbers a line, expected four, x y t p")
    x, y, t, p = table.reshape(-1, 4).T
    if not np.isfinite(table).all() or any((column % 1).any() for column in (x, y, p)):
        raise EventFormatError(f"{path}: x, y and p are not whole numbers everywhere, expected pixels and a polarity")
    if (t % 1).any():
        t = np.round(t * 1e6)
    columns = {name: column.astype(np.int64) for name, column in zip("txyp", (t, x, y, p), strict=True)}
    return checked_stream(path, events_from_columns(path, columns), size)
