# SPDX-License-Identifier: Apache-2.0
"""EVT2.1: 64-bit words, each up to 32 neighbouring pixels of one polarity; only in ``.raw`` files, never in packets.

Codes and fields after Prophesee's EVT 2.1 format description.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.events.decoders.decoder import TRIGGER_DTYPE, Decoder
from aegnn_core.events.decoders.evt2 import CD_OFF, CD_ON, CONTINUED, EXT_TRIGGER, OTHERS, TIME_HIGH
from aegnn_core.events.decoders.evt2_words import (
    HIGH_MASK,
    KNOWN,
    count_bits,
    emit_run,
    emit_trigger,
    follow_clock,
    forget_time,
    new_clock,
)
from aegnn_core.machine_code import kernel

__all__ = ["Evt21Decoder", "Evt21LegacyDecoder"]


@kernel
def count_evt21(upper: np.ndarray, lower: np.ndarray) -> int:
    """Number of events in words given as their upper and lower halves."""
    count = 0
    for i in range(len(upper)):
        if upper[i] >> 28 in (CD_OFF, CD_ON):
            count += count_bits(np.int64(lower[i]))
    return count


@kernel
def decode_evt21(
    upper: np.ndarray,
    lower: np.ndarray,
    width: int,
    height: int,
    clock: np.ndarray,
    events: np.ndarray,
    triggers: np.ndarray,
) -> tuple[int, int, int, int, int]:
    """Decode words, given as halves, into ``events`` and ``triggers``, carrying the clock on.

    The upper half is laid out as a word of EVT2, the lower one has a bit for each pixel from x on.

    Returns:
        Numbers of events, triggers, unknown words, events outside the sensor and events without time.
    """
    n_events = n_triggers = unknown = outside = unplaced = 0
    for i in range(len(upper)):
        word, bits = np.int64(upper[i]), np.int64(lower[i])
        code = word >> 28
        if code in (CD_OFF, CD_ON):
            if clock[0].known == KNOWN:
                n_events, left_out = emit_run(clock, word, bits, width, height, events, n_events)
                outside += left_out
            else:
                unplaced += count_bits(bits)
        elif code == TIME_HIGH:
            unknown += follow_clock(clock, word & HIGH_MASK)
        elif code == EXT_TRIGGER:
            n_triggers = emit_trigger(clock, word, triggers, n_triggers)
        elif code != OTHERS and code != CONTINUED:
            unknown += 1
    return n_events, n_triggers, unknown, outside, unplaced


class Evt21Decoder(Decoder):
    """EVT2.1 as little-endian 64-bit words, as GenX320 sends it; the camera's 34-bit clock, wraps counted."""

    encoding: ClassVar[str] = "evt21"
    word: ClassVar[np.dtype] = np.dtype([("lower", np.uint32), ("upper", np.uint32)])

    def reset(self) -> None:
        self._clock = new_clock()

    def _forget_lost(self) -> None:
        """Words that did not come may have changed the upper bits of the time: the next TIME_HIGH says them."""
        forget_time(self._clock)

    def _decode_words(self, words: np.ndarray, time_base: int) -> tuple[np.ndarray, np.ndarray, int, int, int]:
        upper, lower = np.ascontiguousarray(words["upper"]), np.ascontiguousarray(words["lower"])
        events = np.empty(count_evt21(upper, lower), EVENT_DTYPE)
        triggers = np.empty(np.count_nonzero(upper >> 28 == EXT_TRIGGER), TRIGGER_DTYPE)
        n_events, n_triggers, *counts = decode_evt21(
            upper, lower, self.width, self.height, self._clock, events, triggers
        )
        unknown, outside, unplaced = counts
        return events[:n_events], triggers[:n_triggers], unknown, outside, unplaced


class Evt21LegacyDecoder(Evt21Decoder):
    """EVT2.1 with the upper half of each word first ("legacy"), as IMX636 sends it."""

    word: ClassVar[np.dtype] = np.dtype([("upper", np.uint32), ("lower", np.uint32)])
