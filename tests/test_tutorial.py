# SPDX-License-Identifier: Apache-2.0
"""The commands of the tutorial run one after the other, on small recordings: from a recording to a trained model."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from os.path import expandvars
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer

from aegnn_core import load_model
from aegnn_core.cli import main
from aegnn_core.events.label_topics import BOXES_TYPE, label_typestore, serialize_boxes
from aegnn_core.events.rosbag import write_event_bag
from aegnn_core.events.simulation import SceneConfig, simulate_scene

pytest.importorskip("lightning", reason="training needs lightning")

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
SCENE = SceneConfig(duration_us=200_000, still_camera=1.0).for_camera((80, 60))
#: What COCO calls the simulation's classes.
THEIRS = ("car", "person")
#: So that it takes seconds; the train command's own come first, and the last one counts.
SMALL = {
    "train": "--steps 2 --batch-size 2 --num-workers 0 --validate-every 2 --validation-samples 2 --logger csv",
    "view": "--fps 10",
    "simulate": "--scenes 1 --duration 0.05",
}


def commands() -> Iterator[list[str]]:
    for block in re.findall(r"```\n(.*?)```", PAGE.read_text(), re.DOTALL):
        for line in block.strip().splitlines():
            yield shlex.split(line)


def record(name: str, topics: list[str], seed: int) -> None:
    """What ``ros2 bag record`` would have written: events, and every 20 ms a detector's boxes with names and scores."""
    scene = simulate_scene(seed, SCENE)
    write_event_bag(name, scene.stream, topics[0], "mcap")
    store, beside = label_typestore(), f"{name}_beside"
    with Writer(beside, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topic = writer.add_connection(topics[1], BOXES_TYPE, typestore=store)
        for time in range(20_000, SCENE.duration_us, 20_000):
            boxes = scene.boxes[scene.boxes["t"] == time]
            message = store.deserialize_cdr(serialize_boxes(1000 * time, boxes, store), BOXES_TYPE)
            for detection, box in zip(message.detections, boxes, strict=True):
                detection.results[0].hypothesis.class_id = THEIRS[box["class_id"]]
                detection.id = str(box["track_id"])
            writer.write(topic, 1000 * time, store.serialize_cdr(message, BOXES_TYPE))
    (part,) = Path(beside).glob("*.mcap")
    part.rename(Path(name, "detections.mcap"))
    Path(name, "metadata.yaml").unlink()


def launch_arguments(file: str) -> set[str]:
    """The names that a launch file declares, without importing what launches it."""
    for node in ast.parse((ROOT / "launch" / file).read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict) and node.targets[0].id == "ARGUMENTS":
            return {ast.literal_eval(key) for key in node.value.keys}
    raise AssertionError(f"{file} has no ARGUMENTS")


def test_every_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.setenv("AEGNN_LOG_DIR", str(tmp_path / "logs"))
    ran = []
    for seed, words in enumerate(commands()):
        words = [expandvars(word) for word in words]
        match words:
            case ["ros2", "bag", "record", "--storage", "mcap", "--output", name, "--topics", *topics]:
                record(name, topics, seed)
            case ["ros2", "launch", "aegnn_ros", file, *settings]:
                values = dict(setting.split(":=") for setting in settings)
                assert values.keys() <= launch_arguments(file)
                assert load_model(values["model"]).labels == ("car", "pedestrian")
            case ["aegnn", command, *options]:
                assert main([command, *options, *shlex.split(SMALL.get(command, ""))]) == 0
            case ["export", setting]:
                monkeypatch.setenv(*setting.split("="))
            case _:
                subprocess.run(words, check=True)
        ran.append(words[:2])

    assert ["aegnn", "train"] in ran
    assert ["ros2", "launch"] in ran
    model = load_model("mine.safetensors")
    assert (model.width, model.height, model.labels) == (80, 60, ("car", "pedestrian"))
    for video in ("labels.gif", "answers.gif"):
        with Image.open(video) as gif:
            assert gif.n_frames == 2
            assert np.ptp(np.asarray(gif.convert("L"))) > 0
