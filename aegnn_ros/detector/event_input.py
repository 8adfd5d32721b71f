# SPDX-License-Identifier: Apache-2.0
"""The node's subscription to ``~/events``: every message is counted and handed over to the worker's queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from event_camera_msgs.msg import EventPacket
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from aegnn_core.events.event_array_topics import EVENT_ARRAY_TYPES
from aegnn_ros.detector import topics
from aegnn_ros.detector.arrivals import ArrivalCounts
from aegnn_ros.detector.event_arrays import SerializedArray, array_type
from aegnn_ros.detector.message_receiver import BesideExecutors, MessageReceiver
from aegnn_ros.detector.packet_queue import PacketQueue

__all__ = ["EventInput"]


class EventInput:
    """Listens while the node is active, in a thread of its own.

    Args:
        node: owns the subscription.

    Attributes:
        counts: of what has come since :meth:`restart`.
        enabled: whether messages are looked at.
    """

    def __init__(self, node: Node) -> None:
        self.enabled = True
        self._node = node
        self._arrays = 0  # event arrays that have come: they have no numbers of their own
        self._subscription: Subscription[Any] | None = None
        self._receiver: MessageReceiver | None = None
        self.restart()

    def restart(self) -> None:
        """Count from zero."""
        self.counts = ArrivalCounts()

    @property
    def topic_name(self) -> str:
        """The topic, with all names resolved."""
        return self._node.resolve_topic_name(topics.EVENTS.name)

    def listen(self, events_type: str, depth: int, queue: PacketQueue, on_failure: Callable[[Exception], None]) -> None:
        """Subscribe, best effort.

        Args:
            events_type: of the messages, such as ``event_camera_msgs/msg/EventPacket``.
            depth: how many messages ROS keeps, unless the user has overridden that.
            queue: where they go.
            on_failure: called in the thread with the error that has ended it.
        """
        self._queue = queue
        self.counts.resume()
        arrays = events_type in EVENT_ARRAY_TYPES
        self._subscription = self._node.create_subscription(
            array_type(events_type) if arrays else topics.EVENTS.kind,
            topics.EVENTS.name,
            self._take_array if arrays else self._take_packet,
            QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT),
            qos_overriding_options=self._overridable(depth),
            raw=arrays,
            callback_group=BesideExecutors(),
        )
        self._receiver = MessageReceiver(self._subscription, self._node.context, on_failure)

    def stop(self) -> None:
        """End the subscription, or what there is of it."""
        if self._receiver is not None:
            self._receiver.stop()
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._receiver = self._subscription = None

    def enable(self, enabled: bool) -> None:
        """Look at messages, or let them pass; those that passed do not count as lost."""
        self.counts.resume()
        self.enabled = enabled

    def _overridable(self, depth: int) -> QoSOverridingOptions:
        """What a user may override; the depth only where that has been done.

        Otherwise rclpy would declare the present depth as a constant, which stays when queue_depth changes.
        """
        name = f"qos_overrides.{self.topic_name}.subscription.depth"
        overridden = self._node.has_parameter(name)
        if not overridden:
            overridden = self._node.declare_parameter(name, depth).value != depth
            self._node.undeclare_parameter(name)
        if overridden:
            return QoSOverridingOptions.with_default_policies()
        return QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.RELIABILITY))

    def _take_packet(self, packet: EventPacket) -> None:
        if self.enabled:
            self._put(packet, packet.seq)

    def _take_array(self, message: bytes) -> None:
        if self.enabled:
            self._arrays += 1
            self._put(SerializedArray(message, self._arrays), self._arrays)

    def _put(self, packet: EventPacket | SerializedArray, seq: int) -> None:
        self.counts.note(seq, len(packet.events))
        self.counts.packets_dropped += self._queue.put(packet)
