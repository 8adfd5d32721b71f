# SPDX-License-Identifier: Apache-2.0
"""The executable ``play_events``: plays the event packets of a bag into ROS, with ``/clock``, as ``ros2 bag`` would."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path

import rclpy
from event_camera_msgs.msg import EventPacket
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock

from aegnn_core.events.rosbag import read_event_packets
from aegnn_core.option_types import playing_rate
from aegnn_ros.conversions import time_message
from aegnn_ros.playback.packet_replay import DRIVER_QOS, publish_in_time

__all__ = ["main"]

#: A subscriber that is seen may not see the publisher yet, and needs time to take the last packet before the process
#: ends [s].
_SETTLE_S = 0.5
_POLL_S = 0.1
#: /clock is not published more often than this in ROS time [ns].
_CLOCK_PERIOD_NS = 5_000_000


def main(arguments: list[str] | None = None) -> int:
    """Play a bag; returns 0, or 2 where the bag or an argument is wrong."""
    arguments = sys.argv if arguments is None else arguments
    parsed = _parser().parse_args(remove_ros_args(arguments)[1:])
    gc.freeze()  # a look for garbage among all that imports have made would delay packets by some tenths of a second
    try:
        rclpy.init(args=arguments)
    except rclpy_implementation.RCLError as error:
        print(f"play_events: ROS cannot start: {error}", file=sys.stderr)
        return 2
    try:
        node = Node("bag_player")
        try:
            _play(node, parsed)
        finally:
            node.destroy_node()  # left to the interpreter's end, it takes seconds
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except rclpy_implementation.RCLError:
        if rclpy.ok():  # otherwise a signal has shut ROS down under a publisher
            raise
    except (ValueError, OSError) as error:
        print(f"play_events: {error}", file=sys.stderr)
        return 2
    finally:
        rclpy.try_shutdown()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="play_events",
        description="Play the event packets of a rosbag2 on the topic /event_camera/events, and its time on /clock.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("bag", type=Path, help="folder of the bag")
    parser.add_argument("--topic", help="event topic in the bag, where it has several")
    parser.add_argument("--rate", type=playing_rate, default=1.0, help="how many times as fast as recorded")
    parser.add_argument("--loop", action="store_true", help="start again at the end")
    return parser


def _play(node: Node, parsed: argparse.Namespace) -> None:
    publisher = node.create_publisher(EventPacket, "/event_camera/events", DRIVER_QOS)
    clock = _BagClock(node)
    first = next(read_event_packets(parsed.bag, parsed.topic), None)
    if first is None:
        raise ValueError(f"{parsed.bag}: no event packets, expected at least one")
    node.get_logger().info(f"waiting for a subscriber of {publisher.topic_name}")
    while rclpy.ok() and not publisher.get_subscription_count():
        clock.tell(first.received)
        time.sleep(_POLL_S)
    time.sleep(_SETTLE_S)
    while rclpy.ok():
        count = 0
        for _ in publish_in_time(
            read_event_packets(parsed.bag, parsed.topic), publisher, None, parsed.rate, clock.tell
        ):
            count += 1
            if not rclpy.ok():
                return
        node.get_logger().info(f"played {count} packets of {parsed.bag}")
        if not parsed.loop:
            time.sleep(_SETTLE_S)
            return


class _BagClock:
    """``/clock``, told the time of the bag."""

    def __init__(self, node: Node) -> None:
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._publisher = node.create_publisher(Clock, "/clock", qos)
        self._last = 0

    def tell(self, now: int) -> None:
        """Publish a time [ns], unless it is only a little later than the last one; one that stands still, again."""
        if not self._last < now < self._last + _CLOCK_PERIOD_NS:
            self._last = now
            self._publisher.publish(Clock(clock=time_message(now)))


if __name__ == "__main__":
    sys.exit(main())
