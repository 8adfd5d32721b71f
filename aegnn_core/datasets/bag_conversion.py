"""Recordings of any format as rosbag2 with event packets, and boxes where a data set keeps them beside."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from aegnn_core.datasets.event_dataset import FORMATS
from aegnn_core.datasets.recording import AT_THE_END
from aegnn_core.events.array import EventStream
from aegnn_core.events.files import read_events
from aegnn_core.events.label_topics import LABEL_DTYPE, Label
from aegnn_core.events.rosbag import write_event_bag

__all__ = ["ConvertedBag", "convert_to_bag"]

#: Of a data set's recordings no larger share of events lies outside its sensor, if any.
_MOST_OUTSIDE = 0.01


@dataclass(frozen=True)
class ConvertedBag:
    """What was written.

    Attributes:
        path: the bag's folder.
        events: their number.
        packets: their number.
        labels: number of times with boxes.
    """

    path: Path
    events: int
    packets: int
    labels: int


def convert_to_bag(
    recording: str | Path,
    output: str | Path,
    storage: Literal["sqlite3", "mcap"] = "mcap",
    topic: str | None = None,
) -> ConvertedBag:
    """Write a recording as a bag: the topic ``/event_camera/events`` and, with boxes, ``/labels`` and ``/label_info``.

    Boxes are those of Gen1 (``*_bbox.npy`` beside the events) and of N-Caltech101 (the folder of annotations). Of
    another camera than the data set's they are left out, with a warning, since their classes are other ones. Stamps are
    the sensor's time.

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
    return ConvertedBag(path, len(stream), packets, len(labels))


def _read_with_labels(path: Path, topic: str | None) -> tuple[EventStream, list[Label], tuple[str, ...]]:
    for form in FORMATS.values():
        found = form.with_boxes(path) if form.with_boxes else None
        if found is not None and form.read_boxes is not None:
            stream = read_events(path, topic=topic)
            width, height = form.sensor
            outside = (stream.events["x"] >= width) | (stream.events["y"] >= height)
            if outside.mean() > _MOST_OUTSIDE:
                warnings.warn(
                    f"{path}: its sensor of {stream.width} x {stream.height} px is not that of {form.name}, so that"
                    f" the boxes in {found.boxes} are left out",
                    stacklevel=3,
                )
                return stream, [], ()
            stream = read_events(path, *form.sensor) if outside.any() else replace(stream, width=width, height=height)
            boxes = form.read_boxes(found)
            boxes["t"][boxes["t"] == AT_THE_END] = stream.events["t"][-1]
            return stream, [_label(boxes, int(t)) for t in np.unique(boxes["t"])], form.labels
    return read_events(path, topic=topic), [], ()


def _label(boxes: np.ndarray, t: int) -> Label:
    now = boxes[boxes["t"] == t]
    labelled = np.empty(len(now), LABEL_DTYPE)
    for name in LABEL_DTYPE.names or ():
        labelled[name] = now[name]
    return Label(1000 * t, boxes=labelled)
