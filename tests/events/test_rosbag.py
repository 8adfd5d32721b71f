# SPDX-License-Identifier: Apache-2.0
"""rosbag2 without ROS: what is written reads back, looks like a driver's bag, and flawed bags say what is wrong."""

from __future__ import annotations

import resource
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rosbags.interfaces import QosDurability, QosHistory, QosReliability
from rosbags.rosbag2 import Reader, Writer
from rosbags.typesys import Stores, get_typestore
from ruamel.yaml import YAML

import aegnn_core.events
from aegnn_core.events import (
    EventFormatError,
    EventStream,
    event_packets,
    make_decoder,
    make_events,
    read_event_packets,
    read_events,
    write_event_bag,
)
from aegnn_core.events.files.bag import read_bag_sensor
from aegnn_core.events.label_topics import Label
from aegnn_core.events.rosbag import (
    EVENT_PACKET_DEFINITION,
    EVENT_PACKET_TYPE,
    MAX_PACKET_BYTES,
    RecordedPacket,
    is_bag,
)
from tests.recordings import MADE_BAGS, street

#: Read from the bag of a real ROS system.
TYPE_HASH = "RIHS01_d6fa176260b1f37e5a40845305315e150a0f18191241eb64f407442aa29844aa"
TOPIC = "/event_camera/events"


def make_stream(count=3000, seed=1):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 50_000, count))
    x, y, p = rng.integers(640, size=count), rng.integers(480, size=count), rng.integers(2, size=count)
    return EventStream(make_events(t, x, y, p), 640, 480)


def metadata(path):
    return YAML(typ="safe").load((path / "metadata.yaml").read_text("utf8"))["rosbag2_bagfile_information"]


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_written_stream_reads_back(tmp_path, storage):
    stream = make_stream()
    path = tmp_path / "bag"
    assert write_event_bag(path, stream, storage=storage) == 10
    read = read_events(path)
    np.testing.assert_array_equal(read.events, stream.events)
    assert (read.width, read.height) == (640, 480)
    (storage_file,) = path.glob("bag.*")
    np.testing.assert_array_equal(read_events(storage_file).events, stream.events)


def test_a_packet_is_found_by_its_name_of_earlier_versions() -> None:
    with pytest.warns(DeprecationWarning, match=r"events\.EventPacket is deprecated, expected RecordedPacket"):
        assert aegnn_core.events.EventPacket is RecordedPacket


def test_packets_keep_every_field(tmp_path):
    packets = [
        replace(
            packet, encoding="mono", is_bigendian=True, time_base=2**63 + 5, frame_id="davis", seq=2**40 + packet.seq
        )
        for packet in event_packets(make_stream(), stamp_offset=1_700_000_000_123_456_789)
    ]
    write_event_bag(tmp_path / "bag", packets, topic="/left/events")
    for written, read in zip(packets, read_event_packets(tmp_path / "bag", "/left/events"), strict=True):
        assert read.events.dtype == np.uint8
        np.testing.assert_array_equal(read.events, written.events)
        assert replace(read, events=written.events).__dict__ == written.__dict__


def test_the_bag_looks_like_a_drivers(tmp_path):
    write_event_bag(tmp_path / "bag", make_stream())
    assert is_bag(tmp_path / "bag")
    assert not is_bag(tmp_path / "bag" / "metadata.yaml")
    assert not is_bag(tmp_path)
    information = metadata(tmp_path / "bag")
    assert information["version"] == 9
    assert information["storage_identifier"] == "sqlite3"
    assert information["message_count"] == 10
    (topic,) = information["topics_with_message_count"]
    assert topic["topic_metadata"]["type"] == EVENT_PACKET_TYPE
    assert topic["topic_metadata"]["type_description_hash"] == TYPE_HASH
    assert topic["topic_metadata"]["serialization_format"] == "cdr"
    with Reader(tmp_path / "bag") as reader:
        (qos,) = reader.connections[0].ext.offered_qos_profiles
    assert (qos.history, qos.reliability) == (QosHistory.KEEP_LAST, QosReliability.BEST_EFFORT)
    assert qos.durability == QosDurability.VOLATILE


def test_the_definition_is_that_of_our_interface_package():
    path = Path(__file__).parents[2] / "interfaces" / "event_camera_msgs" / "msg" / "EventPacket.msg"
    if not path.exists():
        pytest.skip("interfaces/ is not in this checkout")
    fields = [line.partition("#")[0].split() for line in path.read_text("utf8").splitlines()]
    assert [field for field in fields if field] == [line.split() for line in EVENT_PACKET_DEFINITION.splitlines()]


