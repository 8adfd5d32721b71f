# SPDX-License-Identifier: Apache-2.0
"""HDF5: the layouts of the field in one table, and sizes checked against the file before anything is read."""

from __future__ import annotations

import bz2
import math
import mmap
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.files.columns import events_from_columns, fields_by_name, refuse_order, unit_in
from aegnn_core.events.files.ecf import ECF_FILTER, decode_ecf
from aegnn_core.events.files.hdf5_trial import check_survivable
from aegnn_core.events.files.header import parse_geometry, resolution
from aegnn_core.events.files.numpy_arrays import array_columns, is_table
from aegnn_core.events.files.stream_checks import EventChunks, ReadOptions, Size, checked_stream, first_known

if TYPE_CHECKING:
    import h5py

__all__ = ["LAYOUTS", "Layout", "read_hdf5"]


class Layout(NamedTuple):
    """Where the files of some source keep their events.

    Attributes:
        place: a group with a data set per column, or one data set: structured, or a table.
        order: of the columns of a table.
        source: whose layout this is.
    """

    place: str
    order: str
    source: str


#: In the order in which they are looked for; of a pair of cameras the left one counts unless asked otherwise.
LAYOUTS = (
    Layout("CD/events", "xypt", "Metavision"),
    Layout("events", "txyp", "DSEC, RVT's Gen1 and 1 Mpx, event_utils, v2e, TUM-VIE"),
    Layout("davis/left/events", "xytp", "MVSEC"),
    Layout("davis/right/events", "xytp", "MVSEC"),
    Layout("prophesee/left", "txyp", "M3ED"),
    Layout("prophesee/right", "txyp", "M3ED"),
    Layout("/", "txyp", "columns that are in no group"),
)

#: How a file begins, which says of how many bytes sizes are, and the smallest such beginning.
_SIGNATURE, _SUPERBLOCK_BYTES = b"\x89HDF\r\n\x1a\n", 48
#: How a collection of texts in the file begins: signature, version, three zeros.
_HEAP = b"GCOL\1\0\0\0"

#: The filter bzip2, and more than a checksum takes, if a chunk has one.
_BZIP2, _SLACK_BYTES = 307, 64

#: Columns of events do not pack better than this, all four together; a file that claims so is damaged.
_LARGEST_RATIO = 200
_SMALL_BYTES = 1 << 20
#: In a data set that says the size of the sensor, or when the recording began.
_MOST_NUMBERS = 100
_ALL_IN_ONE = "expected a complete HDF5 file that leads to no other"


def read_hdf5(path: Path, options: ReadOptions) -> EventStream:
    """Read an HDF5 file of one of the :data:`LAYOUTS`, compressed by what ``hdf5plugin`` has, or by Metavision's ECF.

    Of another layout, it is the only place with events that counts. Times are in the unit that their name or their
    attribute ``unit`` states, otherwise in the one found from the numbers. DSEC's ``t_offset`` is added to its times,
    as its documentation asks. The sensor's size is taken from what the sources call it: attributes ``geometry``
    ("640x480"), ``width`` and ``height`` or ``sensor_resolution`` (of two sides the larger is the width) of the file or
    the group, data sets ``width`` and ``height``, or ``calib/resolution`` (width, height); otherwise it is found from
    the events.

    Raises:
        EventFormatError: not HDF5, of another layout, damaged, compressed with a filter that is not installed, without
            events, or with events whose time jumps or that are not on the sensor.
    """
    # A tenth of a second that only readers of HDF5 should pay. The second import registers the compression filters.
    import h5py
    import hdf5plugin  # noqa: F401

    try:
        _check_heaps(path)
        check_survivable(path)
        with h5py.File(path, "r") as file:
            _check_links(path, file)
            layout = _layout_of(path, file, options.stream)
            holder = file[layout.place]
            if isinstance(holder, h5py.Group):
                fields = fields_by_name(list(holder))
                assert fields is not None
                refuse_order(path, options)
                datasets = [holder[name] for name in fields.values()]
                _check_sizes(path, datasets, options)
                columns = {name: _contents(path, dataset) for name, dataset in zip(fields, datasets, strict=True)}
                unit = unit_in(fields["t"]) or _unit_of(holder[fields["t"]])
            else:
                _check_sizes(path, [holder], options)
                array = _ecf_events(path, holder, options) if _is_ecf(holder) else _contents(path, holder)
                columns, unit = array_columns(path, array, options, layout.order)
            if "t_offset" in file:
                columns["t"] = _later(columns["t"], _numbers(path, file["t_offset"]))
            group = holder if isinstance(holder, h5py.Group) else holder.parent
            stated = _stated_size(path, file, group, holder)
    except EventFormatError:
        raise
    except Exception as error:  # h5py raises errors of many kinds on a corrupt file
        raise EventFormatError(f"{path}: {str(error)[:300]}, expected a complete HDF5 file with events") from error
    events = events_from_columns(path, columns, options, unit)
    return checked_stream(path, events, first_known(options.size, stated))


