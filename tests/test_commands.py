# SPDX-License-Identifier: Apache-2.0
"""How commands end: where a package is missing with a sentence, and at once on Ctrl-C."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

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


def test_what_does_not_fit_into_memory_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "scenes_recognizer", "--samples", "1", "--noise", "1e12"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("aegnn: out of memory: ")


def ended_with_output_to(output: IO[str], command: str, *python: str) -> tuple[int, str]:
    """Exit code of `aegnn` and what it says of errors; Python keeps the output until the end, unless told otherwise."""
    ended = subprocess.run(
        [sys.executable, *python, "-m", "aegnn_core.cli", command],
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(("command", "python"), [("doctor", []), ("doctor", ["-u"]), ("--help", [])])
def test_output_that_nobody_reads_ends_a_command_without_a_word(command: str, python: list[str]) -> None:
    """As of `aegnn doctor | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as unread:
        assert ended_with_output_to(unread, command, *python) == (1, "")


def test_output_that_cannot_be_written_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        assert ended_with_output_to(full, "doctor") == (2, "aegnn: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(("interrupted", "code"), [(0, 0), (130, 130), (None, 3)])
def test_a_command_ends_at_once(tmp_path: Path, interrupted: int | None, code: int) -> None:
    """Also while it imports what it needs; nothing is taken apart at the end of the process."""
    waiting = "print('importing', flush=True); time.sleep(60)" if interrupted is not None else ""
    (tmp_path / "slow.py").write_text(
        f"import atexit, time\natexit.register(print, 'taken apart')\n{waiting}\n"
        "def main():\n    print('done')\n    return 3\n"
    )
    run = f"from aegnn_ros.commands import _run; _run('slow', 'slow', {interrupted or 0})"
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {run}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[1],
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        if interrupted is not None:
            process.send_signal(signal.SIGINT)
        assert (first + process.stdout.read(), process.wait(10)) == (
            "done\n" if interrupted is None else "importing\n",
            code,
        )


#: Where a package of Python would be: what Ctrl-C meets while it is imported, and in what C calls back.
INTERRUPTED = {
    "torch_geometric/__init__.py": "import signal\nprint('importing')\nsignal.raise_signal(signal.SIGINT)\n",
    "compiling.py": "import ctypes, signal\n"
    "def main():\n"
    "    print('compiling')\n"
    "    ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))()\n"
    "    print('goes on')\n"
    "    return 0\n",
}


@pytest.mark.parametrize(
    ("run", "printed"),
    [
        ("commands.aegnn()", "importing\n"),
        ("commands._run('evaluate_bag', 'compiling')", "compiling\n"),
        ("sys.modules['aegnn_core.cli'] = import_module('compiling'); commands.aegnn()", "compiling\n"),
    ],
)
def test_an_interrupt_that_python_would_drop_or_trace_ends_a_command(tmp_path: Path, run: str, printed: str) -> None:
    for name, content in INTERRUPTED.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    head = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from importlib import import_module"
    ended = subprocess.run(
        [sys.executable, "-u", "-c", f"{head}; from aegnn_ros import commands; {run}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert (ended.returncode, ended.stdout) == (130, printed)
