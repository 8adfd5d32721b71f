# SPDX-License-Identifier: Apache-2.0
"""What the set-up says on a machine that it cannot use, and what it installs where; nothing is really installed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from sysconfig import get_path

import pytest

ROOT = Path(__file__).parents[1]

#: Commands that the script calls, for a PATH that has nothing else.
COMMANDS = ("dirname", "find", "grep", "ls", "mkdir", "sed", "sha256sum", "sort", "tail", "uname", "xargs")

#: Stands for the environment's Python: writes down what pip is to install, and fails where `refused` matches.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
    *"import torch"*) exit 1 ;;
    *get_path*) echo {include} ;;
    -c*) echo {version} ;;
    *"pip install"*)
        echo "$*" >> {log}
        case "$*" in {refused}) echo "{complaint}" >&2; exit 1 ;; esac
        echo "  Downloading torch-1.whl (526.6 MB)"
        echo "  Downloading six-1.whl (9 kB)" ;;
esac
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The set-up script in a tree that has no environment yet."""
    copy = tmp_path / "a tree" / "scripts" / "setup.sh"
    copy.parent.mkdir(parents=True)
    return Path(shutil.copy(ROOT / "scripts" / "setup.sh", copy))


def complaint(script: Path, **variables: str) -> str:
    """The one line that a failing set-up prints."""
    done = subprocess.run(["/bin/bash", script], env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert not (script.parents[1] / ".venv").exists()
    return line


def test_old_python_is_refused(script: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\necho 3.9\n")
    old.chmod(0o755)

    assert complaint(script, PYTHON=str(old)) == (
        f"setup: {old} is Python 3.9, but 3.11 or later is needed: set PYTHON, for example PYTHON=python3.12 make test."
    )


def test_absent_python_is_named(script: Path) -> None:
    assert complaint(script, PYTHON="python-absent").startswith("setup: python-absent is not a Python interpreter")


@pytest.mark.parametrize("python", [sys.executable, ""])
def test_all_that_is_missing_is_named_at_once(script: Path, tmp_path: Path, python: str) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    for command in COMMANDS:
        (commands / command).symlink_to(shutil.which(command))

    missing = "g++" if python else "python3 python3-venv python3-dev g++"
    assert complaint(script, PYTHON=python, PATH=str(commands)) == (
        f"setup: missing here: {missing}. On Debian or Ubuntu: sudo apt install {missing}"
    )


@pytest.fixture
def set_up(script: Path, tmp_path: Path) -> Callable[..., tuple[subprocess.CompletedProcess[str], str]]:
    """Runs the script in a tree whose environment only writes down what pip is told; gives both."""
    tree, log = script.parents[1], tmp_path / "log"
    for name in ("requirements", "resource", "interfaces", "config", "launch", "scripts/ros2_run"):
        shutil.copytree(ROOT / name, tree / name)
    for name in ("package.xml", "setup.py", "setup.cfg"):
        shutil.copy(ROOT / name, tree)

    def run(machine: str, python: str, refused: str, complaint: str = "No matching distribution", **variables: str):
        log.write_text("")
        interpreter = tree / ".venv" / "bin" / "python"
        interpreter.parent.mkdir(parents=True, exist_ok=True)
        fake = FAKE_PYTHON.format(
            version=python, include=get_path("include"), log=log, refused=refused, complaint=complaint
        )
        interpreter.write_text(fake)
        interpreter.chmod(0o755)
        commands = tmp_path / "bin"
        commands.mkdir(exist_ok=True)
        (commands / "uname").write_text(f'#!/bin/sh\n[ "$1" = -m ] && echo {machine} || echo Linux {machine}\n')
        (commands / "uname").chmod(0o755)
        environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "PYTHON": "", "TORCH_INDEX": ""}
        done = subprocess.run(["/bin/bash", script], env=environment | variables, capture_output=True, text=True)
        return done, log.read_text()

    return run


@pytest.mark.parametrize(
    ("refused", "variables", "installed", "said"),
    [
        ("nothing", {}, r"install .*--constraint \S+ --progress-bar off torch==\S+\+cpu$", ""),
        ("*+cpu*", {}, r"install .*--progress-bar off torch$", "so the one with CUDA comes: about 2.5 GB to download"),
        ("nothing", {"TORCH_INDEX": "file:///torch"}, "--index-url file:///torch torch$", ""),
    ],
)
def test_torch_without_cuda_is_chosen_where_it_is_to_be_had(
    set_up: Callable, refused: str, variables: dict[str, str], installed: str, said: str
) -> None:
    done, told = set_up("aarch64", "3.12", refused, **variables)

    assert done.returncode == 0, done.stderr
    assert re.search(installed, told, re.MULTILINE)
    assert said in done.stdout
    assert "downloading torch-1.whl, 526.6 MB" in done.stdout
    assert "six" not in done.stdout


@pytest.mark.parametrize(
    ("machine", "python", "with_ros"),
    [("x86_64", "3.12", True), ("x86_64", "3.14", False), ("aarch64", "3.12", False)],
)
def test_ros_comes_from_wheels_only_where_there_are_some(
    set_up: Callable, machine: str, python: str, with_ros: bool
) -> None:
    done, told = set_up(machine, python, "nothing")

    assert done.returncode == 0, done.stderr
    assert ("requirements/ros_wheels.txt" in told) == with_ros
    assert ("./interfaces" in told) == with_ros
    assert "--editable ." in told


def test_a_step_runs_again_only_when_it_failed_or_a_file_of_its_own_changed(set_up: Callable, script: Path) -> None:
    def steps(refused: str = "nothing") -> list[str]:
        told = set_up("x86_64", "3.12", refused)[1]
        return [name for name in ("ros_wheels.txt", "./interfaces", "--editable .") if name in told]

    assert steps(refused="*interfaces") == ["ros_wheels.txt", "./interfaces"]
    assert steps() == ["./interfaces", "--editable ."]
    assert steps() == []
    (script.parents[1] / "config" / "new.yaml").touch()
    assert steps() == ["--editable ."]


def test_no_network_is_a_sentence(set_up: Callable) -> None:
    done, _ = set_up("x86_64", "3.12", "*", "NewConnectionError: Failed to establish a new connection")

    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("setup: no package index can be reached: is there a network?")


@pytest.mark.skipif(version("pip") < "23.3", reason="this pip downloads what it only should look up: make setup")
def test_the_core_can_be_set_up_on_aarch64(tmp_path: Path) -> None:
    """Every pinned requirement has a wheel for Jetson and Raspberry Pi; nothing is downloaded but their metadata."""
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, 29)]
    files = [f"--requirement={ROOT}/requirements/{purpose}.txt" for purpose in ("runtime", "train", "cluster", "test")]
    command = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:", "--retries=1"]
    target = ["--platform=manylinux2014_aarch64", *platforms, f"--target={tmp_path}"]
    constraints = f"--constraint={ROOT}/requirements/constraints.txt"

    pip = [sys.executable, "-m", "pip", *command, *target, constraints, *files]
    found = subprocess.run(pip, capture_output=True, text=True, timeout=120)

    if re.search("NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError", found.stderr):
        pytest.skip("no package index can be reached")
    assert found.returncode == 0, found.stderr
    assert "Would install" in found.stdout
    assert "torch-" in found.stdout
