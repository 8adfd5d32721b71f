# SPDX-License-Identifier: Apache-2.0
"""From the packets of one camera to events: the decoder of their encoding, lost packets, another camera."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from event_camera_msgs.msg import EventPacket

from aegnn_core.events.array import EventFormatError
from aegnn_core.events.decoders import Decoder, make_decoder
from aegnn_core.events.decoders.decoder import NO_EVENTS, NO_TRIGGERS
from aegnn_core.nn.checkpoint import MAX_SIDE

__all__ = ["PacketDecoder"]

#: Limits of one packet, far beyond any camera's: what is larger is malformed and must not fill the memory.
_LARGEST_PACKET_BYTES = 1 << 24
_MOST_EVENTS = 1 << 22
_MOST_PIXELS = 1 << 24
#: A network that runs on the camera's own sensor keeps 200 bytes per pixel, twice while one takes another's place; no
#: event camera has so many pixels.
_MOST_NATIVE_PIXELS = 1_500_000


class PacketDecoder:
    """Decodes every packet of a stream in turn, because encodings carry state from packet to packet.

    Args:
        on_malformed: called with the number of a packet and what is wrong with it.
        on_restart: called, before the packet is decoded, with the reason why it belongs to another stream.

    Attributes:
        triggers: edges on trigger inputs ``[N]`` in the packet that was decoded last.
    """

    def __init__(self, on_malformed: Callable[[int, str], None], on_restart: Callable[[str], None]) -> None:
        self.triggers = NO_TRIGGERS
        self._on_malformed, self._on_restart = on_malformed, on_restart
        self._decoder: Decoder | None = None
        self._last_seq: int | None = None

    @property
    def camera(self) -> tuple[str, int, int] | None:
        """Encoding, width and height [px] of the packets; None before the first one that can be decoded."""
        decoder = self._decoder
        return None if decoder is None else (decoder.encoding, decoder.width, decoder.height)

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height [px] of the camera's sensor, once they are known."""
        return None if self._decoder is None else (self._decoder.width, self._decoder.height)

    def decode(self, packet: EventPacket, native: bool = False) -> np.ndarray:
        """The events of a packet in the camera's order: as many as can be decoded where it is malformed.

        Args:
            packet: the next of the stream.
            native: whether the network runs on the camera's own sensor, which must not be too large for that.
        """
        self._follow_sequence(packet.seq)
        self.triggers = NO_TRIGGERS
        try:
            _check_limits(packet)
            decoder = self._decoder_of(packet, native)
            malformed = decoder.counts.malformed
            events = _decode_parts(decoder, packet)
            self.triggers = decoder.triggers
        except EventFormatError as error:
            if self._decoder is not None:
                self._decoder.lose(0)  # what the packet would have changed
            self._on_malformed(packet.seq, str(error))
            return NO_EVENTS
        if decoder.counts.malformed > malformed:
            self._on_malformed(packet.seq, decoder.counts.describe_malformed() + " so far")
        return events

    def resume(self) -> None:
        """Continue after a pause: packets that came meanwhile were not lost."""
        self._last_seq = None
        if self._decoder is not None:
            self._decoder.lose(0)

    def _follow_sequence(self, seq: int) -> None:
        """A sequence that starts again means another recording or driver, with another clock; gaps are lost packets."""
        if self._last_seq is not None and seq < self._last_seq:
            self._decoder = None
            self._on_restart(f"packet number {seq} follows {self._last_seq}: the driver or the bag has started again")
        elif self._last_seq is not None and seq > self._last_seq + 1 and self._decoder is not None:
            self._decoder.lose(seq - self._last_seq - 1)
        self._last_seq = seq

    def _decoder_of(self, packet: EventPacket, native: bool) -> Decoder:
        """The present decoder, or a new one where encoding or size of the sensor have changed."""
        camera, old = (packet.encoding, packet.width, packet.height), self._decoder
        if old is not None and camera == self.camera:
            return old
        new = make_decoder(*camera)
        if native and (new.width * new.height > _MOST_NATIVE_PIXELS or max(new.width, new.height) > MAX_SIDE):
            raise EventFormatError(
                f"its sensor of {new.width} x {new.height} px is too large for a network of that size,"
                f" expected at most {MAX_SIDE} px a side and {_MOST_NATIVE_PIXELS} px"
            )
        if old is not None:
            self._on_restart(
                f"the camera has changed from {old.encoding}, {old.width} x {old.height} px"
                f" to {new.encoding}, {new.width} x {new.height} px"
            )
        self._decoder = new
        return new


def _decode_parts(decoder: Decoder, packet: EventPacket) -> np.ndarray:
    """Decode a packet part by part, and stop with ``EventFormatError`` where it has more events than any camera's."""
    parts, count = [], 0
    payload = np.frombuffer(packet.events, np.uint8)
    for part in decoder.decode_parts(payload, packet.time_base, packet.is_bigendian):
        parts.append(part)
        count += len(part)
        if count > _MOST_EVENTS:
            raise EventFormatError(f"holds more than {_MOST_EVENTS} events")
    return parts[0] if len(parts) == 1 else np.concatenate([NO_EVENTS, *parts])


def _check_limits(packet: EventPacket) -> None:
    """Raise ``EventFormatError`` for a packet that no camera can have sent."""
    if len(packet.events) > _LARGEST_PACKET_BYTES:
        raise EventFormatError(f"has {len(packet.events)} bytes, expected at most {_LARGEST_PACKET_BYTES}")
    if packet.width * packet.height > _MOST_PIXELS:
        raise EventFormatError(
            f"is of a sensor of {packet.width} x {packet.height} px, expected at most {_MOST_PIXELS} pixels"
        )
