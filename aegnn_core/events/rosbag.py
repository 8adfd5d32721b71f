# SPDX-License-Identifier: Apache-2.0
"""Event packets in rosbag2 recordings, read and written without ROS."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from itertools import chain, groupby
from operator import attrgetter
from os import PathLike
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar

import numpy as np
import yaml
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.bag_paths import (
    BAG_SUFFIXES,
    COMPRESSED_SUFFIX,
    METADATA,
    is_bag,
    is_bag_recording,
    is_ros1_bag,
    storage_files,
    storage_suffix,
)
from aegnn_core.events.event_array_topics import EVENT_ARRAY_TYPES, decode_event_array
from aegnn_core.events.evt3_encoder import Evt3EncoderState, encode_evt3
from aegnn_core.events.file_kind import check_regular
from aegnn_core.events.label_topics import (
    INFO_TYPE,
    LABEL_INFO_TOPIC,
    LABEL_TOPIC,
    DetectedBox,
    Label,
    deserialize_boxes,
    deserialize_label,
    deserialize_label_info,
    label_typestore,
    serialize_label,
    serialize_label_info,
)
from aegnn_core.events.recorded_packet import (
    EVENT_PACKET_DEFINITION,
    EVENT_PACKET_TYPE,
    EVENT_PACKET_TYPES,
    RecordedPacket,
)
from aegnn_core.plain_yaml import load_yaml

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = [
    "BAG_SUFFIXES",
    "EVENT_PACKET_DEFINITION",
    "EVENT_PACKET_TYPE",
    "LATCHED_QOS",
    "RecordedPacket",
    "check_ros_time",
    "event_packets",
    "event_topic_type",
    "is_bag",
    "is_bag_recording",
    "read_class_names",
    "read_detections",
    "read_event_arrays",
    "read_event_packets",
    "read_labels",
    "removed_on_failure",
    "topic_types",
    "write_event_bag",
]

EVENT_TYPES = (*EVENT_PACKET_TYPES, *EVENT_ARRAY_TYPES)

#: ``builtin_interfaces/Time`` has its seconds in an int32.
_END_OF_TIME_NS = 2**31 * 10**9

#: Largest packet [bytes] that Fast DDS's default shared memory passes on reliably.
MAX_PACKET_BYTES = 400_000

#: An event alone takes at most four EVT3 words: two of the time, the row, the column.
_MAX_EVENT_BYTES = 8

_ROS1_FIRST_LINE = b"#ROSBAG V2.0\n"

#: What to do where rosbags says this.
_CURES = {
    "end magic": "; mcap recover saves what is whole of a file that is cut off",
    "index looks damaged": "; ROS 1's rosbag reindex saves what is whole of a file that is cut off",
}

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
#: A higher ratio of compression than this is an attempt to fill the disk.
_LARGEST_RATIO = 200
_SMALL_BYTES = 1 << 26
_BLOCK_BYTES = 1 << 20
#: Of the largest metadata: of thousands of parts or topics.
_METADATA_BYTES = 1 << 22
_STORAGES = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}

_FOREVER = QosTime(9223372036, 854775807)
#: What event camera drivers offer: best effort, volatile, keep last.
_DRIVER_QOS = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1000,
    reliability=QosReliability.BEST_EFFORT,
    durability=QosDurability.VOLATILE,
    deadline=_FOREVER,
    lifespan=_FOREVER,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_FOREVER,
    avoid_ros_namespace_conventions=False,
)
#: Of topics whose last message later subscribers get too.
LATCHED_QOS = _DRIVER_QOS._replace(
    depth=1, reliability=QosReliability.RELIABLE, durability=QosDurability.TRANSIENT_LOCAL
)


_Content = TypeVar("_Content")


@cache
def _typestore(release: Stores = Stores.ROS2_KILTED) -> Typestore:
    store = get_typestore(release)
    store.register(get_types_from_msg(EVENT_PACKET_DEFINITION, EVENT_PACKET_TYPE))
    return store


def read_event_packets(path: str | PathLike[str], topic: str | None = None) -> Iterator[RecordedPacket]:
    """Read the event packets of a bag, in the order of their receipt.

    Args:
        path: rosbag2 folder, one of its ``.db3`` or ``.mcap`` files, or a ROS 1 ``.bag`` file.
        topic: needed where the bag has several event topics.

    Raises:
        EventFormatError: not a readable bag, no such event topic, or several and none chosen.
        FileNotFoundError: nothing is there.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder, expected a bag of ROS 1 or ROS 2")
    ros1 = is_ros1_bag(path)
    for received, message in _read(path, topic, EVENT_PACKET_TYPES, partial(_deserialize_packet, ros1)):
        yield RecordedPacket(
            events=message.events,
            encoding=message.encoding,
            width=message.width,
            height=message.height,
            seq=message.seq,
            time_base=message.time_base,
            is_bigendian=message.is_bigendian,
            stamp=message.header.stamp.sec * 10**9 + message.header.stamp.nanosec,
            frame_id=message.header.frame_id,
            received=received,
        )


