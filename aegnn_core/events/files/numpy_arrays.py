# SPDX-License-Identifier: Apache-2.0
"""NumPy's ``.npy`` and ``.npz``: structured events, columns t, x, y, p, or a table of them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.files.columns import events_from_columns, fields_by_name, refuse_order, table_columns, unit_in
from aegnn_core.events.files.header import resolution
from aegnn_core.events.files.stream_checks import ReadOptions, Size, checked_stream, first_known

__all__ = ["array_columns", "is_table", "load_array", "read_npy", "read_npz"]

#: The one array of an ``.npz``: ours, N-ImageNet's, and NumPy's own name for an array without one.
_EVENTS_NAMES = ("events", "event_data", "arr_0")
_SIDES = ("width", "height")
#: Arrays of both sides, in either order: sensors are not higher than wide.
_RESOLUTIONS = ("sensor_resolution", "sensor_size", "resolution")

#: Events do not pack better than this; a file that claims so is damaged, or made to fill the memory.
_LARGEST_RATIO = 200
_SMALL_BYTES = 1 << 24


def read_npy(path: Path, options: ReadOptions) -> EventStream:
    """Read a structured array with fields t, x, y, p, or numbers ``[N, 4]``, by default in this order, as PEDRo has it.

    Raises:
        EventFormatError: not such a file, pickled objects, or events that are not in order or not on the sensor.
    """
    columns, unit = array_columns(path, load_array(path), options)
    return checked_stream(path, events_from_columns(path, columns, options, unit), options.size)


def load_array(path: Path) -> np.ndarray:
    """The array of an ``.npy``, whose numbers are read when they are asked for.

    Raises:
        EventFormatError: not such a file, or pickled objects.
        FileNotFoundError: nothing is there.
    """
    try:
        _check_header(path)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (EventFormatError, FileNotFoundError):
        raise
    except Exception as error:  # NumPy and the libraries below it raise errors of a dozen kinds on a corrupt file
        raise _unreadable(path, error) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise EventFormatError(f"{path}: is an archive of arrays, expected one array; rename the file to .npz")
    return array


def read_npz(path: Path, options: ReadOptions) -> EventStream:
    """Read the arrays t, x, y and p, or one array like that of an ``.npy``; width and height, or a resolution, too.

    The one array is called ``events``, ``event_data`` (N-ImageNet) or ``arr_0``, or is the only one of its shape.

    Raises:
        EventFormatError: as for :func:`read_npy`.
    """
    try:
        _check_packing(path)
        with np.load(path, allow_pickle=False) as file:
            names = list(file)
            fields = fields_by_name(names)
            events = next((name for name in _EVENTS_NAMES if name in names), None)
            if events is None and fields is None:
                events = _only_table(path, file)
            wanted = [events] if events is not None else list(fields.values()) if fields else []
            arrays = {name: file[name] for name in names if name in (*wanted, *_SIDES, *_RESOLUTIONS)}
            if strange := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
                raise EventFormatError(f"{path}: what it holds as {strange[0]!r} is no array of NumPy")
    except EventFormatError:
        raise
    except Exception as error:  # of the many kinds that zipfile and NumPy raise on a damaged file
        raise _unreadable(path, error) from error
    unit = None
    if events is not None:
        columns, unit = array_columns(path, arrays[events], options)
    elif fields is not None:
        refuse_order(path, options)
        columns, unit = {field: arrays[name] for field, name in fields.items()}, unit_in(fields["t"])
    else:
        found = str(sorted(names))[:300]
        raise EventFormatError(f"{path}: holds the arrays {found}, expected t, x, y and p, or events")
    size = first_known(options.size, _stated_size(path, arrays))
    return checked_stream(path, events_from_columns(path, columns, options, unit), size)


def _only_table(path: Path, file: Mapping[str, np.ndarray]) -> str | None:
    """The name of the only array that can be events; ``EventFormatError`` where there are several."""
    arrays = {name: file[name] for name in file}
    names = [
        name for name, array in arrays.items() if isinstance(array, np.ndarray) and is_table(array.shape, array.dtype)
    ]
    if len(names) > 1:
        raise EventFormatError(f"{path}: holds events as {', '.join(names)[:300]}, expected one, or one called events")
    return names[0] if names else None


def is_table(shape: tuple[int, ...], kind: np.dtype) -> bool:
    """Whether an array is structured events, or a table ``[N, 4]`` or ``[4, N]`` of more than four numbers a side."""
    if kind.names is not None:
        return fields_by_name(kind.names) is not None
    return len(shape) == 2 and 4 in shape and max(shape) > 4 and kind.kind in "iuf"


def array_columns(
    path: Path, array: np.ndarray, options: ReadOptions, default: str = "txyp"
) -> tuple[dict[str, np.ndarray], str | None]:
    """The columns of a structured array, or of a table ``[N, 4]`` or ``[4, N]``, usually in the order ``default``.

    Returns:
        Columns by name, and the unit of time that a field's name states.

    Raises:
        EventFormatError: an array of another shape or other fields, or an order that is not clear.
    """
    if array.ndim == 2 and array.shape[0] == 4 != array.shape[1]:
        array = array.T
    if array.dtype.names is not None:
        fields = fields_by_name(array.dtype.names)
        if fields is not None and (array.ndim == 1 or array.shape[1:] == (1,)):
            refuse_order(path, options)
            options.check_count(path, len(array))
            return {field: array[name] for field, name in fields.items()}, unit_in(fields["t"])
    elif array.ndim == 2 and array.shape[1] == 4 and array.dtype.kind in "iuf":
        options.check_count(path, len(array))
        return table_columns(path, array, options, default), None
    raise EventFormatError(
        f"{path}: array of {array.dtype} {array.shape}, expected fields t, x, y, p or numbers [N, 4] in this order"
    )


def _check_packing(path: Path) -> None:
    """Refuse an archive that would unpack to far more than events can."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > _SMALL_BYTES + _LARGEST_RATIO * path.stat().st_size:
        raise EventFormatError(
            f"{path}: {path.stat().st_size} bytes would unpack to {unpacked}, expected events, which pack less well"
        )


