# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on robots: overload, bad input, dying processes, clocks that jump, memory that ends."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import CompressedImage
from vision_msgs.msg import Detection2DArray
from visualization_msgs.msg import Marker

from aegnn_core.events.array import EventStream, make_events
from aegnn_core.events.rosbag import RecordedPacket, event_packets
from aegnn_ros.detector.background import wait_for_thread
from aegnn_ros.detector.diagnostics import VALUES
from aegnn_ros.playback import node_process
from aegnn_ros.playback.node_process import NodeProcess
from benchmarks.node import EndlessEvents
from tests.ros.conftest import PATIENT, Conversation, conversation

#: How long the overload lasts [s]; a long run takes 60.
OVERLOAD_S = float(os.environ.get("AEGNN_OVERLOAD_S", "3"))
#: Other tests and programs may have the processor for this long.
HICCUP_MS = 1000


@pytest.fixture(scope="module")
def active(models: dict[str, Path]) -> Iterator[Conversation]:
    parameters = {"model": str(models["detection"]), "score_threshold": 0.0, "max_detections": 5, "rate": 30.0}
    # Every event of a larger camera reaches the network, so that there can be too many.
    with conversation(parameters | PATIENT | {"downsampling": "coordinates"}) as talk:
        assert talk.configure()
        talk.activate()
        yield talk


@pytest.fixture
def detector(active: Conversation) -> Conversation:
    active.settle()
    active.forget()
    return active


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    return {value.key: value.value for value in status.values}


def status_after(talk: Conversation) -> DiagnosticStatus:
    talk.diagnostics()
    return talk.received["diagnostics"][-1].status[0]


# Load