def read_labels(path: str | PathLike[str], class_names: Sequence[str] = (), topic: str = LABEL_TOPIC) -> list[Label]:
    """The labels of a bag in the order of their stamps; none where it has no such topic.

    Messages of one stamp are one label, as where an annotation tool sends one message per object: their boxes are put
    together.

    Args:
        path: ROS 1 ``.bag`` file, rosbag2 folder, or one of its ``.db3`` or ``.mcap`` files.
        class_names: names of the classes in the order of the numbers that labels get. A bag whose topic ``label_info``
            beside the labels' says what its own numbers mean may have another order.
        topic: of type ``vision_msgs/Detection2DArray``, ``vision_msgs/Classification`` or, in ROS 1, its
            ``Classification2D``.

    Raises:
        EventFormatError: the topic has another type, or a class that is not one of the names; nor a number, where
            nothing says what numbers mean; or two classes at one time.
    """
    path = Path(path)
    own_names = read_class_names(path, topic.rpartition("/")[0] + LABEL_INFO_TOPIC) if class_names else ()

    def decode(connection: Connection, data: bytes) -> Label | None:
        return deserialize_label(connection.msgtype, data, class_names, own_names, _ros1_definition(path, connection))

    labels = [label for label in _read_topic(path, topic, decode) if label is not None]
    stamp = attrgetter("stamp")
    return [_as_one(path, together) for _, together in groupby(sorted(labels, key=stamp), stamp)]


def _as_one(path: Path, labels: Iterable[Label]) -> Label:
    """The label that labels with one stamp are together."""
    first, *others = labels
    if first.boxes is not None:
        boxes = [first.boxes, *(label.boxes for label in others if label.boxes is not None)]
        return Label(first.stamp, boxes=np.concatenate(boxes))
    for other in others:
        if other.class_id != first.class_id:
            raise EventFormatError(
                f"{path}: labels at {first.stamp / 1e9:.3f} s are of the classes {first.class_id} and {other.class_id},"
                " expected one"
            )
    return first


def read_detections(path: str | PathLike[str], topic: str) -> list[tuple[int, list[DetectedBox]]]:
    """Stamp [ns] and boxes of every message of a topic of ``vision_msgs/Detection2DArray``, in the order of the stamps.

    Args:
        path: ROS 1 ``.bag`` file, rosbag2 folder, or one of its ``.db3`` or ``.mcap`` files.
        topic: the topic's name.

    Raises:
        EventFormatError: not a readable bag, or no such topic of this type.
    """
    path = Path(path)
    types = topic_types(path)
    if topic not in types:
        known = ", ".join(sorted(f"{name} ({kind})" for name, kind in types.items())) or "no topics"
        raise EventFormatError(f"{path}: has no topic {topic}, only {known}")

    def decode(connection: Connection, data: bytes) -> tuple[int, list[DetectedBox]]:
        return deserialize_boxes(connection.msgtype, data, _ros1_definition(path, connection))

    return sorted(_read_topic(path, topic, decode), key=lambda message: message[0])