def _check_header(path: Path) -> None:
    """Refuse a header that is longer than the file: NumPy would make room for all of it."""
    with path.open("rb") as file:
        begin = file.read(12)
    if begin[: len(MAGIC_PREFIX)] != MAGIC_PREFIX or len(begin) < 12:
        return  # NumPy refuses it, or opens it as an archive
    stated = int.from_bytes(begin[8:10] if begin[6] == 1 else begin[8:12], "little")
    held = path.stat().st_size
    if stated > held:
        raise EventFormatError(f"{path}: states a header of {stated} bytes in a file of {held}, expected a NumPy file")


def _unreadable(path: Path, error: Exception) -> EventFormatError:
    return EventFormatError(f"{path}: {str(error)[:300]}, expected a complete NumPy file without pickled objects")


def _stated_size(path: Path, arrays: dict[str, np.ndarray]) -> Size:
    """Width and height [px], where the archive has them."""
    for name in _RESOLUTIONS:
        if name in arrays:
            stated = resolution(arrays[name])
            if stated == (None, None):
                raise EventFormatError(f"{path}: {name} is {arrays[name]}, expected width and height in pixels")
            return stated
    width, height = (_side(path, arrays, name) for name in _SIDES)
    return width, height


def _side(path: Path, arrays: dict[str, np.ndarray], name: str) -> int | None:
    if name not in arrays:
        return None
    if arrays[name].dtype.kind not in "iu" or arrays[name].size != 1 or arrays[name].item() < 1:
        raise EventFormatError(f"{path}: {name} is {arrays[name]}, expected one positive number of pixels")
    return int(arrays[name].item())
