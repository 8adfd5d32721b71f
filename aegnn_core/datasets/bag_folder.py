# SPDX-License-Identifier: Apache-2.0
"""A folder of bags with labels beside the events: your own data set.

``{training,validation,test}`` hold rosbag2 recordings (folders, or ``.mcap`` and ``.db3`` files) and ROS 1 ``.bag``
files, all of one camera. The labels of each are on the topic ``/labels``: ``vision_msgs/Classification`` with the
one class of the recording, or ``vision_msgs/Detection2DArray``. The names of the classes stand in ``labels.txt``, one a
line in the order of their numbers, or in the bags on ``/label_info`` (``vision_msgs/LabelInfo``). Where both are there,
a bag's own numbers are those of its ``/label_info``, and the names say which class is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from aegnn_core.datasets.dataset_format import (
    BOX_DTYPE,
    NAMES_FILE,
    DatasetFormat,
    MissingFilesError,
    Recording,
    check_box_classes,
    read_names,
)
from aegnn_core.events.array import EventFormatError
from aegnn_core.events.files.bag import read_bag_sensor
from aegnn_core.events.files.bag_clock import read_bag_clock
from aegnn_core.events.label_topics import BOXES_TYPE, LABEL_INFO_TOPIC, LABEL_TOPIC
from aegnn_core.events.rosbag import is_bag_recording, read_class_names, read_labels, topic_types

__all__ = ["ROSBAG", "ROSBAG_SOURCE", "rosbag_format"]

ROSBAG = "rosbag"
ROSBAG_SOURCE = (
    "rosbag2 recordings or ROS 1 .bag files with events and the topic /labels, such as aegnn bag writes, in the folders"
    " training, validation and test"
)

_Value = TypeVar("_Value")


def rosbag_format(folder: Path, split: str, topic: str | None = None) -> DatasetFormat:
    """The labels, the sensor and the task of the bags of a split.

    Args:
        folder: that holds a folder per split.
        split: one of them.
        topic: the event topic of bags that have several.

    Raises:
        MissingFilesError: there are no bags.
        EventFormatError: a bag is not readable or has no labels, differs from the first one in its sensor, the type of
            its labels or the names of its classes, or nothing says what these are.
    """
    bags = _bags(folder / split)
    sensor = _same(bags, "the sensor's width and height are", [read_bag_sensor(bag, topic) for bag in bags])
    kind = _same(bags, "the type of its labels is", [_label_type(bag) for bag in bags])
    file = folder / NAMES_FILE
    names = read_names(file) if file.exists() else _same(bags, "its classes are", list(map(read_class_names, bags)))
    if not names:
        raise EventFormatError(
            f"{bags[0]}: has no topic {LABEL_INFO_TOPIC} with the names of the classes, expected one, or the names in"
            f" {file}, one a line"
        )
    return DatasetFormat(
        name=ROSBAG,
        labels=names,
        sensor=sensor,
        tasks=("detection" if kind == BOXES_TYPE else "recognition",),
        source=ROSBAG_SOURCE,
        find=partial(_find, names, topic),
        read_boxes=partial(_read_boxes, names),
    )


def _bags(place: Path) -> list[Path]:
    entries = sorted(place.iterdir()) if place.is_dir() else []
    bags = [entry for entry in entries if is_bag_recording(entry)]
    if not bags:
        raise MissingFilesError(f"{place} holds no bags")
    return bags


def _label_type(bag: Path) -> str:
    topics = topic_types(bag)
    if LABEL_TOPIC not in topics:
        raise EventFormatError(f"{bag}: holds the topics {', '.join(sorted(topics))}, expected {LABEL_TOPIC} too")
    return topics[LABEL_TOPIC]


def _same(bags: Sequence[Path], what: str, values: Sequence[_Value]) -> _Value:
    """The one value of all bags."""
    for bag, value in zip(bags, values, strict=True):
        if value != values[0]:
            raise EventFormatError(f"{bag}: {what} {value}, expected {values[0]} as in {bags[0].name}")
    return values[0]


def _find(names: tuple[str, ...], topic: str | None, folder: Path, split: str, task: str) -> Sequence[Recording]:
    bags = _bags(folder / split)
    if task == "detection":
        return [Recording(bag, boxes=bag, topic=topic) for bag in bags]
    return [Recording(bag, _class_of(bag, names), topic=topic) for bag in bags]


def _class_of(bag: Path, names: tuple[str, ...]) -> int:
    found = sorted({label.class_id for label in read_labels(bag, names) if label.class_id is not None})
    if len(found) != 1:
        classes = ", ".join(map(str, found)) or "none"
        raise EventFormatError(f"{bag}: the classes on {LABEL_TOPIC} are {classes}, expected one for all of it")
    (number,) = found
    _check_class(bag, number, names)
    return number


def _read_boxes(names: tuple[str, ...], recording: Recording) -> np.ndarray:
    """The boxes of a bag in the sensor's time; nothing follows an object, so all have the track number 0."""
    bag = recording.events
    clock = _clock_of(bag, recording.topic)
    labels = clock.in_sensor_time(read_labels(bag, names))
    clock.check(bag, labels)
    parts = [np.empty(0, BOX_DTYPE)]
    for label in labels:
        assert label.boxes is not None
        _check_class(bag, int(label.boxes["class_id"].max(initial=0)), names)
        check_box_classes(bag, label.boxes["class_id"])
        part = np.zeros(len(label.boxes), BOX_DTYPE)
        part["t"] = label.stamp // 1000
        for name in label.boxes.dtype.names or ():
            part[name] = label.boxes[name]
        parts.append(part)
    return np.concatenate(parts)


#: All packets are read for it, and boxes may be asked for as often as samples are.
_clock_of = lru_cache(256)(read_bag_clock)


def _check_class(bag: Path, number: int, names: tuple[str, ...]) -> None:
    if number >= len(names):
        known = ", ".join(names)
        raise EventFormatError(f"{bag}: a label is of class {number}, expected 0 to {len(names) - 1}: {known}")