def read_class_names(path: str | PathLike[str], topic: str = LABEL_INFO_TOPIC) -> tuple[str, ...]:
    """The names of the classes that a rosbag2's topic ``/label_info`` holds; none where it has no such topic.

    Raises:
        EventFormatError: not a readable bag, or class numbers with gaps.
    """

    def decode(connection: Connection, data: bytes) -> tuple[str, ...] | None:
        return deserialize_label_info(data, label_typestore()) if connection.msgtype == INFO_TYPE else None

    return next((names for names in _read_topic(Path(path), topic, decode) if names is not None), ())


def topic_types(path: str | PathLike[str]) -> dict[str, str]:
    """The message type of each topic of a bag.

    Raises:
        EventFormatError: not a readable bag.
    """
    path = Path(path)
    with _complete(path), ExitStack() as stack:
        return {c.topic: c.msgtype for reader in _open(path, stack) for c in reader.connections}


def _read_topic(path: Path, topic: str, decode: Callable[[Connection, bytes], _Content]) -> Iterator[_Content]:
    """The content of each message of a topic, none where a bag does not have it."""
    with _complete(path), ExitStack() as stack:
        for reader in _open(path, stack):
            own = [connection for connection in reader.connections if connection.topic == topic]
            for connection, _, data in _messages_of(reader, own):
                with _named(f"{path}: topic {topic}"):
                    content = decode(connection, data)
                yield content


def _ros1_definition(path: Path, connection: Connection) -> str | None:
    """How a ROS 1 bag defines the messages of a topic."""
    return connection.msgdef.data if is_ros1_bag(path) else None


def read_event_arrays(path: str | PathLike[str], topic: str | None = None) -> Iterator[tuple[np.ndarray, int, int]]:
    """Read the ``dvs_msgs`` or ``prophesee_event_msgs`` event arrays of a ROS 1 bag or a rosbag2, in order of receipt.

    Args:
        path: ROS 1 ``.bag`` file, rosbag2 folder, or one of its ``.db3`` or ``.mcap`` files.
        topic: needed where the bag has several event topics.

    Returns:
        For every message its events as ``EVENT_DTYPE [N]``, and the sensor's width and height [px].

    Raises:
        EventFormatError: not a readable bag, no such event topic, or several and none chosen.
    """
    path = Path(path)
    serialization = "ros1" if is_ros1_bag(path) else "cdr"
    decode = partial(decode_event_array, serialization=serialization)
    for _, decoded in _read(path, topic, EVENT_ARRAY_TYPES, decode):
        yield decoded


def event_topic_type(path: str | PathLike[str], topic: str | None = None) -> str:
    """The message type of a bag's one event topic, or of the chosen one: of event packets or of event arrays.

    Raises:
        EventFormatError: not a readable bag, no such event topic, or several and none chosen.
    """
    path = Path(path)
    with _complete(path), ExitStack() as stack:
        connections = [c for reader in _open(path, stack) for c in reader.connections]
        chosen = _choose_topic(path, connections, topic, EVENT_TYPES)
        return next(c.msgtype for c in connections if c.topic == chosen and c.msgtype in EVENT_TYPES)


def _deserialize_packet(ros1: bool, data: bytes) -> Any:
    if ros1:
        return _typestore(Stores.ROS1_NOETIC).deserialize_ros1(data, EVENT_PACKET_TYPE)
    return _typestore().deserialize_cdr(data, EVENT_PACKET_TYPE)