@pytest.mark.real_time(reason="the node is overloaded by so much and no more")
def test_ten_times_too_many_events_are_all_decoded_and_thinned_in_time(detector: Conversation) -> None:
    """At 5 million events per second; afterwards everything is processed again."""
    source = EndlessEvents(5_000_000)
    first, *packets, last = source.packets(OVERLOAD_S)
    detector.play_one(first)
    before = detector.diagnostics()
    detector.play(packets)
    statuses = [message.status[0] for message in detector.received["diagnostics"]][1:]
    detector.settle()
    detector.play_one(last)  # so that a loss at the end shows, too
    after = detector.diagnostics()
    lost = int(after["packets_lost"]) - int(before["packets_lost"])
    assert int(after["packets"]) - int(before["packets"]) + lost == len(packets) + 1
    decoded = int(after["events"]) - int(before["events"])
    sent = sum(int(source.counts[packet.seq % len(source.counts)]) for packet in [*packets, last])
    if lost == 0 and after["packets_dropped"] == before["packets_dropped"]:
        assert decoded == sent  # decoding is never skipped
    else:  # a machine with other work cannot even take the packets in
        assert 0.3 * sent < decoded < sent
    processed = int(after["events_processed"]) - int(before["events_processed"])
    assert 0 < processed < decoded / 2
    assert processed + int(after["events_thinned"]) - int(before["events_thinned"]) == decoded

    busy = [values_of(status) for status in statuses if "of the events processed" in status.message]
    assert len(busy) > OVERLOAD_S / 2
    assert max(status.level for status in statuses) >= DiagnosticStatus.WARN
    lags = [float(values["lag_ms"]) for values in busy]
    # How long depends on the machine; without thinning, the lag would grow by most of every second.
    assert max(lags) < 1000 * OVERLOAD_S / 2
    memory = [float(values["memory_mb"]) for values in busy]
    assert memory[-1] - memory[len(memory) // 2] < 30
    assert len(detector.received["detections"]) > OVERLOAD_S

    play_until(detector, lambda values: float(values["processed_share"]) == 1.0)


def play_until(talk: Conversation, condition: Callable[[dict[str, str]], bool]) -> None:
    """Play few events until a status fulfils the condition, which may take a while on a machine with other work."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        talk.play(EndlessEvents(20_000).packets(2.0))
        if condition(status_after_load(talk)):
            return
    pytest.fail(f"still not so after 60 s: {status_after_load(talk)}")


def status_after_load(talk: Conversation) -> dict[str, str]:
    """The last status with events."""
    statuses = [values_of(message.status[0]) for message in talk.received["diagnostics"]]
    return next(values for values in reversed(statuses) if int(values["event_rate_per_s"]) > 0)


def test_a_node_that_was_held_up_accounts_for_every_packet(models: dict[str, Path]) -> None:
    """It comes back to more than ROS and its own queue may hold."""
    with conversation({"model": str(models["detection"]), "queue_mb": 0.1, "queue_depth": 50}) as talk:
        assert talk.configure()
        talk.activate()
        packets = list(EndlessEvents(500_000).packets(2.0))
        talk.play(packets[:150])
        talk.settle()
        os.kill(talk.process.pid, signal.SIGSTOP)
        try:
            talk.play(packets[150:850])
        finally:
            os.kill(talk.process.pid, signal.SIGCONT)
        talk.settle()
        talk.forget()
        talk.play(packets[850:-1])
        talk.settle()
        talk.play_one(packets[-1])  # so that a loss at the end shows, too
        values = talk.settle()
        assert int(values["packets_lost"]) > 0
        assert int(values["packets"]) + int(values["packets_lost"]) == len(packets)
        assert float(values["queue_kb"]) == 0
        assert talk.received["detections"]
        warnings = [m.status[0].message for m in talk.received["diagnostics"] if "packets lost" in m.status[0].message]
        assert all("fastdds.xml" in message for message in warnings)
        assert "packets lost; " in talk.process.log()


@pytest.mark.real_time(reason="a lag is measured, and results come at a rate")
def test_a_slow_subscriber_does_not_slow_the_node(detector: Conversation, packets: list[RecordedPacket]) -> None:
    """One that takes half a second for each of its messages, reliably."""
    environment = os.environ | {"ROS_DOMAIN_ID": str(detector.node.context.get_domain_id())}
    slow = subprocess.Popen([sys.executable, "-c", SLOW_SUBSCRIBER], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert slow.stdout is not None
        assert slow.stdout.readline() == "ready\n"
        detector.wait(lambda: detector.node.count_subscribers("/event_detector/annotated_image") >= 2)
        detector.forget()
        detector.play(packets)
        assert len(detector.received["detections"]) > 12
        assert float(status_after_load(detector)["lag_ms"]) < HICCUP_MS
    finally:
        slow.kill()
        slow.communicate()


SLOW_SUBSCRIBER = """
import time, rclpy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("slow")
node.create_subscription(Image, "/event_detector/annotated_image", lambda message: time.sleep(0.5), 100)
print("ready", flush=True)
rclpy.spin(node)
"""


# Input


def test_random_bytes_in_every_encoding_cost_only_their_packets(
    detector: Conversation, packets: list[RecordedPacket]
) -> None:
    rng = np.random.default_rng(0)
    before = detector.settle()
    seq = 1000
    for _ in range(40):
        for encoding in ("evt3", "libcaer_cmp", "libcaer", "mono", "trigger", "nonsense", ""):
            payload = rng.integers(0, 256, int(rng.integers(0, 3000))).astype(np.uint8)
            detector.play_one(replace(packets[0], events=payload, encoding=encoding, seq=seq))
            seq += 1
            time.sleep(0.003)
    after = detector.settle()
    assert int(after["packets"]) - int(before["packets"]) == 280
    assert int(after["packets_malformed"]) - int(before["packets_malformed"]) > 150
    detector.forget()
    detector.play(packets[:30])
    detector.wait(lambda: detector.received["detections"])
    assert "Traceback" not in detector.process.log()


def test_only_malformed_packets_are_an_error_in_diagnostics(
    detector: Conversation, packets: list[RecordedPacket]
) -> None:
    for k in range(60):  # for more than two intervals between diagnostics
        detector.play_one(replace(packets[0], encoding="wrong", seq=5000 + k))
        time.sleep(0.01)
    detector.wait(lambda: any(m.status[0].level == DiagnosticStatus.ERROR for m in detector.received["diagnostics"]))


def test_empty_packets_are_nothing_special(detector: Conversation, packets: list[RecordedPacket]) -> None:
    detector.play_one(replace(packets[0], seq=8999))
    before = detector.settle()
    for k in range(20):
        detector.play_one(replace(packets[0], events=np.empty(0, np.uint8), seq=9000 + k))
        time.sleep(0.003)
    after = detector.settle()
    assert int(after["packets"]) - int(before["packets"]) == 20
    assert after["packets_malformed"] == before["packets_malformed"]
    assert after["packets_lost"] == before["packets_lost"]


def test_a_camera_that_changes_encoding_and_size_in_mid_stream_starts_the_graph_again(
    detector: Conversation, packets: list[RecordedPacket]
) -> None:
    before = detector.diagnostics()
    other = EventStream(
        make_events(*np.array([range(0, 300_000, 300), [300] * 1000, [200] * 1000, [1] * 1000])), 346, 260
    )
    larger = [replace(packet, seq=packet.seq + 100) for packet in event_packets(other, 10_000)]
    words = np.array([(5 << 17 | 7 << 2 | 3, t) for t in range(0, 100_000, 100)], "<u4").view(np.uint8).ravel()
    libcaer = replace(larger[-1], events=words, encoding="libcaer", seq=200)
    detector.play(packets[:20])
    detector.play(larger)
    detector.wait(lambda: any(image.width == 346 for image in detector.received["annotated_image"]))
    detector.play([libcaer])
    after = detector.settle()
    assert int(after["resets"]) - int(before["resets"]) >= 2
    assert after["camera"] == "libcaer 346 x 260 px"


def test_a_camera_of_another_shape_is_a_warning(detector: Conversation) -> None:
    stream = EventStream(make_events(*np.array([range(0, 300_000, 300), [5] * 1000, [9] * 1000, [1] * 1000])), 640, 100)
    detector.play(replace(packet, seq=packet.seq + 20_000) for packet in event_packets(stream, 10_000))
    status = status_after(detector)
    assert status.level >= DiagnosticStatus.WARN
    assert "640 x 100 px fill only 42% of the model's 320 x 120 px" in status.message


# Clocks


@pytest.mark.parametrize("jump_s", [-3600, 3600])
def test_a_clock_that_jumps_resets_the_graph_once_and_stamps_follow(
    detector: Conversation, packets: list[RecordedPacket], jump_s: int
) -> None:
    """The driver's host gets its time set while sensor time goes on."""
    now = detector.node.get_clock().now().nanoseconds
    detector.play_one(packets[0], now + packets[0].stamp)
    before = detector.settle()
    for packet in packets[1:40]:
        jumped = jump_s * 10**9 if packet.seq >= 20 else 0
        detector.play_one(packet, now + packet.stamp + jumped)
        time.sleep(0.005)
    after = detector.settle()
    assert int(after["resets"]) == int(before["resets"]) + 1
    stamp = detector.received["detections"][-1].header.stamp
    assert abs(stamp.sec + 1e-9 * stamp.nanosec - (now + packets[39].stamp) / 1e9 - jump_s) < 0.1


def test_a_publisher_that_dies_and_returns_is_heard_again(active: Conversation, packets: list[RecordedPacket]) -> None:
    talk = active
    with talk.unconfigured(score_threshold=0.0):
        assert talk.configure()
        talk.activate()
        talk.play(packets[:30])
        talk.wait(lambda: talk.received["detections"])
        talk.node.destroy_publisher(talk.publisher)
        talk.wait(lambda: "nobody publishes on /event_detector/events" in status_after(talk).message)
        talk.forget()
        talk.advertise()
        talk.wait(lambda: talk.publisher.get_subscription_count() and talk.diagnostics()["publishers"] == "1")
        talk.play(packets[:30])
        talk.wait(lambda: talk.received["detections"])
        values = talk.settle()
        assert values["packets_lost"] == "0"
        assert values["resets"] == "1"
        assert set(values) == set(VALUES) - {"device_memory_mb"}


# Outputs, parameters and models while the node is active


def test_markers_keep_their_ids_and_take_old_boxes_away(detector: Conversation, packets: list[RecordedPacket]) -> None:
    detector.play(packets[:20])
    detector.wait(lambda: detector.received["markers"])
    assert detector.set_parameter("max_detections", 2).successful
    try:
        detector.play(packets[20:40])
        detector.wait(lambda: _deleted(detector) >= {("boxes", 2), ("captions", 2), ("boxes", 4), ("captions", 4)})
        last = detector.received["markers"][-1].markers
        assert {marker.id for marker in last if marker.action == Marker.ADD} == {0, 1}
    finally:
        assert detector.set_parameter("max_detections", 5).successful


def _deleted(talk: Conversation) -> set[tuple[str, int]]:
    markers = [marker for message in talk.received["markers"] for marker in message.markers]
    return {(marker.ns, marker.id) for marker in markers if marker.action == Marker.DELETE}


@pytest.mark.real_time(reason="results come at a rate, at which tracks go on")
def test_tracks_keep_their_numbers(detector: Conversation, packets: list[RecordedPacket]) -> None:
    pytest.importorskip("edgefirst.tracker")
    assert detector.set_parameter("tracking", True).successful
    try:
        detector.play(packets)
        tracked = [m for m in detector.received["detections"] if m.detections and m.detections[0].id]
        assert len(tracked) > 5
        ids = [{detection.id for detection in message.detections} for message in tracked]
        assert all(len(numbers) == len(m.detections) for numbers, m in zip(ids, tracked, strict=True))
        assert sum(bool(a & b) for a, b in pairwise(ids)) > len(ids) / 2
    finally:
        assert detector.set_parameter("tracking", False).successful


def test_a_region_of_interest_moves_while_the_node_is_active(
    detector: Conversation, packets: list[RecordedPacket]
) -> None:
    assert detector.set_parameter("region_of_interest", [100, 60, 40, 30]).successful
    try:
        detector.play(packets[:30])
        detector.wait(lambda: detector.received["detections"])
        boxes = [d.bbox for d in detector.received["detections"][-1].detections]
        assert all(100 <= box.center.position.x <= 140 and 60 <= box.center.position.y <= 90 for box in boxes)
    finally:
        assert detector.set_parameter("region_of_interest", [0, 0, 0, 0]).successful


@pytest.mark.real_time(reason="on a machine with other work, several packets share a result")
@pytest.mark.parametrize(("trigger", "least", "most"), [("packet", 8, 42), ("events", 3, 10)])
def test_results_come_by_packets_or_events(
    detector: Conversation, packets: list[RecordedPacket], trigger: str, least: int, most: int
) -> None:
    """Two more than the 40 packets, or the 8 times 1000 events, for the silence that follows; and none at a rate."""
    assert detector.set_parameter("rate", 0.1).successful
    assert detector.set_parameter("events_per_result", 1000).successful
    assert detector.set_parameter("trigger", trigger).successful
    try:
        detector.play(packets[:40])
        detector.settle()
        assert least <= len(detector.received["detections"]) <= most
    finally:
        assert detector.set_parameter("trigger", "rate").successful
        assert detector.set_parameter("rate", 30.0).successful


def test_a_compressed_image_comes_to_those_who_subscribe(detector: Conversation, packets: list[RecordedPacket]) -> None:
    detector.listen("/event_detector/annotated_image/compressed", CompressedImage)
    images = detector.received["compressed"]
    # An image is made only where the node knows of somebody who wants it.
    detector.wait(lambda: detector.play(packets[:20]) or images)
    assert bytes(detector.received["compressed"][-1].data[:2]) == b"\xff\xd8"


def test_the_model_is_swapped_while_the_node_is_active(
    active: Conversation, models: dict[str, Path], packets: list[RecordedPacket], tmp_path: Path
) -> None:
    talk = active
    with talk.unconfigured(score_threshold=0.0, **PATIENT):
        assert "not configured" in talk.reload_model().message
        assert talk.configure()
        talk.activate()
        talk.play(packets[:20])
        for wrong, reason in (("no_such_model", "unknown model"), (str(tmp_path / "x.safetensors"), "no model file")):
            assert talk.set_parameter("model", wrong).successful
            answer = talk.reload_model()
            assert not answer.success
            assert reason in answer.message
        talk.forget()
        talk.play(packets[20:40])
        talk.wait(lambda: talk.received["detections"])

        assert talk.set_parameter("model", str(models["recognition"])).successful
        assert talk.reload_model().success
        assert talk.lifecycle.state() == "active"
        talk.forget()
        talk.play(packets[40:60])
        talk.wait(lambda: talk.received["classification"])
        assert len(talk.received["classification"][-1].results) == 3
        assert not talk.received["detections"]
        values = talk.settle()
        assert values["model"] == "recognition"
        assert int(values["packets"]) == 60
        assert values["packets_lost"] == values["packets_dropped"] == "0"
        assert "Traceback" not in talk.process.log()


def test_the_window_stays_while_the_node_is_inactive(active: Conversation, packets: list[RecordedPacket]) -> None:
    talk = active
    with talk.unconfigured(score_threshold=0.0):
        assert talk.configure()
        talk.activate()
        begin = talk.node.get_clock().now().nanoseconds
        for packet in packets[:10]:
            talk.play_one(packet, begin + packet.stamp)
        talk.wait(lambda: talk.received["detections"])
        assert talk.lifecycle.change_state(Transition.TRANSITION_DEACTIVATE)
        assert talk.lifecycle.state() == "inactive"
        talk.activate()
        for packet in packets[15:25]:
            talk.play_one(packet, begin + packet.stamp)
        values = talk.settle()
        assert values["packets"] == "20"
        assert values["resets"] == values["packets_lost"] == "0"
        assert talk.lifecycle.change_state(Transition.TRANSITION_DEACTIVATE)
        talk.wait(lambda: values_of(status_after(talk))["state"] == "inactive")


def test_qos_of_the_topics_can_be_overridden(models: dict[str, Path]) -> None:
    override = "qos_overrides./event_detector/detections.publisher.reliability"
    with conversation({"model": str(models["detection"]), override: "best_effort"}) as talk:
        for _ in range(2):  # what cleanup takes away comes back the same
            assert talk.configure()
            (publisher,) = talk.wait_for_publishers("detections", 1)
            assert publisher.qos_profile.reliability.name == "BEST_EFFORT"
            assert talk.lifecycle.change_state(Transition.TRANSITION_CLEANUP)
            talk.wait_for_publishers("detections", 0)


# Errors


def play_until_seen(talk: Conversation, packet: RecordedPacket, condition: Callable[[], object]) -> None:
    """Publish a packet, and again every five seconds, until the condition holds; a large one may get lost."""
    due = 0.0

    def holds() -> object:
        nonlocal due
        if time.monotonic() >= due:
            talk.play_one(packet)
            due = time.monotonic() + 5.0
        return condition()

    talk.wait(holds)


def test_out_of_memory_leads_through_the_error_state_to_unconfigured(
    models: dict[str, Path], packets: list[RecordedPacket]
) -> None:
    """The address space is limited to what the process has, and a packet wants 80 times its size."""
    with conversation({"model": str(models["detection"]), "score_threshold": 0.0}) as talk:
        assert talk.configure()
        talk.activate()
        talk.play(packets[:20])
        unlimited = resource.prlimit(talk.process.pid, resource.RLIMIT_AS)
        pages = int(Path(f"/proc/{talk.process.pid}/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (16 << 20)
        resource.prlimit(talk.process.pid, resource.RLIMIT_AS, (limit, unlimited[1]))
        vectors = np.full(1_000_000, 0x4FFF, "<u2").view(np.uint8)  # every word may become twelve events
        greedy = replace(packets[20], events=vectors)
        play_until_seen(talk, greedy, lambda: talk.lifecycle.state() == "unconfigured")
        resource.prlimit(talk.process.pid, resource.RLIMIT_AS, unlimited)
        status = status_after(talk)
        assert status.level == DiagnosticStatus.ERROR
        assert "MemoryError" in status.message
        assert talk.configure()
        talk.activate()
        talk.forget()
        talk.play(packets[:20])
        talk.wait(lambda: talk.received["detections"])


def test_a_device_that_is_not_there_is_refused_and_the_next_configure_works(active: Conversation) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    talk = active
    with talk.unconfigured(device="cuda"):
        assert not talk.configure()
        status = status_after(talk)
        assert status.level == DiagnosticStatus.ERROR
        assert "device 'cuda' is not available here, there is cpu" in status.message
        assert talk.set_parameter("device", "cpu").successful
        assert talk.configure()
        talk.wait(lambda: status_after(talk).level == DiagnosticStatus.OK)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_full_gpu_is_an_error_that_can_be_recovered_from(
    models: dict[str, Path], packets: list[RecordedPacket]
) -> None:
    with conversation({"model": str(models["detection"]), "device": "cuda"}) as talk:
        free, _ = torch.cuda.mem_get_info()
        hog = torch.empty(free - (64 << 20), dtype=torch.uint8, device="cuda")
        assert not talk.configure()
        del hog
        torch.cuda.empty_cache()
        assert talk.configure()
        talk.activate()
        talk.play(packets[:20])
        talk.wait(lambda: talk.received["detections"])


def test_the_node_starts_itself_where_it_is_asked_to(models: dict[str, Path], packets: list[RecordedPacket]) -> None:
    parameters = {"model": str(models["detection"]), "autostart": True, "score_threshold": 0.0}
    with conversation(parameters) as talk:
        talk.wait(talk.publisher.get_subscription_count)
        assert talk.lifecycle.wait(10)
        talk.wait(lambda: talk.lifecycle.state() == "active")
        talk.play(packets[:20])
        talk.wait(lambda: talk.received["detections"])


# The end of processes


@pytest.mark.parametrize(
    ("state", "number"),
    [
        ("starting", signal.SIGINT),
        ("starting", signal.SIGTERM),
        ("unconfigured", signal.SIGTERM),
        ("configuring", signal.SIGINT),
        ("inactive", signal.SIGTERM),
        ("active", signal.SIGINT),
        ("active", signal.SIGTERM),
    ],
)
def test_a_signal_ends_the_node_with_0_in_every_state(
    models: dict[str, Path], packets: list[RecordedPacket], state: str, number: signal.Signals
) -> None:
    with conversation({"model": str(models["detection"])}, program=node_process.__name__) as talk:
        if state == "starting":
            talk.wait(lambda: _catches(talk.process.pid, signal.SIGTERM))  # what comes before is Python's own start
        else:
            talk.wait(lambda: talk.lifecycle.wait(0.1))
        if state == "configuring":
            threading.Thread(target=_try_to_configure, args=(talk,)).start()
            time.sleep(0.1)
        elif state in ("inactive", "active"):
            assert talk.configure()
            if state == "active":
                talk.activate()
                talk.play(packets[:5])
        assert talk.process.stop(number) == 0, talk.process.log()
        assert "Traceback" not in talk.process.log()


def test_a_signal_ends_a_node_that_compiles_without_a_word() -> None:
    """Python says what it drops, where C calls it back; the log would have lines of that."""
    with NodeProcess({"autostart": True}, program="tests.ros.compiling_detector") as process:
        deadline = time.monotonic() + 60
        while "compiling" not in process.log():
            process.check()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert process.stop() == 0
        assert process.log() == "compiling\n"


def test_code_that_exits_in_a_thread_is_an_error_of_whoever_waits() -> None:
    with pytest.raises(RuntimeError, match=r"it called sys\.exit\(3\)"):
        wait_for_thread(lambda: sys.exit(3))


def _catches(process: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def _try_to_configure(talk: Conversation) -> None:
    """Ask for the transition of a node that may end before it answers."""
    with contextlib.suppress(TimeoutError):
        talk.lifecycle.change_state(Transition.TRANSITION_CONFIGURE, 2.0)


def test_a_killed_node_leaves_nothing_that_blocks_the_next(
    models: dict[str, Path], packets: list[RecordedPacket]
) -> None:
    with conversation({"model": str(models["detection"]), "score_threshold": 0.0}) as talk:
        assert talk.configure()
        talk.activate()
        talk.play(packets[:10])
        assert talk.process.stop(signal.SIGKILL) == -signal.SIGKILL
        with NodeProcess({"model": str(models["detection"]), "score_threshold": 0.0}) as next_one:
            talk.process = next_one
            talk.wait(lambda: _answers(talk))
            assert talk.configure()
            talk.activate()
            talk.forget()
            talk.play(packets[:20])
            talk.wait(lambda: talk.received["detections"])


def _answers(talk: Conversation) -> bool:
    """Whether the new node does; ROS still knows the dead one's services for a while."""
    with contextlib.suppress(TimeoutError):
        return talk.lifecycle.state(1.0) == "unconfigured"
    return False


# Several cameras


def test_two_cameras_in_one_process_have_states_of_their_own(
    models: dict[str, Path], packets: list[RecordedPacket]
) -> None:
    with conversation({"model": str(models["detection"]), "score_threshold": 0.0}, ["event_detector", "other"]) as talk:
        assert talk.configure()
        talk.activate()
        other = talk.peer("/other")
        assert other.state() == "unconfigured"
        assert other.change_state(Transition.TRANSITION_CONFIGURE)
        talk.listen("/other/detections", Detection2DArray)
        talk.forget()
        talk.play(packets[:20])
        talk.wait(lambda: talk.received["detections"])
        names = {"/event_detector: event stream", "/other: event stream"}
        talk.wait(lambda: {message.status[0].name for message in talk.received["diagnostics"]} == names)
        assert other.change_state(Transition.TRANSITION_CLEANUP)
        assert (other.state(), talk.lifecycle.state()) == ("unconfigured", "active")
        assert talk.process.stop() == 0
