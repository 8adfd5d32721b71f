# SPDX-License-Identifier: Apache-2.0
"""A bag made of a recording reads back as the same events, with the boxes of the data set as labels."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.testing import assert_array_equal

from aegnn_core.cli import main
from aegnn_core.datasets.bag_conversion import convert_to_bag
from aegnn_core.events import make_events, read_event_packets, read_events
from aegnn_core.events.rosbag import read_labels
from tests.recordings import recordings


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("recording", recordings("made/street.raw", "raw/evt2_sample.raw"), indirect=True)
def test_a_recording_reads_back(recording: Path, tmp_path: Path, storage: str) -> None:
    bag = convert_to_bag(recording, tmp_path, storage)
    assert bag.path == tmp_path / recording.stem
    stream, read = read_events(recording), read_events(bag.path)
    assert (read.width, read.height, len(read)) == (stream.width, stream.height, bag.events)
    assert_array_equal(read.events, stream.events)
    metadata = yaml.safe_load((bag.path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (metadata["version"], metadata["storage_identifier"]) == (9, storage)
    assert metadata["message_count"] == bag.packets == len(list(read_event_packets(bag.path)))
    (topic,) = metadata["topics_with_message_count"]
    assert topic["topic_metadata"]["name"] == "/event_camera/events"
    assert topic["topic_metadata"]["type_description_hash"].startswith("RIHS01_d6fa1762")


def test_boxes_of_gen1_become_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = np.array([(100_000 * k, 5 | 6 << 14 | (k % 2) << 28) for k in range(10)], "<u4")
    (tmp_path / "a_td.dat").write_bytes(b"% Data file\n" + bytes([0, 8]) + words.tobytes())
    fields = [("ts", "u8"), *((name, "f4") for name in "xywh"), ("class_id", "u1"), ("track_id", "u4")]
    rows = [(600_000, 1, 2, 50, 40, 0, 1), (800_000, 3, 4, 30, 20, 1, 2), (600_000, 5, 6, 7, 8, 1, 3)]
    np.save(tmp_path / "a_bbox.npy", np.array(rows, fields))
    assert main(["bag", str(tmp_path / "a_td.dat"), "--output", str(tmp_path / "bags")]) == 0
    assert (
        "10 events of 304 x 240 px in 10 packets, boxes at 2 times of the classes car, pedestrian"
        in capsys.readouterr().out
    )
    bag = tmp_path / "bags" / "a_td"
    stream = read_events(bag)
    assert (stream.width, stream.height) == (304, 240)
    assert stream.events["t"].tolist() == list(range(0, 1_000_000, 100_000))
    first, second = read_labels(bag)
    assert (first.stamp, second.stamp) == (600_000_000, 800_000_000)
    assert first.boxes.tolist() == [(1, 2, 50, 40, 0), (5, 6, 7, 8, 1)]
    assert second.boxes.tolist() == [(3, 4, 30, 20, 1)]


@pytest.mark.parametrize(("events", "boxes"), [("Caltech101", "Caltech101_annotations"), ("training", "annotations")])
def test_the_box_of_ncaltech101_becomes_a_label(tmp_path: Path, events: str, boxes: str) -> None:
    for folder in (events, boxes):
        (tmp_path / folder / "anchor").mkdir(parents=True)
    recording = tmp_path / events / "anchor" / "image_0002.bin"
    recording.write_bytes(bytes([10, 20, 128, 0, 7, 11, 21, 0, 0, 9]))
    corners = np.array([2, 5, 3, 4, 40, 4, 40, 60, 3, 60], "<i2")
    corners.tofile(tmp_path / boxes / "anchor" / "annotation_0002.bin")
    bag = convert_to_bag(recording, tmp_path)
    (label,) = read_labels(bag.path)
    assert label.stamp == 9000
    assert label.boxes[["x", "y", "w", "h"]].tolist() == [(3, 4, 37, 56)]
    # In the order of their names, capitals first, six classes come before it.
    assert int(label.boxes["class_id"][0]) == 6


def test_wrong_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = make_events(np.array([5, 6]), np.array([1, 2]), np.array([3, 4]), np.array([0, 1]))
    np.save(tmp_path / "a.npy", events)
    arguments = ["bag", str(tmp_path / "a.npy"), "--output", str(tmp_path / "bags"), "--storage", "sqlite3"]
    assert main(arguments) == 0
    assert_array_equal(read_events(tmp_path / "bags" / "a").events, events)
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["bag", str(tmp_path / "b.raw")]) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (640, 480)])
def test_the_sensor_says_which_data_set_the_boxes_are_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], width: int, height: int
) -> None:
    """Files of Prophesee's 1 Mpx data set look like Gen1's, and their class numbers mean other things; those of another
    sensor are left out, and its events are not."""
    rng = np.random.default_rng(1)
    x, y = rng.integers(width, size=600), rng.integers(height, size=600)
    words = np.stack([1000 * np.arange(600), x | y << 14], axis=1).astype("<u4")
    header = b"% Version 2\n" + f"% Width {width}\n% Height {height}\n".encode() + b"\x0c\x08"
    (tmp_path / "moorea_td.dat").write_bytes(header + words.tobytes())
    fields = [("t", "u8"), *((name, "f4") for name in "xywh"), ("class_id", "u1"), ("track_id", "u4")]
    np.save(tmp_path / "moorea_bbox.npy", np.array([(600_000, 1, 2, 50, 40, 5, 1)], fields))
    arguments = ["bag", str(tmp_path / "moorea_td.dat"), "--output", str(tmp_path / "bags")]
    if width == 1280:
        assert main(arguments) == 0
        said = (
            "600 events of 1280 x 720 px in .* at 1 times of the classes pedestrian, two wheeler, car, .*sign, traffic"
        )
        (label,) = read_labels(tmp_path / "bags" / "moorea_td")
        assert label.boxes.tolist() == [(1, 2, 50, 40, 5)]
    else:
        message = (
            r"its sensor of 640 x 480 px is not that of gen1 \(304 x 240 px; car, pedestrian\) or 1mpx \(1280 x 720 px;"
            r" .*_bbox\.npy are left out"
        )
        with pytest.warns(UserWarning, match=message):
            assert main(arguments) == 0
        said = "600 events of 640 x 480 px in .*, boxes at 0 times$"
    assert re.search(said, capsys.readouterr().out.strip())
    stream = read_events(tmp_path / "bags" / "moorea_td")
    assert (stream.width, stream.height) == (width, height)
    assert_array_equal(stream.events["x"], x)