def _read(
    path: Path, topic: str | None, types: Sequence[str], decode: Callable[[bytes], _Content]
) -> Iterator[tuple[int, _Content]]:
    """Receive time [ns] and content of each message of the one event topic that has one of the types."""
    with _complete(path), ExitStack() as stack:
        readers = _open(path, stack)
        chosen = _choose_topic(path, [c for reader in readers for c in reader.connections], topic, types)
        for reader in readers:
            own = [c for c in reader.connections if c.topic == chosen and c.msgtype in types]
            for _, received, data in _messages_of(reader, own):
                with _named(str(path)):
                    content = decode(data)
                yield received, content


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Have errors say in which bag a message is, or in which of its topics."""
    try:
        yield
    except EventFormatError as error:
        raise EventFormatError(f"{place}: {error}") from error


@contextmanager
def _complete(path: Path) -> Iterator[None]:
    """Make one error of the dozen kinds that rosbags and the libraries below it raise on a bag that is not whole."""
    try:
        yield
    except EventFormatError:
        raise
    except Exception as error:
        kind = "ROS 1 bag" if is_ros1_bag(path) else "rosbag2 recording"
        # What a killed recorder leaves; rosbags needs the index at the end.
        cure = next((cure for part, cure in _CURES.items() if part in str(error)), "")
        # rosbags asks for as many bytes as a record states, and finds only then that the file has no such record.
        cause = None if isinstance(error, MemoryError) else error
        said = " ".join(str(error).split())[:300]
        found = f"{type(error).__name__}: {said}" if cause else "a record states more bytes than the memory has"
        raise EventFormatError(f"{path}: {found}, expected a complete {kind}{cure}") from cause


def _open(path: Path, stack: ExitStack) -> list[Reader | Ros1Reader]:
    """Readers of a bag's parts, closed with the stack."""
    check_regular(path)
    for file in path.iterdir() if path.is_dir() else ():
        check_regular(file)
    if is_ros1_bag(path):
        _check_ros1(path)
        return [stack.enter_context(Ros1Reader(path))]
    parts = [_unpacked(part, stack) for part in _parts(path)]
    readers = [stack.enter_context(Reader(part)) for part in parts]
    # Their names count them, but as text: _10 comes before _2.
    return sorted(readers, key=lambda reader: reader.start_time)


def _unpacked(part: Path, stack: ExitStack) -> Path:
    """A storage file under a name that rosbags knows, without its compression; what is made lives as the stack does."""
    if part.suffix != COMPRESSED_SUFFIX:
        if part.is_dir() or part.suffix == storage_suffix(part):
            return part
        link = Path(stack.enter_context(TemporaryDirectory()), part.stem + storage_suffix(part))
        link.symlink_to(part.resolve())
        return link
    plain = Path(stack.enter_context(TemporaryDirectory()), part.stem)
    most = _SMALL_BYTES + _LARGEST_RATIO * part.stat().st_size
    with zstd.open(part, "rb") as packed, plain.open("wb") as file:
        while block := packed.read(_BLOCK_BYTES):
            if file.tell() + len(block) > most:
                raise EventFormatError(
                    f"{part}: unpacks to more than {most} bytes, expected events, which pack less well"
                )
            file.write(block)
    return plain


def _messages_of(
    reader: Reader | Ros1Reader, connections: Sequence[Connection]
) -> Iterator[tuple[Connection, int, bytes]]:
    """Messages of the connections, if any; those that a recorder has compressed one by one are unpacked.

    The bag's metadata say so, which may be missing; no message begins like that by itself.
    """
    # rosbags takes no connections for all.
    for connection, received, data in reader.messages(connections) if connections else ():
        yield connection, received, _plain(reader, data) if data[: len(_ZSTD_MAGIC)] == _ZSTD_MAGIC else data


def _plain(reader: Reader | Ros1Reader, data: bytes) -> bytes:
    """A message without its compression."""
    most, unpacker = _SMALL_BYTES + _LARGEST_RATIO * len(data), zstd.ZstdDecompressor()
    message = unpacker.decompress(data, most)
    if not unpacker.eof:
        raise EventFormatError(f"{reader.path}: a message unpacks to more than {most} bytes, or is not complete")
    return message


def _check_ros1(path: Path) -> None:
    """Refuse what does not begin as a ROS 1 bag: a large file of something else is searched through at length."""
    with path.open("rb") as file:
        first = file.read(len(_ROS1_FIRST_LINE))
    if first != _ROS1_FIRST_LINE:
        raise EventFormatError(f"{path}: begins with {first!r}, expected {_ROS1_FIRST_LINE!r}")


