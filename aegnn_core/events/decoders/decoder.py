# SPDX-License-Identifier: Apache-2.0
"""What all decoders share: words out of bytes, events and triggers into arrays, and the count of what was wrong."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from aegnn_core.events.array import EVENT_DTYPE, EventFormatError

__all__ = ["TRIGGER_DTYPE", "Decoder", "DecoderCounts"]

#: One edge on a trigger input of the camera: t [µs, sensor time], channel, p [1 = rising, 0 = falling].
TRIGGER_DTYPE = np.dtype([("t", np.int64), ("channel", np.uint8), ("p", np.uint8)])

#: Words decoded at once; with vectors of twelve pixels, 16 MB of events.
_PART_WORDS = 100_000


@dataclass
class DecoderCounts:
    """What a decoder met since it was made; ``reset`` does not clear it.

    Attributes:
        events: events returned.
        triggers: edges on the trigger inputs.
        unknown_words: words whose code the encoding does not define, or that are marked as not valid.
        outside_events: events that do not lie on the sensor; they are left out.
        trailing_bytes: bytes of partial words at the end of packets.
        unplaced_events: events met before the stream had said their time and address. A reader that joins a
            running stream sees a few, and so does one that has lost packets: they are left out, but nothing is wrong
            with the packet.
        lost_packets: packets that the sender has numbered and that did not come.
    """

    events: int = 0
    triggers: int = 0
    unknown_words: int = 0
    outside_events: int = 0
    trailing_bytes: int = 0
    unplaced_events: int = 0
    lost_packets: int = 0

    @property
    def malformed(self) -> int:
        """How often the input was wrong: a packet that raises this number is malformed."""
        return self.unknown_words + self.outside_events + self.trailing_bytes

    def describe_malformed(self) -> str:
        """Say what was wrong, for a log line; empty when nothing was."""
        found = (
            (self.unknown_words, "unknown words"),
            (self.outside_events, "events outside the sensor"),
            (self.trailing_bytes, "bytes of partial words"),
        )
        return ", ".join(f"{name}: {count}" for count, name in found if count)

    def describe_lost(self) -> str:
        """Say what was lost, for a log line."""
        return f"lost packets: {self.lost_packets}, events without time or address: {self.unplaced_events}"


class Decoder(ABC):
    """Turns the packets of one event stream into event arrays; keeps what the encoding carries from packet to packet.

    Args:
        width: sensor width [px].
        height: sensor height [px].

    Attributes:
        counts: :class:`DecoderCounts` over the decoder's life.
        triggers: structured array of :data:`TRIGGER_DTYPE`, the triggers of the packet decoded last.

    Raises:
        EventFormatError: width or height is not between 1 and 65536.
    """

    #: Name of the encoding, as in ``EventPacket.encoding``.
    encoding: ClassVar[str]
    #: One word of the encoding.
    word: ClassVar[np.dtype]

    def __init__(self, width: int, height: int) -> None:
        if not (0 < width <= 1 << 16 and 0 < height <= 1 << 16):
            raise EventFormatError(
                f"sensor size of the {self.encoding} stream is {width} x {height} px,"
                " expected a width and a height between 1 and 65536"
            )
        self.width = int(width)
        self.height = int(height)
        self.counts = DecoderCounts()
        self._seq: int | None = None
        self.triggers = np.empty(0, TRIGGER_DTYPE)
        self.reset()

    def decode(self, payload: bytes | np.ndarray, time_base: int = 0, is_bigendian: bool = False) -> np.ndarray:
        """Decode one packet.

        What is wrong in the payload is left out and counted, the rest is decoded. The events come in the camera's
        order, which can step back in time a little: see :func:`aegnn_core.events.time_order.in_time_order`.

        Args:
            payload: ``EventPacket.events``, any buffer of bytes or array of uint8.
            time_base: ``EventPacket.time_base`` [ns]; not used by EVT encodings.
            is_bigendian: ``EventPacket.is_bigendian``, byte order of the words.

        Returns:
            Structured array ``[N]`` of :data:`EVENT_DTYPE`; nanoseconds are rounded down to microseconds.
        """
        parts = list(self.decode_parts(payload, time_base, is_bigendian))
        return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else NO_EVENTS

    def decode_parts(
        self, payload: bytes | np.ndarray, time_base: int = 0, is_bigendian: bool = False
    ) -> Iterator[np.ndarray]:
        """Decode one packet part by part, for callers that keep less than all of its events.

        Vectors pack events a hundred times; a part is at most some tens of megabytes, however large the packet.

        Args:
            payload: as for :meth:`decode`, and so the others. ``triggers`` are the whole packet's after the last part.

        Returns:
            What :meth:`decode` returns, in parts; none for an empty packet.
        """
        data = np.frombuffer(payload, np.uint8)
        size = self.word.itemsize
        trailing = len(data) % size
        stored = self.word.newbyteorder(">" if is_bigendian else "<")
        stored_words = data[: len(data) - trailing].view(stored)
        self.counts.trailing_bytes += trailing
        self.triggers = NO_TRIGGERS
        self._begin_packet()
        for start in range(0, len(stored_words), _PART_WORDS):
            # The copy makes every payload (read-only, unaligned, of the other byte order) one type for the loops.
            words = stored_words[start : start + _PART_WORDS].astype(self.word)
            events, found, unknown, outside, unplaced = self._decode_words(words, int(time_base))
            self.counts.events += len(events)
            self.counts.triggers += len(found)
            self.counts.unknown_words += unknown
            self.counts.outside_events += outside
            self.counts.unplaced_events += unplaced
            if len(found):
                self.triggers = np.concatenate([self.triggers, found]) if len(self.triggers) else found
            yield events

    def lose(self, packets: int) -> None:
        """Packets were lost before the next one: leave out what depends on them until it has been sent again.

        Time goes on where it was; the events that are left out are counted as unplaced.
        """
        self.counts.lost_packets += packets
        self._forget_lost()

    def expect(self, seq: int) -> None:
        """The next packet has this number: what depends on packets that did not come is left out.

        Where the numbers go back, the sender has started again, and so does the decoder. The first packet, and those
        that all have one number, tell nothing.
        """
        if self._seq is not None and seq < self._seq:
            self.reset()
        elif self._seq is not None and seq > self._seq + 1:
            self.lose(seq - self._seq - 1)
        self._seq = seq

    def _begin_packet(self) -> None:  # noqa: B027 - only some encodings count times from the packet's start
        """Forget what belongs to a packet alone."""

    def _forget_lost(self) -> None:  # noqa: B027 - not every encoding has a state
        """Forget what words that did not come may have changed."""

    def reset(self) -> None:  # noqa: B027 - not every encoding has a state
        """Forget times and addresses seen so far, as before the first packet; the counts go on."""

    @abstractmethod
    def _decode_words(self, words: np.ndarray, time_base: int) -> tuple[np.ndarray, np.ndarray, int, int, int]:
        """Decode whole words; return events, triggers and the counts of unknown words, outside and unplaced events."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.width} x {self.height} px, {self.counts})"


NO_EVENTS = np.empty(0, EVENT_DTYPE)
NO_TRIGGERS = np.empty(0, TRIGGER_DTYPE)
