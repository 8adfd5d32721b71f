# SPDX-License-Identifier: Apache-2.0
"""A recording of any format together with its labels, wherever they are kept."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aegnn_core.datasets.boxes_file import boxes_file_of, read_boxes_file
from aegnn_core.datasets.dataset_format import AT_THE_END, NAMES_FILE, DatasetFormat, read_names
from aegnn_core.datasets.event_dataset import FORMATS, dataset_format
from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.files import read_events
from aegnn_core.events.files.bag_clock import read_bag_clock
from aegnn_core.events.label_topics import LABEL_DTYPE, Label
from aegnn_core.events.rosbag import is_bag_recording, read_class_names, read_labels

__all__ = ["LabelledRecording", "read_labelled_recording"]

#: The largest share of events outside the sensor in any recording of a data set.
_MOST_OUTSIDE = 0.01
#: So many can be named in a sentence.
_NAMED_CLASSES = 10


@dataclass(frozen=True)
class LabelledRecording:
    """Events, and labels at some times.

    Attributes:
        stream: the events.
        labels: by time, on the sensor's clock in ns; none where nothing is known.
        class_names: by class number; none where nothing says them.
    """

    stream: EventStream
    labels: Sequence[Label]
    class_names: tuple[str, ...]


def read_labelled_recording(path: str | Path, topic: str | None = None, **reading: Any) -> LabelledRecording:
    """Read a recording with its labels: a bag's topics ``/labels`` and ``/label_info``, or boxes beside the events.

    Boxes beside the events are those of Gen1 and 1 Mpx (``*_bbox.npy``; the sensor's size says which), of DSEC-Det
    (``tracks.npy`` in the drive's folder) and of N-Caltech101 (the folder of annotations), as long as the camera is the
    data set's, and otherwise a file ``*_bbox.npy``, with the names of the classes in ``labels.txt``.

    Args:
        path: whatever :func:`aegnn_core.events.read_events` reads.
        topic: the event topic of a recording that is a bag with several.
        reading: other options of that function, such as ``time_unit``.

    Raises:
        FileNotFoundError: there is no such recording.
        ValueError: not a readable recording, or its labels are not.
    """
    path = Path(path)
    if is_bag_recording(path):
        return _read_bag(path, topic, reading)
    stream = read_events(path, topic=topic, **reading)
    candidates = [(form, found) for form in _formats() if form.with_boxes and (found := form.with_boxes(path))]
    for form, found in candidates:
        if form.read_boxes is not None and _is_sensor_of(stream, form, first=form is candidates[0][0]):
            width, height = form.sensor
            outside = (stream.events["x"] >= width) | (stream.events["y"] >= height)
            if outside.any():
                stream = read_events(path, topic=topic, **{**reading, "width": width, "height": height})
            else:
                stream = replace(stream, width=width, height=height)
            boxes = form.read_boxes(found)
            boxes["t"][boxes["t"] == AT_THE_END] = stream.events["t"][-1]
            return LabelledRecording(stream, _labels(boxes), form.labels)
    names = _names_beside(path)
    if candidates and not names:
        known = " or ".join(_described(form) for form, _ in candidates)
        warnings.warn(
            f"{path}: its sensor of {stream.width} x {stream.height} px is not that of {known}, so that the boxes in"
            f" {candidates[0][1].boxes} are left out; with the names of their classes in {NAMES_FILE} they are not",
            stacklevel=2,
        )
        return LabelledRecording(stream, (), ())
    file = boxes_file_of(path)
    if file.exists():
        return LabelledRecording(stream, _labels(read_boxes_file(file)), names)
    return LabelledRecording(stream, (), ())


def _formats() -> Iterator[DatasetFormat]:
    """All data sets but those of packages that are broken, which a warning names."""
    for name in FORMATS:
        try:
            yield dataset_format(name)
        except ValueError as error:
            warnings.warn(f"{error}; boxes of this data set are not looked for", stacklevel=3)


def _is_sensor_of(stream: EventStream, form: DatasetFormat, first: bool) -> bool:
    """Whether a recording is of a data set's sensor: it says so, or it does not say and nearly all events are on it.

    Among data sets with the same names of files, the ``first`` is the one whose files may say nothing.
    """
    if (stream.width, stream.height) == form.sensor:
        return True
    x, y = stream.events["x"], stream.events["y"]
    found = (int(x.max()) + 1, int(y.max()) + 1)
    width, height = form.sensor
    outside = ((x >= width) | (y >= height)).mean()
    return first and (stream.width, stream.height) == found and bool(outside <= _MOST_OUTSIDE)


def _described(form: DatasetFormat) -> str:
    width, height = form.sensor
    classes = ", ".join(form.labels) if len(form.labels) <= _NAMED_CLASSES else f"{len(form.labels)} classes"
    return f"{form.name} ({width} x {height} px; {classes})"


def _read_bag(path: Path, topic: str | None, reading: dict[str, Any]) -> LabelledRecording:
    stream = read_events(path, topic=topic, **reading)
    names = read_class_names(path) or _names_beside(path)
    labels = read_labels(path, names)
    if labels:
        clock = read_bag_clock(path, topic)
        labels = clock.in_sensor_time(labels)
        try:
            clock.check(path, labels)
        except EventFormatError as error:  # the events can be looked at all the same
            warnings.warn(str(error), stacklevel=3)
    return LabelledRecording(stream, labels, names)


def _names_beside(path: Path) -> tuple[str, ...]:
    """The names of the classes in a file in the recording's folder, or in the one above."""
    for folder in path.absolute().parents[:2]:
        if (folder / NAMES_FILE).is_file():
            return read_names(folder / NAMES_FILE)
    return ()


def _labels(boxes: np.ndarray) -> list[Label]:
    """One label for every time [µs] that boxes have."""
    return [_label(boxes[boxes["t"] == t], int(t)) for t in np.unique(boxes["t"])]


def _label(boxes: np.ndarray, t: int) -> Label:
    labelled = np.empty(len(boxes), LABEL_DTYPE)
    for name in LABEL_DTYPE.names or ():
        labelled[name] = boxes[name]
    return Label(1000 * t, boxes=labelled)
