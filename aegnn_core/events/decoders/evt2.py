# SPDX-License-Identifier: Apache-2.0
"""EVT2: 32-bit words, one event each, with the low six bits of its time; only in ``.raw`` files, never in packets.

Codes and fields after Prophesee's EVT 2.0 format description.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.events.decoders.decoder import TRIGGER_DTYPE, Decoder
from aegnn_core.events.decoders.evt2_words import (
    HIGH_MASK,
    KNOWN,
    emit_trigger,
    follow_clock,
    forget_time,
    new_clock,
    time_of,
)
from aegnn_core.machine_code import kernel

__all__ = ["Evt2Decoder"]

# Codes, bits 31-28 of a word.
CD_OFF = 0
CD_ON = 1
TIME_HIGH = 8
EXT_TRIGGER = 10
OTHERS = 14
CONTINUED = 15


@kernel
def decode_evt2(
    words: np.ndarray, width: int, height: int, clock: np.ndarray, events: np.ndarray, triggers: np.ndarray
) -> tuple[int, int, int, int, int]:
    """Decode ``words`` into ``events`` and ``triggers``, carrying the clock on.

    Returns:
        Numbers of events, triggers, unknown words, events outside the sensor and events without time.
    """
    n_events = n_triggers = unknown = outside = unplaced = 0
    for i in range(len(words)):
        word = np.int64(words[i])
        code = word >> 28
        if code in (CD_OFF, CD_ON):
            x = (word >> 11) & 0x7FF
            y = word & 0x7FF
            if clock[0].known != KNOWN:
                unplaced += 1
            elif x < width and y < height:
                events[n_events].t = time_of(clock, word)
                events[n_events].x = x
                events[n_events].y = y
                events[n_events].p = code
                n_events += 1
            else:
                outside += 1
        elif code == TIME_HIGH:
            unknown += follow_clock(clock, word & HIGH_MASK)
        elif code == EXT_TRIGGER:
            n_triggers = emit_trigger(clock, word, triggers, n_triggers)
        elif code != OTHERS and code != CONTINUED:
            unknown += 1
    return n_events, n_triggers, unknown, outside, unplaced


class Evt2Decoder(Decoder):
    """EVT2; sensor time is the camera's 34-bit clock, wraps counted."""

    encoding: ClassVar[str] = "evt2"
    word: ClassVar[np.dtype] = np.dtype(np.uint32)

    def reset(self) -> None:
        self._clock = new_clock()

    def _forget_lost(self) -> None:
        """Words that did not come may have changed the upper bits of the time: the next TIME_HIGH says them."""
        forget_time(self._clock)

    def _decode_words(self, words: np.ndarray, time_base: int) -> tuple[np.ndarray, np.ndarray, int, int, int]:
        events = np.empty(len(words), EVENT_DTYPE)
        triggers = np.empty(len(words), TRIGGER_DTYPE)
        n_events, n_triggers, *counts = decode_evt2(words, self.width, self.height, self._clock, events, triggers)
        unknown, outside, unplaced = counts
        return events[:n_events], triggers[:n_triggers].copy(), unknown, outside, unplaced
