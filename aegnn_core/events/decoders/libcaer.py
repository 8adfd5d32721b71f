# SPDX-License-Identifier: Apache-2.0
"""libcaer: two 32-bit words per event, as iniVation's libcaer lays out its polarity events."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.events.decoders.decoder import NO_TRIGGERS, Decoder
from aegnn_core.machine_code import kernel

__all__ = ["LibcaerDecoder"]

#: Times have 31 bits: they count to here [µs], then from 0.
TIME_RANGE_US = 1 << 31

_STATE = np.dtype([("wrapped", np.int64), ("time", np.int64)])
#: time is the one stated last in the packet, wrapped what was counted before it began at 0 again [µs].
_INITIAL_STATE = np.array([(0, 0)], _STATE)


@kernel
def decode_libcaer(
    words: np.ndarray, width: int, height: int, base_us: int, state: np.ndarray, events: np.ndarray
) -> tuple[int, int, int]:
    """Decode records of pixel and time into ``events``, carrying the time in ``state[0]`` on.

    Returns:
        Numbers of events, words that are marked as not valid, and events outside the sensor.
    """
    wrapped, last = state[0].wrapped, state[0].time
    n_events = invalid = outside = 0
    for i in range(len(words)):
        pixel, time = np.int64(words[i].pixel), np.int64(words[i].time)
        if last - time > TIME_RANGE_US // 2:
            wrapped += TIME_RANGE_US
        last = time
        x = pixel >> 17
        y = (pixel >> 2) & 0x7FFF
        if not pixel & 1:
            invalid += 1
        elif x < width and y < height:
            events[n_events].t = base_us + wrapped + time
            events[n_events].x = x
            events[n_events].y = y
            events[n_events].p = (pixel >> 1) & 1
            n_events += 1
        else:
            outside += 1
    state[0].wrapped, state[0].time = wrapped, last
    return n_events, invalid, outside


class LibcaerDecoder(Decoder):
    """libcaer; sensor time is ``time_base`` plus the microseconds of each event, nothing is carried between packets.

    ``time_base`` has the wraps before the packet's first event alone (libcaer_driver, message_converter.cpp). In the
    packet, a step back by more than half of the range is a wrap.
    """

    encoding: ClassVar[str] = "libcaer"
    word: ClassVar[np.dtype] = np.dtype([("pixel", np.uint32), ("time", np.uint32)])

    def reset(self) -> None:
        self._state = _INITIAL_STATE.copy()

    def _begin_packet(self) -> None:
        self.reset()

    def _decode_words(self, words: np.ndarray, time_base: int) -> tuple[np.ndarray, np.ndarray, int, int, int]:
        events = np.empty(len(words), EVENT_DTYPE)
        n_events, invalid, outside = decode_libcaer(
            words, self.width, self.height, time_base // 1000, self._state, events
        )
        return events[:n_events], NO_TRIGGERS, invalid, outside, 0
