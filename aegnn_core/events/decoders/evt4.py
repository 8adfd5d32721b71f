# SPDX-License-Identifier: Apache-2.0
"""EVT4: 32-bit words as in EVT2, and runs of up to 32 pixels in two words; only in ``.raw`` files, never in packets.

Codes and fields as OpenEB names them; Prophesee publishes no description of the format.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.events.decoders.decoder import TRIGGER_DTYPE, Decoder
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

__all__ = ["Evt4Decoder"]

# Codes, bits 31-28 of a word.
OTHER = 6
CONTINUED = 7
EXT_TRIGGER = 9
CD_OFF = 10
CD_ON = 11
CD_VEC_OFF = 12
CD_VEC_ON = 13
TIME_HIGH = 14
PADDING = 15

#: Stands for the first word of a run when the next word is not its second one.
_NO_RUN = 0


@kernel
def count_evt4(words: np.ndarray, run: int) -> int:
    """Number of events in ``words``; ``run`` is the first word of a run whose second one comes first here."""
    count = 0
    for i in range(len(words)):
        word = int(words[i])
        code = word >> 28
        if run != _NO_RUN:
            count += count_bits(word)
            run = _NO_RUN
        elif code in (CD_VEC_OFF, CD_VEC_ON):
            run = word
        elif code in (CD_OFF, CD_ON):
            count += 1
    return count


@kernel
def decode_evt4(
    words: np.ndarray, width: int, height: int, clock: np.ndarray, run: int, events: np.ndarray, triggers: np.ndarray
) -> tuple[int, int, int, int, int, int]:
    """Decode ``words`` into ``events`` and ``triggers``, carrying on the clock and the first word of a run.

    Returns:
        The first word of a run that goes on, then the numbers of events, triggers, unknown words, events outside the
        sensor and events without time.
    """
    n_events = n_triggers = unknown = outside = unplaced = 0
    for i in range(len(words)):
        word, bits = int(words[i]), 1
        if run != _NO_RUN:
            word, bits, run = run, word, _NO_RUN
        elif word >> 28 in (CD_VEC_OFF, CD_VEC_ON):
            run = word
            continue
        code = word >> 28
        if code in (CD_OFF, CD_ON, CD_VEC_OFF, CD_VEC_ON):
            if clock[0].known == KNOWN:
                n_events, left_out = emit_run(clock, word, bits, width, height, events, n_events)
                outside += left_out
            else:
                unplaced += count_bits(bits)
        elif code == TIME_HIGH:
            unknown += follow_clock(clock, word & HIGH_MASK)
        elif code == EXT_TRIGGER:
            n_triggers = emit_trigger(clock, word, triggers, n_triggers)
        elif code not in (OTHER, CONTINUED, PADDING):
            unknown += 1
    return run, n_events, n_triggers, unknown, outside, unplaced


class Evt4Decoder(Decoder):
    """EVT4; sensor time is the camera's 34-bit clock, wraps counted."""

    encoding: ClassVar[str] = "evt4"
    word: ClassVar[np.dtype] = np.dtype(np.uint32)

    def reset(self) -> None:
        self._clock = new_clock()
        self._run = _NO_RUN

    def _forget_lost(self) -> None:
        """Words that did not come may have changed the upper bits of the time: the next TIME_HIGH says them."""
        forget_time(self._clock)
        self._run = _NO_RUN

    def _decode_words(self, words: np.ndarray, time_base: int) -> tuple[np.ndarray, np.ndarray, int, int, int]:
        events = np.empty(count_evt4(words, self._run), EVENT_DTYPE)
        triggers = np.empty(np.count_nonzero(words >> 28 == EXT_TRIGGER), TRIGGER_DTYPE)
        self._run, n_events, n_triggers, *counts = decode_evt4(
            words, self.width, self.height, self._clock, self._run, events, triggers
        )
        unknown, outside, unplaced = counts
        return events[:n_events], triggers[:n_triggers], unknown, outside, unplaced
