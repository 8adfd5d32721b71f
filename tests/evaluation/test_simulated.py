"""The packaged models are good on scenes that they have not seen, within what a few scenes can tell."""

import json
from pathlib import Path

import pytest

from aegnn_core.cli import main
from aegnn_core.evaluation.simulated import evaluate_detector, evaluate_recognizer
from aegnn_core.nn import load_model


def test_the_packaged_detector_finds_cars_and_pedestrians_live() -> None:
    model = load_model("scenes_detector")
    live = evaluate_detector(model, scenes=25, seed=2_000_000)
    assert live.ap50 >= 0.65
    assert live.ap >= 0.32
    dense = evaluate_detector(model, scenes=3, seed=2_000_000, asynchronous=False)
    assert dense.ap == pytest.approx(evaluate_detector(model, scenes=3, seed=2_000_000).ap, abs=1e-3)


def test_the_packaged_recognizer_tells_classes_live() -> None:
    model = load_model("scenes_recognizer")
    live = evaluate_recognizer(model, recordings=120, seed=2_000_000)
    assert live.confusion.sum() == 120
    assert live.accuracy >= 0.93
    dense = evaluate_recognizer(model, recordings=10, seed=2_000_000, asynchronous=False)
    assert (dense.confusion == evaluate_recognizer(model, recordings=10, seed=2_000_000).confusion).all()


def test_the_command_prints_and_writes_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.json"
    assert main(["evaluate", "scenes_recognizer", "--samples", "3", "--asynchronous", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert figures["through"] == "asynchronous"
    assert f"{figures['accuracy']:.4f}" in capsys.readouterr().out


def test_the_command_says_in_one_sentence_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("aegnn: unknown model 'nothing'")
