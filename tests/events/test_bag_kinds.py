# SPDX-License-Identifier: Apache-2.0
"""Bags as they lie about: of ROS 1, under an older name, split, compressed, of two cameras, and hostile ones."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionMode

from aegnn_core.cli import main
from aegnn_core.events import (
    EventFormatError,
    EventStream,
    event_packets,
    make_events,
    read_event_packets,
    read_events,
    write_event_bag,
)
from aegnn_core.events.rosbag import EVENT_PACKET_TYPE
from tests.events.foreign_formats import write_packets

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

OLD_TYPE = "event_array_msgs/msg/EventArray"


def make_stream(count=2000, seed=1):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 100_000, count))
    x, y, p = rng.integers(640, size=count), rng.integers(480, size=count), rng.integers(2, size=count)
    return EventStream(make_events(t, x, y, p), 640, 480)


STREAM = make_stream()


def assert_reads(path, stream=STREAM, **options):
    read = read_events(path, **options)
    np.testing.assert_array_equal(read.events, stream.events)
    assert (read.width, read.height) == (stream.width, stream.height)


@pytest.mark.parametrize("name", ["ros1.bag", "ros2"])
@pytest.mark.parametrize("kind", [EVENT_PACKET_TYPE, OLD_TYPE])
def test_packets_of_both_releases_and_both_names(tmp_path, name, kind):
    path = write_packets(tmp_path / name, [STREAM], kind)
    assert_reads(path)
    (first, *_), (expected, *_) = read_event_packets(path), event_packets(STREAM)
    assert (first.seq, first.stamp, first.frame_id) == (expected.seq, expected.stamp, "camera")


def test_names_in_capitals(tmp_path):
    assert_reads(write_packets(tmp_path / "a.bag", [STREAM]).rename(tmp_path / "A.BAG"))
    (storage,) = write_packets(tmp_path / "folder", [STREAM]).glob("*.mcap")
    assert_reads(storage.rename(tmp_path / "A.MCAP"))


def test_a_folder_of_ros2_may_be_called_as_a_bag_of_ros1(tmp_path):
    assert_reads(write_packets(tmp_path / "bag", [STREAM]).rename(tmp_path / "drive.bag"))


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("with_metadata", [True, False])
def test_compressed_bags(tmp_path, mode, with_metadata):
    path = write_packets(tmp_path / "bag", [STREAM], compression=mode)
    if not with_metadata:
        (path / "metadata.yaml").unlink()
    assert_reads(path)


def test_parts_without_metadata_are_in_the_order_of_their_times(tmp_path):
    """By their names, _10 comes before _2."""
    folder = tmp_path / "bag"
    folder.mkdir()
    borders = np.linspace(0, len(STREAM.events), 13).astype(int)
    for number in range(12):
        part = EventStream(STREAM.events[borders[number] : borders[number + 1]], 640, 480)
        bag = tmp_path / f"part{number}"
        write_event_bag(bag, part, storage="mcap")
        (bag / f"{bag.name}.mcap").rename(folder / f"rosbag2_{number}.mcap")
    assert_reads(folder)


def test_of_two_cameras_one_is_chosen_everywhere(tmp_path, capsys):
    other = make_stream(seed=2)
    path = write_packets(tmp_path / "stereo", [STREAM, other], topics=("/left/events", "/right/events"))
    with pytest.raises(
        EventFormatError, match=r"event topics /left/events, /right/events, .*a choice of one with topic="
    ):
        read_events(path)
    assert_reads(path, topic="/left/events")
    assert_reads(path, other, topic="/right/events")
    assert main(["bag", str(path), "--output", str(tmp_path / "out"), "--topic", "/right/events"]) == 0
    assert_reads(tmp_path / "out" / "stereo", other)


def test_what_a_recording_does_not_say_is_told_to_the_commands(tmp_path, capsys):
    """The messages of read_events name its options; --read has them by the same names."""
    columns = {name: STREAM.events[name].astype(np.int64) for name in "txyp"}
    np.save(tmp_path / "a.npy", np.stack([columns["t"] * 1000, columns["y"], columns["x"], columns["p"]], axis=1))
    told = ["--read", "time_unit=ns", "--read", "columns=tyxp", "--read", "width=640", "--read", "height=480"]
    assert main(["bag", str(tmp_path / "a.npy"), "--output", str(tmp_path / "out"), *told]) == 0
    assert_reads(tmp_path / "out" / "a")
    for wrong, message in (("unit=ns", "expected NAME=VALUE with one of columns, "), ("width=x", "a whole number")):
        capsys.readouterr()
        assert main(["bag", str(tmp_path / "a.npy"), "--output", str(tmp_path / "no"), "--read", wrong]) != 0
        assert message in capsys.readouterr().err


# --- hostile ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.raw", "a.txt", "a.npz", "a.aedat4", "a.h5", "a.bag", "a.mcap"])
def test_pipes_are_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(EventFormatError, match=rf"{name}: is a named pipe, expected a file or a folder"):
        read_events(tmp_path / name)


@pytest.mark.parametrize("name", ["metadata.yaml", "bag.db3", "events.txt"])
def test_pipes_in_folders_are_not_waited_for(tmp_path, name):
    write_event_bag(tmp_path / "bag", STREAM)
    (tmp_path / "bag" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "bag" / name)
    with pytest.raises(EventFormatError, match=rf"{name}: is a named pipe"):
        read_events(tmp_path / "bag")


def test_devices_are_no_recordings(tmp_path):
    (tmp_path / "zero.bin").symlink_to("/dev/zero")
    with pytest.raises(EventFormatError, match=r"zero\.bin: is a character device, expected a file or a folder"):
        read_events(tmp_path / "zero.bin")


def test_metadata_that_unfold_without_end_are_refused(tmp_path):
    write_event_bag(tmp_path / "bag", STREAM)
    lines = ["a0: &a0 {x: 1}"] + [f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}" for k in range(1, 40)]
    (tmp_path / "bag" / "metadata.yaml").write_text("\n".join(lines))
    with pytest.raises(EventFormatError, match=r"metadata\.yaml: has more than 0 references \(\*\), expected"):
        read_events(tmp_path / "bag")
    (tmp_path / "bag" / "metadata.yaml").write_text("[" * 100_000)
    with pytest.raises(EventFormatError, match=r"metadata\.yaml: has lists within lists, more than 50 deep"):
        read_events(tmp_path / "bag")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.bag", r"begins with b'.*', expected b'#ROSBAG V2\.0"),
        ("a.bin", r"holds 2147483648 events, expected at most 500000000"),
        ("a.dat", "begins with"),
        ("a.aedat", "begins with"),
        ("a.raw", "begins with"),
        ("a.npy", "expected a complete NumPy file"),
        ("a.h5", "expected a complete HDF5 file"),
    ],
)
def test_ten_gigabytes_of_nothing_are_refused_at_once(tmp_path, name, message):
    with (tmp_path / name).open("wb") as file:
        file.truncate(10 << 30)
    with pytest.raises(EventFormatError, match=rf"{name}: .*{message}"):
        read_events(tmp_path / name)


def test_a_compressed_part_that_would_fill_the_disk_is_refused(tmp_path):
    folder = tmp_path / "bag"
    folder.mkdir()
    with zstd.open(folder / "a.mcap.zstd", "wb") as file:
        for _ in range(100):
            file.write(bytes(1 << 20))
    with pytest.raises(EventFormatError, match=r"a\.mcap\.zstd: unpacks to more than \d+ bytes"):
        read_events(folder)
