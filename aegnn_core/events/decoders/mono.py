# SPDX-License-Identifier: Apache-2.0
"""mono and trigger, deprecated: one 64-bit word per event or trigger edge, with nanoseconds since ``time_base``."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.events.decoders.decoder import NO_EVENTS, NO_TRIGGERS, TRIGGER_DTYPE, Decoder
from aegnn_core.machine_code import kernel

__all__ = ["MonoDecoder", "TriggerDecoder"]


@kernel
def decode_mono(
    words: np.ndarray, width: int, height: int, base_us: int, base_ns: int, events: np.ndarray
) -> tuple[int, int]:
    """Decode ``words`` into ``events``; time starts at ``base_us`` µs + ``base_ns`` ns.

    Returns:
        Numbers of events and of events outside the sensor.
    """
    n_events = outside = 0
    for i in range(len(words)):
        high = np.int64(words[i] >> np.uint64(32))
        x = high & 0xFFFF
        y = (high >> 16) & 0x7FFF
        if x < width and y < height:
            events[n_events].t = base_us + (base_ns + np.int64(words[i] & np.uint64(0xFFFFFFFF))) // 1000
            events[n_events].x = x
            events[n_events].y = y
            events[n_events].p = high >> 31
            n_events += 1
        else:
            outside += 1
    return n_events, outside


class MonoDecoder(Decoder):
    """mono; nothing is carried between packets."""

    encoding: ClassVar[str] = "mono"
    word: ClassVar[np.dtype] = np.dtype(np.uint64)

    def _decode_words(self, words: np.ndarray, time_base: int) -> tuple[np.ndarray, np.ndarray, int, int, int]:
        events = np.empty(len(words), EVENT_DTYPE)
        base_us, base_ns = divmod(time_base, 1000)
        n_events, outside = decode_mono(words, self.width, self.height, base_us, base_ns, events)
        return events[:n_events], NO_TRIGGERS, 0, outside, 0


class TriggerDecoder(Decoder):
    """trigger; its packets hold edges of the external trigger and no events."""

    encoding: ClassVar[str] = "trigger"
    word: ClassVar[np.dtype] = np.dtype(np.uint64)

    def _decode_words(self, words: np.ndarray, time_base: int) -> tuple[np.ndarray, np.ndarray, int, int, int]:
        base_us, base_ns = divmod(time_base, 1000)
        triggers = np.zeros(len(words), TRIGGER_DTYPE)
        triggers["t"] = base_us + (base_ns + (words & np.uint64(0xFFFFFFFF)).astype(np.int64)) // 1000
        triggers["p"] = words >> np.uint64(63)
        return NO_EVENTS, triggers, 0, 0, 0
