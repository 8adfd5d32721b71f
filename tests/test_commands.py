# SPDX-License-Identifier: Apache-2.0
"""Where a package is missing, each command says so in a sentence instead of a traceback."""

import sys
from collections.abc import Callable

import pytest

from aegnn_core.cli import main
from aegnn_ros import commands


@pytest.fixture
def remove(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a package impossible to import, also for modules of ours that were imported already."""

    def remove_package(name: str, *dependents: str) -> None:
        for loaded in list(sys.modules):
            if loaded.startswith((f"{name}.", *dependents)):
                monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, name, None)

    return remove_package


@pytest.mark.parametrize("command", [commands.aegnn_demo, commands.evaluate_bag, commands.play_events])
def test_ros_is_missing(
    command: Callable[[], int], remove: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remove("rclpy", "aegnn_ros.playback.", "aegnn_ros.conversions")
    monkeypatch.setattr(sys, "argv", [command.__name__, "--help"])

    assert command() == 1
    assert capsys.readouterr().err == (
        f"{command.__name__}: the Python package rclpy is missing here: "
        "source ROS 2's setup.bash, or take the environment that `make setup` makes\n"
    )


def test_lightning_is_missing(remove: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    remove("lightning", "aegnn_core.training.train", "aegnn_core.training.runs.interruption")

    assert main(["train", "--config", "nmnist"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("aegnn: the Python package lightning is missing: pip install 'aegnn_ros[train]'")
