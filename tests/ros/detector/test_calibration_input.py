# SPDX-License-Identifier: Apache-2.0
"""The last calibration that can be used stays in use, and its subscription is the user's to change."""

from __future__ import annotations

import pytest
import rclpy
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo

from aegnn_ros.detector.calibration_input import CalibrationInput
from aegnn_ros.detector.camera_model import CameraModel

GOOD = CameraInfo(width=640, height=480, k=[500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0])
BAD = CameraInfo(width=640, height=480)


def test_a_calibration_that_cannot_be_used_changes_nothing_and_the_log_says_so(
    capfd: pytest.CaptureFixture[str],
) -> None:
    override = "qos_overrides./camera/camera_info.subscription.reliability:=reliable"
    rclpy.init(args=["--ros-args", "-p", override])
    try:
        node, used = Node("camera"), list[CameraModel]()
        calibration = CalibrationInput(node, used.append)
        (subscription,) = node.subscriptions
        assert subscription.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        assert qos_profile_sensor_data.reliability == ReliabilityPolicy.BEST_EFFORT  # other nodes of the process use it
        calibration._take_calibration(BAD)
        calibration._take_calibration(GOOD)
        calibration._take_calibration(GOOD)
        assert used == [calibration.camera]
        assert "expected a calibrated camera: markers are drawn without it\n" in capfd.readouterr().err
        again = CalibrationInput(Node("other"), used.append)
        again._take_calibration(GOOD)
        again._take_calibration(BAD)
        assert used == [calibration.camera, again.camera]
        assert "expected a calibrated camera: the one before it stays in use\n" in capfd.readouterr().err
    finally:
        rclpy.try_shutdown()
