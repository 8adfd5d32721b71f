# SPDX-License-Identifier: Apache-2.0
"""Labels written beside events read back as the same boxes and classes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from aegnn_core.events.array import EventFormatError, EventStream, make_events
from aegnn_core.events.label_topics import INFO_TYPE, LABEL_DTYPE, Label, deserialize_label_info, label_typestore
from aegnn_core.events.rosbag import (
    read_class_names,
    read_detections,
    read_event_packets,
    read_labels,
    topic_types,
    write_event_bag,
)

STREAM = EventStream(make_events(*np.array([[10, 20, 30], [1, 2, 3], [4, 5, 6], [0, 1, 0]])), 64, 48)
BOXES = np.array([(1.5, 2, 30, 20, 1), (0, 0, 5, 7.25, 0)], LABEL_DTYPE)


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_boxes_and_their_absence_read_back(tmp_path: Path, storage: str) -> None:
    labels = [Label(20_000, boxes=BOXES), Label(30_000, boxes=BOXES[:0])]
    assert write_event_bag(tmp_path / "bag", STREAM, storage=storage, labels=labels) == 1
    found = read_labels(tmp_path / "bag")
    assert [label.stamp for label in found] == [20_000, 30_000]
    np.testing.assert_array_equal(found[0].boxes, BOXES)
    assert found[1].boxes is not None
    assert len(found[1].boxes) == 0
    assert len(list(read_event_packets(tmp_path / "bag"))) == 1


def test_a_class_reads_back(tmp_path: Path) -> None:
    write_event_bag(tmp_path / "bag", STREAM, labels=[Label(5, class_id=2)])
    (label,) = read_labels(tmp_path / "bag")
    assert (label.stamp, label.boxes, label.class_id) == (5, None, 2)


def test_names_of_classes_read_back(tmp_path: Path) -> None:
    write_event_bag(tmp_path / "bag", STREAM, labels=[Label(5, class_id=1)], class_names=("cup", "hand"))
    assert read_class_names(tmp_path / "bag") == ("cup", "hand")
    assert topic_types(tmp_path / "bag") == {
        "/event_camera/events": "event_camera_msgs/msg/EventPacket",
        "/labels": "vision_msgs/msg/Classification",
        "/label_info": "vision_msgs/msg/LabelInfo",
    }
    write_event_bag(tmp_path / "nameless", STREAM)
    assert read_class_names(tmp_path / "nameless") == ()


def test_numbers_are_those_of_the_names_asked_for(tmp_path: Path) -> None:
    """Whoever made the bag may have numbered the same classes in another order."""
    write_event_bag(tmp_path / "bag", STREAM, labels=[Label(5, boxes=BOXES)], class_names=("cup", "hand"))
    for names, numbers in (((), [1, 0]), (("cup", "hand"), [1, 0]), (("hand", "face", "cup"), [0, 2])):
        (label,) = read_labels(tmp_path / "bag", names)
        assert label.boxes is not None
        assert label.boxes["class_id"].tolist() == numbers
    with pytest.raises(EventFormatError, match="a label has the class 1, which is 'hand', expected one of cup, face"):
        read_labels(tmp_path / "bag", ("cup", "face"))
    write_event_bag(tmp_path / "class", STREAM, labels=[Label(5, class_id=1)], class_names=("cup", "hand"))
    assert [label.class_id for label in read_labels(tmp_path / "class", ("hand", "cup"))] == [0]
    write_event_bag(tmp_path / "more", STREAM, labels=[Label(5, class_id=2)], class_names=("cup", "hand"))
    with pytest.raises(
        EventFormatError, match="a label has the class 2, which is 'nothing', expected one of hand, cup"
    ):
        read_labels(tmp_path / "more", ("hand", "cup"))


def test_class_numbers_with_gaps_are_refused() -> None:
    store = label_typestore()
    classes = [store.types["vision_msgs/msg/VisionClass"](class_id=n, class_name=str(n)) for n in (0, 2)]
    header = store.types["std_msgs/msg/Header"](stamp=store.types["builtin_interfaces/msg/Time"](0, 0), frame_id="")
    message = store.types[INFO_TYPE](header=header, class_map=classes, threshold=0.0)
    with pytest.raises(EventFormatError, match=r"LabelInfo has the class numbers \[0, 2\], expected all from 0 on"):
        deserialize_label_info(bytes(store.serialize_cdr(message, INFO_TYPE)), store)


def test_a_bag_without_labels_has_none(tmp_path: Path) -> None:
    write_event_bag(tmp_path / "bag", STREAM)
    assert read_labels(tmp_path / "bag") == []


@pytest.mark.parametrize("read", [read_labels, partial(read_detections, topic="/labels"), read_class_names])
@pytest.mark.parametrize("damage", ["UPDATE messages SET data = x'0001'", "UPDATE messages SET data = 1"])
def test_a_damaged_bag_is_refused_by_its_name(tmp_path: Path, damage: str, read: Callable[[Path], object]) -> None:
    write_event_bag(tmp_path / "bag", STREAM, labels=[Label(5, boxes=BOXES)], class_names=("cup", "hand"))
    path = tmp_path / "bag" / "bag.db3"
    with closing(sqlite3.connect(path)) as storage, storage:
        storage.execute(damage)
    with pytest.raises(EventFormatError, match=r"bag\.db3: .*expected a complete rosbag2 recording"):
        read(path)


def test_another_type_of_topic_is_refused(tmp_path: Path) -> None:
    write_event_bag(tmp_path / "bag", STREAM, topic="/events")
    with pytest.raises(
        EventFormatError, match="topic /events: labels are event_camera_msgs/msg/EventPacket, expected vision_msgs"
    ):
        read_labels(tmp_path / "bag", topic="/events")


def test_labels_of_two_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be of one kind"):
        write_event_bag(tmp_path / "bag", STREAM, labels=[Label(1, class_id=0), Label(2, boxes=BOXES)])


def test_the_message_types_are_those_of_vision_msgs() -> None:
    hashes = {
        "vision_msgs/msg/Detection2DArray": "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
        "vision_msgs/msg/Classification": "RIHS01_f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143",
    }
    store = label_typestore()
    assert {name: store.hash_rihs01(name) for name in hashes} == hashes
