# SPDX-License-Identifier: Apache-2.0
"""The log of a run has curves, settings and pictures, whatever keeps it."""

import csv
import importlib.util
import logging
import re
from pathlib import Path

import pytest

pytest.importorskip("lightning")

import numpy as np
import torch
import yaml
from PIL import Image

from aegnn_core import load_model
from aegnn_core.cli import main
from aegnn_core.drawing import ON_COLOR, class_color
from aegnn_core.graph.build import first_live
from aegnn_core.training.learning.pictures import draw_confusion, draw_detections
from aegnn_core.training.learning.validation import Seen
from aegnn_core.training.samples.validation_samples import HeldOutScenes, NumberedGraphs, _simulate_moment
from aegnn_core.training.settings import TrainSettings

SIZE = ["--steps", "2", "--batch-size", "2", "--num-workers", "0", "--validate-every", "1", "--validation-samples", "3"]
CURVES = {"validation/accuracy", "validation/loss", "lr-AdamW"}


class Messages(logging.Handler):
    """Keeps what a logger says."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


def test_tensorboard_has_curves_settings_and_confusion(
    nmnist: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lightnings = Messages()
    logging.getLogger("lightning.pytorch").addHandler(lightnings)
    assert main(["train", "graph_grid", "--task", "recognition", "--dataset", "nmnist", *SIZE]) == 0
    # Its advertisements, for one.
    assert lightnings.seen == []
    # Not a terminal: lines instead of a bar.
    printed = capsys.readouterr().out
    assert re.search(r"^step 1 of 2, loss \d\S*, \d\S* samples/s, 0:\d\d:\d\d left$", printed, re.MULTILINE)
    assert re.search(r"^step 2 of 2, .*validation/accuracy [\d.]+", printed, re.MULTILINE)
    assert re.search(r"^step 2 of 2, loss .* 0:00:00 left$", printed, re.MULTILINE)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = logs / "graph_grid_nmnist_recognition" / "version_0"
    log = EventAccumulator(str(run)).Reload()
    assert set(log.Tags()["scalars"]) >= CURVES
    assert [scalar.step for scalar in log.Scalars("validation/accuracy")] == [0, 1]
    assert [picture.step for picture in log.Images("validation/confusion")] == [1, 2]
    kept = yaml.safe_load((run / "hparams.yaml").read_text())
    assert TrainSettings.from_dict(kept) == TrainSettings.from_dict(load_settings(run))


def load_settings(run: Path) -> dict:
    return yaml.safe_load((run / "settings.yaml").read_text())


def test_csv_has_curves_and_pictures_of_detections_beside(logs: Path) -> None:
    assert main(["train", "graph_grid", "--task", "detection", "--logger", "csv", *SIZE]) == 0
    run = logs / "graph_grid_simulated_detection" / "version_0"
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"validation/ap", "validation/ap50", "validation/ap75", "validation/loss"} <= set(rows[0])
    assert all(0 <= float(row["validation/ap"]) <= 1 for row in rows if row["validation/ap"])
    pictures = sorted(run.glob("validation/detections/*.png"))
    assert [path.name for path in pictures] == ["1.png", "2.png"]
    assert Image.open(pictures[0]).size == (2 * 320, 240)


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_works_offline(nmnist: Path, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    options = ["graph_grid", "--task", "recognition", "--dataset", "nmnist", "--logger", "wandb", *SIZE]
    assert main(["train", *options]) == 0
    run = logs / "graph_grid_nmnist_recognition" / "version_0"
    assert len(list(run.glob("wandb/offline-run-*/*.wandb"))) == 1
    assert len(list(run.glob("wandb/offline-run-*/files/media/images/validation/*.png"))) == 2


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_logger_that_is_not_installed_is_named(nmnist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["graph_grid", "--task", "recognition", "--dataset", "nmnist", "--logger", "wandb", *SIZE]
    assert main(["train", *options]) == 2
    assert "aegnn: logger wandb: the Python package wandb is missing" in capsys.readouterr().err


def test_pictures_show_true_boxes_in_white_and_found_ones_in_their_colour() -> None:
    model = load_model("scenes_detector")
    graph = HeldOutScenes("detection", model.graph, 1)[0]
    fields = [(name, np.float32) for name in ("x", "y", "w", "h", "score")] + [("class_id", np.int32)]
    truth = np.array([(10, 20, 20, 30, 1, 0)], fields)
    found = np.array([(60, 70, 30, 20, 0.5, 1)], fields)
    picture = draw_detections([Seen(graph, truth, found), Seen(graph, truth[:0], found[:0])], model)
    assert picture.shape == (240, 2 * 320, 3)
    assert (picture[40:100, 20] == ON_COLOR).all()
    assert (picture[140:180, 120] == class_color(1)).all()
    assert not (picture[140:180, 320 + 120] == class_color(1)).all()
    confusion = draw_confusion(np.array([[5, 1], [0, 7]]), ["car", "background"])
    assert confusion.dtype == np.uint8
    assert confusion.ndim == 3


def test_validation_samples_are_the_same_each_time_and_never_trained_or_evaluated_on() -> None:
    graph = load_model("scenes_detector").graph
    first, again = (NumberedGraphs(HeldOutScenes("detection", graph, 9), 9) for _ in range(2))
    for number in (0, 4):
        assert torch.equal(first[number].pos, again[number].pos)
        assert torch.equal(first[number].pos, first[number].pos)
        assert first[number].number.tolist() == [number]
    scenes = HeldOutScenes("detection", graph, 3)
    live = [int(scenes[number].live.sum()) for number in range(3)]
    samples = [_simulate_moment(number, graph) for number in range(3)]
    assert live == [len(sample.events) - first_live(sample.events["t"], graph, sample.moment) for sample in samples]
    assert all(sample.boxes["t"].tolist() == [sample.time] * len(sample.boxes) for sample in samples)
    scenes = HeldOutScenes("recognition", graph, 7)
    spread = NumberedGraphs(scenes, 3)
    assert len(spread) == 3
    assert [torch.equal(spread[n].pos, scenes[m].pos) for n, m in enumerate((0, 2, 4))] == [True] * 3
