# SPDX-License-Identifier: Apache-2.0
"""The message of event packets, and one of them as a bag holds it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["EVENT_PACKET_DEFINITION", "EVENT_PACKET_TYPE", "EVENT_PACKET_TYPES", "RecordedPacket"]

EVENT_PACKET_TYPE = "event_camera_msgs/msg/EventPacket"
#: The same message under the name that it had until 2023, too.
EVENT_PACKET_TYPES = (EVENT_PACKET_TYPE, "event_array_msgs/msg/EventArray")

#: Fields of the message, in the order that its type hash demands.
EVENT_PACKET_DEFINITION = """\
std_msgs/Header header
uint32 height
uint32 width
uint64 seq
uint64 time_base
string encoding
bool is_bigendian
uint8[] events
"""


@dataclass(frozen=True, eq=False)
class RecordedPacket:
    """One ``event_camera_msgs/EventPacket`` with the time at which the bag received it.

    Attributes:
        events: encoded events, uint8 ``[bytes]``.
        encoding: name of the encoding.
        width: sensor width [px].
        height: sensor height [px].
        seq: counts packets; a gap means that packets were lost.
        time_base: added to the encoded times [ns]; not used by evt3.
        is_bigendian: byte order of the encoding's words.
        stamp: host time at the arrival of the packet's first event [ns].
        frame_id: the camera's frame.
        received: when the bag's recorder received the packet [ns].
    """

    events: np.ndarray
    encoding: str
    width: int
    height: int
    seq: int
    time_base: int
    is_bigendian: bool
    stamp: int
    frame_id: str
    received: int

    @property
    def stamp_or_receipt(self) -> int:
        """The stamp, or the receipt where the driver has left the stamp at 0 [ns], as the node takes it."""
        return self.stamp or self.received
