# SPDX-License-Identifier: Apache-2.0
"""Boxes become messages that say the same, whatever the messages before them said."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from aegnn_core.drawing import class_color
from aegnn_core.nn.detection import DETECTION_DTYPE
from aegnn_ros.conversions import detections_of, time_message
from aegnn_ros.detector.box_messages import DetectionMessages, MarkerMessages, deleted_boxes

HEADER = Header(stamp=time_message(12_000_000_034), frame_id="camera")
BOXES = np.array([(10, 20, 30, 40, 0.75, 1), (0, 5, 6, 7, 0.5, 0)], DETECTION_DTYPE)


def test_detections_have_centres_numbers_as_classes_and_the_header_of_the_array() -> None:
    message = DetectionMessages().message(HEADER, BOXES)
    first = message.detections[0]
    assert message.header == first.header == HEADER
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (25, 40)
    assert (first.bbox.size_x, first.bbox.size_y, first.bbox.center.theta) == (30, 40, 0)
    assert (first.results[0].hypothesis.class_id, first.results[0].hypothesis.score) == ("1", 0.75)


def test_detections_come_back_from_their_message() -> None:
    np.testing.assert_array_equal(detections_of(DetectionMessages().message(HEADER, BOXES)), BOXES)
    assert len(detections_of(DetectionMessages().message(HEADER, BOXES[:0]))) == 0


def test_markers_lie_on_the_image_plane_as_the_boxes_in_the_image() -> None:
    captions = [f"caption {k}" for k in range(len(BOXES))]
    markers = MarkerMessages().markers(HEADER, BOXES, captions, range(7, 7 + len(BOXES)), 160, 120)
    outline, _, caption, _ = markers
    assert outline.header == HEADER
    corners = {(round(point.x, 6), round(point.y, 6), point.z) for point in outline.points}
    left, top, right, bottom = (10 - 80) / 160, (20 - 60) / 160, (40 - 80) / 160, (60 - 60) / 160
    assert corners == {(x, y, 1.0) for x in (left, right) for y in (top, bottom)}
    assert caption.text == "caption 0"
    assert caption.pose.position.y < top
    color = [round(255 * channel) for channel in (outline.color.r, outline.color.g, outline.color.b)]
    assert tuple(color) == class_color(1)
    keys = [(marker.ns, marker.id) for marker in markers]
    assert len(keys) == len(set(keys)) == 2 * len(BOXES)
    assert all(marker.pose.orientation.w == 1 for marker in markers)
    deleted = deleted_boxes(HEADER, range(7, 7 + len(BOXES)))
    assert {(marker.ns, marker.id) for marker in deleted} == set(keys)
    assert {marker.action for marker in deleted} == {Marker.DELETE}


def test_tracked_boxes_have_their_tracks_number_as_id() -> None:
    tracked = DetectionMessages().message(HEADER, BOXES, range(3, 3 + len(BOXES)))
    assert [detection.id for detection in tracked.detections] == ["3", "4"]
    assert {detection.id for detection in DetectionMessages().message(HEADER, BOXES).detections} == {""}


@given(st.lists(st.integers(0, 5), min_size=2, max_size=5), st.integers(0, 2**32 - 1))
def test_nothing_of_earlier_boxes_is_left_in_a_message(counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    detections, markers = DetectionMessages(), MarkerMessages()
    for k, count in enumerate(counts):
        header = Header(stamp=time_message(1000 * k), frame_id=f"camera {k}")
        boxes = np.zeros(count, DETECTION_DTYPE)
        for name in ("x", "y", "w", "h", "score"):
            boxes[name] = rng.random(count)
        boxes["class_id"] = rng.integers(0, 3, count)
        ids = rng.permutation(100)[:count].tolist() if rng.random() < 0.5 else None
        assert detections.message(header, boxes, ids) == DetectionMessages().message(header, boxes, ids)
        scene = (header, boxes, [f"box {k}"] * count, ids or range(count), 160, 120)
        assert markers.markers(*scene) == MarkerMessages().markers(*scene)
