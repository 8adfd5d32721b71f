# SPDX-License-Identifier: Apache-2.0
"""Detectors learn from the recordings of every data set with boxes, and from graphs that are stored."""

import json
from pathlib import Path

import pytest

from aegnn_core import load_model, make_model_asynchronous
from aegnn_core.cli import main
from aegnn_core.datasets import open_dataset
from aegnn_core.evaluation import EventRates, dataset_moments, evaluate
from aegnn_core.events.label_topics import Label
from aegnn_core.nn.checkpoint import TrainedModel
from tests.datasets.tiny_datasets import (
    CLOCK_OFFSET,
    bag_stream,
    boxes_at,
    write_bag,
    write_gen1,
    write_nmnist,
    write_rosbag_detection,
    write_rosbag_recognition,
)

pytest.importorskip("lightning")

SIZE = ["--steps", "2", "--batch-size", "2", "--num-workers", "0", "--validate-every", "2", "--validation-samples", "3"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("AEGNN_DATA_DIR", str(folder))
    return folder


def train(output: Path, *options: str) -> TrainedModel:
    assert main(["train", *options, *SIZE, "--logger", "csv", "--output", str(output)]) == 0
    return load_model(output)


@pytest.mark.parametrize("task", ["detection", "recognition"])
def test_a_folder_of_bags_says_sensor_and_classes(data: Path, tmp_path: Path, task: str) -> None:
    write_bags = write_rosbag_detection if task == "detection" else write_rosbag_recognition
    for split in ("training", "validation"):
        write_bags(data, split)
    model = train(tmp_path / "bags.safetensors", "graph_grid", "--task", task, "--dataset", "rosbag")
    assert model.labels == (("car", "pedestrian") if task == "detection" else ("cup", "hand"))
    assert (model.width, model.height, model.training["dataset"]) == (40, 30, "rosbag")
    live = make_model_asynchronous(model.network, model.graph)
    live.update(bag_stream(0).events)
    assert live.output().isfinite().all()


@pytest.mark.parametrize("way", ["integrate", "coordinates"])
def test_recordings_of_a_larger_camera_are_learned_from_on_the_models_sensor(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    for split in ("training", "validation", "test"):
        write_gen1(data, split, (16, 12))
    options = ["--config", "gen1", "--sensor", "152x120", "--downsampling", way, "--no-preprocessed"]
    model = train(tmp_path / "gen1.safetensors", *options)
    assert (model.width, model.height) == (152, 120)
    assert (model.training["sensor"], model.training["downsampling"]) == ("152x120", way)
    # Evaluated in the same way, unless another is asked for.
    arguments = ["evaluate", str(tmp_path / "gen1.safetensors"), "--dataset", "gen1"]
    assert main([*arguments, "--asynchronous", "--json", str(tmp_path / "out.json")]) == 0
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["downsampling"] == way
    dataset = dataset_moments(open_dataset("gen1", "test", task="detection"), "detection")
    assert evaluate(model, dataset).rates == EventRates(**document["rates"])
    rates = document["rates"]
    assert (rates["network_per_s"] < rates["camera_per_s"]) == (way == "integrate")
    assert main(["train", *options, *SIZE, "--sensor", "1000x1000", "--output", str(tmp_path / "x.safetensors")]) == 2
    assert (
        "the recordings of gen1 have 304 x 240 px, expected at least those of 1000 x 1000 px" in capsys.readouterr().err
    )


def test_stored_graphs_are_trained_on(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("training", "validation"):
        write_gen1(data, split)
    output = tmp_path / "gen1.safetensors"
    options = ["--config", "gen1", "--radius", "4", "--ema", "0.9"]
    assert main(["train", *options, *SIZE, "--output", str(output)]) == 2
    command = capsys.readouterr().err.split("make them by: ")[1].split()
    assert command[:2] == ["aegnn", "preprocess"]
    assert main([*command[1:], "--num-workers", "0"]) == 0
    command[command.index("--split") + 1] = "validation"
    assert main([*command[1:], "--num-workers", "0"]) == 0
    model = train(output, *options)
    assert (model.graph.radius, model.training["preprocessed"], model.labels) == (4.0, True, ("car", "pedestrian"))


def test_stored_graphs_of_digits_are_not_mirrored(data: Path, tmp_path: Path) -> None:
    for split in ("training", "validation"):
        write_nmnist(data, split)
    assert main(["preprocess", "--dataset", "nmnist", "--split", "training", "validation", "--num-workers", "0"]) == 0
    options = ["graph_grid", "--task", "recognition", "--dataset", "nmnist", "--preprocessed"]
    model = train(tmp_path / "nmnist.safetensors", *options)
    assert model.training["augmentation"]["mirror"] is False


def test_stored_graphs_of_both_splits_are_trained_on_once_all_is_chosen(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("training", "validation"):
        write_gen1(data, split)
    options = ["--config", "gen1", "--use-validation", *SIZE, "--validate-every", "0"]
    output = tmp_path / "gen1.safetensors"
    assert main(["train", *options, "--output", str(output)]) == 2
    command = capsys.readouterr().err.split("make them by: ")[1].split()
    assert main([*command[1:], "--num-workers", "0"]) == 0
    assert main(["train", *options, "--output", str(output)]) == 0
    assert load_model(output).training["use_validation"] is True


@pytest.mark.parametrize("option", ["--use-validation", "--no-use-validation"])
def test_bags_whose_classes_are_numbered_otherwise_are_not_validated_on_or_learned_from(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    for split, names in (("training", ("car", "pedestrian")), ("validation", ("pedestrian", "car"))):
        labels = [boxes_at(200_000, (1, 2, 10, 12, 0))]
        write_bag(data / "rosbag" / split / "drive", bag_stream(0), labels, names)
    size = [*SIZE, "--validate-every", "0"] if option == "--use-validation" else SIZE
    arguments = ["histogram", "--task", "detection", "--dataset", "rosbag", option, *size]
    assert main(["train", *arguments, "--output", str(tmp_path / "x.safetensors")]) == 2
    assert capsys.readouterr().err == (
        "aegnn: split validation of rosbag is for the classes pedestrian, car, split training for the classes car,"
        " pedestrian\n"
    )


@pytest.mark.parametrize("split", ["training", "validation"])
def test_a_split_without_boxes_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    write_rosbag_detection(data, "validation" if split == "training" else "training")
    write_bag(data / "rosbag" / split / "a", bag_stream(0), [boxes_at(200_000)], ("car", "pedestrian"))
    options = ["graph_grid", "--task", "detection", "--dataset", "rosbag", *SIZE, "--logger", "csv"]
    assert main(["train", *options, "--output", str(tmp_path / "a.safetensors")]) == 2
    expected = f"aegnn: the recordings of the split {split} have no box that counts, expected at least one"
    assert expected in capsys.readouterr().err


def test_a_box_that_is_no_number_is_refused(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("training", "validation"):
        write_bag(
            data / "rosbag" / split / "a",
            bag_stream(0),
            [boxes_at(200_000, (float("nan"), 2, 10, 12, 1)), boxes_at(300_000, (1, 2, 10, 12, 1))],
            ("car", "pedestrian"),
        )
    options = ["graph_grid", "--task", "detection", "--dataset", "rosbag", *SIZE, "--logger", "csv"]
    assert main(["train", *options, "--output", str(tmp_path / "a.safetensors")]) == 2
    assert "training/a: topic /labels: the box of a label at" in capsys.readouterr().err


def test_a_recogniser_has_at_least_two_classes_to_learn(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("training", "validation"):
        labels = [Label(CLOCK_OFFSET, class_id=1)]
        write_bag(data / "rosbag" / split / "a", bag_stream(0), labels, ("cup", "hand"))
    options = ["graph_grid", "--task", "recognition", "--dataset", "rosbag", *SIZE, "--logger", "csv"]
    assert main(["train", *options, "--output", str(tmp_path / "a.safetensors")]) == 2
    expected = "aegnn: all recordings of the split training are of the class hand, expected two classes or more"
    assert expected in capsys.readouterr().err
