# SPDX-License-Identifier: Apache-2.0
"""Plays recorded event packets into ROS with the recording's timing, as the camera's driver would publish them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from event_camera_msgs.msg import EventPacket
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy

from aegnn_core.events.recorded_packet import RecordedPacket
from aegnn_ros.conversions import packet_message

__all__ = ["DRIVER_QOS", "PublishedPacket", "publish_in_time"]

#: How event camera drivers publish; a reliable subscriber would get nothing.
DRIVER_QOS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)

#: Longest delay until a recorder receives a packet [ns]: a longer one means that the two clocks differ.
_LONGEST_DELAY_NS = 1_000_000_000
#: While there is nothing to publish, ``tick`` is called this often [ns].
_TICK_NS = 5_000_000


@dataclass(frozen=True)
class PublishedPacket:
    """A packet that has been published.

    Attributes:
        packet: as recorded.
        stamp: its new header stamp [ns, ROS time].
        published: when it was published, on the clock of ``time.monotonic_ns`` [ns].
    """

    packet: RecordedPacket
    stamp: int
    published: int


def publish_in_time(
    packets: Iterable[RecordedPacket],
    publisher: Publisher[EventPacket],
    begin: int | None,
    rate: float = 1.0,
    tick: Callable[[int], None] = lambda now: None,
) -> Iterator[PublishedPacket]:
    """Publish packets with the time between their receipts in the recording, and yield each after it was published.

    Stamps keep their distances from the first receipt and from each other, at any rate: so they agree with sensor time.
    A packet without a stamp is stamped with its receipt.

    Args:
        packets: in the order of their receipt.
        publisher: of the event topic.
        begin: the first receipt in ROS time [ns]; None for the recording's own time.
        rate: how many times as fast as recorded.
        tick: called while it waits with the time of the recording, in ROS time [ns], which never steps back.
    """
    start = time.monotonic_ns()
    first: RecordedPacket | None = None
    shift: int | None = None  # from recorded stamps to ROS time
    for packet in packets:
        if first is None:
            first = packet
            begin = packet.received if begin is None else begin
        assert begin is not None
        played = packet.received - first.received
        received = begin + played
        stamp = received
        if packet.stamp:
            if shift is None:
                delay = packet.received - packet.stamp
                shift = received - (delay if 0 <= delay <= _LONGEST_DELAY_NS else 0) - packet.stamp
            stamp = packet.stamp + shift
        message = packet_message(packet, stamp)
        while (wait := played / rate - (time.monotonic_ns() - start)) > 0:
            tick(received - int(rate * wait))
            time.sleep(min(wait, _TICK_NS) / 1e9)
        tick(received)
        published = time.monotonic_ns()
        publisher.publish(message)
        yield PublishedPacket(packet, stamp, published)
