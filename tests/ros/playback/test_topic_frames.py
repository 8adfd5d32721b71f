# SPDX-License-Identifier: Apache-2.0
"""Live events and boxes become pictures of `aegnn view --topic`."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import rclpy
from event_camera_msgs.msg import EventPacket
from PIL import Image
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSProfile
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesisWithPose

from aegnn_core.cli import main
from aegnn_core.drawing import CLASS_COLORS
from aegnn_core.events import EventStream, event_packets, make_events
from aegnn_ros.conversions import packet_message
from aegnn_ros.playback.packet_replay import DRIVER_QOS


def detections() -> Detection2DArray:
    box = Detection2D(bbox=BoundingBox2D(size_x=10.0, size_y=10.0), results=[ObjectHypothesisWithPose()])
    box.bbox.center.position.x, box.bbox.center.position.y = 30.0, 20.0
    box.results[0].hypothesis.class_id = "robot"
    return Detection2DArray(detections=[box])


@pytest.fixture
def camera() -> Iterator[None]:
    """A camera, and a detector that calls its class by a name; they start again and again, as a bag in a loop does."""
    k = np.arange(400)
    stream = EventStream(make_events(1000 * k, k % 80, k % 60, k % 2), 80, 60)
    context, ended = Context(), Event()
    rclpy.init(context=context)
    node = Node("camera", context=context)
    packets = node.create_publisher(EventPacket, "/camera/events", DRIVER_QOS)
    boxes = node.create_publisher(Detection2DArray, "/detector/boxes", QoSProfile(depth=10))

    def publish() -> None:
        for packet in itertools.cycle(event_packets(stream)):
            if ended.wait(0.005):
                return
            packets.publish(packet_message(packet, packet.stamp))
            boxes.publish(detections())

    thread = Thread(target=publish)
    thread.start()
    yield
    ended.set()
    thread.join()
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_a_live_topic_is_shown_with_its_boxes(tmp_path: Path, camera: None) -> None:
    video = tmp_path / "live.gif"
    began = time.monotonic()

    topics = ["--topic", "/camera/events", "--boxes", "/detector/boxes"]
    assert main(["view", *topics, "--duration", "0.6", "--video", str(video)]) == 0

    assert time.monotonic() - began > 0.5
    with Image.open(video) as gif:
        assert gif.n_frames >= 3
        gif.seek(gif.n_frames - 1)
        colors = {tuple(color) for color in np.asarray(gif.convert("RGB")).reshape(-1, 3)}
    assert any(np.abs(np.subtract(color, CLASS_COLORS[0])).max() <= 8 for color in colors)
