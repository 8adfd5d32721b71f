# SPDX-License-Identifier: Apache-2.0
"""Recordings of any format as rosbag2 with event packets, and boxes where a data set keeps them beside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aegnn_core.datasets.labelled_recording import read_labelled_recording
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
        width, height: sensor size [px].
        classes: names of the labels' classes, none where nothing says them.
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
    **reading: Any,
) -> ConvertedBag:
    """Write a recording as a bag: the topic ``/event_camera/events`` and, with boxes, ``/labels`` and ``/label_info``.

    Labels are those that :func:`aegnn_core.datasets.labelled_recording.read_labelled_recording` finds. Of another
    camera than the data set's, boxes are left out, with a warning, since their classes are other ones. Stamps are the
    sensor's time.

    Args:
        recording: whatever :func:`aegnn_core.events.read_events` reads.
        output: folder that gets the bag, a folder named after the recording.
        storage: the bag's storage.
        topic: the event topic of a recording that is a bag with several.
        reading: other options of :func:`aegnn_core.events.read_events`, such as ``time_unit``.

    Raises:
        FileExistsError: the bag exists already.
        FileNotFoundError: there is no such recording.
        ValueError: not a readable recording or its boxes are not, no events, or a sensor too large for EVT3.
    """
    recording = Path(recording)
    found = read_labelled_recording(recording, topic, **reading)
    stream, labels, names = found.stream, found.labels, found.class_names
    path = Path(output) / (recording.absolute().name if recording.is_dir() else recording.stem)
    packets = write_event_bag(path, stream, storage=storage, labels=labels, class_names=names)
    return ConvertedBag(path, len(stream), packets, len(labels), stream.width, stream.height, names)
