# SPDX-License-Identifier: Apache-2.0
"""A camera of 640 x 480 px on a detector for 160 x 120: packets in, boxes in the camera's pixels out, end to end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from vision_msgs.msg import Detection2DArray

from aegnn_core import build_graph, load_model
from aegnn_core.events import Downsampler, EventStream, Letterbox, event_packets
from aegnn_core.events.rosbag import RecordedPacket
from aegnn_core.events.simulation import SceneConfig, simulate_scene
from tests.ros.conftest import Conversation, conversation

CAMERA = (640, 480)
THRESHOLD = 0.2


@dataclass(frozen=True)
class Scene:
    """150 ms of a street, and its packets of 10 ms."""

    stream: EventStream
    packets: list[RecordedPacket]

    def numbered_from(self, seq: int) -> Iterator[RecordedPacket]:
        """The packets as a driver would send them that started with this number."""
        return (replace(packet, seq=packet.seq + seq) for packet in self.packets)


@pytest.fixture(scope="module")
def scene() -> Scene:
    stream = simulate_scene(2_000_004, replace(SceneConfig(), duration_us=150_000).for_camera(CAMERA)).stream
    return Scene(stream, list(event_packets(stream, 10_000)))


@pytest.fixture(scope="module")
def detector() -> Iterator[Conversation]:
    parameters = {"model": "scenes_detector", "score_threshold": THRESHOLD, "trigger": "packet", "queue_depth": 1000}
    with conversation(parameters | {"max_latency_ms": 2000.0}) as talk:
        assert talk.configure()
        talk.activate()
        yield talk


def grown(before: dict[str, str], after: dict[str, str], name: str) -> int:
    """By how much a count in diagnostics has grown."""
    return int(after[name]) - int(before[name])


def sides(message: Detection2DArray) -> np.ndarray:
    """Left, upper, right and lower side of every box ``[N, 4]`` px."""
    boxes = [detection.bbox for detection in message.detections]
    centers = np.array([(box.center.position.x, box.center.position.y) for box in boxes]).reshape(-1, 2)
    halves = np.array([(box.size_x, box.size_y) for box in boxes]).reshape(-1, 2) / 2
    return np.hstack([centers - halves, centers + halves])


def test_boxes_are_those_of_the_network_behind_the_filter_in_the_cameras_pixels(
    detector: Conversation, scene: Scene
) -> None:
    detector.forget()
    before = detector.diagnostics()
    detector.play(scene.packets)
    detector.wait(lambda: grown(before, detector.diagnostics(), "events") == len(scene.stream))
    detector.settle()
    after = detector.diagnostics()

    letterbox, model = Letterbox(CAMERA, (160, 120)), load_model("scenes_detector")
    fired = Downsampler(letterbox)(scene.stream.events)
    counts = {name: grown(before, after, name) for name in after if name.startswith(("events", "packets"))}
    assert counts["packets_lost"] == counts["packets_dropped"] == counts["events_thinned"] == 0
    assert counts["events"] == len(scene.stream)
    assert counts["events_downsampled"] == counts["events_processed"] == len(fired) < len(scene.stream) / 10
    assert (after["camera"], after["sensor"]) == ("evt3 640 x 480 px", "160 x 120 px")
    shares = [
        float(value.value)
        for message in detector.received["diagnostics"]
        for value in message.status[0].values
        if value.key == "downsampled_share" and value.value
    ]
    assert shares
    assert max(shares) < 0.2

    last = int(scene.stream.events["t"][-1])
    with torch.no_grad():
        output = model.network(build_graph(fired, model.graph, time=last))
    expected = letterbox.to_camera(model.network.detections(output, THRESHOLD)[0])
    assert len(expected) > 0
    corners = [expected["x"], expected["y"], expected["x"] + expected["w"], expected["y"] + expected["h"]]
    found = [message for message in detector.received["detections"] if message.detections][-1]
    np.testing.assert_allclose(sides(found), np.stack(corners, 1), atol=0.1)
    assert sides(found)[:, 2].max() > 160  # not in the model's pixels
    image = detector.received["annotated_image"][-1]
    assert (image.width, image.height) == CAMERA


def test_the_way_of_downsampling_changes_while_the_node_runs(detector: Conversation, scene: Scene) -> None:
    refused = detector.set_parameter("downsampling", "mean")
    assert not refused.successful
    assert "downsampling is 'mean', expected one of trained, integrate, coordinates" in refused.reason
    assert detector.set_parameter("downsampling", "coordinates").successful
    try:
        before = detector.diagnostics()
        detector.play(scene.numbered_from(1000))
        for name in ("events", "events_downsampled"):
            detector.wait(lambda name=name: grown(before, detector.diagnostics(), name) == len(scene.stream))
    finally:
        assert detector.set_parameter("downsampling", "trained").successful


def test_the_network_goes_to_the_cameras_own_sensor(detector: Conversation, scene: Scene) -> None:
    assert detector.set_parameter("model_sensor", "camera").successful
    try:
        assert detector.reload_model().success
        before = detector.diagnostics()
        detector.forget()
        detector.play(scene.numbered_from(2000))
        detector.wait(lambda: detector.diagnostics()["sensor"] == "640 x 480 px")
        detector.wait(lambda: grown(before, detector.diagnostics(), "events_downsampled") == len(scene.stream))
        detector.wait(lambda: detector.received["detections"])
        for message in detector.received["detections"]:
            assert (sides(message) <= [640.1, 480.1, 640.1, 480.1]).all()
    finally:
        assert detector.set_parameter("model_sensor", "trained").successful
        assert detector.reload_model().success
    assert detector.diagnostics()["sensor"] == "160 x 120 px"
