# SPDX-License-Identifier: Apache-2.0
"""The subscription to events has the depth that is set when it begins, and ends without a trace."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import rclpy
from rclpy.exceptions import ParameterException
from rclpy.node import Node

from aegnn_ros.detector.event_input import EventInput
from aegnn_ros.detector.packet_queue import PacketQueue

OVERRIDE = "qos_overrides./camera/events.subscription"
PACKETS = "event_camera_msgs/msg/EventPacket"


@contextmanager
def camera_input(*parameters: str) -> Iterator[tuple[Node, EventInput]]:
    """The input of a node, which has these parameters."""
    rclpy.init(args=["--ros-args", *(word for one in parameters for word in ("-p", one))])
    try:
        node = Node("camera")
        yield node, EventInput(node)
        node.destroy_node()
    finally:
        rclpy.try_shutdown()


def listen(camera: EventInput, depth: int) -> None:
    camera.listen(PACKETS, depth, PacketQueue(1000), lambda error: None)


def depths_of(node: Node, camera: EventInput, *asked: int) -> list[int]:
    """The depths of subscriptions, one after the other, for which these depths were asked."""
    depths = []
    for depth in asked:
        listen(camera, depth)
        depths += [subscription.qos_profile.depth for subscription in node.subscriptions]
        camera.stop()
    return depths


def test_each_subscription_has_the_depth_that_is_asked_for() -> None:
    with camera_input(f"{OVERRIDE}.reliability:=reliable") as (node, camera):
        assert depths_of(node, camera, 100, 2000, 5) == [100, 2000, 5]


def test_a_depth_that_the_user_has_overridden_stays() -> None:
    with camera_input(f"{OVERRIDE}.depth:=7") as (node, camera):
        assert depths_of(node, camera, 100, 7, 2000) == [7, 7, 7]
        assert node.get_parameter(f"{OVERRIDE}.depth").value == 7


@pytest.mark.parametrize("override", ["depth:=much", "reliability:=best-effort"])
def test_what_cannot_begin_leaves_nothing_behind(override: str) -> None:
    with camera_input(f"{OVERRIDE}.{override}") as (node, camera):
        threads = threading.active_count()
        for _ in range(2):
            with pytest.raises((ParameterException, RuntimeError), match=r"much|best-effort"):
                listen(camera, 100)
            camera.stop()
        assert not list(node.subscriptions)
        assert threading.active_count() == threads
