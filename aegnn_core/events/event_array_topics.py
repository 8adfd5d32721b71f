# SPDX-License-Identifier: Apache-2.0
"""``EventArray`` messages of ``dvs_msgs`` and ``prophesee_event_msgs``, which most public ROS recordings hold.

Both packages have the same fields: header, height, width, and x, y, time and polarity of every event.
"""

from __future__ import annotations

import struct

import numpy as np

from aegnn_core.events.array import EventFormatError, make_events

__all__ = ["EVENT_ARRAY_TYPES", "decode_event_array"]

EVENT_ARRAY_TYPES = ("dvs_msgs/msg/EventArray", "prophesee_event_msgs/msg/EventArray")

_NAMES = ["x", "y", "sec", "nanosec", "p"]
_FORMATS = ["<u2", "<u2", "<u4", "<u4", "u1"]
_EVENT_BYTES = 13
#: In ROS 1 one event follows the other.
_ROS1_EVENT = np.dtype({"names": _NAMES, "formats": _FORMATS, "offsets": [0, 2, 4, 8, 12], "itemsize": 13})
#: CDR aligns every number to its own size: x follows the last event's polarity after one byte, and the time follows y
#: after two. Seen from two bytes before the first event, all are alike but for the first x and y.
_CDR_EVENT = np.dtype({"names": _NAMES, "formats": _FORMATS, "offsets": [0, 2, 6, 10, 14], "itemsize": 16})
_CDR_LEAD = 2
#: Bytes before the length of the frame's name: sequence number and stamp; or CDR's own header and the stamp.
_BEFORE_FRAME = 12
_CDR_HEADER = 4


def decode_event_array(message: bytes, serialization: str) -> tuple[np.ndarray, int, int]:
    """The events of one message as :data:`aegnn_core.events.array.EVENT_DTYPE`, and width and height [px].

    Args:
        message: the serialised message.
        serialization: ``"ros1"``, or ``"cdr"`` for ROS 2's.

    Raises:
        EventFormatError: the message is not as long as it says, or is big-endian.
    """
    if serialization == "cdr" and message[1:2] == b"\x00":
        raise EventFormatError("an event array is in big-endian CDR, expected little-endian")
    try:
        (length,) = struct.unpack_from("<I", message, _BEFORE_FRAME)
        start = _BEFORE_FRAME + 4 + length
        if serialization == "cdr":
            start += -(start - _CDR_HEADER) % 4
        height, width, count = struct.unpack_from("<3I", message, start)
    except struct.error as error:
        raise EventFormatError(f"an event array of {len(message)} bytes is cut off in its header") from error
    start += 12
    layout, lead = (_ROS1_EVENT, 0) if serialization == "ros1" else (_CDR_EVENT, _CDR_LEAD)
    expected = start + max(0, (count - 1) * layout.itemsize + _EVENT_BYTES)
    if len(message) < expected:
        raise EventFormatError(f"an event array of {count} events has {len(message)} bytes, expected {expected}")
    first = start - lead
    payload = bytes(message[first : first + count * layout.itemsize]).ljust(count * layout.itemsize, b"\0")
    columns = np.frombuffer(payload, layout)
    t = columns["sec"].astype(np.int64) * 1_000_000 + columns["nanosec"] // 1000
    events = make_events(t, columns["x"], columns["y"], columns["p"])
    if count:
        events["x"][0], events["y"][0] = struct.unpack_from("<2H", message, start)
    return events, width, height
