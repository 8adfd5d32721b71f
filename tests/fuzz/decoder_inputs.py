# SPDX-License-Identifier: Apache-2.0
"""Packets of every encoding: random bytes, random words of the encoding, and streams that were damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from aegnn_core.events import encode_evt3, make_events
from aegnn_core.events.decoders import (
    PACKET_DECODERS,
    Decoder,
    Evt2Decoder,
    Evt4Decoder,
    Evt21Decoder,
    Evt21LegacyDecoder,
)
from tests.fuzz.outcomes import require

__all__ = ["TIME_BASES", "DecoderInputs", "payloads"]

_DECODERS: list[type[Decoder]] = [
    *PACKET_DECODERS.values(), Evt2Decoder, Evt21Decoder, Evt21LegacyDecoder, Evt4Decoder,
]  # fmt: skip
#: Those that carry everything from packet to packet: how a stream is cut does not matter to them.
_SEAMLESS = {"evt2", "evt21", "evt3", "evt4"}
_SIZES = [(1, 1), (160, 120), (640, 480), (1280, 720), (2048, 2048), (65_536, 65_536)]
TIME_BASES = [0, 1, 999, 10**9, 2**31, 2**40 + 7, 10**18, 2**63 - 1, 2**63, 2**64 - 1]
_PACKETS = 4_000
_LONGEST_WORDS = 24
#: One packet of a batch is that long [bytes], so that it is decoded in parts.
_LARGE = 1 << 19


def payloads(count: int, word_bytes: int, rng: np.random.Generator) -> tuple[bytes, np.ndarray]:
    """Bytes, and the ``count + 1`` places at which they are cut into packets."""
    places = np.concatenate([[0], np.cumsum(rng.integers(0, _LONGEST_WORDS, count) * word_bytes)])
    if rng.random() < 0.3:
        places[1:-1] += rng.integers(0, word_bytes, count - 1)  # partial words
        places = np.maximum.accumulate(np.minimum(places, places[-1]))
    size = int(places[-1])
    kind = rng.integers(4)
    if kind == 0:
        return rng.bytes(size), places
    if kind == 1:  # codes that are defined, fields that are small
        words = rng.integers(0, 256, size // 2, np.uint16) | rng.integers(0, 16, size // 2, np.uint16) << 12
        return words.astype("<u2").tobytes(), places
    events = size // 4 + 1
    t = np.cumsum(rng.choice([0, 1, 300, 5_000], events))
    good = encode_evt3(make_events(t, rng.integers(0, 200, events), rng.integers(0, 150, events), t & 1))
    data = np.resize(np.frombuffer(good, np.uint8), size)
    if kind == 2:
        wrong = rng.integers(0, max(size, 1), size // 50)
        data[wrong] = rng.integers(0, 256, len(wrong))
    return data.tobytes(), places


class DecoderInputs:
    """Packets into the decoders: what comes out lies on the sensor, and is the same however a stream is cut."""

    name = "decoder inputs"
    named = "nothing"  # no decoder refuses a packet

    def __init__(self, folder: Path) -> None:
        pass

    def attempts(self, rng: np.random.Generator) -> Iterator[Callable[[], None]]:
        """A stream of packets of one encoding."""
        kind = _DECODERS[rng.integers(len(_DECODERS))]
        size = _SIZES[rng.integers(len(_SIZES))]
        decoder = kind(*size)
        word_bytes = kind.word.itemsize
        if rng.random() < 0.01:
            large = rng.bytes(_LARGE)
            yield lambda: _check(decoder, decoder.decode(large))
            decoder = kind(*size)
        data, places = payloads(_PACKETS, word_bytes, rng)
        base = TIME_BASES[rng.integers(len(TIME_BASES))]
        big = bool(rng.random() < 0.1)
        lossy = rng.random() < 0.3
        losses = rng.random(_PACKETS) < 0.05 if lossy else np.zeros(_PACKETS, bool)
        found: list[np.ndarray] = []
        decode, cuts = decoder.decode, places.tolist()

        def one(number: int) -> None:
            if losses[number]:
                decoder.lose(1)
            found.append(decode(data[cuts[number] : cuts[number + 1]], base, big))

        for number in range(_PACKETS):
            yield partial(one, number)

        def check() -> None:
            events = np.concatenate(found)
            _check(decoder, events)
            counts = decoder.counts
            require(counts.events == len(events), f"{counts} for {len(events)} events")
            if kind.encoding in _SEAMLESS and not lossy and not (places % word_bytes).any():
                whole = kind(*size)
                require(
                    bool((whole.decode(data, base, big) == events).all()), "cut into packets, it gives other events"
                )
                require(whole.counts == counts, f"cut into packets, it gives {counts}, whole {whole.counts}")

        yield check


def _check(decoder: Decoder, events: np.ndarray) -> None:
    if len(events):
        require(int(events["x"].max()) < decoder.width, f"{decoder}: an event at x = {events['x'].max()}")
        require(int(events["y"].max()) < decoder.height, f"{decoder}: an event at y = {events['y'].max()}")
        require(int(events["p"].max()) <= 1, f"{decoder}: an event of polarity {events['p'].max()}")
