"""HDF5, in the two common layouts: Prophesee's ``CD/events`` and DSEC's ``events/{t,x,y,p}``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.files.columns import events_from_columns
from aegnn_core.events.files.recording import Size, checked_stream, first_known

if TYPE_CHECKING:
    import h5py

__all__ = ["read_hdf5"]


def read_hdf5(path: Path, size: Size) -> EventStream:
    """Read an HDF5 file.

    DSEC's ``t_offset`` is added to its times, as that data set's documentation asks. The sensor's size is taken from
    attributes ``geometry`` ("640x480") or ``width`` and ``height`` of the file or the group, otherwise it is found from
    the events.

    Raises:
        EventFormatError: not HDF5, of another layout, compressed with a filter that is not installed, without events,
            or with events that are not in order or not on the sensor.
    """
    # A tenth of a second that only readers of HDF5 should pay. The second import registers the compression filters.
    import h5py
    import hdf5plugin  # noqa: F401

    try:
        with h5py.File(path, "r") as file:
            if isinstance(file.get("CD/events"), h5py.Dataset):
                table = file["CD/events"][()]
                if not set("txyp") <= set(table.dtype.names or ()):
                    raise EventFormatError(f"{path}: CD/events is of {table.dtype}, expected fields t, x, y, p")
                columns = {name: table[name] for name in "txyp"}
                stated_size = _stated_size(file, file["CD"])
            elif isinstance(file.get("events"), h5py.Group) and set("txyp") <= set(file["events"]):
                columns = {name: file["events"][name][()] for name in "txyp"}
                if "t_offset" in file:
                    columns["t"] = columns["t"].astype("int64") + int(file["t_offset"][()])
                stated_size = _stated_size(file, file["events"])
            else:
                raise EventFormatError(
                    f"{path}: holds {sorted(map(str, file))}, expected CD/events or events/t, x, y and p"
                )
    except EventFormatError:
        raise
    except Exception as error:  # h5py raises errors of many kinds on a corrupt file
        raise EventFormatError(f"{path}: {error}, expected a complete HDF5 file with events") from error
    return checked_stream(path, events_from_columns(path, columns), first_known(size, stated_size))


def _stated_size(*holders: h5py.Group) -> Size:
    """Width and height [px] in the attributes of the first of the groups that has them."""
    for holder in holders:
        geometry = re.fullmatch(r"(\d+)x(\d+)", str(holder.attrs.get("geometry", "")))
        if geometry:
            return int(geometry[1]), int(geometry[2])
        if "width" in holder.attrs and "height" in holder.attrs:
            return int(holder.attrs["width"]), int(holder.attrs["height"])
    return None, None