def test_packets_are_slices_of_time_that_have_events():
    t = [1_000, 1_001, 5_999, 6_000, 31_000, 31_001]
    stream = EventStream(make_events(t, range(6), [0] * 6, [1] * 6), 6, 1)
    packets = list(event_packets(stream, packet_us=5000, stamp_offset=7))
    decoder = make_decoder("evt3", 6, 1)
    assert [decoder.decode(packet.events)["t"].tolist() for packet in packets] == [t[:3], t[3:4], t[4:]]
    assert [packet.seq for packet in packets] == [0, 1, 2]
    assert [packet.stamp for packet in packets] == [1_000_007, 6_000_007, 31_000_007]
    assert [packet.received for packet in packets] == [6_000_007, 11_000_007, 36_000_007]
    with pytest.raises(ValueError, match="packet duration is 0 µs"):
        next(event_packets(stream, packet_us=0))


def test_busy_slices_become_packets_that_a_middleware_passes():
    count = 120_000
    t = np.arange(count) // 40
    stream = EventStream(make_events(t, np.arange(count) % 640, np.arange(count) % 480, np.arange(count) % 2), 640, 480)
    packets = list(event_packets(stream, packet_us=10**6))
    assert len(packets) == 3
    assert max(len(packet.events) for packet in packets) <= MAX_PACKET_BYTES, is_bag
    decoder = make_decoder("evt3", 640, 480)
    np.testing.assert_array_equal(np.concatenate([decoder.decode(p.events) for p in packets]), stream.events)


def test_a_packet_costs_no_copy_of_the_stream():
    """Otherwise the time for a recording grows with the square of its length."""
    stream = make_stream(200_000)
    next(event_packets(stream))  # compiles
    packets = event_packets(stream, packet_us=50)
    tracemalloc.start()
    try:
        assert sum(1 for _ in packets) == 1000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < stream.events["t"].nbytes / 10


def test_a_full_disk_leaves_no_bag_and_names_it(tmp_path):
    """Here the system lets the process write no file larger than 100 kB."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"full: the bag cannot be written: "):
            write_event_bag(tmp_path / "full", make_stream(100_000), storage="sqlite3")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "full").exists()


def test_bags_are_not_overwritten_and_not_empty(tmp_path):
    with pytest.raises(FileExistsError, match="exists already"):
        write_event_bag(tmp_path, make_stream())
    with pytest.raises(ValueError, match="no packets to write"):
        write_event_bag(tmp_path / "bag", [])
    with pytest.raises(ValueError, match="storage is 'bag', expected one of sqlite3, mcap"):
        write_event_bag(tmp_path / "bag", make_stream(), storage="bag")
    assert not (tmp_path / "bag").exists()


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_an_empty_storage_identifier_or_no_metadata_does_no_harm(tmp_path, storage):
    stream, path = make_stream(), tmp_path / "bag"
    write_event_bag(path, stream, storage=storage)
    text = (path / "metadata.yaml").read_text("utf8")
    (path / "metadata.yaml").write_text(
        text.replace(f"storage_identifier: {storage}", "storage_identifier: ''"), "utf8"
    )
    assert metadata(path)["storage_identifier"] == ""
    np.testing.assert_array_equal(read_events(path).events, stream.events)
    (path / "metadata.yaml").unlink()
    np.testing.assert_array_equal(read_events(path).events, stream.events)


def write_two_topics(path):
    """A bag with two event topics and one of another type."""
    store = get_typestore(Stores.ROS2_KILTED)
    text = store.types["std_msgs/msg/String"](data="hello")
    write_event_bag(path, make_stream())
    with Reader(path) as reader:
        ((connection, received, data),) = list(reader.messages())[:1]
    with Writer(path.with_name("two"), version=9) as writer:
        for topic in (TOPIC, "/right/events"):
            again = writer.add_connection(
                topic, connection.msgtype, msgdef=connection.msgdef.data, rihs01=connection.digest
            )
            writer.write(again, received, data)
        other = writer.add_connection("/chatter", "std_msgs/msg/String", typestore=store)
        writer.write(other, received, store.serialize_cdr(text, "std_msgs/msg/String"))
    return path.with_name("two")


def test_several_event_topics_want_a_choice(tmp_path):
    path = write_two_topics(tmp_path / "bag")
    with pytest.raises(EventFormatError, match=f"two: holds the event topics {TOPIC}, /right/events, expected one"):
        read_events(path)
    assert len(list(read_event_packets(path, "/right/events"))) == 1
    with pytest.raises(EventFormatError, match=f"no event topic '/chatter', expected one of {TOPIC}, /right/events"):
        next(read_event_packets(path, "/chatter"))


def test_a_bag_without_event_topic_says_what_it_holds(tmp_path):
    store = get_typestore(Stores.ROS2_KILTED)
    with Writer(tmp_path / "bag", version=9) as writer:
        writer.add_connection("/chatter", "std_msgs/msg/String", typestore=store)
    with pytest.raises(
        EventFormatError, match=r"holds /chatter \(std_msgs/msg/String\), expected a topic of event_camera"
    ):
        read_events(tmp_path / "bag")


def packets_of(stream, **changes):
    return [replace(packet, **changes) for packet in event_packets(stream)]


def test_the_sensor_of_a_bag_is_that_of_its_first_packet_with_events(tmp_path):
    """Packets before it may be of nothing but the sensor's clock, or of triggers."""
    packets = list(event_packets(make_stream()))
    empty = replace(packets[0], events=packets[0].events[:0], width=5)
    write_event_bag(tmp_path / "bag", [empty, *packets])
    assert read_bag_sensor(tmp_path / "bag") == (640, 480)
    write_event_bag(tmp_path / "silent", [empty])
    with pytest.raises(
        EventFormatError, match="silent: its event topic holds no events of a sensor with a size, expected at least one"
    ):
        read_bag_sensor(tmp_path / "silent")


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
@pytest.mark.parametrize("before", ["events", "labels"])
def test_times_before_0_are_refused_and_leave_no_bag(tmp_path, storage, before):
    """A recording whose times count from a trigger in its midst."""
    stream = make_stream()
    labels = [Label(-1_000_000, class_id=0)] if before == "labels" else []
    source = event_packets(stream, stamp_offset=-(10**12)) if before == "events" else stream
    with pytest.raises(
        ValueError, match=r"bag: a time is -.* s, but a bag's begin at 0 and end before 2147483648 s; exp"
    ):
        write_event_bag(tmp_path / "bag", source, storage=storage, labels=labels)
    assert not (tmp_path / "bag").exists()


