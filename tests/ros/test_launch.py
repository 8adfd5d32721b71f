"""The launch file, run by the real launch where it is installed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aegnn_ros.lifecycle_client import LifecycleClient
from tests.ros.conftest import spinning_node

pytest.importorskip("launch_ros", reason="launch_ros is not installed; it is no wheel, but comes with ROS from apt")

LAUNCH_FILE = Path(__file__).parents[2] / "launch" / "detect.launch.py"

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


def run_launch(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LAUNCH, str(LAUNCH_FILE), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_launch_file_brings_the_node_to_active_with_its_arguments(models: dict[str, Path]) -> None:
    with spinning_node() as node:
        launch = run_launch(
            f"model:={models['detection']}", "namespace:=robot", "name:=eye", "events:=/robot/camera/events"
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
        launch = run_launch("model:=no_such_model")
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
