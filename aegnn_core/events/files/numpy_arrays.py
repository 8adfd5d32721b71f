"""NumPy's ``.npy`` and ``.npz``: structured events, or columns t, x, y, p."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.files.columns import events_from_columns
from aegnn_core.events.files.recording import Size, checked_stream, first_known

__all__ = ["read_npy", "read_npz"]


def read_npy(path: Path, size: Size) -> EventStream:
    """Read a structured array with fields t, x, y, p, or integers ``[N, 4]`` in this order, as PEDRo has them.

    Raises:
        EventFormatError: not such a file, pickled objects, or events that are not in order or not on the sensor.
    """
    return checked_stream(path, events_from_columns(path, _columns(path, _load(path)["events"])), size)


def read_npz(path: Path, size: Size) -> EventStream:
    """Read the arrays t, x, y and p, or one array ``events`` like that of an ``.npy``; width and height if present.

    Raises:
        EventFormatError: as for :func:`read_npy`.
    """
    arrays = _load(path)
    if "events" in arrays:
        columns = _columns(path, arrays["events"])
    elif set("txyp") <= set(arrays):
        columns = {name: arrays[name] for name in "txyp"}
    else:
        raise EventFormatError(f"{path}: holds the arrays {sorted(arrays)}, expected t, x, y and p, or events")
    stated_size = (_side(path, arrays, "width"), _side(path, arrays, "height"))
    return checked_stream(path, events_from_columns(path, columns), first_known(size, stated_size))


def _load(path: Path) -> dict[str, np.ndarray]:
    """Every array in the file by its name, ``events`` for the one of an ``.npy``; never unpickled."""
    try:
        loaded = np.load(path, allow_pickle=False)
        return dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"events": loaded}
    except Exception as error:  # NumPy and the libraries below it raise errors of a dozen kinds on a corrupt file
        raise EventFormatError(f"{path}: {error}, expected a complete NumPy file without pickled objects") from error


def _columns(path: Path, array: np.ndarray) -> dict[str, np.ndarray]:
    if array.dtype.names is not None and set("txyp") <= set(array.dtype.names):
        return {name: array[name] for name in "txyp"}
    if array.dtype.names is None and array.ndim == 2 and array.shape[1] == 4:
        return dict(zip("txyp", array.T, strict=True))
    raise EventFormatError(
        f"{path}: array of {array.dtype} {array.shape}, expected fields t, x, y, p or integers [N, 4] in this order"
    )


def _side(path: Path, arrays: dict[str, np.ndarray], name: str) -> int | None:
    if name not in arrays:
        return None
    if arrays[name].dtype.kind not in "iu" or arrays[name].size != 1 or arrays[name].item() < 1:
        raise EventFormatError(f"{path}: {name} is {arrays[name]}, expected one positive number of pixels")
    return int(arrays[name].item())
