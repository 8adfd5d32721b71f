# SPDX-License-Identifier: Apache-2.0
"""A bag with events and an image detector's boxes becomes a bag with events and labels."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from aegnn_core.datasets.box_tracks import Labelling, TrackRules, label_between, map_boxes
from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.event_array_topics import EVENT_ARRAY_TYPES
from aegnn_core.events.files import read_events
from aegnn_core.events.files.bag import read_bag_sensor
from aegnn_core.events.label_topics import DetectedBox
from aegnn_core.events.rosbag import (
    RecordedPacket,
    event_packets,
    event_topic_type,
    is_bag_recording,
    read_detections,
    read_event_packets,
    write_event_bag,
)

__all__ = ["LabelledBag", "label_bag"]


@dataclass(frozen=True)
class LabelledBag:
    """What was written.

    Attributes:
        path: the new bag's folder.
        packets: of events.
        labelling: the labels, and what was left out.
        boxes: number of boxes per class, over all labels.
    """

    path: Path
    packets: int
    labelling: Labelling
    boxes: dict[str, int]


def label_bag(
    recording: str | Path,
    output: str | Path,
    detections: str,
    *,
    classes: Mapping[str, Sequence[str]] | None = None,
    homography: np.ndarray | None = None,
    offset_ns: int = 0,
    rules: TrackRules | None = None,
    topic: str | None = None,
    storage: Literal["sqlite3", "mcap"] = "mcap",
) -> LabelledBag:
    """Copy a bag's events to a new bag, with labels made of the boxes that a detector has published beside them.

    Messages with boxes that are not finite are left out like lost images, with a warning.

    Args:
        recording: bag of ROS 2 or ROS 1.
        output: folder that gets the bag, a folder named after the recording.
        detections: topic of ``vision_msgs/Detection2DArray``, stamped on the clock of the events.
        classes: names of the labels' classes, and for each what the detector calls it, by name or number; None for all
            that it has found, under its names.
        homography: ``[3, 3]``, from the detector's pixels to the event camera's; None where they are the same.
        offset_ns: added to the detector's stamps [ns].
        rules: what is certain enough for a label; None for the defaults.
        topic: the event topic of a bag with several.
        storage: the new bag's storage.

    Raises:
        FileExistsError: the bag exists already.
        FileNotFoundError: there is no such recording.
        ValueError: not a readable bag, no such topic, boxes from another time than the events, a class of the detector
            for two of the labels, none of the classes, or nothing that is clear.
    """
    given = Counter(theirs for names in (classes or {}).values() for theirs in set(names))
    if twice := [theirs for theirs, count in given.items() if count > 1]:
        raise ValueError(f"the detector's class {twice[0]!r} is given to several classes, expected it for one")
    recording = Path(recording)
    if not recording.exists():
        raise FileNotFoundError(f"{recording}: no such file or folder, expected a bag with events and detections")
    if not is_bag_recording(recording):
        raise EventFormatError(f"{recording}: is no bag, expected one with events and a topic of detections")
    sensor = read_bag_sensor(recording, topic)
    images = read_detections(recording, detections)
    homography = np.eye(3) if homography is None else homography
    whole = [(stamp, boxes) for stamp, boxes in images if all(box.is_finite for box in boxes)]
    if lost := len(images) - len(whole):
        warnings.warn(
            f"{recording}: {lost} of {len(images)} messages of {detections} have boxes or scores that are not finite,"
            " and are left out like lost images",
            stacklevel=2,
        )
    images = [(stamp + offset_ns, boxes) for stamp, boxes in whole]
    images = _while_events_come(recording, images, _packets(recording, topic))
    images = [(stamp, map_boxes(boxes, homography, sensor)) for stamp, boxes in images]
    found = Counter(box.class_name for _, boxes in images for box in boxes)
    classes = classes or {name: (name,) for name in sorted(found)}
    numbers = {theirs: number for number, names in enumerate(classes.values()) for theirs in names}
    if not numbers.keys() & found.keys():
        raise EventFormatError(
            f"{recording}: the boxes of {detections} that lie on the sensor are of {', '.join(found) or 'no class'},"
            f" expected some of {', '.join(numbers) or 'any class'}"
        )
    labelling = label_between(images, numbers, rules or TrackRules())
    if not labelling.labels:
        raise EventFormatError(
            f"{recording}: none of the {len(images)} messages of {detections} is clear enough for a label; try a lower"
            " score, or a longer gap"
        )
    path = Path(output) / (recording.absolute().name if recording.is_dir() else recording.stem)
    packets = write_event_bag(
        path,
        _packets(recording, topic),
        storage=storage,
        labels=labelling.labels,
        class_names=tuple(classes),
    )
    boxes = Counter(int(n) for label in labelling.labels if label.boxes is not None for n in label.boxes["class_id"])
    return LabelledBag(path, packets, labelling, {name: boxes[number] for number, name in enumerate(classes)})


def _while_events_come(
    recording: Path, images: list[tuple[int, list[DetectedBox]]], packets: Iterable[RecordedPacket]
) -> list[tuple[int, list[DetectedBox]]]:
    """The images between the first and the last packet: at other times there are no events to go with them."""
    stamps = [packet.stamp for packet in packets]
    first, last = min(stamps), max(stamps)
    during = [image for image in images if first <= image[0] <= last]
    if not during:
        found = f"from {images[0][0] / 1e9:.3f} to {images[-1][0] / 1e9:.3f} s" if images else "none at all"
        raise EventFormatError(
            f"{recording}: events are stamped from {first / 1e9:.3f} to {last / 1e9:.3f} s, detections {found};"
            " expected some at the same time, on one clock"
        )
    return during


def _packets(recording: Path, topic: str | None) -> Iterable[RecordedPacket]:
    """The packets as they are; of other messages, new ones with the same events and stamps."""
    if event_topic_type(recording, topic) not in EVENT_ARRAY_TYPES:
        return read_event_packets(recording, topic)
    stream: EventStream = read_events(recording, topic=topic)
    return event_packets(stream)  # in arrays, the sensor's time is ROS time
