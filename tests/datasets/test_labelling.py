# SPDX-License-Identifier: Apache-2.0
"""An image detector's boxes beside the events become labels where they are clear, and only there."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from rosbags.rosbag2 import StoragePlugin, Writer

from aegnn_core.cli import main
from aegnn_core.datasets.box_tracks import TrackRules, label_between, map_boxes
from aegnn_core.datasets.labelled_recording import read_labelled_recording
from aegnn_core.datasets.labelling import label_bag
from aegnn_core.events import EventStream, make_events, read_events
from aegnn_core.events.label_topics import BOXES_TYPE, DetectedBox, label_typestore, serialize_boxes
from aegnn_core.events.rosbag import read_class_names, read_labels, write_event_bag

MS = 1_000_000
CAR = {"car": 0}


def box(x: float, score: float = 0.9, name: str = "car", track: str = "") -> DetectedBox:
    return DetectedBox(x, 10, 20, 10, score, name, track)


def times_ms(images: list, classes: dict[str, int] = CAR, **rules: float) -> list[int]:
    images = [(round(MS * time), boxes) for time, boxes in images]
    return [label.stamp // MS for label in label_between(images, classes, TrackRules(**rules)).labels]


def test_boxes_are_interpolated_along_tracks() -> None:
    images = [(0, [box(0), box(100, name="van")]), (40 * MS, [box(8), box(90, name="van")])]
    made = label_between(images, {"car": 0, "van": 1}, TrackRules())
    assert [label.stamp // MS for label in made.labels] == [0, 10, 20, 30, 40]
    for label, x_car, x_van in zip(made.labels, (0, 2, 4, 6, 8), (100, 97.5, 95, 92.5, 90), strict=True):
        assert_allclose(label.boxes["x"], [x_car, x_van])
        assert label.boxes["class_id"].tolist() == [0, 1]
    assert (made.unclear_images, made.unclear_intervals) == (0, 0)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        pytest.param([(0, []), (20, [])], [0, 10, 20], id="no object is an answer"),
        pytest.param([(0, [box(0)]), (20, [box(2)]), (40, [])], [0, 10, 20, 40], id="an object leaves between images"),
        pytest.param([(0, [box(0)]), (20, [box(2, 0.4)]), (40, [box(4)])], [0, 40], id="a doubtful score"),
        pytest.param([(0, []), (20, [box(2, 0.1)]), (40, [])], [0, 10, 20, 30, 40], id="too low to be an object"),
        pytest.param([(0, []), (20, [box(0)]), (40, [])], [0, 40], id="seen once only"),
        pytest.param([(0, [box(0)]), (300, [box(2)])], [], id="images too far apart"),
        pytest.param([(0, [box(0), box(1)]), (20, [box(0), box(1)])], [], id="could be either of two"),
        pytest.param(
            [(0, [box(0, track="a"), box(1, track="b")]), (20, [box(1, track="b"), box(0, track="a")])],
            [0, 10, 20],
            id="the detector follows both",
        ),
        pytest.param([(0, [box(0)]), (24, [box(2)])], [0, 10, 24], id="too close to the next image"),
        pytest.param([(0, [box(0)]), (20, [box(0, name="van")])], [], id="another class"),
        pytest.param([(0, [box(0)]), (20, [box(0), box(5, name="dog")])], [0, 10, 20], id="a class nobody asked for"),
    ],
)
def test_unclear_times_get_no_label(images: list, expected: list[int]) -> None:
    assert times_ms(images, {"car": 0, "van": 1}) == expected


def test_an_id_that_two_objects_have_is_no_track() -> None:
    """Some detectors put the class there."""
    parked = [box(0, track="car"), box(100, track="car")]
    images = [(0, parked), (20 * MS, parked), (40 * MS, [box(0, track="car")]), (60 * MS, [box(100, track="car")])]
    made = label_between(images, CAR, TrackRules())
    assert [(label.stamp // MS, label.boxes["x"].tolist()) for label in made.labels] == [
        (0, [0, 100]),
        (10, [0, 100]),
        (20, [0, 100]),
        (40, [0]),
    ]


@pytest.mark.parametrize("late", [-500, 1, 500])
def test_no_two_labels_are_within_a_microsecond(late: int) -> None:
    """Stamps made of seconds in floating point are some nanoseconds off the period."""
    stamps = [0, 20 * MS + late, 40 * MS]
    made = label_between([(stamp, [box(0)]) for stamp in stamps], CAR, TrackRules())
    assert [label.stamp for label in made.labels if label.stamp in stamps] == stamps
    assert np.diff([label.stamp for label in made.labels]).min() > 9 * MS
    with pytest.raises(ValueError, match="period_ns is 999, expected at least 1000"):
        TrackRules(period_ns=999)


def test_a_second_cameras_boxes_come_to_the_event_cameras_pixels() -> None:
    turned = np.array([[0, -0.5, 60], [0.5, 0, 0], [0, 0, 1.0]])  # a quarter turn, half the size
    boxes = [box(20), box(20)._replace(y=117), box(-200)]
    inside, cut = map_boxes(boxes, turned, (60, 50))
    assert_allclose(inside[:4], (50, 10, 5, 10))
    assert_allclose(cut[:4], (0, 10, 1.5, 10))
    behind = np.array([[1, 0, 0], [0, 1, 0], [-0.04, 0, 1.0]])
    assert map_boxes([box(20)], behind, (60, 50)) == []


def recorded(path: Path, boxes: dict[int, list[tuple[float, float, int]]]) -> EventStream:
    """A bag of events, and a detector's boxes (x, score, class number) by time [ms] of an image of twice the size."""
    k = np.arange(100)
    stream = EventStream(make_events(1000 * k, k % 60, k % 50, k % 2), 60, 50)
    write_event_bag(path, stream, storage="mcap")
    dtype = [*((name, "f4") for name in "xywh"), ("score", "f4"), ("class_id", "i8")]
    beside = path.with_name(path.name + "_detections")
    with Writer(beside, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        store = label_typestore()
        topic = writer.add_connection("/detector/boxes", BOXES_TYPE, typestore=store)
        for time, rows in boxes.items():
            array = np.array([(x, 20, 40, 20, score, number) for x, score, number in rows], dtype)
            writer.write(topic, time * MS, serialize_boxes(time * MS, array, store))
    (part,) = beside.glob("*.mcap")
    part.rename(path / "detections.mcap")
    (path / "metadata.yaml").unlink()  # a folder without is read file by file
    return stream


def test_the_command_makes_a_bag_to_train_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = recorded(
        tmp_path / "drive", {0: [(0, 0.9, 2)], 40: [(8, 0.8, 2), (90, 0.9, 56)], 80: [(16, 0.3, 2)], 120: []}
    )
    np.savetxt(tmp_path / "half.txt", np.diag([0.5, 0.5, 1.0]))
    label = ["label", str(tmp_path / "drive"), "--detections", "/detector/boxes", "--output", str(tmp_path / "out")]
    options = ["--classes", "car=2,7", "pedestrian=0", "--homography", str(tmp_path / "half.txt"), "--period-ms", "20"]

    assert main([*label, *options]) == 0

    printed = capsys.readouterr().out
    assert (
        "labels at 3 times, boxes: 3 of car, 0 of pedestrian; left out as unclear 1 of 3 images, 1 of 2 gaps" in printed
    )
    bag = tmp_path / "out" / "drive"
    assert_array_equal(read_events(bag).events, stream.events)
    assert read_class_names(bag) == ("car", "pedestrian")
    assert [label.stamp // MS for label in read_labels(bag)] == [0, 20, 40]
    assert [label.boxes.tolist() for label in read_labelled_recording(bag).labels] == [
        [(x, 10, 20, 10, 0)] for x in (0, 2, 4)
    ]

    for arguments, sentence in (
        ([*label, *options], "exists already"),
        ([*label[:3], "/boxes"], "has no topic /boxes, only /detector/boxes (vision_msgs/msg/Detection2DArray)"),
        ([*label[:3], "/event_camera/events"], "its messages are event_camera_msgs/msg/EventPacket"),
        (
            [*label, "--classes", "car=2", "truck=2,7"],
            "the detector's class '2' is given to several classes, expected it for one",
        ),
        ([*label, "--classes", "cat"], "that lie on the sensor are of 2, expected some of cat"),
        (
            [*label, "--offset-ms", "50000"],
            "to 0.095 s, detections from 50.000 to 50.120 s; expected some at",
        ),
        ([*label, "--score", "0.1"], "scores are 0.25 (doubtful) and 0.1 (certain)"),
        ([*label, "--max-gap-ms", "1"], "none of the 3 messages of /detector/boxes is clear enough"),
        (["label", str(tmp_path / "half.txt"), "--detections", "/b"], "is no bag"),
    ):
        assert main(arguments) == 2
        assert sentence in capsys.readouterr().err


def test_messages_with_boxes_that_are_no_numbers_are_like_lost_images(tmp_path: Path) -> None:
    nan = float("nan")
    boxes = {0: [(0, 0.9, 2)], 20: [(2, 0.9, 2), (nan, 0.9, 2)], 40: [(8, nan, 2)], 60: [(16, 0.8, 2)]}
    recorded(tmp_path / "drive", boxes)
    with pytest.warns(UserWarning, match="2 of 4 messages of /detector/boxes have boxes or scores that are not finite"):
        made = label_bag(tmp_path / "drive", tmp_path / "out", "/detector/boxes", rules=TrackRules(period_ns=20 * MS))
    assert [label.stamp // MS for label in made.labelling.labels] == [0, 20, 40, 60]
    assert made.labelling.images == 2


@pytest.mark.parametrize("option", ["--offset-ms", "--period-ms", "--max-gap-ms"])
def test_a_time_that_is_no_number_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("inf", "nan"):
        with pytest.raises(SystemExit):
            main(["label", "drive", "--detections", "/boxes", option, text])
        assert f"argument {option}: expected a number" in capsys.readouterr().err