def _choose_topic(path: Path, connections: Iterable[Connection], topic: str | None, types: Sequence[str]) -> str:
    connections = list(connections)
    topics = sorted({c.topic for c in connections if c.msgtype in types})
    if topic is not None and topic not in topics:
        raise EventFormatError(f"{path}: no event topic {topic!r}, expected one of {', '.join(topics) or 'none'}")
    if not topics:
        found = ", ".join(sorted({f"{c.topic} ({c.msgtype})" for c in connections})) or "no topic"
        raise EventFormatError(f"{path}: holds {found}, expected a topic of {' or '.join(types)}")
    if topic is None and len(topics) > 1:
        raise EventFormatError(
            f"{path}: holds the event topics {', '.join(topics)}, expected one or a choice of one with topic="
        )
    return topics[0] if topic is None else topic


def _parts(path: Path) -> list[Path]:
    """What rosbags can open: the folder, or its storage files where the metadata are absent or name no storage.

    Some recorders leave ``storage_identifier`` empty; the file names then say what the storage is.
    """
    if not path.is_dir():
        return [path]
    if not (path / METADATA).exists():
        return storage_files(path)
    metadata = _read_metadata(path / METADATA)
    if metadata["storage_identifier"]:
        return [path]
    return [path / PurePath(name).name for name in metadata["relative_file_paths"]]


