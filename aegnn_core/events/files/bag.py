"""rosbag2: all events of one topic as one stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.decoders import Decoder, make_decoder
from aegnn_core.events.files.recording import Size, camera_stream
from aegnn_core.events.rosbag import read_event_packets

__all__ = ["read_bag"]


def read_bag(path: Path, size: Size, topic: str | None = None) -> EventStream:
    """Decode all packets of a bag's event topic; the packets state the sensor's size.

    Raises:
        EventFormatError: not a bag, no event topic or several, an encoding that is not known, packets that disagree on
            encoding or size, no events, or a jump back in time.
    """
    decoder: Decoder | None = None
    chunks = []
    for packet in read_event_packets(path, topic):
        width = packet.width if size[0] is None else size[0]
        height = packet.height if size[1] is None else size[1]
        if decoder is None:
            try:
                decoder = make_decoder(packet.encoding, width, height)
            except EventFormatError as error:
                raise EventFormatError(f"{path}: {error}") from error
        if (packet.encoding, width, height) != (decoder.encoding, decoder.width, decoder.height):
            raise EventFormatError(
                f"{path}: packet {packet.seq} is {packet.encoding!r} of {width} x {height} px,"
                f" expected {decoder.encoding!r} of {decoder.width} x {decoder.height} px as before"
            )
        chunks.append(decoder.decode(packet.events, packet.time_base, packet.is_bigendian))
    if decoder is None:
        raise EventFormatError(f"{path}: its event topic holds no packets, expected at least one")
    return camera_stream(path, np.concatenate(chunks), decoder.counts, (decoder.width, decoder.height))
