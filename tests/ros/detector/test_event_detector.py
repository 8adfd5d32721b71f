# SPDX-License-Identifier: Apache-2.0
"""The node in a process of its own, as a robot meets it: life cycle, topics, parameters, bad input, the end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import TimeReference
from vision_msgs.msg import Detection2DArray, LabelInfo
from visualization_msgs.msg import Marker

from aegnn_core.events.decoders import make_decoder
from aegnn_core.events.files import read_events
from aegnn_core.events.rosbag import RecordedPacket, read_event_packets
from aegnn_ros.conversions import time_message
from aegnn_ros.playback.node_process import NodeProcess, NodeProcessError
from tests.recordings import recordings
from tests.ros.conftest import COUNTS, LABELS, PATIENT, Conversation, conversation

RATE = 50.0
OUTPUTS = ("detections", "classification", "markers", "annotated_image")
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope="module")
def active(models: dict[str, Path]) -> Iterator[Conversation]:
    """An active detector that finds something in everything."""
    parameters = {
        "model": str(models["detection"]),
        "score_threshold": 0.0,
        "max_detections": 5,
        "rate": RATE,
    }
    with conversation(parameters | PATIENT) as talk:
        assert talk.configure()
        talk.activate()
        yield talk


@pytest.fixture
def detector(active: Conversation) -> Conversation:
    """The same, with nothing received yet."""
    time.sleep(3 / RATE)
    active.forget()
    return active


def stamp_s(message: Detection2DArray) -> float:
    return message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec


def test_edges_on_trigger_inputs_are_published(detector: Conversation) -> None:
    detector.listen("/event_detector/triggers", TimeReference)
    detector.wait(lambda: detector.node.count_publishers("/event_detector/triggers"))
    time.sleep(0.3)
    words = np.array([0x8001, 0x6005, 0x0005, 0x2006, 0xA201], "<u2")  # an event and an edge at 4 101 µs
    detector.play_one(RecordedPacket(np.frombuffer(words.tobytes(), np.uint8), "evt3", 160, 120, 0, 0, False, 0, "", 0))
    detector.wait(lambda: detector.received["triggers"])
    (edge,) = detector.received["triggers"]
    assert (edge.source, edge.time_ref.sec, edge.time_ref.nanosec) == ("trigger 2 rising", 0, 4_101_000)
    assert abs(stamp_s(edge) - time.time()) < 30


@pytest.mark.real_time(reason="an answer that comes late is about a later time than that of the last event")
def test_event_arrays_live(models: dict[str, Path], packets: list[RecordedPacket]) -> None:
    """Of drivers that publish the older message: as it comes, without an object per event."""
    messages = pytest.importorskip("dvs_msgs.msg", reason="dvs_msgs is not built: make setup")
    with conversation({"model": str(models["detection"]), "rate": RATE}) as talk:
        assert talk.set_parameter("events_type", "prophesee_event_msgs/msg/EventArray").successful
        assert not talk.configure()
        assert "there is no package prophesee_event_msgs: build it in this workspace" in talk.process.log()
        assert talk.set_parameter("events_type", "dvs_msgs/msg/EventArray").successful
        assert talk.configure()
        # One participant of DDS cannot have two types on a topic: the camera is another one.
        context = rclpy.Context()
        rclpy.init(context=context)
        camera = Node("camera", context=context)
        talk.publisher = camera.create_publisher(messages.EventArray, "/event_detector/events", 10)
        talk.activate()
        now, count = time.time_ns(), 0
        for packet in packets[:5]:
            array = messages.EventArray(width=160, height=120)
            for event in make_decoder("evt3", 160, 120).decode(packet.events):
                stamp = time_message(now + 1000 * int(event["t"]))
                array.events.append(
                    messages.Event(x=int(event["x"]), y=int(event["y"]), ts=stamp, polarity=bool(event["p"]))
                )
            array.header.frame_id = "davis"
            talk.publisher.publish(array)
            count += len(array.events)
        talk.wait(lambda: talk.counts()["events"] == count)
        talk.wait(lambda: talk.received["detections"])
        first = talk.received["detections"][0]  # those behind the events are about the time that has passed since
        assert first.header.frame_id == "davis"
        assert 0 <= stamp_s(first) - now / 1e9 < 0.06
        camera.destroy_node()
        rclpy.shutdown(context=context)


@pytest.mark.real_time(reason="results come at a rate")
def test_a_recording_gives_messages_on_every_topic(detector: Conversation, packets: list[RecordedPacket]) -> None:
    detector.settle()
    detector.forget()
    begin = time.time()
    detector.play(packets)
    detector.wait(lambda: all(detector.received[topic] for topic in OUTPUTS))
    end = time.time()

    detections = detector.received["detections"]
    assert 10 <= len(detections) <= 1.2 * RATE + 2
    assert {message.header.frame_id for message in detections} == {"event_camera"}
    stamps = [stamp_s(message) for message in detections]
    assert stamps == sorted(stamps)
    assert begin - 0.02 < stamps[0]
    assert stamps[-1] < end
    assert all(len(message.detections) == 5 for message in detections)
    for detection in detections[-1].detections:
        assert 0 <= detection.bbox.center.position.x <= 160
        assert 0 <= detection.bbox.center.position.y <= 120
        assert detection.results[0].hypothesis.class_id in ("0", "1")

    results = detector.received["classification"][-1].results
    assert len(results) == len(LABELS["detection"])
    assert results[0].score >= results[1].score
    image = detector.received["annotated_image"][-1]
    assert (image.width, image.height, image.encoding) == (160, 120, "rgb8")
    assert len(np.unique(np.array(image.data))) > 2
    assert len([marker for marker in detector.received["markers"][-1].markers if marker.action == Marker.ADD]) == 2 * 5


@pytest.mark.real_time(reason="the node has to keep up with the camera")
@pytest.mark.parametrize(
    "recording",
    recordings(
        "made/evt3_640x480",
        "made/libcaer_cmp_346x260",
        "made/libcaer_640x480",
        "rosbags/evt3_640x480",
        "rosbags/libcaer_cmp_346x260",
        "rosbags/libcaer_640x480",
    ),
    indirect=True,
)
def test_recordings_of_other_sensors_lose_nothing_and_give_messages_on_every_topic(
    detector: Conversation, recording: Path
) -> None:
    recorded = list(read_event_packets(recording))
    assert detector.lifecycle.change_state(Transition.TRANSITION_DEACTIVATE)
    detector.activate()  # a sequence of packets that begins now has lost none before
    before = detector.counts()
    detector.forget()
    detector.play(recorded)
    after = detector.counts()
    assert {name: after[name] - before[name] for name in COUNTS} == {
        "packets": len(recorded),
        "packets_lost": 0,
        "packets_dropped": 0,
        "packets_malformed": 0,
        "events": len(read_events(recording)),
    }
    assert all(detector.received[topic] for topic in OUTPUTS)
    image = detector.received["annotated_image"][-1]
    assert (image.width, image.height) == (recorded[0].width, recorded[0].height)
    message = detector.received["detections"][-1]
    assert message.header.frame_id == recorded[0].frame_id
    # Boxes of the whole field of the model cover the whole field of the camera.
    right = max(
        d.bbox.center.position.x + d.bbox.size_x / 2 for m in detector.received["detections"] for d in m.detections
    )
    assert right <= recorded[0].width + 1e-3  # float32
    assert "rror" not in detector.process.log()


def test_malformed_packets_are_counted_and_the_node_goes_on(
    detector: Conversation, packets: list[RecordedPacket]
) -> None:
    good = packets[0]
    detector.play([good])
    malformed = [
        replace(good, encoding="evt9"),
        replace(good, encoding=""),
        replace(good, width=0),
        replace(good, height=0),
        replace(good, events=good.events[:-1]),
        replace(good, width=10),
        replace(good, events=np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint8)),
        replace(good, encoding="libcaer", events=np.full(80, 255, np.uint8), time_base=2**64 - 1),
    ]
    before = detector.settle()
    detector.play([replace(packet, seq=k + 1) for k, packet in enumerate(malformed)])
    detector.play([replace(good, seq=len(malformed) + 1, events=np.empty(0, np.uint8))])
    after = detector.settle()
    assert int(after["packets_malformed"]) - int(before["packets_malformed"]) == len(malformed)
    assert int(after["packets"]) - int(before["packets"]) == len(malformed) + 1
    assert "packet encoding is 'evt9', expected one of evt3" in detector.process.log()

    detector.forget()
    detector.play(replace(packet, seq=packet.seq + 100) for packet in packets[:20])
    detector.wait(lambda: detector.received["detections"])


def test_a_recording_that_starts_again_resets_the_graph(detector: Conversation, packets: list[RecordedPacket]) -> None:
    detector.play(packets[:20])
    before = detector.settle()
    detector.play(packets[:20])
    after = detector.settle()
    assert int(after["resets"]) == int(before["resets"]) + 1
    assert "the graph starts again: " in detector.process.log()


def test_lost_packets_are_counted(detector: Conversation, packets: list[RecordedPacket]) -> None:
    detector.play(packets[:5])
    before = detector.settle()
    detector.play(packets[9:12])
    after = detector.settle()
    assert int(after["packets_lost"]) == int(before["packets_lost"]) + 4
    assert any("4 packets lost" in message.status[0].message for message in detector.received["diagnostics"])


@pytest.mark.real_time(reason="the last events have a result before their 50 ms have passed")
def test_after_a_silence_the_expired_objects_are_gone(detector: Conversation, packets: list[RecordedPacket]) -> None:
    """One result, a window of 50 ms after the one for the last event, and no other."""
    detector.play(packets[:20])
    results = detector.received["detections"]

    def apart_ms() -> float:
        before, last = map(stamp_s, results[-2:])
        return 1000 * (last - before)

    detector.wait(lambda: len(results) >= 2 and apart_ms() == pytest.approx(50, abs=0.1), 10)
    count = len(results)
    time.sleep(5 / RATE)
    assert len(results) == count


def test_thresholds_change_while_the_node_is_active(detector: Conversation, packets: list[RecordedPacket]) -> None:
    detector.listen("/event_detector/label_info", LabelInfo, LATCHED)
    detector.settle()
    detector.forget()
    assert detector.set_parameter("score_threshold", 1.0).successful
    try:
        detector.play(packets[:20])
        detector.wait(lambda: detector.received["detections"])
        assert not detector.received["detections"][-1].detections
        detector.wait(lambda: detector.received["label_info"] and detector.received["label_info"][-1].threshold == 1.0)
    finally:
        assert detector.set_parameter("score_threshold", 0.0).successful
    assert detector.set_parameter("max_detections", 2).successful
    try:
        detector.settle()
        detector.forget()
        detector.play(packets[20:40])
        detector.wait(lambda: detector.received["detections"])
        assert len(detector.received["detections"][-1].detections) == 2
    finally:
        assert detector.set_parameter("max_detections", 5).successful
    assert detector.set_parameter("rate", 5).successful  # a whole number is a number
    try:
        detector.settle()
        detector.forget()
        begin = time.monotonic()
        detector.play(packets[40:90])
        assert len(detector.received["detections"]) <= 5 * (time.monotonic() - begin) + 1
    finally:
        assert detector.set_parameter("rate", RATE).successful


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("score_threshold", 1.5, "Min: 0.0, Max: 1.0, value: 1.5"),
        ("score_threshold", float("nan"), "out of range"),
        ("rate", 0.0, "Min: 0.1, Max: 1000.0"),
        ("max_detections", 0, "Min: 1, Max: 1000"),
        ("rate", "fast", "rate is 'fast', expected a number from 0.1 to 1000.0"),
        ("rate", 0, "rate is 0, expected a number from 0.1 to 1000.0"),
        ("max_detections", 2.5, "max_detections is 2.5, expected a whole number from 1 to 1000"),
        ("frame_id", True, "frame_id is True, expected a text"),
        ("every_nth", 2, "can be changed only while the node is unconfigured: deactivate it and clean it up first"),
    ],
)
def test_wrong_parameters_are_refused_with_what_is_right(
    detector: Conversation, name: str, value: object, reason: str
) -> None:
    result = detector.set_parameter(name, value)
    assert not result.successful
    assert reason in result.reason


def test_a_pause_is_no_change_of_state(detector: Conversation, packets: list[RecordedPacket]) -> None:
    """What comes meanwhile is not looked at, and not missed afterwards."""
    detector.play(packets[:5])
    before = detector.counts()
    assert detector.enable(False).message == "paused"
    detector.play(packets[5:10])
    assert detector.diagnostics()["state"] == "paused"
    assert detector.enable(True).success
    detector.play([replace(packet, seq=packet.seq + 100) for packet in packets[10:15]])
    after = detector.counts()
    assert after["packets"] - before["packets"] == 5
    assert after["packets_lost"] == before["packets_lost"]


def test_statuses_come_at_their_period(detector: Conversation) -> None:
    statuses = detector.received["diagnostics"]
    assert detector.set_parameter("diagnostic_updater.period", 60.0).successful
    detector.forget()
    time.sleep(1.0)
    assert len(statuses) <= 1  # which was on its way
    assert detector.set_parameter("diagnostic_updater.period", 0.2).successful
    detector.wait(lambda: len(statuses) > 3)


def test_names_of_statuses_may_be_without_namespace() -> None:
    with conversation({"diagnostic_updater.use_fqn": False}) as talk:
        talk.wait(lambda: talk.received["diagnostics"])
        (status,) = talk.received["diagnostics"][-1].status
        assert (status.name, status.hardware_id) == ("event_detector: event stream", "/event_detector/events")


def test_label_info_waits_for_late_subscribers(detector: Conversation) -> None:
    detector.listen("/event_detector/label_info", LabelInfo, LATCHED)
    detector.wait(lambda: detector.received["label_info"])
    classes = detector.received["label_info"][0].class_map
    assert [(c.class_id, c.class_name) for c in classes] == list(enumerate(LABELS["detection"]))


def test_the_life_cycle_goes_back_and_forth(detector: Conversation, packets: list[RecordedPacket]) -> None:
    assert detector.lifecycle.change_state(Transition.TRANSITION_DEACTIVATE)
    assert detector.lifecycle.state() == "inactive"
    detector.diagnostics()  # results that were on their way have come before
    detector.forget()
    detector.play(packets[:10])
    time.sleep(3 / RATE)
    assert not detector.received["detections"]
    assert detector.lifecycle.change_state(Transition.TRANSITION_CLEANUP)
    assert detector.lifecycle.state() == "unconfigured"
    detector.wait_for_publishers("detections", 0)
    assert detector.set_parameter("every_nth", 2).successful

    assert detector.configure()
    detector.activate()
    assert detector.lifecycle.state() == "active"
    detector.play(packets[:20])
    detector.wait(lambda: detector.received["detections"])
    values = detector.settle()
    assert int(values["packets"]) == 20
    assert int(values["events_processed"]) == -(-int(values["events"]) // 2)
    assert int(values["events_filtered"]) == int(values["events"]) // 2
    assert float(values["processing_ms"]) > 0


def test_wrong_settings_leave_the_node_unconfigured_and_it_recovers(models: dict[str, Path]) -> None:
    with conversation({"model": "no_such_model"}) as talk:
        assert not talk.configure()
        assert talk.lifecycle.state() == "unconfigured"
        for name, value, complaint in (
            ("model", "/no/such/file.safetensors", "no model file at /no/such/file.safetensors"),
            ("model", str(models["recognition"]), None),
            ("device", "toaster", "device 'toaster' is not available here, there is cpu"),
        ):
            assert talk.set_parameter(name, value).successful
            if complaint:
                assert not talk.configure()
                assert complaint in talk.process.log()
        log = talk.process.log()
        assert "cannot configure: unknown model 'no_such_model'" in log
        assert "Traceback" not in log

        assert talk.set_parameter("device", "cpu").successful
        assert talk.configure()
        talk.activate()
        assert talk.process.stop(signal.SIGTERM) == 0
        assert "Traceback" not in talk.process.log()


def test_a_recognition_model_gives_classes_and_no_boxes(
    active: Conversation, models: dict[str, Path], packets: list[RecordedPacket]
) -> None:
    with active.unconfigured(model=str(models["recognition"]), frame_id="camera_optical"):
        assert active.configure()
        active.activate()
        active.play(packets[:30])
        active.wait(lambda: all(active.received[topic] for topic in OUTPUTS if topic != "detections"))
        active.wait_for_publishers("detections", 0)
        message = active.received["classification"][-1]
        assert message.header.frame_id == "camera_optical"
        assert sum(result.score for result in message.results) == pytest.approx(1)
        (marker,) = active.received["markers"][-1].markers
        assert marker.text.split()[0] in LABELS["recognition"]
        assert "Traceback" not in active.process.log()


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("rate", -1.0, "Min: 0.1, Max: 1000.0, value: -1.0"),
        ("qos_overrides./event_detector/camera_info.subscription.reliability", "best-effort", "override.*best-effort"),
    ],
)
def test_a_start_with_a_wrong_parameter_ends_with_one_sentence(name: str, value: str | float, complaint: str) -> None:
    with NodeProcess({name: value}) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(NodeProcessError, match=rf"(?s)exit code 1;.*cannot start: .*{complaint}"):
            process.check()
        assert "Traceback" not in process.log()
