# SPDX-License-Identifier: Apache-2.0
"""The node's subscription to ``~/camera_info``: the calibration of its camera, once it is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo

from aegnn_ros.detector import topics
from aegnn_ros.detector.camera_model import CameraModel

__all__ = ["CalibrationInput"]

#: A camera repeats a calibration that cannot be used: one line in this time [s] says so.
_LOG_PERIOD_S = 50.0
#: As of ROS's profile for sensors.
_DEPTH = 5
#: Fields of a calibration beside its distortion model.
_FIELDS = ("width", "height", "d", "k", "r", "p")


class CalibrationInput:
    """Listens as long as the node lives.

    Args:
        node: owns the subscription.
        on_change: called with a calibration that differs from the last one.

    Attributes:
        camera: the last calibration that could be used; None before the first one.
    """

    def __init__(self, node: Node, on_change: Callable[[CameraModel], None]) -> None:
        self.camera: CameraModel | None = None
        self._node, self._on_change = node, on_change
        self._last: CameraInfo | None = None
        node.create_subscription(
            topics.CAMERA_INFO.kind,
            topics.CAMERA_INFO.name,
            self._take_calibration,
            QoSProfile(depth=_DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _take_calibration(self, info: CameraInfo) -> None:
        if self._last is not None and _same(info, self._last):
            return
        try:
            camera = CameraModel(info)
        except ValueError as error:
            instead = "markers are drawn without it" if self.camera is None else "the one before it stays in use"
            self._node.get_logger().warning(f"{error}: {instead}", throttle_duration_sec=_LOG_PERIOD_S)
            return
        self._last, self.camera = info, camera
        self._on_change(camera)


def _same(one: CameraInfo, other: CameraInfo) -> bool:
    """Whether two messages say the same: a camera repeats its calibration all the time."""
    if one.distortion_model != other.distortion_model:
        return False
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in _FIELDS)