def _read_metadata(file: Path) -> Any:
    """What the metadata say; references within them, which could unfold without end, are refused."""
    check_regular(file)
    if file.stat().st_size > _METADATA_BYTES:
        raise EventFormatError(f"{file}: has {file.stat().st_size} bytes, expected at most {_METADATA_BYTES}")
    text = file.read_text("utf8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return load_yaml(text, loader, 0)["rosbag2_bagfile_information"]
    except ValueError as error:
        raise EventFormatError(f"{file}: {error}, expected plain metadata of a rosbag2 recording") from error


def event_packets(
    stream: EventStream, packet_us: int = 5000, stamp_offset: int = 0, frame_id: str = "event_camera"
) -> Iterator[RecordedPacket]:
    """Cut a stream into evt3 packets, as a driver would: one for each ``packet_us`` of sensor time that has events.

    Busy times get several packets, so that none is larger than :data:`MAX_PACKET_BYTES`. Decoding them in a row gives
    the stream's events, with times as :func:`aegnn_core.events.evt3_encoder.encode_evt3` says.

    Args:
        stream: events and sensor size.
        packet_us: duration of a packet [µs].
        stamp_offset: host time of the sensor's time 0 [ns]. Packets are stamped with their first event's time and
            received when their time slice has ended.
        frame_id: the camera's frame.

    Raises:
        ValueError: no positive duration, events that are not valid, or a sensor larger than EVT3 can address.
    """
    if packet_us < 1:
        raise ValueError(f"packet duration is {packet_us} µs, expected a positive number")
    events, t = stream.events, stream.events["t"]  # which np.searchsorted would copy, for every packet
    state = Evt3EncoderState()
    seq = start = 0
    while start < len(events):
        slice_end = (int(t[start]) - int(t[0])) // packet_us * packet_us + packet_us + int(t[0])
        stop = bisect_left(t, slice_end, start, min(len(t), start + MAX_PACKET_BYTES // _MAX_EVENT_BYTES))
        yield RecordedPacket(
            events=np.frombuffer(encode_evt3(events[start:stop], state), np.uint8),
            encoding="evt3",
            width=stream.width,
            height=stream.height,
            seq=seq,
            time_base=0,
            is_bigendian=False,
            stamp=int(t[start]) * 1000 + stamp_offset,
            frame_id=frame_id,
            received=slice_end * 1000 + stamp_offset,
        )
        seq += 1
        start = stop


def write_event_bag(
    path: str | PathLike[str],
    source: EventStream | Iterable[RecordedPacket],
    topic: str = "/event_camera/events",
    storage: Literal["sqlite3", "mcap"] = "sqlite3",
    labels: Iterable[Label] = (),
    class_names: Sequence[str] = (),
) -> int:
    """Write a rosbag2 recording (metadata version 9) with one event topic, offered as drivers offer it.

    Args:
        path: folder to make.
        source: packets, or a stream that :func:`event_packets` cuts.
        topic: the topic's name.
        storage: the bag's storage.
        labels: the truth, all of one kind; they go to the topic :data:`~aegnn_core.events.label_topics.LABEL_TOPIC`.
        class_names: of the labels' numbers; they go to :data:`~aegnn_core.events.label_topics.LABEL_INFO_TOPIC`.

    Returns:
        Number of packets written.

    Raises:
        FileExistsError: something is there already.
        ValueError: the storage is not known, there are no packets, or times that a bag cannot hold.
        OSError: the bag cannot be written, as where the disk is full. Nothing is left of it then.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path}: exists already, expected the name of a new bag")
    if storage not in _STORAGES:
        raise ValueError(f"{path}: storage is {storage!r}, expected one of {', '.join(_STORAGES)}")
    store = _typestore()
    packet_type, header_type, time_type = (
        store.types[name] for name in (EVENT_PACKET_TYPE, "std_msgs/msg/Header", "builtin_interfaces/msg/Time")
    )
    packets = iter(event_packets(source) if isinstance(source, EventStream) else source)
    first = next(packets, None)
    if first is None:
        raise ValueError(f"{path}: no packets to write, expected at least one")
    written = 0
    with (
        removed_on_failure(path),
        _sqlite_failures_named(path),
        Writer(path, version=9, storage_plugin=_STORAGES[storage]) as writer,
    ):
        connection = writer.add_connection(
            topic, EVENT_PACKET_TYPE, typestore=store, offered_qos_profiles=[_DRIVER_QOS]
        )
        for packet in chain([first], packets):
            for time in (packet.stamp, packet.received):
                check_ros_time(path, time)
            message = packet_type(
                header=header_type(stamp=time_type(*divmod(packet.stamp, 10**9)), frame_id=packet.frame_id),
                height=packet.height,
                width=packet.width,
                seq=packet.seq,
                time_base=packet.time_base,
                encoding=packet.encoding,
                is_bigendian=packet.is_bigendian,
                events=packet.events,
            )
            writer.write(connection, packet.received, store.serialize_cdr(message, EVENT_PACKET_TYPE))
            written += 1
        if class_names:
            info = writer.add_connection(
                LABEL_INFO_TOPIC, INFO_TYPE, typestore=label_typestore(), offered_qos_profiles=[LATCHED_QOS]
            )
            writer.write(info, first.received, serialize_label_info(first.stamp, class_names, 0.0, label_typestore()))
        _write_labels(path, writer, labels)
    return written


@contextmanager
def removed_on_failure(path: Path) -> Iterator[None]:
    """Remove the folder that was made within, unless it is complete."""
    try:
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


@contextmanager
def _sqlite_failures_named(path: Path) -> Iterator[None]:
    """Make an ``OSError``, as it is of other files, of what SQLite raises on a bag that it cannot write."""
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(f"{path}: the bag cannot be written: {error}") from error


def check_ros_time(path: Path, stamp: int) -> None:
    """Raise ``ValueError`` for a time [ns] that a bag cannot hold: ROS counts seconds from 0 on, in 31 bits."""
    if not 0 <= stamp < _END_OF_TIME_NS:
        raise ValueError(
            f"{path}: a time is {stamp / 1e9:g} s, but a bag's begin at 0 and end before {_END_OF_TIME_NS // 10**9} s;"
            " expected a recording whose times do, too"
        )


def _write_labels(path: Path, writer: Writer, labels: Iterable[Label]) -> None:
    """Write labels as received when they were stamped; readers put them in order with the packets."""
    store, connection = label_typestore(), None
    for label in labels:
        check_ros_time(path, label.stamp)
        kind, data = serialize_label(label, store)
        connection = connection or writer.add_connection(LABEL_TOPIC, kind, typestore=store)
        if connection.msgtype != kind:
            raise ValueError(f"labels of one recording must be of one kind, found {connection.msgtype} and {kind}")
        writer.write(connection, label.stamp, data)