def _check_links(path: Path, file: h5py.File) -> None:
    """Refuse a file that leads into others: these may be anything, a pipe or a device that never ends too."""
    import h5py

    def elsewhere(name: bytes, link: h5py.h5l.LinkInfo) -> bytes | None:
        return name if link.type == h5py.h5l.TYPE_EXTERNAL else None

    name = file.id.links.visit(elsewhere, info=True)
    if name is not None:
        raise EventFormatError(f"{path}: {name.decode(errors='replace')[:300]} is in another file, {_ALL_IN_ONE}")


def _check_place(path: Path, dataset: h5py.Dataset) -> None:
    """Refuse a data set whose numbers are in other files."""
    if dataset.external or dataset.is_virtual:
        raise EventFormatError(f"{path}: {dataset.name[:300]} has its numbers in another file, {_ALL_IN_ONE}")


def _numbers(path: Path, dataset: h5py.Dataset) -> np.ndarray:
    """The few numbers of a data set that says something of the recording."""
    _check_place(path, dataset)
    if dataset.size > _MOST_NUMBERS:
        raise EventFormatError(f"{path}: {dataset.name[:300]} has {dataset.size} numbers, expected one for each side")
    return np.ravel(_contents(path, dataset))


def _side(number: np.ndarray) -> int:
    """A width or a height [px], from an array with one number."""
    return int(np.ravel(number)[0])


