# SPDX-License-Identifier: Apache-2.0
"""libcaer_cmp: libcaer's events as 16-bit words that state time and column only when they change, rows as bit vectors.

The codes look like EVT3's and mean other things: columns are kept, rows make the events.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.events.decoders.decoder import NO_TRIGGERS, Decoder
from aegnn_core.machine_code import kernel

__all__ = ["LibcaerCmpDecoder"]

# Codes, bits 15-12 of a word.
TIME_HIGH = 0
TIME_LOW = 1
ADDR_X = 2
ADDR_Y = 3
VECT_BASE_Y = 4
VECT_8 = 5

#: TIME_HIGH counts to here, then from 0.
TIME_HIGH_RANGE = 1 << 12
#: libcaer_driver keeps 4 of its 12 bits (``uint16_t timeHigh`` in its message_converter.cpp): there it counts to here.
DRIVER_TIME_HIGH_RANGE = 1 << 4

_STATE = np.dtype([(name, np.int64) for name in ("x", "y", "p", "wrapped", "high", "low")])
#: x is the column, y and p belong to the vectors, -1: not seen. The time since the packet's start is high and low as
#: stated last, and wrapped, the steps of TIME_HIGH before high began at 0 again.
_INITIAL_STATE = np.array([(-1, -1, 0, 0, 0, 0)], _STATE)


@kernel
def most_events(words: np.ndarray) -> int:
    """Upper bound of the number of events in libcaer_cmp ``words``."""
    bound = 0
    for word in words:
        code = word >> 12
        if code == ADDR_Y:
            bound += 1
        elif code == VECT_8:
            bound += 8
    return bound


@kernel
def decode_libcaer_cmp(
    words: np.ndarray, width: int, height: int, base_us: int, state: np.ndarray, events: np.ndarray
) -> tuple[int, int, int, int]:
    """Decode ``words`` of one packet into ``events``, carrying addresses and time in ``state[0]`` on.

    Returns:
        Numbers of events, unknown words, events outside the sensor and events without address.
    """
    x, base_y, base_p = state[0].x, state[0].y, state[0].p
    wrapped, high, low = state[0].wrapped, state[0].high, state[0].low
    n_events = unknown = outside = unplaced = 0
    for i in range(len(words)):
        word = np.int64(words[i])
        code = word >> 12
        if code == ADDR_Y:
            y = word & 0x7FF
            if x < 0:
                unplaced += 1
            elif x < width and y < height:
                events[n_events].t = base_us + (((wrapped + high) << 12) | low)
                events[n_events].x = x
                events[n_events].y = y
                events[n_events].p = (word >> 11) & 1
                n_events += 1
            else:
                outside += 1
        elif code == ADDR_X:
            x = word & 0x7FF
        elif code == TIME_LOW:
            low = word & 0xFFF
        elif code == VECT_8:
            bits = word & 0xFF
            y = base_y
            while bits:
                if bits & 1:
                    if x < 0 or base_y < 0:
                        unplaced += 1
                    elif x < width and y < height:
                        events[n_events].t = base_us + (((wrapped + high) << 12) | low)
                        events[n_events].x = x
                        events[n_events].y = y
                        events[n_events].p = base_p
                        n_events += 1
                    else:
                        outside += 1
                bits >>= 1
                y += 1
            if base_y >= 0:
                base_y += 8
        elif code == VECT_BASE_Y:
            base_y = word & 0x7FF
            base_p = (word >> 11) & 1
        elif code == TIME_HIGH:
            stated = word & 0xFFF
            if stated < high:
                # A counter of 12 bits has been above 15 before it begins at 0 again.
                wrapped += DRIVER_TIME_HIGH_RANGE if high < DRIVER_TIME_HIGH_RANGE else TIME_HIGH_RANGE
            high = stated
        else:
            unknown += 1
    state[0].x, state[0].y, state[0].p = x, base_y, base_p
    state[0].wrapped, state[0].high, state[0].low = wrapped, high, low
    return n_events, unknown, outside, unplaced


class LibcaerCmpDecoder(Decoder):
    """libcaer_cmp; sensor time is ``time_base`` plus the time stated since the packet's start, addresses are kept."""

    encoding: ClassVar[str] = "libcaer_cmp"
    word: ClassVar[np.dtype] = np.dtype(np.uint16)

    def reset(self) -> None:
        self._state = _INITIAL_STATE.copy()

    def _begin_packet(self) -> None:
        self._state["wrapped"] = self._state["high"] = self._state["low"] = 0

    def _forget_lost(self) -> None:
        """Column and vector base may have changed in words that did not come; times begin anew in every packet."""
        self.reset()

    def _decode_words(self, words: np.ndarray, time_base: int) -> tuple[np.ndarray, np.ndarray, int, int, int]:
        events = np.empty(most_events(words), EVENT_DTYPE)
        n_events, unknown, outside, unplaced = decode_libcaer_cmp(
            words, self.width, self.height, time_base // 1000, self._state, events
        )
        return events[:n_events], NO_TRIGGERS, unknown, outside, unplaced
