# SPDX-License-Identifier: Apache-2.0
"""``EventArray`` messages of ``dvs_msgs`` and ``prophesee_event_msgs``, which most public ROS recordings hold.

Both packages have the same fields: header, height, width, and x, y, time and polarity of every event.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from aegnn_core.events.array import EventFormatError, make_events

__all__ = ["CDR_EVENT", "EVENT_ARRAY_TYPES", "EventArray", "array_events", "decode_event_array", "read_event_array"]

EVENT_ARRAY_TYPES = ("dvs_msgs/msg/EventArray", "prophesee_event_msgs/msg/EventArray")

_NAMES = ["x", "y", "sec", "nanosec", "p"]
_FORMATS = ["<u2", "<u2", "<u4", "<u4", "u1"]
_EVENT_BYTES = 13
#: In ROS 1 one event follows the other.
_ROS1_EVENT = np.dtype({"names": _NAMES, "formats": _FORMATS, "offsets": [0, 2, 4, 8, 12], "itemsize": 13})
#: CDR aligns every number to its own size: x follows the last event's polarity after one byte, and the time follows y
#: after two. Seen from two bytes before the first event, all are alike but for the first x and y.
CDR_EVENT = np.dtype({"names": _NAMES, "formats": _FORMATS, "offsets": [0, 2, 6, 10, 14], "itemsize": 16})
_CDR_LEAD = 2
#: Bytes before the length of the frame's name: sequence number and stamp; or CDR's own header and the stamp.
_BEFORE_FRAME = 12
_CDR_HEADER = 4


@dataclass(frozen=True, eq=False)
class EventArray:
    """One message.

    Attributes:
        words: its events as they came, of :data:`CDR_EVENT`, or of ROS 1's layout with the same fields ``[N]``.
        width, height: sensor size [px].
        stamp: of its header [ns].
        frame_id: the camera's frame.
    """

    words: np.ndarray
    width: int
    height: int
    stamp: int
    frame_id: str


def read_event_array(message: bytes, serialization: str) -> EventArray:
    """What a serialised message says.

    Args:
        message: the serialised message.
        serialization: ``"ros1"``, or ``"cdr"`` for ROS 2's.

    Raises:
        EventFormatError: the message is not as long as it says, or is big-endian.
    """
    if serialization == "cdr" and message[1:2] == b"\x00":
        raise EventFormatError("an event array is in big-endian CDR, expected little-endian")
    try:
        seconds, nanoseconds, length = struct.unpack_from("<3I", message, _BEFORE_FRAME - 8)
        start = _BEFORE_FRAME + 4 + length
        frame_id = message[start - length : start].rstrip(b"\0").decode("utf8", "replace")
        if serialization == "cdr":
            start += -(start - _CDR_HEADER) % 4
        height, width, count = struct.unpack_from("<3I", message, start)
    except struct.error as error:
        raise EventFormatError(f"an event array of {len(message)} bytes is cut off in its header") from error
    start += 12
    layout, lead = (_ROS1_EVENT, 0) if serialization == "ros1" else (CDR_EVENT, _CDR_LEAD)
    expected = start + max(0, (count - 1) * layout.itemsize + _EVENT_BYTES)
    if len(message) < expected:
        raise EventFormatError(f"an event array of {count} events has {len(message)} bytes, expected {expected}")
    first = start - lead
    payload = bytearray(message[first : first + count * layout.itemsize].ljust(count * layout.itemsize, b"\0"))
    if count:
        payload[:4] = message[start : start + 4]
    words = np.frombuffer(payload, layout)
    return EventArray(words, width, height, seconds * 1_000_000_000 + nanoseconds, frame_id)


def array_events(words: np.ndarray) -> np.ndarray:
    """The words of an array as :data:`aegnn_core.events.array.EVENT_DTYPE` ``[N]``; parts of a µs are left out."""
    t = words["sec"].astype(np.int64) * 1_000_000 + words["nanosec"] // 1000
    return make_events(t, words["x"], words["y"], words["p"] != 0)


def decode_event_array(message: bytes, serialization: str) -> tuple[np.ndarray, int, int]:
    """The events of one message as :data:`aegnn_core.events.array.EVENT_DTYPE`, and width and height [px].

    Args, and what it raises, are those of :func:`read_event_array`.
    """
    array = read_event_array(message, serialization)
    return array_events(array.words), array.width, array.height
