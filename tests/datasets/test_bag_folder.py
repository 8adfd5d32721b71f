# SPDX-License-Identifier: Apache-2.0
"""A folder of bags with labels is a data set: read, evaluated, and refused in one sentence where it is not one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from aegnn_core import GraphConfig, network, save_model
from aegnn_core.cli import main
from aegnn_core.datasets import MissingFilesError, open_dataset
from aegnn_core.datasets.bag_conversion import convert_to_bag
from aegnn_core.datasets.stored_graphs import graph_files, open_graphs
from aegnn_core.events import EventFormatError, event_packets, write_event_bag
from aegnn_core.events.label_topics import LABEL_DTYPE, Label
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_core.training.samples.data_module import open_training
from aegnn_core.training.settings import TrainSettings
from tests.datasets.tiny_datasets import (
    CLOCK_OFFSET,
    bag_stream,
    boxes_at,
    write_bag,
    write_gen1,
    write_ros1_bag,
    write_rosbag_detection,
    write_rosbag_recognition,
)


def test_boxes_are_in_the_time_of_the_sensor(tmp_path: Path) -> None:
    write_rosbag_detection(tmp_path)
    dataset = open_dataset("rosbag", "training", task="detection", root=tmp_path)
    assert (dataset.form.labels, dataset.form.sensor, dataset.form.tasks) == (
        ("car", "pedestrian"),
        (40, 30),
        ("detection",),
    )
    for number in range(2):
        item = dataset[number]
        assert_array_equal(item.stream.events, bag_stream(number).events)
        assert item.label is None
        assert item.boxes.tolist() == [
            (200_000, 1, 2, 10, 12, 1, 0),
            (200_000, 20, 10, 5.5, 6, 0, 0),
            (400_000, 3, 3, 9, 9, number, 0),
        ]


def test_recordings_have_one_class(tmp_path: Path) -> None:
    write_rosbag_recognition(tmp_path, "test")
    dataset = open_dataset("rosbag", "test", task="recognition", root=tmp_path)
    assert [dataset[number].label for number in range(3)] == [0, 1, 0]
    assert (dataset.form.labels, dataset[0].boxes) == (("cup", "hand"), None)
    labels = [Label(CLOCK_OFFSET, class_id=0), Label(CLOCK_OFFSET + 1, class_id=1)]
    write_bag(tmp_path / "rosbag/test/cup_9", bag_stream(9), labels, ("cup", "hand"))
    with pytest.raises(EventFormatError, match=r"cup_9: the classes on /labels are 0, 1, expected one for all of it"):
        open_dataset("rosbag", "test", task="recognition", root=tmp_path)


def test_bags_of_ros_1_and_single_files_are_read_too(tmp_path: Path) -> None:
    """With names from a file: nothing else holds them here."""
    folder = tmp_path / "rosbag"
    boxes = np.array([(1, 2, 10, 12, 1), (20, 10, 5.5, 6, 0)], LABEL_DTYPE)
    write_ros1_bag(folder / "training" / "a.bag", bag_stream(0), [Label(200_000_000, boxes=boxes)])
    write_bag(tmp_path / "b", bag_stream(1), [boxes_at(200_000, *boxes.tolist())], storage="mcap")
    (tmp_path / "b" / "b.mcap").rename(folder / "training" / "b.mcap")
    (folder / "labels.txt").write_text("car\npedestrian\n\n")
    dataset = open_dataset("rosbag", "training", task="detection", root=tmp_path)
    assert dataset.form.labels == ("car", "pedestrian")
    for number in range(2):
        assert_array_equal(dataset[number].stream.events, bag_stream(number).events)
        assert dataset[number].boxes.tolist() == [(200_000, *box, 0) for box in boxes.tolist()]


def test_names_say_which_class_a_number_means(tmp_path: Path) -> None:
    """Two bags that number the same classes in different orders, and a third one, which the file of names gives."""
    folder = tmp_path / "rosbag"
    box = boxes_at(200_000, (1, 2, 10, 12, 1))
    write_bag(folder / "training" / "a", bag_stream(0), [box], ("car", "pedestrian"))
    write_bag(folder / "training" / "b", bag_stream(1), [box], ("pedestrian", "car"))
    (folder / "labels.txt").write_text("pedestrian\nbicycle\ncar\n")
    dataset = open_dataset("rosbag", "training", task="detection", root=tmp_path)
    assert [dataset[number].boxes["class_id"].tolist() for number in range(2)] == [[0], [2]]
    (folder / "labels.txt").write_text("pedestrian\nbicycle\n")
    with pytest.raises(EventFormatError, match=r"b: .*class 1, which is 'car', expected one of pedestrian, bicycle"):
        open_dataset("rosbag", "training", task="detection", root=tmp_path)[1]


def test_labels_on_another_clock_are_refused(tmp_path: Path) -> None:
    late = Label(CLOCK_OFFSET + 10**12, boxes=np.array([(1, 2, 3, 4, 0)], LABEL_DTYPE))
    write_bag(tmp_path / "rosbag" / "test" / "a", bag_stream(0), [late], ("car",))
    dataset = open_dataset("rosbag", "test", task="detection", root=tmp_path)
    with pytest.raises(EventFormatError, match=r"a: events are stamped from .* s, labels from .*, on one clock"):
        dataset[0]


def test_classes_of_ros_1(tmp_path: Path) -> None:
    write_ros1_bag(tmp_path / "rosbag" / "test" / "a.bag", bag_stream(0), [Label(5, class_id=1)])
    (tmp_path / "rosbag" / "labels.txt").write_text("cup\nhand")
    dataset = open_dataset("rosbag", "test", task="recognition", root=tmp_path)
    assert dataset[0].label == 1


def test_converted_recordings_are_such_a_data_set(tmp_path: Path) -> None:
    write_gen1(tmp_path)
    gen1 = open_dataset("gen1", "training", task="detection", root=tmp_path)
    for recording in gen1.recordings:
        convert_to_bag(recording.events, tmp_path / "rosbag" / "validation")
    bags = open_dataset("rosbag", "validation", task="detection", root=tmp_path)
    assert (bags.form.labels, bags.form.sensor) == (gen1.form.labels, gen1.form.sensor)
    for number in range(2):
        assert_array_equal(bags[number].stream.events, gen1[number].stream.events)
        columns = [*"txywh", "class_id"]
        assert_array_equal(bags[number].boxes[columns], gen1[number].boxes[columns])


def test_of_two_cameras_one_is_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its events, its sensor and its clock; the stored graphs of one are not those of the other."""
    folder = tmp_path / "rosbag" / "training" / "stereo"
    folder.mkdir(parents=True)
    left, right = bag_stream(0), bag_stream(1, 50, 20)
    write_bag(tmp_path / "l", left, [boxes_at(200_000, (1, 2, 3, 4, 0))], ("car",), topic="/left/events")
    write_event_bag(tmp_path / "r", event_packets(right, stamp_offset=CLOCK_OFFSET + 10**8), "/right/events")
    for name in "lr":
        (tmp_path / name / f"{name}.db3").rename(folder / f"{name}.db3")
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    settings = {"network": "graph_grid", "task": "detection", "dataset": "rosbag"}
    with pytest.raises(EventFormatError, match=r"stereo: holds the event topics /left/events, /right/events, expected"):
        open_training(TrainSettings(**settings))
    files = []
    for topic, stream, moment in (("/left/events", left, 200_000), ("/right/events", right, 100_000)):
        dataset = open_training(TrainSettings(**settings, topic=topic))
        assert dataset.form.sensor == (stream.width, stream.height)
        assert_array_equal(dataset[0].stream.events, stream.events)
        assert dataset[0].boxes["t"].tolist() == [moment]
        files += graph_files(dataset, tmp_path)
        with pytest.raises(MissingFilesError, match=rf"aegnn preprocess --dataset rosbag .* --topic {topic}"):
            open_graphs(dataset, GraphConfig(window=50_000), "detection")
    assert len(set(files)) == 2
    with pytest.raises(ValueError, match="setting topic is for the data set rosbag, found '/a' with gen1"):
        TrainSettings(**(settings | {"dataset": "gen1"}), topic="/a")
    with pytest.raises(ValueError, match="an event topic is for bags, found '/a' with the data set gen1"):
        open_dataset("gen1", "test", task="detection", topic="/a")


