# SPDX-License-Identifier: Apache-2.0
"""Settings come from YAML, the command line and model files alike, and wrong ones are one clear sentence."""

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from aegnn_core.cli import main
from aegnn_core.training.samples.augmentation import Augmentation
from aegnn_core.training.settings import TrainSettings, configurations, default_graph, read_settings, read_value

TINY = {"network": "graph_grid", "task": "recognition"}


@pytest.mark.parametrize("name", configurations())
def test_packaged_configurations_are_valid_and_come_back_from_their_text(name: str, tmp_path: Path) -> None:
    settings = TrainSettings.from_dict(read_settings(name))
    assert settings.dataset == _DATASETS.get(name, name)
    file = tmp_path / "again.yaml"
    file.write_text(str(settings))
    assert TrainSettings.from_dict(read_settings(file)) == settings
    assert TrainSettings.from_dict(settings.to_dict()) == settings


#: Of configurations that are not called after their data set.
_DATASETS = {"scenes_detector": "ncars_scenes", "ncars_graph_res": "ncars", "nmnist_anytime": "nmnist"}


def test_every_data_set_has_a_configuration() -> None:
    assert configurations() == [
        "1mpx", "dsec_det", "dvs_gesture", "gen1", "ncaltech101", "ncars", "ncars_graph_res", "nmnist",
        "nmnist_anytime", "rosbag", "scenes_detector", "simulated",
    ]  # fmt: skip


def test_parts_that_are_not_said_are_those_of_the_data_set(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "{network: graph_grid, task: detection, dataset: gen1, learning_rate: 1e-3,"
        " graph: {radius: 4, directed: false}, augmentation: {crop: 0.5}}"
    )
    settings = TrainSettings.from_dict(read_settings(file))
    assert settings.learning_rate == 1e-3
    assert settings.graph is not None
    default = default_graph("gen1", "detection")
    assert (settings.graph.radius, settings.graph.window) == (4.0, default.window)
    assert (settings.graph.directed, settings.graph.resolved_expiry) == (False, "graph")
    assert replace(default_graph("simulated", "recognition"), directed=False).resolved_expiry == "graph"
    assert settings.augmentation is not None
    assert (settings.augmentation.crop, settings.augmentation.rotation, settings.augmentation.mirror) == (0.5, 0, True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stepz": 3}, "unknown settings stepz; known are network, task, dataset, dim, steps"),
        ({"steps": "many"}, "setting steps is 'many', expected a whole number of at least 1"),
        ({"steps": 1.5}, "setting steps is 1.5, expected a whole number of at least 1"),
        ({"steps": True}, "setting steps is True, expected a whole number of at least 1"),
        ({"steps": None}, "setting steps is None, expected a whole number of at least 1"),
        ({"ages": 10**12}, "setting ages must be 1 to 1000 parts of the past, found 1000000000000"),
        ({"ema": 1}, "setting ema is 1, expected a number between 0 and 1"),
        ({"learning_rate": 0}, "setting learning_rate is 0, expected a positive number"),
        ({"learning_rate": 10**400}, "setting learning_rate is 1000.*, expected a positive number"),
        ({"seed": 2**32}, "setting seed is 4294967296, expected a whole number from 0 to 4294967295"),
        ({"preprocessed": 1}, "setting preprocessed is 1, expected true or false"),
        ({"task": "tracking"}, "setting task is 'tracking', expected one of recognition, detection"),
        ({"downsampling": "mean"}, "setting downsampling is 'mean', expected one of integrate, coordinates"),
        ({"sensor": "wide", "dataset": "gen1"}, "setting sensor is 'wide', expected a width and a height"),
        ({"sensor": "80x60"}, "setting sensor is for recordings, found 80x60 with simulated scenes"),
        (
            {"dataset": "gen1", "downsampling": "coordinates"},
            "setting downsampling needs the setting sensor, found coordinates without it",
        ),
        ({"dataset": "nmnist", "scenes": 5}, "setting scenes is for simulated scenes, found 5 with nmnist"),
        ({"age": 5e4}, "setting age is the length of each of several ages, found 50000 without ages"),
        ({"options": {"task": "detection"}}, "setting options: network graph_grid has no option task, known are voxel"),
        ({"options": {"num_classes": 7}}, "setting options: network graph_grid has no option num_classes, known are"),
        ({"options": {"colour": 7}}, "setting options: network graph_grid has no option colour, known are voxel, wid"),
        (
            {"options": {"voxel": {2: 3}}},
            r"setting options: voxel is \{2: 3\}, expected numbers, texts, true, false, null, or lists or mappings",
        ),
        ({"options": {"voxel": [b"2"]}}, r"setting options: voxel is \[b'2'\], expected numbers, texts, true"),
        ({"options": {"voxel": math.nan}}, "setting options: voxel is nan, expected numbers, texts, true"),
        ({"options": {"dropout": True}}, "setting options: option dropout .* is True, expected a number"),
        ({"options": {"root_weight": 1}}, "setting options: option root_weight .* is 1, expected true or false"),
        ({"precision": "8"}, "setting precision is '8', expected one of 32, 16-mixed, bf16-mixed"),
        ({"network": None}, "setting network is None, expected a text"),
        ({"graph": 3}, "setting graph is 3, expected a mapping"),
        ({"graph": {"radios": 3}}, "graph: unknown parameters radios"),
        ({"graph": {"radius": -3}}, "graph: radius must be a positive, finite number, found -3"),
        ({"augmentation": {"crop": 0.1}}, "setting augmentation is for recordings, found it with simulated scenes"),
        (
            {"dataset": "gen1", "task": "detection", "augmentation": {"cut": 0.1}},
            "setting augmentation: cut is for recognition, found 0.1 for detection",
        ),
        (
            {"dataset": "nmnist", "augmentation": {"crop": 3}},
            "augmentation: crop must be a share of at most 1",
        ),
    ],
)
def test_wrong_values_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainSettings.from_dict({**TINY, **values})


