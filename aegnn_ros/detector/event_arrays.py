# SPDX-License-Identifier: Apache-2.0
"""Event arrays of ``dvs_msgs`` and ``prophesee_event_msgs`` as packets, which is what the detector works with.

The subscription delivers bytes: making a Python object of every event would cost more than the network.
"""

from __future__ import annotations

import array
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from event_camera_msgs.msg import EventPacket
from std_msgs.msg import Header

from aegnn_core.events.decoders import EventArrayDecoder
from aegnn_core.events.event_array_topics import array_events, read_event_array
from aegnn_ros.conversions import time_message

__all__ = ["SerializedArray", "array_type"]

#: Stamps further from the first event's time than this [ns] are of another clock than the events.
_SAME_CLOCK_NS = 10_000_000_000


@dataclass(frozen=True)
class SerializedArray:
    """A message as it came.

    Attributes:
        events: all of its bytes, in CDR.
        seq: number of the message, which these types do not have.
    """

    events: bytes
    seq: int

    def packet(self) -> EventPacket:
        """The same events as a packet. Its stamp is the time of the first event, where that is ROS time.

        Raises:
            EventFormatError: the message is not as long as it says, or is big-endian.
        """
        message = read_event_array(self.events, "cdr")
        stamp = message.stamp
        if len(message.words):
            first = 1000 * int(array_events(message.words[:1])["t"][0])
            stamp = first if abs(first - stamp) < _SAME_CLOCK_NS else stamp
        packet = EventPacket(
            header=Header(stamp=time_message(stamp), frame_id=message.frame_id),
            height=message.height,
            width=message.width,
            seq=self.seq,
            encoding=EventArrayDecoder.encoding,
        )
        packet.events = array.array("B", message.words.tobytes())
        return packet


def array_type(name: str) -> Any:
    """The class of a message type, such as ``dvs_msgs/msg/EventArray``.

    Raises:
        ValueError: its package is not installed.
    """
    package, _, message = name.partition("/msg/")
    try:
        return getattr(import_module(f"{package}.msg"), message)
    except ImportError as error:
        raise ValueError(
            f"events_type is {name}, but there is no package {package}: build it in this workspace, and source that"
        ) from error
