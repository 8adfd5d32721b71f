# SPDX-License-Identifier: Apache-2.0
"""The launch files, run by the real ``ros2 launch`` where it is installed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from event_camera_msgs.msg import EventPacket
from lifecycle_msgs.msg import Transition
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python
from vision_msgs.msg import Detection2DArray

from aegnn_core.events.files import read_events
from aegnn_core.events.rosbag import RecordedPacket, write_event_bag
from aegnn_core.nn.checkpoint import load_model, save_model
from aegnn_ros.conversions import nanoseconds, packet_message
from aegnn_ros.playback.packet_replay import DRIVER_QOS
from tests.recordings import recordings
from tests.ros.conftest import ask, spinning_node
from tests.ros.lifecycle_client import LifecycleClient

if shutil.which("ros2") is None:
    pytest.skip("ros2 launch is not installed; it is no wheel, but comes with ROS from apt", allow_module_level=True)
pytest.importorskip("ros2launch", reason="the ros2 in PATH does not belong to this Python")

LAUNCH_FILES = Path(__file__).parents[2] / "launch"


def start_launch(name: str, *arguments: str) -> subprocess.Popen[str]:
    command = ["ros2", "launch", str(LAUNCH_FILES / f"{name}.launch.py"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@contextmanager
def launched(name: str, *arguments: str) -> Iterator[list[str]]:
    """Run a launch file until the end of the block, then Ctrl-C, and give what it has printed."""
    output: list[str] = []
    launch = start_launch(name, *arguments)
    try:
        yield output
    finally:
        launch.send_signal(signal.SIGINT)
        output.append(launch.communicate(timeout=60)[0])
        print(output[0])  # pytest shows it where a test fails
    assert launch.returncode == 0, output[0]


def wait_for(condition: Callable[[], Any], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def active_detector(node: Node, name: str) -> LifecycleClient:
    detector = LifecycleClient(node, name)
    assert detector.wait(120)
    wait_for(lambda: detector.state() == "active")
    return detector


def parameters_of(node: Node, name: str, *parameters: str) -> list[Any]:
    client = node.create_client(GetParameters, f"{name}/get_parameters")
    assert client.wait_for_service(30)
    answer = ask(client, GetParameters.Request(names=parameters))
    return [parameter_value_to_python(value) for value in answer.values]


def parameter_file(path: Path, content: dict[str, dict[str, Any]]) -> Path:
    sections = {name: {"ros__parameters": values} for name, values in content.items()}
    path.write_text(yaml.safe_dump(sections, sort_keys=False))
    return path


def subscribers_of(node: Node, topic: str) -> set[str]:
    subscriptions = node.get_subscriptions_info_by_topic(topic)
    return {f"{subscription.node_namespace}/{subscription.node_name}" for subscription in subscriptions}


def types_of(node: Node, topic: str) -> set[str]:
    return {info.topic_type for info in node.get_publishers_info_by_topic(topic)}


@pytest.mark.parametrize("name", ["detect", "multi", "replay", "evaluate"])
def test_every_argument_is_explained(name: str) -> None:
    output, _ = start_launch(name, "--show-args").communicate(timeout=60)
    explained = output.count("\n\n    '")
    assert explained >= 6
    assert "no description given" not in output
    assert ("'model':\n        name of a packaged model" in output) == (name != "multi")


def test_the_node_is_active_with_its_arguments_parameters_and_topics(
    models: dict[str, Path], packets: list[RecordedPacket], tmp_path: Path
) -> None:
    # The section that stands last in the file is the one that would win.
    sections = {"/robot/eye": {"rate": 12.5}, "/**": {"score_threshold": 0.0, "model": "nmnist", "frame_id": "other"}}
    settings = parameter_file(tmp_path / "settings.yaml", sections)
    arguments = {
        "model": models["detection"],
        "frame_id": "optical",
        "namespace": "robot",
        "name": "eye",
        "events": "/robot/camera/events",
        "params_file": settings,
    }
    received: list[Detection2DArray] = []
    with spinning_node() as node:
        camera = node.create_publisher(EventPacket, "/robot/camera/events", DRIVER_QOS)
        node.create_subscription(Detection2DArray, "/robot/eye/detections", received.append, 10)
        with launched("detect", *(f"{name}:={value}" for name, value in arguments.items())) as output:
            detector = active_detector(node, "/robot/eye")
            names = ("model", "frame_id", "score_threshold", "rate", "use_sim_time")
            values = [str(models["detection"]), "optical", 0.0, 12.5, False]
            assert parameters_of(node, "/robot/eye", *names) == values
            for topic, kind in (
                ("detections", "vision_msgs/msg/Detection2DArray"),
                ("classification", "vision_msgs/msg/Classification"),
                ("label_info", "vision_msgs/msg/LabelInfo"),
                ("markers", "visualization_msgs/msg/MarkerArray"),
                ("annotated_image", "sensor_msgs/msg/Image"),
                ("annotated_image/compressed", "sensor_msgs/msg/CompressedImage"),
            ):
                wait_for(lambda topic=topic, kind=kind: types_of(node, f"/robot/eye/{topic}") == {kind})
            wait_for(camera.get_subscription_count)

            def detects() -> bool:
                for packet in packets:
                    camera.publish(packet_message(packet, node.get_clock().now().nanoseconds))
                    time.sleep(0.01)
                return len(received) > 0

            wait_for(detects)
            assert received[-1].header.frame_id == "optical"
            assert detector.change_state(Transition.TRANSITION_DEACTIVATE)
            assert detector.change_state(Transition.TRANSITION_CLEANUP)
            assert detector.state() == "unconfigured"
        assert output[0].count("process has finished cleanly") == 1


def test_a_wrong_model_is_one_line_of_the_launch_log() -> None:
    with spinning_node() as node:
        launch = start_launch("detect", "model:=no_such_model")
        try:
            assert launch.stdout is not None
            lines = iter(launch.stdout.readline, "")
            assert any("cannot configure: unknown model 'no_such_model'" in line for line in lines)
            detector = LifecycleClient(node, "/event_detector")
            assert detector.wait(30)
            assert detector.state() == "unconfigured"
        finally:
            launch.send_signal(signal.SIGINT)
            launch.communicate(timeout=20)


def test_two_cameras_run_in_one_process_with_parameters_and_states_of_their_own(
    models: dict[str, Path], tmp_path: Path
) -> None:
    content = {
        "/robot/left": {"score_threshold": 0.25, "model": "no_such_model"},
        "/robot/right": {"score_threshold": 0.75},
    }
    settings = parameter_file(tmp_path / "settings.yaml", content)
    arguments = {
        "names": "left right",
        "events": "/a/events /b/events",
        "model": models["detection"],
        "namespace": "robot",
        "params_file": settings,
    }
    with spinning_node() as node:
        with launched("multi", *(f"{name}:={value}" for name, value in arguments.items())) as output:
            left, right = (active_detector(node, name) for name in content)
            for name, topic in zip(content, ("/a/events", "/b/events"), strict=True):
                wait_for(lambda topic=topic, name=name: subscribers_of(node, topic) == {name})
                kind = {"vision_msgs/msg/Detection2DArray"}
                wait_for(lambda name=name, kind=kind: types_of(node, f"{name}/detections") == kind)
                values = [content[name]["score_threshold"], str(models["detection"])]
                assert parameters_of(node, name, "score_threshold", "model") == values
            assert left.change_state(Transition.TRANSITION_DEACTIVATE)
            assert (left.state(), right.state()) == ("inactive", "active")
        assert output[0].count("process has finished cleanly") == 1


def test_names_and_topics_of_several_cameras_have_to_fit() -> None:
    launch = start_launch("multi", "names:=left right", "events:=/only")
    output, _ = launch.communicate(timeout=60)
    assert launch.returncode != 0
    assert "2 names and 1 event topics, expected one per name" in output


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("detect", "params_file:=/nowhere.yaml", "params_file is '/nowhere.yaml', where no file is"),
        ("detect", "use_sim_time:=maybe", "use_sim_time is 'maybe', expected true or false"),
        ("multi", "params_file:=/nowhere.yaml", "params_file is '/nowhere.yaml', where no file is"),
        ("detect", "rviz:=maybe", "rviz is 'maybe', expected true or false"),
        ("multi", "names:=left left", "names are 'left left', expected another name for each node"),
        ("replay", "loop:=often", "loop is 'often', expected true or false"),
        ("evaluate", "bag:=none", "evaluate_bag has failed with exit code 2"),
    ],
)
def test_arguments_that_launch_would_take_are_refused(name: str, argument: str, message: str) -> None:
    launch = start_launch(name, argument, *(["bag:=none"] if name == "replay" else []))
    output, _ = launch.communicate(timeout=60)
    assert launch.returncode != 0
    assert message in output


def test_a_bag_is_replayed_with_its_time_and_launch_ends_with_it(
    models: dict[str, Path], packets: list[RecordedPacket], tmp_path: Path
) -> None:
    write_event_bag(tmp_path / "bag", packets)
    with spinning_node() as node:
        received: list[Detection2DArray] = []
        node.create_subscription(Detection2DArray, "/event_detector/detections", received.append, 1000)
        launch = start_launch("replay", f"bag:={tmp_path / 'bag'}", f"model:={models['detection']}", "rate:=0.5")
        output, _ = launch.communicate(timeout=90)
        assert launch.returncode == 0, output
        assert "played 100 packets" in output
        assert output.count("process has finished cleanly") == 2
        assert len(received) > 5
        # The bag's time, not that of now; at last, everything has expired.
        assert max(nanoseconds(message.header.stamp) for message in received) <= packets[-1].received + 100_000_000


def test_a_relative_topic_is_that_of_the_node_and_of_the_player(
    models: dict[str, Path], packets: list[RecordedPacket], tmp_path: Path
) -> None:
    write_event_bag(tmp_path / "bag", packets[:20])
    arguments = ("namespace:=robot", "events:=camera/events", f"model:={models['detection']}")
    with spinning_node():
        output, _ = start_launch("replay", f"bag:={tmp_path / 'bag'}", *arguments).communicate(timeout=90)
    assert "listening to /robot/camera/events" in output
    assert "played 20 packets" in output


def test_a_bag_that_loops_goes_on_until_ctrl_c(
    models: dict[str, Path], packets: list[RecordedPacket], tmp_path: Path
) -> None:
    write_event_bag(tmp_path / "bag", packets)
    arguments = ("rate:=4", "loop:=true", "events:=/davis/events", f"model:={models['detection']}")
    with spinning_node() as node:
        statuses: list[DiagnosticArray] = []
        node.create_subscription(DiagnosticArray, "/diagnostics", statuses.append, 10)
        with launched("replay", f"bag:={tmp_path / 'bag'}", *arguments) as output:
            wait_for(lambda: statuses and int(values_of(statuses[-1]).get("resets", 0)) >= 2)
            assert types_of(node, "/davis/events") == {"event_camera_msgs/msg/EventPacket"}
            assert types_of(node, "/clock") == {"rosgraph_msgs/msg/Clock"}
        assert output[0].count("process has finished cleanly") == 2


@pytest.mark.real_time(reason="the node has to keep up with the camera")
@pytest.mark.parametrize(
    "recording",
    recordings("made/evt3_640x480", "rosbags/evt3_640x480", "rosbags/libcaer_cmp_346x260", "rosbags/libcaer_640x480"),
    indirect=True,
)
def test_no_packet_of_a_bag_is_lost(models: dict[str, Path], recording: Path, tmp_path: Path) -> None:
    """What is lost at the end of the bag shows when it starts again."""
    events = len(read_events(recording))
    settings = parameter_file(tmp_path / "settings.yaml", {"/**": {"queue_depth": 1000}})
    with spinning_node() as node:
        statuses: list[DiagnosticArray] = []
        node.create_subscription(DiagnosticArray, "/diagnostics", statuses.append, 100)
        arguments = (f"bag:={recording}", f"model:={models['detection']}", f"params_file:={settings}", "loop:=true")
        with launched("replay", *arguments):
            wait_for(lambda: statuses and int(values_of(statuses[-1]).get("resets", 0)) >= 1)
        values = values_of(statuses[-1])
        assert (values["packets_lost"], values["packets_dropped"], values["packets_malformed"]) == ("0", "0", "0")
        assert int(values["events"]) > events


def values_of(message: DiagnosticArray) -> dict[str, str]:
    return {value.key: value.value for value in message.status[0].values}


def test_a_bag_in_a_home_is_evaluated(
    models: dict[str, Path], packets: list[RecordedPacket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_event_bag(tmp_path / "bag", packets[:50])
    model = tmp_path / "model.safetensors"
    save_model(model, replace(load_model(models["detection"]), training={"downsampling": "coordinates"}))
    launch = start_launch("evaluate", "bag:=~/bag", "model:=~/model.safetensors", "rates:=2", "output:=~")
    output, _ = launch.communicate(timeout=120)
    assert launch.returncode == 0, output
    report = json.loads((tmp_path / "evaluation.json").read_text())
    (row,) = report["rates"]
    assert report["downsampling"] == "coordinates"  # as for the model's training
    assert (row["rate"], row["packets"], row["packets_lost"]) == (2.0, 50, 0)