def _later(t: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Times with an offset, an array of one number: whole numbers stay so, seconds keep their fraction."""
    (number,) = offset
    return t.astype(np.float64) + float(number) if t.dtype.kind == "f" else t.astype(np.int64) + int(number)


def _unit_of(times: h5py.Dataset) -> str | None:
    """The unit of time that a data set's attributes state."""
    for name in ("unit", "units"):
        stated = times.attrs.get(name)
        unit = unit_in(f"t_{stated.decode() if isinstance(stated, bytes) else stated}")
        if unit is not None:
            return unit
    return None


def _check_heaps(path: Path) -> None:
    """Refuse texts whose lengths do not add up: the library would never return from them.

    HDF5 keeps texts in *global heap collections* (HDF5 File Format Specification, III.E): a signature, the size of the
    whole, and objects of a number, a reference count and a size, of which number 0 is the space that is left.
    """
    header, object_header = struct.Struct("<8sQ"), struct.Struct("<HHIQ")
    if path.stat().st_size < _SUPERBLOCK_BYTES:
        return  # the library refuses it
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        superblock = _superblock(content)
        if superblock is None or content[superblock + (14 if content[superblock + 8] < 2 else 10)] != 8:
            return  # it is no HDF5 file, or its sizes are of other than eight bytes, which nobody writes
        start = content.find(_HEAP)
        while start >= 0:
            end = start + header.size
            if end <= len(content):
                end = min(start + header.unpack_from(content, start)[1], len(content))
            at = start + header.size
            while at + object_header.size <= end:
                number, _, _, size = object_header.unpack_from(content, at)
                needed = size if number == 0 else object_header.size + size
                if needed < object_header.size or needed > end - at:
                    raise EventFormatError(
                        f"{path}: a text at byte {at} has {size} bytes where {end - at} are left,"
                        " expected a complete HDF5 file"
                    )
                at += needed if number == 0 else -(-needed // 8) * 8
            start = content.find(_HEAP, start + 1)


def _superblock(content: mmap.mmap) -> int | None:
    """Where an HDF5 file begins: at 0, 512, 1024, 2048, … bytes, behind what somebody may have put in front of it."""
    at = 0
    while at + _SUPERBLOCK_BYTES <= len(content):
        if content[at : at + len(_SIGNATURE)] == _SIGNATURE:
            return at
        at = max(512, 2 * at)
    return None


def _layout_of(path: Path, file: h5py.File, stream: str | None) -> Layout:
    """The layout that the file has, or the place asked for."""
    found = [layout for layout in LAYOUTS if _holds_events(file, layout.place)]
    if stream is not None:
        wanted = stream.strip("/")
        for layout in found:
            if layout.place == wanted or layout.place.startswith(wanted + "/"):
                return layout
        if _holds_events(file, wanted):
            return Layout(wanted, "txyp", "asked for")
        places = [layout.place for layout in found] or _other_places(file) or sorted(map(str, file))
        known = ", ".join(places)[:300]
        raise EventFormatError(f"{path}: has no events at {stream!r}, expected stream= one of {known}")
    if found:
        return found[0]
    others = _other_places(file)
    if len(others) == 1:
        return Layout(others[0], "txyp", "the only place")
    if others:
        raise EventFormatError(
            f"{path}: holds events at {', '.join(others)[:300]}, expected a choice of one with stream="
        )
    known = ", ".join(layout.place for layout in LAYOUTS)
    raise EventFormatError(
        f"{path}: holds {str(sorted(map(str, file)))[:300]}, expected events at {known}, or a place given with stream="
    )


def _other_places(file: h5py.File) -> list[str]:
    """Groups with a data set per column, and data sets that are tables of events, wherever they are."""
    import h5py

    places: list[str] = []

    def visit(name: str, found: h5py.Group | h5py.Dataset) -> None:
        is_events = is_table(found.shape, found.dtype) if isinstance(found, h5py.Dataset) else _holds_events(file, name)
        if is_events:
            places.append(name)

    file.visititems(visit)
    return places


def _holds_events(file: h5py.File, place: str) -> bool:
    import h5py

    found = file.get(place)
    if isinstance(found, h5py.Group):
        fields = fields_by_name(list(found))
        return fields is not None and all(isinstance(found[name], h5py.Dataset) for name in fields.values())
    return isinstance(found, h5py.Dataset)


def _check_sizes(path: Path, datasets: list[h5py.Dataset], options: ReadOptions) -> None:
    """Refuse data sets that cannot be in the file: nothing is allocated or read before."""
    for dataset in datasets:
        _check_place(path, dataset)
        options.check_count(path, dataset.shape[0] if dataset.ndim else 1)
    claimed = sum(dataset.size * dataset.dtype.itemsize for dataset in datasets)
    stored = sum(dataset.id.get_storage_size() for dataset in datasets)
    held = path.stat().st_size
    if stored > held or claimed > _SMALL_BYTES + _LARGEST_RATIO * held:
        raise EventFormatError(
            f"{path}: states {claimed} bytes of events, {stored} of them packed, in a file of {held},"
            " expected a complete HDF5 file"
        )
    for dataset in datasets:
        _check_chunks(path, dataset)


def _check_chunks(path: Path, dataset: h5py.Dataset) -> None:
    """Refuse a data set of which chunks are missing: they would be read one by one, as events that are all zero."""
    if dataset.chunks is None:
        return
    needed = math.prod(-(-side // chunk) for side, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    found = dataset.id.get_num_chunks()
    if found < needed:
        raise EventFormatError(
            f"{path}: {dataset.name} has {found} of its {needed} chunks, expected a complete HDF5 file"
        )


def _contents(path: Path, dataset: h5py.Dataset) -> np.ndarray:
    """All of a data set."""
    plan = dataset.id.get_create_plist()
    if _BZIP2 in [plan.get_filter(position)[0] for position in range(plan.get_nfilters())]:
        _check_bzip2(path, dataset)
    contents: np.ndarray = dataset[()]
    return contents


def _check_bzip2(path: Path, dataset: h5py.Dataset) -> None:
    """Refuse a chunk that does not come to an end: the library would go on unpacking it for ever."""
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    for number in range(dataset.id.get_num_chunks()):
        _, chunk = dataset.id.read_direct_chunk(dataset.id.get_chunk_info(number).chunk_offset)
        unpacker = bz2.BZ2Decompressor()
        unpacker.decompress(chunk, size + _SLACK_BYTES)
        if not unpacker.eof:
            raise EventFormatError(
                f"{path}: {dataset.name}, chunk {number} is packed without an end, expected a complete HDF5 file"
            )


def _is_ecf(dataset: h5py.Dataset) -> bool:
    plan = dataset.id.get_create_plist()
    return bool(plan.get_nfilters() == 1 and plan.get_filter(0)[0] == ECF_FILTER)


def _ecf_events(path: Path, dataset: h5py.Dataset, options: ReadOptions) -> np.ndarray:
    """The events of a data set that Metavision's codec has compressed, chunk by chunk."""
    chunks = EventChunks(path, options)
    (length,), (size,) = dataset.shape, dataset.chunks
    for start in range(0, length, size):
        mask, packed = dataset.id.read_direct_chunk((start,))
        if mask:
            raise EventFormatError(f"{path}: chunk {start // size} is not packed with ECF, expected all to be")
        try:
            # The last chunk is filled up with events that are none.
            events = decode_ecf(packed)[: length - start]
        except EventFormatError as error:
            raise EventFormatError(f"{path}: chunk {start // size}: {error}") from error
        if len(events) != min(size, length - start):
            raise EventFormatError(f"{path}: chunk {start // size} holds {len(events)} events, expected {size}")
        chunks.add(events)
    return chunks.together()


def _stated_size(path: Path, file: h5py.File, group: h5py.Group, holder: h5py.Group | h5py.Dataset) -> Size:
    """Width and height [px], from whoever states them first."""
    for owner in (holder, group, file):
        attributes = owner.attrs
        geometry = attributes.get("geometry")
        if geometry is not None:
            stated = parse_geometry(geometry.decode() if isinstance(geometry, bytes) else str(geometry))
            if stated is not None:
                return stated
        if "width" in attributes and "height" in attributes:
            return _side(attributes["width"]), _side(attributes["height"])
        if "sensor_resolution" in attributes:
            return resolution(attributes["sensor_resolution"])
    if "width" in group and "height" in group:
        return _side(_numbers(path, group["width"])), _side(_numbers(path, group["height"]))
    if "calib/resolution" in group:
        width, height = map(_side, _numbers(path, group["calib/resolution"]))
        return width, height
    return None, None
