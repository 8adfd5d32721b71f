# SPDX-License-Identifier: Apache-2.0
"""EVT3: 16-bit words that state time, row and column only when they change, and runs of pixels as bit vectors.

Codes and fields after Prophesee's EVT 3.0 format description; the decoder's state are the fields stated last.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.events.decoders.decoder import TRIGGER_DTYPE, Decoder
from aegnn_core.machine_code import kernel

__all__ = ["Evt3Decoder"]

# Codes, bits 15-12 of a word.
ADDR_Y = 0
ADDR_X = 2
VECT_BASE_X = 3
VECT_12 = 4
VECT_8 = 5
TIME_LOW = 6
CONTINUED_4 = 7
TIME_HIGH = 8
EXT_TRIGGER = 10
OTHERS = 14
CONTINUED_12 = 15

#: Filler of cameras whose packets have a fixed size (Lucid); its code is of no other word.
PADDING = 0x9999

#: TIME_HIGH counts to here, then from 0. Steps are taken as the shorter way round.
TIME_HIGH_RANGE = 1 << 12
#: A TIME_HIGH that steps back by up to this much is jitter; a larger step back is a word that was damaged.
TIME_HIGH_JITTER = 10

# What has been seen of the clock: without both halves there is no time.
_NO_TIME = 0
_TIME_HIGH_SEEN = 1
_TIME_KNOWN = 2
# Words were lost: the next TIME_HIGH is ahead of the last one.
_WORDS_LOST = 3
# One of the last two TIME_HIGH was damaged: the next one counts, ahead or back.
_IN_DOUBT = 4

_STATE = np.dtype(
    [("clock", np.int64), ("high", np.int64), ("low", np.int64), ("y", np.int64), ("x", np.int64), ("p", np.int64)]
)
#: high counts TIME_HIGH steps of 4096 µs, wraps included; y is the row, x and p belong to the vectors; -1: not seen.
_INITIAL_STATE = np.array([(_NO_TIME, 0, 0, -1, -1, 0)], _STATE)


@kernel
def most_events(words: np.ndarray) -> int:
    """Upper bound of the number of events in EVT3 ``words``."""
    bound = 0
    for word in words:
        code = word >> 12
        if code == ADDR_X:
            bound += 1
        elif code == VECT_12:
            bound += 12
        elif code == VECT_8:
            bound += 8
    return bound


@kernel
def decode_evt3(
    words: np.ndarray, width: int, height: int, state: np.ndarray, events: np.ndarray, triggers: np.ndarray
) -> tuple[int, int, int, int, int]:
    """Decode ``words`` into ``events`` and ``triggers``, carrying ``state[0]`` on.

    Returns:
        Numbers of events, triggers, unknown words, events outside the sensor and events without time or address.
    """
    clock, high, low = state[0].clock, state[0].high, state[0].low
    y, base_x, base_p = state[0].y, state[0].x, state[0].p
    n_events = n_triggers = unknown = outside = unplaced = 0
    for i in range(len(words)):
        word = np.int64(words[i])
        code = word >> 12
        if code == ADDR_X:
            x = word & 0x7FF
            if clock != _TIME_KNOWN or y < 0:
                unplaced += 1
            elif x < width and y < height:
                events[n_events].t = (high << 12) | low
                events[n_events].x = x
                events[n_events].y = y
                events[n_events].p = (word >> 11) & 1
                n_events += 1
            else:
                outside += 1
        elif code == ADDR_Y:
            y = word & 0x7FF
        elif code == TIME_LOW:
            low = word & 0xFFF
            if clock == _TIME_HIGH_SEEN:
                clock = _TIME_KNOWN
        elif code in (VECT_12, VECT_8):
            length = 12 if code == VECT_12 else 8
            bits = word & ((1 << length) - 1)
            placed = clock == _TIME_KNOWN and y >= 0 and base_x >= 0
            x = base_x
            while bits:
                if bits & 1:
                    if not placed:
                        unplaced += 1
                    elif x < width and y < height:
                        events[n_events].t = (high << 12) | low
                        events[n_events].x = x
                        events[n_events].y = y
                        events[n_events].p = base_p
                        n_events += 1
                    else:
                        outside += 1
                bits >>= 1
                x += 1
            if base_x >= 0:
                base_x += length
        elif code == VECT_BASE_X:
            base_x = word & 0x7FF
            base_p = (word >> 11) & 1
        elif code == TIME_HIGH:
            half = TIME_HIGH_RANGE // 2
            step = ((word & 0xFFF) - high + half) % TIME_HIGH_RANGE - half
            if clock == _NO_TIME:
                high = word & 0xFFF
                clock = _TIME_HIGH_SEEN
            elif step >= -TIME_HIGH_JITTER or clock == _IN_DOUBT:
                high += step
                if clock != _TIME_KNOWN:
                    clock = _TIME_HIGH_SEEN
            elif clock == _WORDS_LOST:
                high += step + TIME_HIGH_RANGE
                clock = _TIME_HIGH_SEEN
            else:
                clock = _IN_DOUBT
                unknown += 1
        elif code == EXT_TRIGGER:
            if clock == _TIME_KNOWN:
                triggers[n_triggers].t = (high << 12) | low
                triggers[n_triggers].channel = (word >> 8) & 0xF
                triggers[n_triggers].p = word & 1
                n_triggers += 1
        elif code != OTHERS and code != CONTINUED_4 and code != CONTINUED_12 and word != PADDING:
            unknown += 1
    state[0].clock, state[0].high, state[0].low = clock, high, low
    state[0].y, state[0].x, state[0].p = y, base_x, base_p
    return n_events, n_triggers, unknown, outside, unplaced


class Evt3Decoder(Decoder):
    """EVT3, from packets (``time_base`` is not used) and ``.raw`` files alike.

    Sensor time starts at the first TIME_HIGH of the stream (0 to 2^24 µs) and counts the wraps from there. Nothing is
    emitted before a TIME_HIGH, then a TIME_LOW, and the addresses were seen, at the beginning and after a loss. A
    TIME_HIGH that steps back by more than jitter was damaged, or the one before was: nothing is emitted until another
    one says which.
    """

    encoding: ClassVar[str] = "evt3"
    word: ClassVar[np.dtype] = np.dtype(np.uint16)

    def reset(self) -> None:
        self._state = _INITIAL_STATE.copy()

    def _forget_lost(self) -> None:
        """Time, row and vector base may have changed in words that did not come; only the clock's wraps are kept."""
        state = self._state[0]
        if state["clock"] != _NO_TIME:
            state["clock"] = _WORDS_LOST
        state["y"] = state["x"] = -1

    def _decode_words(self, words: np.ndarray, time_base: int) -> tuple[np.ndarray, np.ndarray, int, int, int]:
        events = np.empty(most_events(words), EVENT_DTYPE)
        triggers = np.empty(len(words), TRIGGER_DTYPE)
        n_events, n_triggers, *counts = decode_evt3(words, self.width, self.height, self._state, events, triggers)
        unknown, outside, unplaced = counts
        return events[:n_events], triggers[:n_triggers].copy(), unknown, outside, unplaced
