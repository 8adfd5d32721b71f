"""Recordings of any format as rosbag2 with event packets, and boxes where a data set keeps them beside."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from aegnn_core.datasets.event_dataset import FORMATS
from aegnn_core.datasets.recording import AT_THE_END, DatasetFormat
from aegnn_core.events.array import EventStream
from aegnn_core.events.files import read_events
from aegnn_core.events.label_topics import LABEL_DTYPE, Label
from aegnn_core.events.rosbag import write_event_bag

__all__ = ["ConvertedBag", "convert_to_bag"]

#: Of a data set's recordings no larger share of events lies outside its sensor, if any.
_MOST_OUTSIDE = 0.01
#: So many can be named in a sentence.
_NAMED_CLASSES = 10


@dataclass(frozen=True)
class ConvertedBag:
    """What was written.

    Attributes:
        path: the bag's folder.
        events: their number.
        packets: their number.
        labels: number of times with boxes.
        width, height: sensor size [px].
        classes: names of the boxes' classes, none without boxes.
    """

    path: Path
    events: int
    packets: int
    labels: int
    width: int
    height: int
    classes: tuple[str, ...]


def convert_to_bag(
    recording: str | Path,
    output: str | Path,
    storage: Literal["sqlite3", "mcap"] = "mcap",
    topic: str | None = None,
) -> ConvertedBag:
    """Write a recording as a bag: the topic ``/event_camera/events`` and, with boxes, ``/labels`` and ``/label_info``.

    Boxes are those of Gen1 and 1 Mpx (``*_bbox.npy`` beside the events), of DSEC-Det (``tracks.npy`` in the drive's
    folder) and of N-Caltech101 (the folder of annotations). Which of the first two it is, the sensor's size says. Of
    another camera than the data sets' they are left out, with a warning, since their classes are other ones. Stamps
    are the sensor's time.

    Args:
        recording: whatever :func:`aegnn_core.events.read_events` reads.
        output: folder that gets the bag, a folder named after the recording.
        storage: the bag's storage.
        topic: the event topic of a recording that is a bag with several.

    Raises:
        FileExistsError: the bag exists already.
        FileNotFoundError: there is no such recording.
        ValueError: not a readable recording or its boxes are not, no events, or a sensor too large for EVT3.
    """
    recording = Path(recording)
    stream, labels, names = _read_with_labels(recording, topic)
    path = Path(output) / (recording.absolute().name if recording.is_dir() else recording.stem)
    packets = write_event_bag(path, stream, storage=storage, labels=labels, class_names=names)
    return ConvertedBag(path, len(stream), packets, len(labels), stream.width, stream.height, names)


def _read_with_labels(path: Path, topic: str | None) -> tuple[EventStream, list[Label], tuple[str, ...]]:
    stream = read_events(path, topic=topic)
    candidates = [(form, found) for form in FORMATS.values() if form.with_boxes and (found := form.with_boxes(path))]
    for form, found in candidates:
        width, height = form.sensor
        if form.read_boxes is None or not _is_sensor_of(stream, form, first=form is candidates[0][0]):
            continue
        outside = (stream.events["x"] >= width) | (stream.events["y"] >= height)
        stream = read_events(path, *form.sensor) if outside.any() else replace(stream, width=width, height=height)
        boxes = form.read_boxes(found)
        boxes["t"][boxes["t"] == AT_THE_END] = stream.events["t"][-1]
        return stream, [_label(boxes, int(t)) for t in np.unique(boxes["t"])], form.labels
    if candidates:
        known = " or ".join(_described(form) for form, _ in candidates)
        warnings.warn(
            f"{path}: its sensor of {stream.width} x {stream.height} px is not that of {known}, so that the boxes in"
            f" {candidates[0][1].boxes} are left out",
            stacklevel=3,
        )
    return stream, [], ()


def _is_sensor_of(stream: EventStream, form: DatasetFormat, first: bool) -> bool:
    """Whether a recording is of a data set's sensor: it says so, or it says nothing and nearly all events are on it.

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


def _label(boxes: np.ndarray, t: int) -> Label:
    now = boxes[boxes["t"] == t]
    labelled = np.empty(len(now), LABEL_DTYPE)
    for name in LABEL_DTYPE.names or ():
        labelled[name] = now[name]
    return Label(1000 * t, boxes=labelled)
