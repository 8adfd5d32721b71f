# SPDX-License-Identifier: Apache-2.0
"""`aegnn benchmark` measures every packaged model, live, and says on what machine."""

import json
from pathlib import Path

import numpy as np
import pytest

from aegnn_core.cli import main
from aegnn_core.evaluation import speed
from aegnn_core.events import make_events


def few_events(sensor: tuple[int, int], count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return make_events(np.arange(count) * 20, *(rng.integers(0, high, count) for high in (*sensor, 2)))


def test_packaged_models_and_the_histogram_are_measured_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "simulated_events", few_events)
    monkeypatch.setattr(speed, "packaged_models", lambda: ["nmnist", "scenes_detector"])
    monkeypatch.setattr(speed, "_FILLED", 100)
    monkeypatch.setattr(speed, "_TIMED", {50: 100, 1: 5})
    monkeypatch.delenv("COLUMNS", raising=False)  # as in a pipe, where nothing is cut short

    assert main(["benchmark", "--json", str(tmp_path / "speed.json")]) == 0

    printed = capsys.readouterr().out
    document = json.loads((tmp_path / "speed.json").read_text())
    models = ["nmnist", "scenes_detector", "histogram for gen1"]
    assert [(row["model"], row["packet"]) for row in document["speeds"]] == [(m, n) for m in models for n in (50, 1)]
    for row in document["speeds"]:
        assert row["model"] in printed
        assert row["us_per_event"] * row["events_per_s"] == pytest.approx(1e6)
        assert (row["answers_per_s"] is None) == (row["packet"] == 1)
    assert document["sgemm_gflops"] > 0
    assert any(finding["name"] == "processor" for finding in document["machine"])
