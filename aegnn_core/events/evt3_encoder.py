# SPDX-License-Identifier: Apache-2.0
"""EVT3 encoder: events back into the words that :mod:`aegnn_core.events.decoders.evt3` reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aegnn_core.events.array import check_events
from aegnn_core.events.decoders.evt3 import (
    ADDR_X,
    ADDR_Y,
    TIME_HIGH,
    TIME_HIGH_RANGE,
    TIME_LOW,
    VECT_12,
    VECT_BASE_X,
)
from aegnn_core.machine_code import kernel

__all__ = ["EVT3_MAX_SIZE", "Evt3EncoderState", "encode_evt3"]

#: Largest sensor side [px] that EVT3's 11-bit addresses can name.
EVT3_MAX_SIZE = 1 << 11

#: Largest step forward of TIME_HIGH that the decoder takes for one: a longer gap is stated in several steps.
_MAX_STEP = TIME_HIGH_RANGE // 2 - 1


@dataclass
class Evt3EncoderState:
    """What the encoder carries from packet to packet.

    Attributes:
        last_t: time of the last event encoded [µs]; None before the first.
    """

    last_t: int | None = None


@kernel
def fill_evt3_words(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, high: int, words: np.ndarray) -> int:
    """Encode events into ``words`` and return their number; ``high`` is the time so far in steps of 4096 µs.

    The first event states the whole time and address, so that the packet can be read without the ones before (but for
    the number of wraps). Pixels of one row that follow each other become a vector where that takes no more words.
    Always VECT_12: it takes the same one word as VECT_8.
    """
    n = 0
    row = base_x = base_p = low_t = np.int64(-1)
    i = 0
    while i < len(t):
        now = t[i] >> 12
        if i == 0 or now != high:
            while now - high > _MAX_STEP:
                high += _MAX_STEP
                words[n] = (TIME_HIGH << 12) | (high & 0xFFF)
                n += 1
            high = now
            words[n] = (TIME_HIGH << 12) | (high & 0xFFF)
            n += 1
        if i == 0 or t[i] != low_t:
            low_t = t[i]
            words[n] = (TIME_LOW << 12) | (low_t & 0xFFF)
            n += 1
        if y[i] != row:
            row = y[i]
            words[n] = (ADDR_Y << 12) | row
            n += 1

        follows = p[i] == base_p and base_x <= x[i] < base_x + 12
        start = base_x if follows else x[i]
        bits = np.int64(0)
        end = i
        while (
            end < len(t)
            and t[end] == low_t
            and y[end] == row
            and p[end] == p[i]
            and x[end] < start + 12
            and (end == i or x[end] > x[end - 1])
        ):
            bits |= 1 << (x[end] - start)
            end += 1
        if end - i >= (1 if follows else 2):
            if not follows:
                base_p = p[i]
                words[n] = (VECT_BASE_X << 12) | (base_p << 11) | start
                n += 1
            words[n] = (VECT_12 << 12) | bits
            n += 1
            base_x = start + 12
            i = end
        else:
            words[n] = (ADDR_X << 12) | (p[i] << 11) | x[i]
            n += 1
            i += 1
    return n


def encode_evt3(events: np.ndarray, state: Evt3EncoderState | None = None) -> bytes:
    """Encode one packet of events as EVT3; decoding gives the events back, in the same order.

    EVT3 carries times modulo 2^24 µs and leaves the wraps to the decoder. Decoded times therefore start below 2^24 µs:
    they are ``t - (t0 >> 24 << 24)``, with ``t0`` the time of the first event since the decoder's reset.

    Args:
        events: structured array ``[N]`` with fields t, x, y, p, in time order, x and y below 2048.
        state: carried from packet to packet of one stream, and updated; None for a stream of one packet.

    Returns:
        Little-endian 16-bit words; empty when there are no events.

    Raises:
        ValueError: the events are not valid, or begin before the packet before has ended.
    """
    state = Evt3EncoderState() if state is None else state
    events = check_events(events, EVT3_MAX_SIZE, EVT3_MAX_SIZE, source="events for EVT3")
    if len(events) == 0:
        return b""
    t, x, y, p = (events[name].astype(np.int64) for name in "txyp")
    if state.last_t is not None and t[0] < state.last_t:
        raise ValueError(
            f"events for EVT3 start at {t[0]} µs, expected no earlier than the last packet's {state.last_t} µs"
        )
    high = int(t[0] if state.last_t is None else state.last_t) >> 12
    gap_words = ((int(t[-1]) >> 12) - high) // _MAX_STEP
    words = np.empty(4 * len(t) + gap_words, np.uint16)
    n = fill_evt3_words(t, x, y, p, high, words)
    state.last_t = int(t[-1])
    return words[:n].astype("<u2").tobytes()