def test_a_class_that_a_box_cannot_have_is_refused(tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(300))
    write_bag(tmp_path / "rosbag" / "test" / "a", bag_stream(0), [boxes_at(200_000, (1, 2, 3, 4, 260))], names)
    dataset = open_dataset("rosbag", "test", task="detection", root=tmp_path)
    with pytest.raises(EventFormatError, match="a: a box is of class 260, expected a number from 0 to 255"):
        dataset.boxes(0)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    def refused(split: str, message: str, task: str = "detection") -> None:
        with pytest.raises(ValueError, match=message):
            open_dataset("rosbag", split, task=task, root=tmp_path)

    with pytest.raises(MissingFilesError, match=r"rosbag, split test: .*test holds no bags; expected there: rosbag2"):
        open_dataset("rosbag", "test", task="detection", root=tmp_path)
    write_rosbag_detection(tmp_path)
    refused("training", "data set rosbag has no labels for recognition, only for detection", "recognition")
    folder = tmp_path / "rosbag"
    names = ("car", "pedestrian")
    box = boxes_at(200_000, (1, 2, 3, 4, 0))
    write_bag(folder / "training" / "z", bag_stream(0, 50, 30), [box], names)
    refused("training", r"z: the sensor's width and height are \(50, 30\), expected \(40, 30\) as in drive_0")
    write_bag(folder / "validation" / "a", bag_stream(0), [box], names)
    write_bag(folder / "validation" / "b", bag_stream(0), [Label(CLOCK_OFFSET, class_id=0)], names)
    refused(
        "validation", r"b: the type of its labels is vision_msgs/msg/Classification, expected vision_msgs/msg/Detec"
    )
    write_bag(folder / "test" / "a", bag_stream(0), [boxes_at(200_000, (1, 2, 3, 4, 2))], names)
    dataset = open_dataset("rosbag", "test", task="detection", root=tmp_path)
    with pytest.raises(EventFormatError, match="a: topic /labels: a label has the class 2, which is 'nothing'"):
        dataset[0]
    write_bag(folder / "test" / "b", bag_stream(0), [box], names[::-1])
    refused("test", r"b: its classes are \('pedestrian', 'car'\), expected \('car', 'pedestrian'\) as in a")
    write_bag(folder / "test" / "0", bag_stream(0), [box])
    (folder / "labels.txt").write_text("\n")
    refused("test", r"0: has no topic /label_info with the names .* or the names in .*labels.txt, one a line")
    write_bag(folder / "test" / "00", bag_stream(0), [])
    refused("test", "00: holds the topics /event_camera/events, expected /labels too")


@pytest.mark.parametrize("task", ["recognition", "detection"])
def test_a_model_is_evaluated_on_bags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    {"recognition": write_rosbag_recognition, "detection": write_rosbag_detection}[task](tmp_path, "test")
    dataset = open_dataset("rosbag", "test", task=task, root=tmp_path)
    torch.manual_seed(0)
    sizes = {"sensor": dataset.form.sensor, "num_classes": len(dataset.form.labels)}
    architecture = {"name": "graph_res", "dataset": "simulated", "task": task, **sizes}
    graph = GraphConfig(max_neighbors=8, time_scale=3e-5, window=100_000)
    model = TrainedModel(network(**architecture), graph, dataset.form.labels, "random", architecture)
    save_model(tmp_path / "m.safetensors", model)
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    arguments = ["evaluate", str(tmp_path / "m.safetensors"), "--dataset", "rosbag", "--dense", "--asynchronous"]
    assert main([*arguments, "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["recordings"] == len(dataset)
    assert found["agreement"]["answers"] == found["agreement"]["equal"] == (3 if task == "recognition" else 4)
