# SPDX-License-Identifier: Apache-2.0
"""What all data sets have in common: recordings with a label or boxes, in three splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.boxes import BOX_DTYPE

__all__ = [
    "AT_THE_END",
    "BOX_DTYPE",
    "NAMES_FILE",
    "SPLITS",
    "DatasetFormat",
    "LabelledStream",
    "MissingFilesError",
    "Recording",
    "boxes_in_picture",
    "check_box_classes",
    "read_names",
    "require_files",
]

SPLITS = ("training", "validation", "test")

#: Holds the names of the classes of your own recordings, one per line in the order of their numbers.
NAMES_FILE = "labels.txt"

#: Stands for the time of a recording's last event in boxes that have been read without the events.
AT_THE_END = int(np.iinfo(np.int64).max)


class MissingFilesError(FileNotFoundError):
    """A data set is not there, or not all of it."""


@dataclass(frozen=True)
class Recording:
    """Where a recording lies.

    Attributes:
        events: file or folder that :func:`aegnn_core.events.read_events` reads.
        label: its class, None where it has only boxes.
        boxes: file with its boxes, None where it has only a label.
        topic: the event topic of a bag, None for its only one.
        span: first and last time [µs] of a part of the file, None for all of it.
    """

    events: Path
    label: int | None = None
    boxes: Path | None = None
    topic: str | None = None
    span: tuple[int, int] | None = None


@dataclass(frozen=True)
class LabelledStream:
    """A recording that has been read.

    Attributes:
        stream: its events.
        label: its class, None where it has only boxes.
        boxes: array ``[M]`` of :data:`BOX_DTYPE` by time, None where it has only a label.
    """

    stream: EventStream
    label: int | None = None
    boxes: np.ndarray | None = None


@dataclass(frozen=True)
class DatasetFormat:
    """What defines one data set.

    Attributes:
        name: what the command line calls it; also the name of its folder below ``AEGNN_DATA_DIR``.
        labels: names of its classes.
        sensor: width and height [px].
        tasks: for which it has labels.
        source: what to download, and where from.
        find: lists the recordings of a split for a task in the data set's folder; raises :class:`MissingFilesError`.
        read_boxes: boxes of a recording by time, possibly :data:`AT_THE_END`; None for a data set without.
        with_boxes: the recording of an events' file that has boxes where the data set keeps them, otherwise None.
        evaluated_from_us: boxes before this time [µs] do not count in an evaluation.
        counts: which boxes ``[M]``, true or predicted, count in it, from their w and h [px]; None for all.
        evaluated_labels: of the classes whose average precision its mean is of; None for all.
        symmetric: whether a mirrored recording is of the same class; digits, letters and gestures of one hand are not.
    """

    name: str
    labels: tuple[str, ...]
    sensor: tuple[int, int]
    tasks: tuple[str, ...]
    source: str
    find: Callable[[Path, str, str], Sequence[Recording]]
    read_boxes: Callable[[Recording], np.ndarray] | None = None
    with_boxes: Callable[[Path], Recording | None] | None = None
    evaluated_from_us: int = 0
    counts: Callable[[np.ndarray, np.ndarray], NDArray[np.bool_]] | None = None
    evaluated_labels: tuple[str, ...] | None = None
    symmetric: bool = False

    def boxes_by_moment(self, boxes: np.ndarray) -> dict[int, np.ndarray]:
        """The boxes that count, by their time [µs], ascending; without the times at which none counts."""
        boxes = boxes[boxes["t"] >= self.evaluated_from_us]
        if self.counts is not None:
            boxes = boxes[self.counts(boxes["w"], boxes["h"])]
        boxes = boxes[np.argsort(boxes["t"], kind="stable")]
        moments, first = np.unique(boxes["t"], return_index=True)
        return dict(zip(moments.tolist(), np.split(boxes, first)[1:], strict=True))


def boxes_in_picture(boxes: np.ndarray, sensor: tuple[int, int]) -> np.ndarray:
    """A copy of the boxes ``[M]``, clipped to the sensor (width, height) [px]; without those of which nothing is left.

    Boxes of whole objects, such as those of Gen1 and 1 Mpx, reach beyond the sensor where the objects do.
    """
    clipped = boxes.copy()
    for (position, length), size in zip((("x", "w"), ("y", "h")), sensor, strict=True):
        low = boxes[position].astype(np.float64)
        high = low + boxes[length]
        clipped[position] = low.clip(0, size)
        clipped[length] = high.clip(0, size) - low.clip(0, size)
    return clipped[(clipped["w"] > 0) & (clipped["h"] > 0)]


def check_box_classes(path: Path, class_ids: np.ndarray) -> None:
    """Raise ``EventFormatError`` where a class number ``[M]`` of a file's boxes is none of :data:`BOX_DTYPE`."""
    most = np.iinfo(BOX_DTYPE["class_id"]).max
    outside = class_ids[~((class_ids >= 0) & (class_ids <= most))]
    if len(outside):
        raise EventFormatError(f"{path}: a box is of class {outside[0]}, expected a number from 0 to {most}")


def read_names(file: Path) -> tuple[str, ...]:
    """The names of the classes in a file such as :data:`NAMES_FILE`."""
    return tuple(line.strip() for line in file.read_text("utf8").splitlines() if line.strip())


def require_files(folder: Path, files: Iterable[Path]) -> None:
    """Raise :class:`MissingFilesError` unless all ``files`` are there; the message counts them and names the first."""
    files = list(files)
    missing = [file for file in files if not file.exists()]
    if missing:
        raise MissingFilesError(
            f"{len(missing)} of {len(files)} files or folders are missing in {folder},"
            f" the first is {missing[0].relative_to(folder)}"
        )
