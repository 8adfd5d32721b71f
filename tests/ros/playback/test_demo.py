# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it: a command that plays a recording, prints figures and saves a picture."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aegnn_core.events import EventStream, make_events
from aegnn_core.events.label_topics import LABEL_DTYPE, Label
from aegnn_core.events.rosbag import RecordedPacket, is_bag, write_event_bag
from aegnn_ros.playback.bag_run import BagRunner
from aegnn_ros.playback.demo import main
from aegnn_ros.playback.node_process import NodeProcessError
from tests.events.foreign_formats import write_packets

CAR = np.array([(10, 20, 30, 40, 0)], LABEL_DTYPE)
FIGURES = {"events", "packets", "detections", "ap", "ap50", "latency_ms", "us_per_event"}


def run_demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aegnn_ros.playback.demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_simulated_recording_gives_figures_and_a_picture(models: dict[str, Path], tmp_path: Path) -> None:
    run = run_demo("--model", models["detection"], "--output", tmp_path, "--duration", 1.0, "--seed", 1_000_003)
    assert run.returncode == 0, run.stderr
    assert "µs per event" in run.stdout
    figures = json.loads((tmp_path / "demo.json").read_text())
    assert set(figures) == FIGURES
    assert figures["events"] > 1000
    assert figures["packets"] > 100
    assert 0 <= figures["ap"] <= figures["ap50"] <= 1  # an untrained model
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p95"]
    assert figures["us_per_event"] > 0
    assert is_bag(tmp_path / "demo_bag")
    picture = np.asarray(Image.open(tmp_path / "demo.png"))
    assert picture.shape[1] > picture.shape[0] > 700
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100


@pytest.mark.parametrize("labelled", [False, True])
def test_a_users_bag_has_a_precision_where_it_has_labels(
    models: dict[str, Path],
    packets: list[RecordedPacket],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    labelled: bool,
) -> None:
    labels = [Label(stamp, boxes=CAR) for stamp in range(0, 500_000_000, 20_000_000)]
    write_event_bag(tmp_path / "bag", packets[:50], labels=labels if labelled else [])
    arguments = ("--model", models["detection"], "--output", tmp_path, "--bag", tmp_path / "bag", "--json")
    assert main([*map(str, arguments)]) == 0
    printed = capsys.readouterr()
    figures = json.loads(printed.out)
    assert figures["packets"] == 50
    assert (figures["ap"] is None) == (figures["ap50"] is None) == (not labelled)
    assert ("no labels of boxes" in printed.err) == (not labelled)
    assert (tmp_path / "demo.png").is_file()


def test_of_several_event_topics_one_is_played(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    k = np.arange(4000)
    events = make_events(100 * k, k % 80, k % 60, k % 2)
    streams = [EventStream(events[:10], 80, 60), EventStream(events, 80, 60)]
    bag = write_packets(tmp_path / "bag", streams, topics=("/left/events", "/right/events"))
    arguments = ["--model", str(models["detection"]), "--output", str(tmp_path), "--bag", str(bag), "--json"]
    assert main(arguments) == 2
    assert "/left/events, /right/events" in capsys.readouterr().err
    assert main([*arguments, "--topic", "/right/events"]) == 0
    assert json.loads(capsys.readouterr().out)["events"] == len(events)


def test_figures_are_printed_even_if_the_files_cannot_be_written_any_more(
    models: dict[str, Path],
    packets: list[RecordedPacket],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", fail)
    write_event_bag(tmp_path / "bag", packets[:20])
    arguments = ("--model", models["detection"], "--output", tmp_path, "--bag", tmp_path / "bag", "--json")
    assert main([*map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert "aegnn_demo: no space left" in printed.err
    assert set(json.loads(printed.out)) == FIGURES


def test_files_that_cannot_be_written_are_refused_before_anything_is_simulated(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo.png").mkdir()
    assert main(["--model", str(models["detection"]), "--output", str(tmp_path)]) == 2
    assert "demo.png" in capsys.readouterr().err
    assert not (tmp_path / "demo_bag").exists()


@pytest.mark.parametrize("duration", ["-1", "0", "nan", "inf", "1e305"])
def test_scenes_last_longer_than_nothing(duration: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--duration", duration])
    assert ended.value.code == 2
    found = capsys.readouterr().err
    assert f"argument --duration: expected a number above 0, at most 2147483648, found {duration!r}" in found


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--bag", "drive", "--seed", "5", "--duration", "2"], "--seed, --duration have no effect on a bag"),
        (["--topic", "/events"], "--topic has no effect without --bag"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"aegnn_demo: {sentence}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--bag", "/no/such/bag"], "/no/such/bag"),
        (["--model", "no_such_model"], "unknown model 'no_such_model'"),
        (["--device", "toaster"], "device 'toaster' is not available"),
        (["--model", "{recognition}"], "model recognition is for recognition, the demo needs one for detection"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    models: dict[str, Path],
    tmp_path: Path,
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [argument.format(recognition=models["recognition"]) for argument in arguments]
    assert main(["--model", str(models["detection"]), "--output", str(tmp_path), *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("aegnn_demo: ")
    assert complaint in line


def test_a_home_that_cannot_be_written_to_is_a_sentence() -> None:
    start = (
        "from aegnn_ros.playback.bag_run import BagRunner\n"
        "try:\n    BagRunner()\nexcept OSError as error:\n    print(error)"
    )
    unset = ("ROS_LOG_DIR", "ROS_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in unset} | {"HOME": "/proc"}
    printed = subprocess.run(
        [sys.executable, "-c", start], env=environment, capture_output=True, text=True, timeout=120
    )

    (line,) = printed.stdout.splitlines()
    assert line.startswith("ROS cannot start: failed to initialize logging")
    assert "ROS_LOG_DIR" in line


def test_a_node_that_does_not_start_is_reported_with_its_last_words(packets: list[RecordedPacket]) -> None:
    failure = "cannot configure: unknown model 'no_such_model'"
    with BagRunner() as runner, pytest.raises(NodeProcessError, match=failure):
        runner.run(packets, {"model": "no_such_model"})
