# SPDX-License-Identifier: Apache-2.0
"""The message packages agree with those of a real ROS system, and large event packets cross process borders."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from event_camera_msgs.msg import EventPacket
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo
from vision_msgs.msg import (
    BoundingBox2D,
    Classification,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    Point2D,
    Pose2D,
    VisionClass,
)

# Computed by rosidl from the fields of the original definitions; a peer with another hash never matches.
TYPE_HASHES = {
    EventPacket: "RIHS01_d6fa176260b1f37e5a40845305315e150a0f18191241eb64f407442aa29844aa",
    Detection2DArray: "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    Classification: "RIHS01_f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143",
    LabelInfo: "RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
}

RECEIVE = """
import rclpy
from event_camera_msgs.msg import EventPacket
from rclpy.qos import qos_profile_sensor_data

rclpy.init()
node = rclpy.create_node("receiver")
sizes = []
receive = lambda packet: sizes.append(len(packet.events))
node.create_subscription(EventPacket, "events", receive, qos_profile_sensor_data)
deadline = node.get_clock().now() + rclpy.duration.Duration(seconds=30)
while len(sizes) < 10 and node.get_clock().now() < deadline:
    rclpy.spin_once(node, timeout_sec=0.1)
print(sizes)
"""

SEND = """
import array, rclpy, time
from event_camera_msgs.msg import EventPacket
from rclpy.qos import qos_profile_sensor_data

rclpy.init()
node = rclpy.create_node("sender")
publisher = node.create_publisher(EventPacket, "events", qos_profile_sensor_data)
packet = EventPacket(encoding="evt3", events=array.array("B", bytes(1_000_000)))
while publisher.get_subscription_count() == 0:
    time.sleep(0.05)
for _ in range(20):
    publisher.publish(packet)
    time.sleep(0.05)
"""


@pytest.fixture
def node() -> Iterator[Node]:
    rclpy.init()
    node = rclpy.create_node("test_interfaces")
    yield node
    node.destroy_node()
    rclpy.shutdown()


@pytest.mark.parametrize("message", TYPE_HASHES, ids=lambda message: message.__name__)
def test_type_hash_on_the_wire_is_the_one_of_the_original_package(node: Node, message: type) -> None:
    node.create_publisher(message, "topic", 1)

    (endpoint,) = node.get_publishers_info_by_topic("topic")

    assert str(endpoint.topic_type_hash) == TYPE_HASHES[message]


@pytest.mark.parametrize("message", TYPE_HASHES, ids=lambda message: message.__name__)
def test_the_middleware_can_describe_the_type(node: Node, message: type, capfd: pytest.CaptureFixture[str]) -> None:
    """Otherwise it leaves an error behind, which the next subscription of all reports."""
    node.create_publisher(message, "topic", 1)
    node.create_subscription(CameraInfo, "camera_info", print, 1)

    assert "Type support not from this implementation" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "message",
    [
        EventPacket(height=480, width=640, seq=2**63, time_base=7, encoding="evt3", is_bigendian=True, events=[0, 255]),
        Detection2DArray(
            detections=[
                Detection2D(
                    bbox=BoundingBox2D(
                        center=Pose2D(position=Point2D(x=1.5, y=-2.0), theta=0.25), size_x=3.0, size_y=4.0
                    ),
                    results=[ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id="car", score=0.5))],
                    id="7",
                )
            ]
        ),
        Classification(results=[ObjectHypothesis(class_id="pedestrian", score=0.125)]),
        LabelInfo(class_map=[VisionClass(class_id=65535, class_name="véhicule")], threshold=0.5),
    ],
    ids=lambda message: type(message).__name__,
)
def test_message_survives_serialisation(message: object) -> None:
    assert deserialize_message(serialize_message(message), type(message)) == message


def test_best_effort_packets_of_one_megabyte_arrive_with_our_fast_dds_profile() -> None:
    profile = Path(__file__).parents[3] / "config" / "fastdds.xml"
    environment = {**os.environ, "FASTDDS_DEFAULT_PROFILES_FILE": str(profile)}
    receiver = subprocess.Popen([sys.executable, "-c", RECEIVE], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        subprocess.run([sys.executable, "-c", SEND], env=environment, check=True, timeout=60)
        received, _ = receiver.communicate(timeout=60)
    finally:
        receiver.kill()

    assert received.split() == str([1_000_000] * 10).split()
