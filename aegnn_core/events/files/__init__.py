# SPDX-License-Identifier: Apache-2.0
"""Recordings of events: one small reader per format, behind one function."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.bag_paths import is_bag
from aegnn_core.events.file_kind import check_regular
from aegnn_core.events.files.aedat import read_aedat
from aegnn_core.events.files.aedat4 import read_aedat4
from aegnn_core.events.files.aer40 import read_aer40
from aegnn_core.events.files.columns import TIME_UNITS
from aegnn_core.events.files.dat import read_dat
from aegnn_core.events.files.hdf5 import read_hdf5
from aegnn_core.events.files.numpy_arrays import read_npy, read_npz
from aegnn_core.events.files.raw import read_raw
from aegnn_core.events.files.stream_checks import LARGEST_SIDE, MAX_EVENTS, Reader, ReadOptions
from aegnn_core.events.files.text import EVENTS_TEXT, read_text
from aegnn_core.extras import naming_extras

__all__ = ["MAX_EVENTS", "READERS", "read_events"]


def _read_bag(path: Path, options: ReadOptions) -> EventStream:
    from aegnn_core.events.files.bag import read_bag  # needs a library that other recordings do without

    return read_bag(path, options)


#: Readers by the file name's ending.
READERS: dict[str, Reader] = {
    ".raw": read_raw,
    ".dat": read_dat,
    ".bin": read_aer40,
    ".aedat": read_aedat,
    ".aedat4": read_aedat4,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".npy": read_npy,
    ".npz": read_npz,
    ".txt": read_text,
    ".csv": read_text,
    ".tsv": read_text,
    ".mcap": _read_bag,
    ".db3": _read_bag,
    ".bag": _read_bag,
}

#: Endings of what recordings are packed into for the way; they are not read.
_ARCHIVES = (".zip", ".gz", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".zst", ".zstd", ".rar")

#: What packed files begin with, whatever they are called.
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\3\4": "zip"}
#: An archive, what is often one by mistake, and events that may begin with any bytes.
_MAY_SEEM_PACKED = (read_npz, read_npy, read_aer40)

#: Options that not every format has, by the readers that have them.
_OPTIONS: dict[str, tuple[Reader, ...]] = {
    "topic": (_read_bag,),
    "stream": (read_aedat, read_aedat4, read_hdf5),
    "columns": (read_text, read_npy, read_npz, read_hdf5),
    "time_unit": (read_text, read_npy, read_npz, read_hdf5),
    "rows": (read_aedat,),
}


def read_events(
    path: str | PathLike[str],
    width: int | None = None,
    height: int | None = None,
    *,
    topic: str | None = None,
    stream: str | int | None = None,
    columns: str | None = None,
    time_unit: str | None = None,
    rows: str | None = None,
    max_events: int = MAX_EVENTS,
) -> EventStream:
    """Read a recording of events, whatever its format.

    Files: Prophesee ``.raw`` (EVT2, EVT2.1, EVT3, EVT4) and ``.dat``, AER-40 ``.bin`` (N-MNIST, N-Caltech101),
    ``.aedat`` (2.0, 3.1) and ``.aedat4``, HDF5 (:data:`aegnn_core.events.files.hdf5.LAYOUTS`), ``.npy``, ``.npz``,
    text, ``.csv`` and ``.tsv``, and rosbag2 ``.mcap`` and ``.db3`` and ROS 1 ``.bag`` with a topic of
    ``event_camera_msgs/EventPacket`` or, as it was once called, ``event_array_msgs/EventArray``,
    ``dvs_msgs/EventArray`` or ``prophesee_event_msgs/EventArray``. Folders: rosbag2, and N-Cars with its
    ``events.txt``.

    The formats that a camera wrote (``.raw``, ``.dat``, ``.bin``, ``.aedat``, bags) are read like a live stream: words
    that are not defined or cut off and events outside the sensor are left out. In all formats, events a little late, or
    single ones that are far too early, are moved into time order. One warning says how many.

    Args:
        path: file or folder.
        width: sensor width [px]; by default what the file states, otherwise the largest x plus one.
        height: sensor height [px]; likewise.
        topic: the event topic of a bag that has several.
        stream: the event stream of an AEDAT file that has several (its number), or the place of the events in an HDF5
            file, such as ``"davis/right"``.
        columns: order of the columns of a table of numbers, such as ``"txyp"``; by default found from the numbers.
        time_unit: unit of the times of text, NumPy and HDF5 files, ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``; by default
            found from the numbers.
        rows: of ``.aedat``: ``"up"`` if they are counted from the lower edge, as jAER's own are, otherwise ``"down"``.
        max_events: a recording of more events is refused before it fills the memory.

    Raises:
        EventFormatError: a foreign, damaged, too large or empty recording, or something else than a file or a folder;
            the message names the path, what was found and what was expected.
        FileNotFoundError: nothing is there.
        ModuleNotFoundError: the format needs a library that is not installed.
        ValueError: an option that makes no sense, or none for this format.
    """
    path = Path(path)
    place = None if stream is None else str(stream)
    options = ReadOptions(width, height, topic, place, columns, time_unit, rows, max_events)
    _check_options(path, options)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder, expected a recording of events")
    check_regular(path)
    reader = _reader_of(path)
    for name, readers in _OPTIONS.items():
        if getattr(options, name) is not None and reader not in readers:
            known = ", ".join(ending for ending, other in READERS.items() if other in readers)
            raise ValueError(f"{path}: {name}={getattr(options, name)!r} is not for this format, only for {known}")
    if path.is_file() and reader not in _MAY_SEEM_PACKED:
        _check_unpacked(path)
    try:
        with naming_extras():
            return reader(path, options)
    except EventFormatError:
        raise
    except ValueError as error:  # numbers that no event can have
        raise EventFormatError(f"{path}: {error}") from error
    except MemoryError as error:
        raise EventFormatError(
            f"{path}: {path.stat().st_size} bytes do not fit into the memory, expected a smaller recording; max_events="
            " sets a limit that is checked first"
        ) from error


def _check_options(path: Path, options: ReadOptions) -> None:
    if options.max_events < 1:
        raise ValueError(f"{path}: the max_events asked for is {options.max_events}, expected a positive number")
    for name in ("width", "height"):
        side = getattr(options, name)
        if side is not None and not 1 <= side <= LARGEST_SIDE:
            raise ValueError(f"{path}: the {name} asked for is {side} px, expected 1 to {LARGEST_SIDE}")
    if options.columns is not None and sorted(options.columns) != sorted("txyp"):
        raise ValueError(f"{path}: columns={options.columns!r}, expected the letters t, x, y and p in their order")
    if options.time_unit is not None and options.time_unit not in TIME_UNITS:
        raise ValueError(f"{path}: time_unit={options.time_unit!r}, expected one of {', '.join(TIME_UNITS)}")
    if options.rows not in (None, "down", "up"):
        raise ValueError(f"{path}: rows={options.rows!r}, expected down or up")


def _check_unpacked(path: Path) -> None:
    with path.open("rb") as file:
        beginning = file.read(max(map(len, _PACKED)))
    for mark, program in _PACKED.items():
        if beginning.startswith(mark):
            raise EventFormatError(f"{path}: is packed by {program}, expected {path.suffix} itself; unpack it first")


def _reader_of(path: Path) -> Reader:
    if path.is_dir():
        if (path / EVENTS_TEXT).exists():
            return read_text
        if is_bag(path):
            return _read_bag
        raise EventFormatError(f"{path}: expected a rosbag2 folder or one with {EVENTS_TEXT}, found neither")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        hint = "; unpack it first" if path.suffix.lower() in _ARCHIVES else ""
        hint = "; read the folder that it is in" if path.name == "metadata.yaml" else hint
        raise EventFormatError(f"{path}: file name ends in {path.suffix!r}, expected one of {', '.join(READERS)}{hint}")
    return reader
