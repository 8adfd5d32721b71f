# SPDX-License-Identifier: Apache-2.0
"""A topic is added in two files: its declaration and its publisher; the node does the rest.

As a program, this module is a detector with that topic.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Float32

from aegnn_core.events.rosbag import RecordedPacket
from aegnn_ros.detector import detector_node, topics
from aegnn_ros.detector.outputs import DetectorOutputs
from aegnn_ros.detector.stream_results import Readout
from aegnn_ros.playback.node_process import main
from docs import node_reference
from tests.ros.conftest import PATIENT, Conversation, conversation

NODE, TOPIC = "event_detector", "/event_detector/best_score"
#: What every lifecycle node has.
OF_ROS = ("/rosout", "/parameter_events", f"/{NODE}/transition_event", f"/{NODE}/_")

# What would be written into topics.py.
BEST_SCORE = topics.Interface("~/best_score", Float32, "out", "the score of the best class")
INTERFACES = (*topics.INTERFACES, BEST_SCORE)


class WithBestScore(DetectorOutputs):
    """What would be written into outputs.py."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self._best_score = self._publisher(BEST_SCORE, QoSProfile(depth=1))

    def publish(self, readout: Readout, *arguments: object) -> None:
        super().publish(readout, *arguments)
        self._best_score.publish(Float32(data=float(readout.scores.max())))


@pytest.fixture(scope="module")
def detector(models: dict[str, Path]) -> Iterator[Conversation]:
    with conversation({"model": str(models["detection"]), "rate": 50.0} | PATIENT, program=__name__) as talk:
        talk.listen(TOPIC, Float32)
        yield talk


def test_the_topic_follows_life_cycle_and_model(
    detector: Conversation, models: dict[str, Path], packets: list[RecordedPacket]
) -> None:
    scores = detector.received["best_score"]
    assert detector.set_parameter("model", str(models["detection"])).successful
    assert detector.configure()
    detector.wait(lambda: detector.node.count_publishers(TOPIC))
    detector.activate()
    detector.play(packets[:10])
    detector.wait(lambda: scores)
    assert 0 <= scores[0].data <= 1

    assert detector.set_parameter("model", str(models["recognition"])).successful
    assert detector.reload_model().success
    detector.wait(lambda: not detector.node.count_publishers("/event_detector/detections"))
    scores.clear()
    detector.play(packets[:10])
    detector.wait(lambda: scores)

    detector.clean_up()
    detector.wait(lambda: not detector.node.count_publishers(TOPIC))


def test_all_topics_of_the_node_are_declared(detector: Conversation, models: dict[str, Path]) -> None:
    declared = {one.name.replace("~", f"/{NODE}") for one in INTERFACES if one.way == "out"}
    assert detector.set_parameter("model", str(models["detection"])).successful
    assert detector.configure()
    detector.wait(lambda: topics_out(detector.node) >= declared)
    assert topics_out(detector.node) == declared
    detector.clean_up()


def topics_out(node: Node) -> set[str]:
    """Names of what the detector publishes, without what every node does."""
    found = node.get_publisher_names_and_types_by_node(NODE, "/")
    return {name for name, _ in found if not name.startswith(OF_ROS)}


def test_the_reference_has_the_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_reference, "INTERFACES", INTERFACES)
    line = "| `~/best_score` | `std_msgs/msg/Float32` | out | the score of the best class |"
    assert line in node_reference.reference().splitlines()


if __name__ == "__main__":
    detector_node.DetectorOutputs = WithBestScore
    main()
