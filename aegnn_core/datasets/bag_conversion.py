"""Recordings of any format as rosbag2 with event packets, and boxes where a data set keeps them beside."""

from __future__ import annotations

from dataclasses import dataclass
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
    recording: str | Path, output: str | Path, storage: Literal["sqlite3", "mcap"] = "mcap"
) -> ConvertedBag:
    """Write a recording as a bag: the topic ``/event_camera/events`` and, with boxes, ``/labels`` and ``/label_info``.

    Boxes are those of Gen1 (``*_bbox.npy`` beside the events) and of N-Caltech101 (the folder of annotations). Stamps
    are the sensor's time.

    Args:
        recording: whatever :func:`aegnn_core.events.read_events` reads.
        output: folder that gets the bag, a folder named after the recording.
        storage: the bag's storage.

    Raises:
        FileExistsError: the bag exists already.
        FileNotFoundError: there is no such recording.
        ValueError: not a readable recording or its boxes are not, no events, or a sensor too large for EVT3.
    """
    recording = Path(recording)
    stream, labels, names = _read_with_labels(recording)
    path = Path(output) / (recording.absolute().name if recording.is_dir() else recording.stem)
    packets = write_event_bag(path, stream, storage=storage, labels=labels, class_names=names)
    return ConvertedBag(path, len(stream), packets, len(labels))


def _read_with_labels(path: Path) -> tuple[EventStream, list[Label], tuple[str, ...]]:
    for form in FORMATS.values():
        found = form.with_boxes(path) if form.with_boxes else None
        if found is not None and form.read_boxes is not None:
            stream = read_events(path, *form.sensor)
            boxes = form.read_boxes(found)
            boxes["t"][boxes["t"] == AT_THE_END] = stream.events["t"][-1]
            return stream, [_label(boxes, int(t)) for t in np.unique(boxes["t"])], form.labels
    return read_events(path), [], ()


def _label(boxes: np.ndarray, t: int) -> Label:
    now = boxes[boxes["t"] == t]
    labelled = np.empty(len(now), LABEL_DTYPE)
    for name in LABEL_DTYPE.names or ():
        labelled[name] = now[name]
    return Label(1000 * t, boxes=labelled)
