# SPDX-License-Identifier: Apache-2.0
"""Boxes beside a file of events: a NumPy file ``*_bbox.npy`` as Prophesee's data sets have it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aegnn_core.datasets.dataset_format import BOX_DTYPE, check_box_classes
from aegnn_core.events.array import EventFormatError
from aegnn_core.events.files.numpy_arrays import load_array
from aegnn_core.whole_files import new_file

__all__ = ["boxes_file_of", "read_boxes_file", "write_boxes_file"]

#: What Prophesee's toolbox calls the fields.
_FILE_DTYPE = np.dtype(
    [
        ("ts", "<u8"),
        *((name, "<f4") for name in "xywh"),
        ("class_id", "u1"),
        ("class_confidence", "<f4"),
        ("track_id", "<u4"),
    ]
)


def boxes_file_of(events: Path) -> Path:
    """Where the boxes of a file of events lie: ``a_bbox.npy`` beside ``a.raw`` or ``a_td.dat``."""
    return events.with_name(events.stem.removesuffix("_td") + "_bbox.npy")


def read_boxes_file(path: Path, labels: Sequence[str] | None = None) -> np.ndarray:
    """The boxes of a file as an array ``[M]`` of :data:`aegnn_core.datasets.dataset_format.BOX_DTYPE`, by time.

    Args:
        path: the file.
        labels: names of the classes that there may be; None for any.

    Raises:
        EventFormatError: not a NumPy file, without one of the fields, with a class that has no label, or with a value
            that is not finite.
        FileNotFoundError: nothing is there.
    """
    table = load_array(path)
    names = table.dtype.names or ()
    time = "ts" if "ts" in names else "t"  # older files have t
    expected = (time, "x", "y", "w", "h", "class_id", "track_id")
    if not set(expected) <= set(names):
        raise EventFormatError(f"{path}: fields {', '.join(names) or 'none'}, expected {', '.join(expected)}")
    if any(table[name].ndim != 1 or table[name].dtype.kind not in "iuf" for name in expected):
        raise EventFormatError(
            f"{path}: array of {table.dtype} {table.shape}, expected one number a field and a box a row"
        )
    for name in expected:
        if table[name].dtype.kind == "f" and len(wrong := table[name][~np.isfinite(table[name])]):
            raise EventFormatError(f"{path}: the {name} of a box is {wrong[0]}, expected a number")
    unknown = set(table["class_id"].tolist()) - set(range(len(labels))) if labels is not None else set()
    if labels is not None and unknown:
        known = ", ".join(f"{number} ({label})" for number, label in enumerate(labels))
        raise EventFormatError(f"{path}: class_id {min(unknown)}, expected {known}")
    check_box_classes(path, table["class_id"])
    boxes = np.empty(len(table), BOX_DTYPE)
    for field, name in zip(BOX_DTYPE.names or (), expected, strict=True):
        boxes[field] = table[name]
    return boxes[np.argsort(boxes["t"], kind="stable")]


def write_boxes_file(path: Path, boxes: np.ndarray) -> None:
    """Write boxes ``[M]`` with the fields of :data:`aegnn_core.datasets.dataset_format.BOX_DTYPE`, and times from 0 on.

    Raises:
        FileExistsError: something is there already.
        OSError: the file cannot be written. Nothing is left of it then.
    """
    table = np.ones(len(boxes), _FILE_DTYPE)
    table["ts"] = boxes["t"]
    for name in ("x", "y", "w", "h", "class_id", "track_id"):
        table[name] = boxes[name]
    with new_file(path) as file:
        np.save(file, table)
