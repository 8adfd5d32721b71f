"""The launch file, run by the real launch where it is installed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from vision_msgs.msg import Detection2DArray

from aegnn_core.events.rosbag import EventPacket as RecordedPacket
from aegnn_core.events.rosbag import write_event_bag
from aegnn_ros.lifecycle_client import LifecycleClient
from tests.ros.conftest import spinning_node

pytest.importorskip("launch_ros", reason="launch_ros is not installed; it is no wheel, but comes with ROS from apt")

LAUNCH_FILES = Path(__file__).parents[2] / "launch"

LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

arguments = [argument.split(":=") for argument in sys.argv[2:]]
included = IncludeLaunchDescription(PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=arguments)
service = LaunchService()
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""


def run_launch(name: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LAUNCH, str(LAUNCH_FILES / f"{name}.launch.py"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_launch_file_brings_the_node_to_active_with_its_arguments(models: dict[str, Path]) -> None:
    with spinning_node() as node:
        launch = run_launch(
            "detect", f"model:={models['detection']}", "namespace:=robot", "name:=eye", "events:=/robot/camera/events"
        )
        try:
            detector = LifecycleClient(node, "/robot/eye")
            assert detector.wait(30)
            deadline = time.monotonic() + 30
            while (state := detector.state()) != "active" and time.monotonic() < deadline:
                time.sleep(0.1)
            assert state == "active"
            assert node.get_subscriptions_info_by_topic("/robot/camera/events")
            assert node.get_publishers_info_by_topic("/robot/eye/detections")
        finally:
            launch.send_signal(signal.SIGINT)
            output, _ = launch.communicate(timeout=20)
        assert "process has finished cleanly" in output
        assert launch.returncode == 0, output


def test_a_wrong_model_is_one_line_of_the_launch_log() -> None:
    with spinning_node() as node:
        launch = run_launch("detect", "model:=no_such_model")
        try:
            detector = LifecycleClient(node, "/event_detector")
            assert detector.wait(30)
            assert launch.stdout is not None
            lines = iter(launch.stdout.readline, "")
            assert any("cannot configure: unknown model 'no_such_model'" in line for line in lines)
            assert detector.state() == "unconfigured"
        finally:
            launch.send_signal(signal.SIGINT)
            launch.communicate(timeout=20)


def test_two_cameras_run_in_one_process(models: dict[str, Path]) -> None:
    with spinning_node() as node:
        launch = run_launch(
            "multi",
            "names:=left right",
            f"model:={models['detection']}",
            "namespace:=robot",
            "events:=/a/events /b/events",
        )
        try:
            for name, topic in (("left", "/a/events"), ("right", "/b/events")):
                detector = LifecycleClient(node, f"/robot/{name}")
                assert detector.wait(60)
                wait_for(lambda detector=detector: detector.state() == "active")
                assert node.get_subscriptions_info_by_topic(topic)
                assert node.get_publishers_info_by_topic(f"/robot/{name}/detections")
        finally:
            launch.send_signal(signal.SIGINT)
            output, _ = launch.communicate(timeout=20)
        assert output.count("process has finished cleanly") == 1
        assert launch.returncode == 0, output


def test_names_and_topics_of_several_cameras_have_to_fit() -> None:
    launch = run_launch("multi", "names:=left right", "events:=/only")
    output, _ = launch.communicate(timeout=60)
    assert launch.returncode != 0
    assert "2 names and 1 event topics, expected one per name" in output


def test_a_bag_is_replayed_with_its_time_and_launch_ends_with_it(
    models: dict[str, Path], packets: list[RecordedPacket], tmp_path: Path
) -> None:
    write_event_bag(tmp_path / "bag", packets)
    with spinning_node() as node:
        received: list[Detection2DArray] = []
        node.create_subscription(Detection2DArray, "/event_detector/detections", received.append, 1000)
        launch = run_launch("replay", f"bag:={tmp_path / 'bag'}", f"model:={models['detection']}", "rate:=0.5")
        output, _ = launch.communicate(timeout=90)
        assert launch.returncode == 0, output
        assert "played 100 packets" in output
        assert output.count("process has finished cleanly") == 2
        assert len(received) > 5
        stamps = [message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec for message in received]
        assert max(stamps) <= packets[-1].received / 1e9  # the bag's time, not that of now


def test_a_bag_is_evaluated(models: dict[str, Path], packets: list[RecordedPacket], tmp_path: Path) -> None:
    write_event_bag(tmp_path / "bag", packets[:50])
    launch = run_launch(
        "evaluate", f"bag:={tmp_path / 'bag'}", f"model:={models['detection']}", "rates:=2", f"output:={tmp_path}"
    )
    output, _ = launch.communicate(timeout=120)
    assert launch.returncode == 0, output
    (row,) = json.loads((tmp_path / "evaluation.json").read_text())["rates"]
    assert (row["rate"], row["packets"], row["packets_lost"]) == (2.0, 50, 0)


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