def test_times_that_ros_cannot_count_are_refused_and_leave_no_bag(tmp_path):
    """Of the last packet too: a recording of nanoseconds that was read as microseconds begins long before."""
    with pytest.raises(
        ValueError, match=r"bag: a time is 2.14748e\+09 s, but a bag's begin at 0 and end before 2147483648"
    ):
        write_event_bag(tmp_path / "bag", event_packets(make_stream(), stamp_offset=2**31 * 10**9 - 30_000_000))
    assert not (tmp_path / "bag").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoding": "evt4"}, "packet encoding is 'evt4', expected one of evt3"),
        ({"width": 0}, "sensor size of the evt3 stream is 0 x 480 px"),
        ({"encoding": "trigger"}, "holds no events, found .*triggers: "),
    ],
)
def test_flawed_packets_name_the_bag(tmp_path, changes, message):
    path = tmp_path / "bag"
    write_event_bag(path, packets_of(make_stream(), **changes))
    with pytest.raises(EventFormatError, match=f"bag: .*{message}"):
        read_events(path)


def test_packets_must_agree_on_sensor_and_encoding(tmp_path):
    first, second, *_ = packets_of(make_stream())
    write_event_bag(tmp_path / "bag", [first, replace(second, width=320)])
    with pytest.raises(EventFormatError, match="packet 1 is 'evt3' of 320 x 480 px, expected 'evt3' of 640 x 480 px"):
        read_events(tmp_path / "bag")
    assert len(read_events(tmp_path / "bag", width=640)) > 0


def test_a_jump_back_in_time_is_refused(tmp_path):
    stream = make_stream()
    mono = [
        replace(packet, encoding="mono", time_base=time_base, events=np.zeros(8, np.uint8))
        for packet, time_base in zip(event_packets(stream), (10**9, 10**9, 0), strict=False)
    ]
    write_event_bag(tmp_path / "bag", mono)
    with pytest.raises(EventFormatError, match=r"events must be in time order: event 2 at 0 µs .* by 1000000 µs"):
        read_events(tmp_path / "bag")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        next(read_event_packets(tmp_path / "nowhere"))
    write_event_bag(tmp_path / "bag", make_stream())
    (tmp_path / "bag" / "bag.db3").unlink()
    with pytest.raises(EventFormatError, match=r"bag: ReaderError: Some database files are missing"):
        read_events(tmp_path / "bag")
    (tmp_path / "bag" / "metadata.yaml").write_text("nonsense", "utf8")
    with pytest.raises(EventFormatError, match=r"bag: .*expected a complete rosbag2 recording"):
        read_events(tmp_path / "bag")


@pytest.mark.parametrize("recording", MADE_BAGS, indirect=True)
def test_a_bag_in_any_encoding_holds_what_the_camera_saw(recording):
    encoding, size = MADE_BAGS[f"made/{recording.name}"]
    assert {packet.encoding for packet in read_event_packets(recording)} == {encoding}
    stream = read_events(recording)
    assert (stream.width, stream.height) == size
    np.testing.assert_array_equal(stream.events, street(size).events)


def test_real_bags_come_with_their_packet_fields(shared_data, tmp_path):
    path = shared_data / "rosbags" / "libcaer_cmp_346x260"
    packets = list(read_event_packets(path))
    assert metadata(path)["storage_identifier"] == ""
    assert len(packets) == 100
    assert [packet.seq for packet in packets] == list(range(101, 201))
    first = packets[0]
    assert (first.width, first.height, first.encoding) == (346, 260, "libcaer_cmp")
    assert (first.frame_id, first.time_base) == ("camera", 1_744_227_144_732_712_000)
    assert (first.stamp, first.received) == (1_744_227_144_744_040_812, 1_744_227_144_744_197_147)
    copy = tmp_path / "copy"
    write_event_bag(copy, packets, storage="mcap")
    np.testing.assert_array_equal(read_events(copy).events, read_events(path).events)
