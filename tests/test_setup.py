"""What the set-up says on a machine that it cannot use: one sentence, and a status that stops make."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The set-up script in a tree that has no environment yet."""
    original = Path(__file__).parents[1] / "scripts" / "setup.sh"
    copy = tmp_path / "tree" / "scripts" / "setup.sh"
    copy.parent.mkdir(parents=True)
    return Path(shutil.copy(original, copy))


def complaint(script: Path, **variables: str) -> str:
    """The one line that a failing set-up prints."""
    done = subprocess.run(["/bin/bash", script], env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert not (script.parents[1] / ".venv").exists()
    return line


def test_python_without_ros_wheels_is_refused(script: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\necho 3.9\n")
    old.chmod(0o755)

    assert complaint(script, PYTHON=str(old)) == (
        f"setup: {old} is Python 3.9, but ROS 2 wheels exist for 3.10 to 3.13: "
        "set PYTHON, for example PYTHON=python3.12 make test."
    )


def test_absent_python_is_named(script: Path) -> None:
    assert complaint(script, PYTHON="python-absent").startswith("setup: python-absent is not a Python interpreter")


def test_absent_compiler_is_named(script: Path, tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for command in ("dirname", "uname"):
        (commands / command).symlink_to(shutil.which(command))

    assert complaint(script, PYTHON=sys.executable, PATH=str(commands)).startswith("setup: gcc is missing")
