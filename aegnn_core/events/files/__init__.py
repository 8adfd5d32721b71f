"""Recordings of events: one small reader per format, behind one function."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.files.aedat4 import read_aedat4
from aegnn_core.events.files.aer40 import read_aer40
from aegnn_core.events.files.bag import read_bag
from aegnn_core.events.files.dat import read_dat
from aegnn_core.events.files.hdf5 import read_hdf5
from aegnn_core.events.files.numpy_arrays import read_npy, read_npz
from aegnn_core.events.files.raw import read_raw
from aegnn_core.events.files.recording import Size
from aegnn_core.events.files.text import EVENTS_TEXT, read_text
from aegnn_core.events.rosbag import is_bag

__all__ = ["READERS", "read_events"]

#: Readers by the file name's ending.
READERS: dict[str, Callable[[Path, Size], EventStream]] = {
    ".raw": read_raw,
    ".dat": read_dat,
    ".bin": read_aer40,
    ".aedat4": read_aedat4,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".npy": read_npy,
    ".npz": read_npz,
    ".txt": read_text,
    ".mcap": read_bag,
    ".db3": read_bag,
    ".bag": read_bag,
}


def read_events(path: str | PathLike[str], width: int | None = None, height: int | None = None) -> EventStream:
    """Read a recording of events, whatever its format.

    Files: Prophesee ``.raw`` (EVT2, EVT3) and ``.dat``, AER-40 ``.bin`` (N-MNIST, N-Caltech101), ``.aedat4``, HDF5
    (Prophesee, DSEC), ``.npy``, ``.npz``, text ``x y t p``, and rosbag2 ``.mcap`` and ``.db3`` and ROS 1 ``.bag`` with
    a topic of ``event_camera_msgs/EventPacket`` (ROS 2 only), ``dvs_msgs/EventArray`` or
    ``prophesee_event_msgs/EventArray``. Folders: rosbag2, and N-Cars with its ``events.txt``.

    The formats that a camera wrote (``.raw``, ``.dat``, ``.bin``, bags) are read like a live stream: words that are
    not defined or cut off and events outside the sensor are left out, events a little late are moved into time order,
    and one warning says how many. The formats that store arrays must be flawless.

    Args:
        path: file or folder.
        width: sensor width [px]; by default what the file states, otherwise the largest x plus one.
        height: sensor height [px]; likewise.

    Raises:
        EventFormatError: a foreign, cut-off or empty recording; the message names the path, what was found and what was
            expected.
        FileNotFoundError: nothing is there.
        ValueError: the width or height asked for is not positive.
    """
    for name, side in (("width", width), ("height", height)):
        if side is not None and side < 1:
            raise ValueError(f"{path}: the {name} asked for is {side} px, expected a positive number")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder, expected a recording of events")
    return _reader_of(path)(path, (width, height))


def _reader_of(path: Path) -> Callable[[Path, Size], EventStream]:
    if path.is_dir():
        if (path / EVENTS_TEXT).exists():
            return read_text
        if is_bag(path):
            return read_bag
        raise EventFormatError(f"{path}: expected a rosbag2 folder or one with {EVENTS_TEXT}, found neither")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise EventFormatError(f"{path}: file name ends in {path.suffix!r}, expected one of {', '.join(READERS)}")
    return reader
