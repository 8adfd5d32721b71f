# SPDX-License-Identifier: Apache-2.0
"""libcaer: two 32-bit words per event, as iniVation's libcaer lays out its polarity events."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.events.decoders.decoder import NO_TRIGGERS, Decoder
from aegnn_core.machine_code import kernel

__all__ = ["LibcaerDecoder"]


@kernel
def decode_libcaer(
    words: np.ndarray, width: int, height: int, base_us: int, events: np.ndarray
) -> tuple[int, int, int]:
    """Decode records of pixel and time into ``events``; return numbers of events, not valid words, outside events."""
    n_events = invalid = outside = 0
    for i in range(len(words)):
        pixel = np.int64(words[i].pixel)
        x = pixel >> 17
        y = (pixel >> 2) & 0x7FFF
        if not pixel & 1:
            invalid += 1
        elif x < width and y < height:
            events[n_events].t = base_us + words[i].time
            events[n_events].x = x
            events[n_events].y = y
            events[n_events].p = (pixel >> 1) & 1
            n_events += 1
        else:
            outside += 1
    return n_events, invalid, outside


class LibcaerDecoder(Decoder):
    """libcaer; sensor time is ``time_base`` plus the microseconds of each event, nothing is carried between packets."""

    encoding: ClassVar[str] = "libcaer"
    word: ClassVar[np.dtype] = np.dtype([("pixel", np.uint32), ("time", np.uint32)])

    def _decode_words(self, words: np.ndarray, time_base: int) -> tuple[np.ndarray, np.ndarray, int, int, int]:
        events = np.empty(len(words), EVENT_DTYPE)
        n_events, invalid, outside = decode_libcaer(words, self.width, self.height, time_base // 1000, events)
        return events[:n_events], NO_TRIGGERS, invalid, outside, 0