def test_settings_that_have_no_default_are_asked_for() -> None:
    with pytest.raises(ValueError, match="no value for the settings network, task"):
        TrainSettings.from_dict({"dataset": "nmnist"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- steps", "holds list, expected a mapping of settings to values"),
        ("steps: [3", "is not a YAML file: while parsing a flow sequence"),
        ("stepz: 3\n7: 8", "has unknown settings 7, stepz; known are network"),
        ("steps: 3\nsteps: 4", "is not a YAML file: steps is there twice"),
        ("graph: {radius: 3, radius: 4}", "is not a YAML file: radius is there twice"),
        (None, "no configuration '.*': expected a YAML file or one of 1mpx, dsec_det"),
    ],
)
def test_files_without_settings_are_refused(text: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_settings(file)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10), ("-3", -3), ("0", 0), ("0x10", 16), ("1_000", 1000), ("1e-3", 0.001), ("1.0e-05", 1e-5),
        ("1e3", 1000.0), (".5", 0.5), ("2.", 2.0), ("-.inf", -math.inf), ("true", True), ("~", None),
        ("2.5e+3", 2500.0), ("012", "012"), ("1:30", "1:30"), ("1:30.5", "1:30.5"),
        ("2026-01-02", "2026-01-02"), ("160x120", "160x120"),
    ],
)  # fmt: skip
def test_numbers_are_what_everybody_takes_for_them(text: str, value: object, tmp_path: Path) -> None:
    """YAML 1.1 knows octal numbers, those of base 60, and dates."""
    file = tmp_path / "mine.yaml"
    file.write_text(f"options: {{a: {text}}}")
    for found in (read_settings(file)["options"]["a"], read_value(text)):
        assert found == value
        assert type(found) is type(value)


def test_options_override_the_configuration_which_overrides_defaults(
    nmnist: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = nmnist / "mine.yaml"
    file.write_text(
        "{network: graph_grid, task: recognition, dataset: nmnist, steps: 1, batch_size: 3, precision: 32, ema: 0.5,"
        " validate_every: 0, num_workers: 0, graph: {max_neighbors: 5}, augmentation: {drop: 0}}"
    )
    options = ["--batch-size", "2", "--radius", "2.5", "--undirected", "--logger", "csv", "--dim", "2"]
    assert main(["train", "--config", str(file), *options]) == 0
    run = logs / "graph_grid_nmnist_recognition" / "version_0"
    settings = TrainSettings.from_dict(read_settings(run / "settings.yaml"))
    assert (settings.steps, settings.batch_size, settings.ema, settings.seed, settings.dim) == (1, 2, 0.5, 1, 2)
    assert settings.augmentation == Augmentation(drop=0)
    assert settings.graph is not None
    assert (settings.graph.radius, settings.graph.max_neighbors, settings.graph.directed) == (2.5, 5, False)
    assert settings.graph.time_scale == default_graph("nmnist", "recognition").time_scale
    assert capsys.readouterr().out.endswith(f"{run / 'model.safetensors'}: 1 steps; log and checkpoints in {run}\n")
    assert main(["train", "--task", "recognition"]) == 2
    assert capsys.readouterr().err == "aegnn: no value for the settings network\n"


def test_help_tells_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name in TrainSettings.__dataclass_fields__:
        if name not in ("network", "graph", "augmentation", "options"):
            assert f"--{name.replace('_', '-')} " in text, name
    graph = ("--radius", "--max-neighbors", "--time-scale", "--window", "--max-nodes", "--undirected")
    for option in (*graph, "--config", "--output", "--resume", "--option"):
        assert f"{option} " in text, option
    assert f"one of {', '.join(configurations())}" in text


def test_a_configuration_without_end_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "deep.yaml"
    merged = ["a0: &a0 {x: 1}"] + [f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}" for k in range(1, 40)]
    for text, message in (("[" * 90_000, "is not a YAML file"), ("\n".join(merged), "references")):
        file.write_text(text)
        with pytest.raises(ValueError, match=rf"deep\.yaml .*{message}"):
            read_settings(file)
    os.truncate(file, 10 << 30)
    with pytest.raises(ValueError, match=r"deep\.yaml has more than 100000 bytes, expected the settings of a training"):
        read_settings(file)
