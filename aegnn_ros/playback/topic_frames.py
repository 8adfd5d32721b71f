# SPDX-License-Identifier: Apache-2.0
"""Pictures of live events, and of boxes published for them, for ``aegnn view``."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread
from types import FrameType

import numpy as np
import rclpy
from event_camera_msgs.msg import EventPacket
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from vision_msgs.msg import Detection2DArray, LabelInfo

from aegnn_core.drawing import EventSurface
from aegnn_core.events.array import EventFormatError
from aegnn_core.events.decoders import Decoder, make_decoder
from aegnn_core.events.label_topics import LABEL_DTYPE, detected_boxes
from aegnn_core.events.time_order import TimeJumpError, in_time_order
from aegnn_core.viewing.frames import Frame, Shown
from aegnn_ros.playback.packet_replay import DRIVER_QOS

__all__ = ["topic_frames"]

#: Boxes stay in the picture for so long unless new ones come [s].
_BOXES_S = 0.5
#: After so long without events, a message says so [s].
_PATIENCE_S = 5.0


def topic_frames(topic: str, boxes_topic: str | None, shown: Shown) -> tuple[Iterator[Frame], list[str]]:
    """Pictures of a topic of event packets, in real time, until ``shown.duration_us`` have passed or Ctrl-C.

    Args:
        topic: of ``event_camera_msgs/EventPacket``.
        boxes_topic: of ``vision_msgs/Detection2DArray`` with boxes in the camera's pixels, or None.
        shown: how often, how long an event is to be seen, and how much of it.

    Returns:
        The pictures, and the names of the boxes' classes, which are added as they become known.
    """
    names: list[str] = []
    return _frames(topic, boxes_topic, shown, names), names


def _frames(topic: str, boxes_topic: str | None, shown: Shown, names: list[str]) -> Iterator[Frame]:
    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = Node("aegnn_view", context=context)
    view = _TopicView(node, topic, boxes_topic, names)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = Thread(target=executor.spin)
    thread.start()
    try:
        with _until_ctrl_c() as ended:
            yield from _pictures(view, topic, shown, ended)
    finally:
        executor.shutdown()
        thread.join()
        node.destroy_node()
        rclpy.shutdown(context=context)


def _pictures(view: _TopicView, topic: str, shown: Shown, ended: Event) -> Iterator[Frame]:
    begin = due = time.monotonic()
    first: float | None = None
    told = False
    while not ended.wait(max(0.0, due - time.monotonic())):
        now = time.monotonic()
        due = max(due + 1 / shown.fps, now)
        if first is not None and shown.duration_us is not None and now - first > 1e-6 * shown.duration_us:
            return
        frame = view.frame(shown.exposure_us)
        if frame is not None:
            first = now if first is None else first
            yield frame
        elif not told and now - begin > _PATIENCE_S:
            print(f"aegnn: waiting for events on {topic}", file=sys.stderr)
            told = True


@contextmanager
def _until_ctrl_c() -> Iterator[Event]:
    """An event that the first Ctrl-C sets, so that a video is finished; a second one interrupts as usual."""
    ended = Event()
    before = signal.getsignal(signal.SIGINT)

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        ended.set()

    signal.signal(signal.SIGINT, end)
    try:
        yield ended
    finally:
        signal.signal(signal.SIGINT, before)


class _TopicView:
    """What has arrived so far; messages arrive in another thread than the one that makes pictures."""

    def __init__(self, node: Node, topic: str, boxes_topic: str | None, names: list[str]) -> None:
        self._names, self._lock = names, Lock()
        self._surface: EventSurface | None = None
        self._decoder: Decoder | None = None
        self._seq: int | None = None
        self._first_t = self._last_t = 0
        self._boxes, self._boxes_came = np.empty(0, LABEL_DTYPE), 0.0
        self._with_boxes = boxes_topic is not None
        self._subscriptions = [node.create_subscription(EventPacket, topic, self._take_packet, DRIVER_QOS)]
        if boxes_topic is not None:
            latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            info = f"{boxes_topic.rpartition('/')[0]}/label_info"
            self._subscriptions += [
                node.create_subscription(Detection2DArray, boxes_topic, self._take_boxes, QoSProfile(depth=10)),
                node.create_subscription(LabelInfo, info, self._take_names, latched),
            ]

    def frame(self, exposure_us: int) -> Frame | None:
        """The picture of now; None before the first event."""
        with self._lock:
            if self._surface is None:
                return None
            recent = time.monotonic() - self._boxes_came < _BOXES_S
            boxes = (self._boxes if recent else self._boxes[:0]) if self._with_boxes else None
            return Frame(self._last_t - self._first_t, self._surface.image(self._last_t, exposure_us), truth=boxes)

    def _take_packet(self, packet: EventPacket) -> None:
        with self._lock:
            self._draw(packet)

    def _draw(self, packet: EventPacket) -> None:
        try:
            events = self._decode(packet)
            events = in_time_order(events, None if self._surface is None else self._last_t)
        except EventFormatError as error:
            print(f"aegnn: packet {packet.seq}: {error}", file=sys.stderr)
            return
        except TimeJumpError:  # the driver or the bag has started again
            self._surface, self._decoder = None, None
            return
        if not len(events):
            return
        if self._surface is None or self._surface.size != (packet.width, packet.height):
            self._surface = EventSurface(packet.width, packet.height)
            self._first_t = int(events["t"][0])
        self._surface.update(events)
        self._last_t = int(events["t"][-1])

    def _decode(self, packet: EventPacket) -> np.ndarray:
        camera = (packet.encoding, packet.width, packet.height)
        decoder = self._decoder
        if decoder is None or camera != (decoder.encoding, decoder.width, decoder.height):
            decoder = self._decoder = make_decoder(*camera)
        elif self._seq is not None and packet.seq < self._seq:  # the driver or the bag has started again
            decoder = self._decoder = make_decoder(*camera)
            self._surface = None
        self._seq = packet.seq
        decoder.expect(packet.seq)
        return decoder.decode(np.frombuffer(packet.events, np.uint8), packet.time_base, packet.is_bigendian)

    def _take_boxes(self, message: Detection2DArray) -> None:
        found = [
            (box.x, box.y, box.w, box.h, self._number(box.class_name)) for box in detected_boxes(message.detections)
        ]
        with self._lock:
            self._boxes, self._boxes_came = np.array(found, LABEL_DTYPE), time.monotonic()

    def _number(self, name: str) -> int:
        """The number of a class, by its own name if it has one."""
        if name.isdecimal():
            return int(name)
        if name not in self._names:
            self._names.append(name)
        return self._names.index(name)

    def _take_names(self, message: LabelInfo) -> None:
        self._names[:] = [entry.class_name for entry in sorted(message.class_map, key=lambda entry: entry.class_id)]
