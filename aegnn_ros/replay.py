"""Plays recorded event packets into ROS with the recording's timing, as the camera's driver would publish them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from event_camera_msgs.msg import EventPacket
from rclpy.clock import Clock
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy

from aegnn_core.events.rosbag import EventPacket as RecordedPacket
from aegnn_ros.conversions import packet_message

__all__ = ["DRIVER_QOS", "PublishedPacket", "replay"]

#: How event camera drivers publish; a reliable subscriber would get nothing.
DRIVER_QOS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)

#: A recorder does not get a packet later than this [ns]: a longer delay means that the two clocks are not the same.
_LONGEST_DELAY_NS = 1_000_000_000


@dataclass(frozen=True)
class PublishedPacket:
    """A packet that is on its way.

    Attributes:
        packet: as recorded.
        stamp: its new header stamp [ns, ROS time].
        published: when it was published, on the clock of ``time.monotonic_ns`` [ns].
    """

    packet: RecordedPacket
    stamp: int
    published: int


def replay(
    packets: Iterable[RecordedPacket], publisher: Publisher[EventPacket], clock: Clock, rate: float = 1.0
) -> Iterator[PublishedPacket]:
    """Publish packets in real time, with stamps shifted to now, and yield each after it was published.

    The time between packets is that between their receipts in the recording; stamps keep their distance from it. At
    another rate than 1, the stamps keep their distances from each other, so that they still agree with sensor time.

    Args:
        packets: in the order of their receipt.
        publisher: of the event topic.
        clock: for the stamps.
        rate: how many times as fast as recorded.
    """
    start = time.monotonic_ns()
    now = clock.now().nanoseconds
    first: RecordedPacket | None = None
    for packet in packets:
        if first is None:
            first = packet
            delay = packet.received - packet.stamp
            first_stamp = now - (delay if 0 <= delay <= _LONGEST_DELAY_NS else 0)
        stamp = first_stamp + packet.stamp - first.stamp
        message = packet_message(packet, stamp)
        wait = start + (packet.received - first.received) / rate - time.monotonic_ns()
        if wait > 0:
            time.sleep(wait / 1e9)
        published = time.monotonic_ns()
        publisher.publish(message)
        yield PublishedPacket(packet, stamp, published)
