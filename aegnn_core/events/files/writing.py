# SPDX-License-Identifier: Apache-2.0
"""Recordings of events as files: the formats that are written too, each of which keeps the sensor's size."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import BinaryIO

import numpy as np

from aegnn_core.events.array import EventStream, check_events
from aegnn_core.events.evt3_encoder import encode_evt3
from aegnn_core.whole_files import new_file

__all__ = ["WRITERS", "write_events"]


def _write_raw(file: BinaryIO, stream: EventStream) -> None:
    """EVT3, as Prophesee's cameras record it."""
    size = f"{stream.width}x{stream.height}"
    header = f"% evt 3.0\n% format EVT3;width={stream.width};height={stream.height}\n% geometry {size}\n% end\n"
    words = encode_evt3(stream.events)
    file.write(header.encode() + words)


def _write_hdf5(file: BinaryIO, stream: EventStream) -> None:
    """A group ``events`` with a data set per column, as DSEC has it, and the sensor's size in attributes."""
    import h5py  # takes a tenth of a second

    with h5py.File(file, "w") as hdf5:
        hdf5.attrs["width"], hdf5.attrs["height"] = stream.width, stream.height
        for name in "txyp":
            hdf5.create_dataset(f"events/{name}", data=stream.events[name], compression="gzip", shuffle=True)


def _write_npz(file: BinaryIO, stream: EventStream) -> None:
    """One structured array ``events``, and ``width`` and ``height``."""
    np.savez_compressed(file, events=stream.events, width=stream.width, height=stream.height)


def _write_text(file: BinaryIO, stream: EventStream) -> None:
    """A line ``width height``, then ``t x y p`` with t in seconds, as E2VID reads it."""
    t = stream.events["t"]
    if not (t % 1_000_000).any():
        raise ValueError("all times are whole seconds, which in a text file would look like microseconds or polarities")
    file.write(f"{stream.width} {stream.height}\n".encode())
    np.savetxt(file, np.stack([t * 1e-6, *(stream.events[name] for name in "xyp")], axis=-1), "%.6f %d %d %d")


#: Writers by the file name's ending.
WRITERS: dict[str, Callable[[BinaryIO, EventStream], None]] = {
    ".raw": _write_raw,
    ".h5": _write_hdf5,
    ".npz": _write_npz,
    ".txt": _write_text,
}


def write_events(path: str | PathLike[str], stream: EventStream) -> None:
    """Write a recording that :func:`aegnn_core.events.read_events` reads back: the same events and sensor.

    Bags are written by :func:`aegnn_core.events.write_event_bag`. EVT3 (``.raw``) keeps times modulo 2^24 µs, so that
    a recording begins within the first 17 seconds. The file is there once it is whole.

    Args:
        path: the new file; its ending, one of :data:`WRITERS`, says the format. Its folder is made if it is missing.
        stream: events and sensor size.

    Raises:
        FileExistsError: something is there already.
        OSError: it cannot be written; nothing is left of it.
        ValueError: an ending that is not known, no events, events that are not valid, or what the format cannot hold.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        raise ValueError(f"{path}: cannot be written, expected a name that ends in {', '.join(WRITERS)}")
    if not len(stream):
        raise ValueError(f"{path}: no events to write, expected at least one")
    check_events(stream.events, stream.width, stream.height, source=str(path))
    with new_file(path) as file:
        try:
            WRITERS[path.suffix](file, stream)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
