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

from aegnn_core.events.rosbag import RecordedPacket, is_bag, write_event_bag
from aegnn_ros.playback.bag_run import BagRunner
from aegnn_ros.playback.demo import main
from aegnn_ros.playback.node_process import NodeProcessError

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


def test_a_users_bag_has_no_precision(
    models: dict[str, Path], packets: list[RecordedPacket], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_event_bag(tmp_path / "bag", packets[:50])
    arguments = ("--model", models["detection"], "--output", tmp_path, "--bag", tmp_path / "bag", "--json")
    assert main([*map(str, arguments)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["packets"] == 50
    assert figures["ap"] is None
    assert figures["ap50"] is None
    assert (tmp_path / "demo.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--bag", "/no/such/bag"], "/no/such/bag"),
        (["--model", "no_such_model"], "unknown model 'no_such_model'"),
        (["--device", "toaster"], "device 'toaster' is not available"),
        (["--duration", "-1"], "duration_us is -1000000, expected a positive"),
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
