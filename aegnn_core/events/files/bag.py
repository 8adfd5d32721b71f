# SPDX-License-Identifier: Apache-2.0
"""Bags of ROS 1 and ROS 2: all events of one topic as one stream."""

from __future__ import annotations

from pathlib import Path

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.decoders import Decoder, DecoderCounts, make_decoder
from aegnn_core.events.event_array_topics import EVENT_ARRAY_TYPES
from aegnn_core.events.files.stream_checks import (
    LARGEST_SIDE,
    EventChunks,
    ReadOptions,
    Size,
    camera_stream,
    drop_outside,
    first_known,
)
from aegnn_core.events.rosbag import RecordedPacket, event_topic_type, read_event_arrays, read_event_packets

__all__ = ["packet_decoder", "read_bag", "read_bag_sensor"]


def read_bag_sensor(path: Path, topic: str | None = None) -> tuple[int, int]:
    """Width and height [px] that a bag's event topic states, without reading more than its first events.

    Raises:
        EventFormatError: not a bag, no event topic or several, an encoding that is not known, or no events.
    """
    if event_topic_type(path, topic) in EVENT_ARRAY_TYPES:
        for _, width, height in read_event_arrays(path, topic):
            if width and height:
                return width, height
    else:
        decoder: Decoder | None = None
        for packet in read_event_packets(path, topic):
            decoder = decoder or packet_decoder(path, packet)
            decoder.expect(packet.seq)
            events = decoder.decode(packet.events, packet.time_base, packet.is_bigendian)
            if packet.width and packet.height and len(events):
                return packet.width, packet.height
    raise EventFormatError(f"{path}: its event topic holds no events of a sensor with a size, expected at least one")


def read_bag(path: Path, options: ReadOptions) -> EventStream:
    """All events of a bag's event topic, of packets or of arrays; the messages state the sensor's size.

    Arrays whose size is 0 do not: it is then found from the events.

    Where packets are missing in between, which their numbers say, what cannot be placed behind them is left out, and a
    warning says how much.

    Raises:
        EventFormatError: not a bag, no event topic or several, an encoding that is not known, messages that disagree on
            encoding or size, no events, or a jump back in time.
    """
    if event_topic_type(path, options.topic) in EVENT_ARRAY_TYPES:
        return _read_arrays(path, options)
    return _read_packets(path, options)


def _read_arrays(path: Path, options: ReadOptions) -> EventStream:
    chunks, counts = EventChunks(path, options), DecoderCounts()
    sensor: Size | None = None
    for number, (events, width, height) in enumerate(read_event_arrays(path, options.topic)):
        found = first_known(options.size, (width or None, height or None))
        if not len(events) and None in found:
            continue
        if sensor is not None and found != sensor:
            raise EventFormatError(
                f"{path}: message {number} is of {found[0]} x {found[1]} px,"
                f" expected {sensor[0]} x {sensor[1]} px as before"
            )
        sensor = found
        chunks.add(drop_outside(events, sensor, counts))
    if sensor is None:
        raise EventFormatError(f"{path}: its event topic holds no messages, expected at least one")
    return camera_stream(path, chunks.together(), counts, sensor)


def _read_packets(path: Path, options: ReadOptions) -> EventStream:
    decoder: Decoder | None = None
    chunks = EventChunks(path, options)
    for packet in read_event_packets(path, options.topic):
        width = packet.width if options.width is None else options.width
        height = packet.height if options.height is None else options.height
        if decoder is None:
            decoder = _decoder_for(path, packet.encoding, width, height)
        if (packet.encoding, width, height) != (decoder.encoding, decoder.width, decoder.height):
            raise EventFormatError(
                f"{path}: packet {packet.seq} is {packet.encoding!r} of {width} x {height} px,"
                f" expected {decoder.encoding!r} of {decoder.width} x {decoder.height} px as before"
            )
        decoder.expect(packet.seq)
        for part in decoder.decode_parts(packet.events, packet.time_base, packet.is_bigendian):
            chunks.add(part)
    if decoder is None:
        raise EventFormatError(f"{path}: its event topic holds no packets, expected at least one")
    return camera_stream(path, chunks.together(), decoder.counts, (decoder.width, decoder.height))


def packet_decoder(path: Path, packet: RecordedPacket) -> Decoder:
    """What decodes the packets of a bag of which this is one; a sensor whose size is not stated may be any.

    Raises:
        EventFormatError: an encoding that is not known.
    """
    return _decoder_for(path, packet.encoding, packet.width or LARGEST_SIDE, packet.height or LARGEST_SIDE)


def _decoder_for(path: Path, encoding: str, width: int, height: int) -> Decoder:
    try:
        return make_decoder(encoding, width, height)
    except EventFormatError as error:
        raise EventFormatError(f"{path}: {error}") from error
