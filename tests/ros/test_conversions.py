# SPDX-License-Identifier: Apache-2.0
"""Arrays become messages that say the same, in the conventions of their packages."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from aegnn_core.drawing import class_color
from aegnn_core.events.rosbag import RecordedPacket
from aegnn_core.nn.detection import DETECTION_DTYPE
from aegnn_ros import conversions

HEADER = Header(stamp=conversions.time_message(12_000_000_034), frame_id="camera")
BOXES = np.array([(10, 20, 30, 40, 0.75, 1), (0, 5, 6, 7, 0.5, 0)], DETECTION_DTYPE)


@given(st.integers(0, (2**31 - 1) * 10**9 + 999_999_999))
def test_stamps_keep_every_nanosecond(time: int) -> None:
    assert conversions.nanoseconds(conversions.time_message(time)) == time


def test_a_packet_keeps_every_field_and_gets_its_new_stamp() -> None:
    payload = np.arange(7, dtype=np.uint8)
    packet = RecordedPacket(payload, "libcaer", 346, 260, 2**40, 2**63 + 5, True, 1, "davis", 2)
    message = conversions.packet_message(packet, 5_000_000_006)
    assert bytes(message.events) == payload.tobytes()
    assert (message.encoding, message.width, message.height) == ("libcaer", 346, 260)
    assert (message.seq, message.time_base, message.is_bigendian) == (2**40, 2**63 + 5, True)
    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (5, 6, "davis")


def test_classes_are_sorted_by_score() -> None:
    message = conversions.classification(HEADER, np.array([0.25, 0.5, 0.125], np.float32))
    assert [(result.class_id, result.score) for result in message.results] == [("1", 0.5), ("0", 0.25), ("2", 0.125)]


def test_label_info_explains_the_numbers() -> None:
    message = conversions.label_info(HEADER, ("car", "pedestrian"), 0.25)
    assert [(entry.class_id, entry.class_name) for entry in message.class_map] == [(0, "car"), (1, "pedestrian")]
    assert message.threshold == 0.25


def test_an_image_keeps_its_rows() -> None:
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    message = conversions.image(HEADER, pixels)
    assert (message.height, message.width, message.step, message.encoding) == (2, 3, 9, "rgb8")
    np.testing.assert_array_equal(np.array(message.data, np.uint8).reshape(2, 3, 3), pixels)


def test_a_compressed_image_is_a_jpeg_of_the_picture() -> None:
    pixels = np.full((12, 16, 3), (200, 30, 60), np.uint8)
    message = conversions.compressed_image(HEADER, pixels)
    assert message.format.endswith("jpeg compressed bgr8")
    picture = np.asarray(Image.open(io.BytesIO(message.data)))
    assert picture.shape == pixels.shape
    assert np.abs(picture.astype(int) - pixels).max() < 8


def test_a_class_is_shown_as_text_in_its_colour() -> None:
    marker = conversions.text_marker(HEADER, "class", "car 0.90", 0)
    assert (marker.ns, marker.type, marker.text) == ("class", Marker.TEXT_VIEW_FACING, "car 0.90")
    assert (marker.pose.position.z, marker.action) == (1.0, Marker.ADD)
    assert [marker.color.r, marker.color.g, marker.color.b] == pytest.approx(np.array(class_color(0)) / 255)


def test_a_stamp_beyond_ros_times_is_the_last_one() -> None:
    last = conversions.time_message(2**31 * 10**9 - 1)
    assert (last.sec, last.nanosec) == (2**31 - 1, 999_999_999)
    assert conversions.time_message(2**31 * 10**9) == last
    assert conversions.time_message(2**63) == last
