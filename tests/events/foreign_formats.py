# SPDX-License-Identifier: Apache-2.0
"""Recordings in the formats that the package only reads, written for its tests."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from aegnn_core.events import event_packets
from aegnn_core.events.rosbag import EVENT_PACKET_DEFINITION, EVENT_PACKET_TYPE

#: When the event arrays of :func:`write_arrays` are stamped [s].
ARRAYS_START = 1_500_000_000


def evt2_words(events, kind="<u4"):
    words = []
    for t, x, y, p in events.tolist():
        words += [8 << 28 | t >> 6, p << 28 | (t & 63) << 22 | x << 11 | y]
    return np.array(words, np.uint32).astype(kind).tobytes()


def dat_words(events):
    table = np.empty((len(events), 2), "<u4")
    table[:, 0] = events["t"]
    x, y, p = (events[name].astype(np.uint32) for name in "xyp")
    table[:, 1] = x | y << 14 | p << 28
    return table.tobytes()


def aer40(events):
    return b"".join(bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255]) for t, x, y, p in events.tolist())


def aedat4(*streams, width=640, height=480, one_stream=False):
    """An uncompressed AEDAT4 file: its two flatbuffer tables written out, one packet for each event stream."""
    numbers = [0] * len(streams) if one_stream else range(len(streams))
    nodes = "".join(
        f'<node name="{key}"><attr key="compression" type="string">NONE</attr>'
        f'<attr key="typeIdentifier" type="string">EVTS</attr><node name="info">'
        f'<attr key="sizeX" type="int">{width}</attr><attr key="sizeY" type="int">{height}</attr></node></node>'
        for key in sorted(set(numbers))
    )
    description = f'<dv version="2.0"><node name="outInfo">{nodes}</node></dv>'.encode()
    header = struct.pack("<I4s6x5HIIqiI", 24, b"IOHE", 10, 20, 16, 8, 4, 10, 16, -1, 0, len(description))
    header += description + b"\0"
    content = b"#!AER-DAT4.0\r\n" + struct.pack("<I", len(header)) + header
    for key, events in zip(numbers, streams, strict=True):
        packet = struct.pack("<I4s2x3HiII", 16, b"EVTS", 6, 8, 4, 6, 4, len(events))
        packet += b"".join(struct.pack("<qhhB3x", *event) for event in events.tolist())
        content += struct.pack("<iiI", key, len(packet) + 4, len(packet)) + packet
    return content


def write_dsec(path, events, t_offset=None, **attributes):
    with h5py.File(path, "w") as file:
        for name, kind in (("t", "u4"), ("x", "u2"), ("y", "u2"), ("p", "u1")):
            file.create_dataset(f"events/{name}", data=events[name].astype(kind), **hdf5plugin.Blosc())
        file["ms_to_idx"] = np.zeros(1, np.uint64)
        if t_offset is not None:
            file["t_offset"] = np.int64(t_offset)
        file["events"].attrs.update(attributes)


def evt21(events, upper_first):
    words = []
    for t, x, y, p in events.tolist():
        words += [(8 << 28 | t >> 6, 0), (p << 28 | (t & 63) << 22 | x << 11 | y, 1)]
    order = (0, 1) if upper_first else (1, 0)
    return b"".join(struct.pack("<2I", *(word[k] for k in order)) for word in words)


def evt4(events):
    words = []
    for t, x, y, p in events.tolist():
        words += [14 << 28 | t >> 6, (10 + p) << 28 | (t & 63) << 22 | x << 11 | y]
    return struct.pack(f"<{len(words)}I", *words)


def jaer(events, chip, address):
    words = np.empty((len(events), 2), ">u4")
    x, y, p = (events[name].astype(np.int64) for name in "xyp")
    words[:, 0], words[:, 1] = address(x, y, p), events["t"]
    return f"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n{chip}".encode() + words.tobytes()


def caer(*packets, source="#Source 1: DVS128\r\n"):
    content = f"#!AER-DAT3.1\r\n#Format: RAW\r\n{source}#Start-Time: 2017\r\n#!END-HEADER\r\n".encode()
    for number, overflow, events in packets:
        content += struct.pack("<2h6i", 1, number, 8, 4, overflow, len(events), len(events), len(events))
        for t, x, y, p in events.tolist():
            content += struct.pack("<Ii", x << 17 | y << 2 | p << 1 | 1, t)
    return content


def write_packets(path, streams, kind=EVENT_PACKET_TYPE, topics=("/events",), compression=None):
    """A bag of ROS 1 where the name ends in .bag, otherwise of ROS 2, with the packets of each stream on its topic."""
    ros1 = path.suffix == ".bag"
    store = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_KILTED)
    store.register(get_types_from_msg(EVENT_PACKET_DEFINITION, kind))
    new = store.types
    writer = Ros1Writer(path) if ros1 else Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    if compression is not None:
        writer = Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3)
        writer.set_compression(compression, CompressionFormat.ZSTD)
    sequence = {"seq": 5} if ros1 else {}
    with writer:
        for topic, stream in zip(topics, streams, strict=True):
            connection = writer.add_connection(topic, kind, typestore=store)
            for packet in event_packets(stream):
                stamp = new["builtin_interfaces/msg/Time"](*divmod(packet.stamp, 10**9))
                message = new[kind](
                    header=new["std_msgs/msg/Header"](**sequence, stamp=stamp, frame_id="camera"),
                    height=packet.height,
                    width=packet.width,
                    seq=packet.seq,
                    time_base=packet.time_base,
                    encoding=packet.encoding,
                    is_bigendian=packet.is_bigendian,
                    events=packet.events,
                )
                data = store.serialize_ros1(message, kind) if ros1 else store.serialize_cdr(message, kind)
                writer.write(connection, packet.received, data)
    return path


def make_store(release: Stores, kind: str) -> Typestore:
    store = get_typestore(release)
    package = kind.split("/")[0]
    event = get_types_from_msg("uint16 x\nuint16 y\ntime ts\nbool polarity\n", f"{package}/msg/Event")
    array = get_types_from_msg(f"std_msgs/Header header\nuint32 height\nuint32 width\n{package}/Event[] events\n", kind)
    store.register({**event, **array})
    return store


def make_message(store: Typestore, kind: str, rows: list, frame: str, size: tuple[int, int]) -> Any:
    new, package = store.types, kind.split("/")[0]
    time, header = new["builtin_interfaces/msg/Time"], new["std_msgs/msg/Header"]
    sequence = {"seq": 7} if "seq" in header.__dataclass_fields__ else {}
    events = [
        new[f"{package}/msg/Event"](x=x, y=y, ts=time(sec, nanosec), polarity=bool(p)) for sec, nanosec, x, y, p in rows
    ]
    width, height = size
    return new[kind](
        header=header(**sequence, stamp=time(ARRAYS_START, 5), frame_id=frame),
        height=height,
        width=width,
        events=events,
    )


def write_arrays(path: Path, kind: str, messages: list[list], sizes: tuple = ((240, 180),), frame: str = "dvs") -> Path:
    """A ROS 1 bag where the name ends in .bag, otherwise a rosbag2; sizes are used in turn."""
    ros1 = path.suffix == ".bag"
    store = make_store(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_KILTED, kind)
    with Ros1Writer(path) if ros1 else Writer(path, version=9) as writer:
        topic = writer.add_connection("/dvs/events", kind, typestore=store)
        for number, rows in enumerate(messages):
            message = make_message(store, kind, rows, frame, sizes[number % len(sizes)])
            data = store.serialize_ros1(message, kind) if ros1 else store.serialize_cdr(message, kind)
            writer.write(topic, ARRAYS_START * 10**9 + number, data)
    return path
