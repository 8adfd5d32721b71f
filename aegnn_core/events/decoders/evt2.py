"""EVT2: 32-bit words, one event each, with the low six bits of its time; only in ``.raw`` files, never in packets.

Codes and fields after Prophesee's EVT 2.0 format description.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.events.decoders.decoder import TRIGGER_DTYPE, Decoder
from aegnn_core.machine_code import kernel

__all__ = ["Evt2Decoder"]

# Codes, bits 31-28 of a word.
CD_OFF = 0
CD_ON = 1
TIME_HIGH = 8
EXT_TRIGGER = 10
OTHERS = 14
CONTINUED = 15

#: A TIME_HIGH (steps of 64 µs) that steps back by up to this much is jitter, a larger step is the wrap at 2^28.
TIME_HIGH_JITTER = 10

#: Stands for the time before the first TIME_HIGH.
_NO_TIME = -1


@kernel
def decode_evt2(
    words: np.ndarray, width: int, height: int, state: np.ndarray, events: np.ndarray, triggers: np.ndarray
) -> tuple[int, int, int, int, int]:
    """Decode ``words`` into ``events`` and ``triggers``; ``state[0]`` counts TIME_HIGH steps of 64 µs, wraps included.

    Returns:
        Numbers of events, triggers, unknown words, events outside the sensor and events without time.
    """
    high = state[0]
    n_events = n_triggers = unknown = outside = unplaced = 0
    for i in range(len(words)):
        word = np.int64(words[i])
        code = word >> 28
        if code in (CD_OFF, CD_ON):
            x = (word >> 11) & 0x7FF
            y = word & 0x7FF
            if high == _NO_TIME:
                unplaced += 1
            elif x < width and y < height:
                events[n_events].t = (high << 6) | ((word >> 22) & 0x3F)
                events[n_events].x = x
                events[n_events].y = y
                events[n_events].p = code
                n_events += 1
            else:
                outside += 1
        elif code == TIME_HIGH:
            if high == _NO_TIME:
                high = word & 0xFFFFFFF
            else:
                step = (word & 0xFFFFFFF) - (high & 0xFFFFFFF)
                if step < -TIME_HIGH_JITTER:
                    step += 1 << 28
                high += step
        elif code == EXT_TRIGGER:
            if high != _NO_TIME:
                triggers[n_triggers].t = (high << 6) | ((word >> 22) & 0x3F)
                triggers[n_triggers].channel = (word >> 8) & 0x1F
                triggers[n_triggers].p = word & 1
                n_triggers += 1
        elif code != OTHERS and code != CONTINUED:
            unknown += 1
    state[0] = high
    return n_events, n_triggers, unknown, outside, unplaced


class Evt2Decoder(Decoder):
    """EVT2; sensor time is the camera's 34-bit clock, wraps counted."""

    encoding: ClassVar[str] = "evt2"
    word: ClassVar[np.dtype] = np.dtype(np.uint32)

    def reset(self) -> None:
        self._state = np.array([_NO_TIME])

    def _decode_words(self, words: np.ndarray, time_base: int) -> tuple[np.ndarray, np.ndarray, int, int, int]:
        events = np.empty(len(words), EVENT_DTYPE)
        triggers = np.empty(len(words), TRIGGER_DTYPE)
        n_events, n_triggers, *counts = decode_evt2(words, self.width, self.height, self._state, events, triggers)
        unknown, outside, unplaced = counts
        return events[:n_events], triggers[:n_triggers].copy(), unknown, outside, unplaced
