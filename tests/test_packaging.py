# SPDX-License-Identifier: Apache-2.0
"""The package installs as ROS and pip expect, and its core imports without ROS and without Lightning."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from catkin_pkg.package import Package, parse_package

import aegnn_core
from aegnn_core.cli import main
from aegnn_core.extras import EXTRAS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def manifest() -> Package:
    return parse_package(ROOT)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, with or without git, so that nothing is built inside the working tree; in a path with a space."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    copy = tmp_path_factory.mktemp("a workspace") / "src" / "aegnn_ros"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", *ignored))
    return copy


def run(*command: str, cwd: Path, **variables: str) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


def test_importing_the_core_pulls_in_neither_ros_nor_lightning() -> None:
    show = "from aegnn_core import *; import sys; print(*{name.partition('.')[0] for name in sys.modules})"

    loaded = run(sys.executable, "-c", show, cwd=ROOT).split()

    assert {"rclpy", "lightning", "pytorch_lightning"}.isdisjoint(loaded)


def imported(folder: Path) -> set[str]:
    """Names of the foreign top-level packages that Python files below a folder import, wherever in the file."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - NEWER_STDLIB - {"aegnn_core", "aegnn_ros"}


#: Of the standard library since Python 3.14, imported only there.
NEWER_STDLIB = {"compression"}


def required(*purposes: str, alone: bool = False) -> set[str]:
    """Names of the distributions that `requirements/<purpose>.txt` and the files in it ask for, or it ``alone``."""
    names: set[str] = set()
    for purpose in purposes:
        for line in (ROOT / "requirements" / f"{purpose}.txt").read_text().splitlines():
            if line.startswith("-r "):
                names |= set() if alone else required(line.removeprefix("-r ").removesuffix(".txt"))
            elif line and not line.startswith("#"):
                names.add(canonical(re.split(r"[<>=\[;]", line)[0]))
    return names


def canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


#: Packages of extras that no set-up installs, by the distribution that would bring them under another name.
NOT_INSTALLED = {"rerun": ["rerun-sdk"], "backports": ["backports.zstd"]}


def undeclared(imports: Iterable[str], declared: set[str]) -> set[str]:
    """The imported packages that no declared distribution or ROS package provides."""
    known = providers()
    return {name for name in imports if declared.isdisjoint({name, *map(canonical, known.get(name, []))})}


@cache
def providers() -> Mapping[str, list[str]]:
    """The distributions that bring each top-level package."""
    return {**NOT_INSTALLED, **packages_distributions()}


def test_core_imports_only_what_its_requirements_declare() -> None:
    assert undeclared(imported(ROOT / "aegnn_core"), required("runtime", "wandb", "view", "cluster", "cuda")) == set()


def test_node_and_launch_files_import_only_what_manifest_and_requirements_declare(manifest: Package) -> None:
    declared = required("runtime") | {dependency.name for dependency in manifest.exec_depends}

    assert undeclared(imported(ROOT / "aegnn_ros") | imported(ROOT / "launch"), declared) == set()


def test_every_requirement_is_pinned() -> None:
    pinned = {
        canonical(line.partition("==")[0])
        for line in (ROOT / "requirements" / "constraints.txt").read_text().split("\n")
    }

    assert required("runtime", "train", "cluster", "cuda", "ros_wheels", "test", "docs") <= pinned


def test_manifest_is_valid_and_asks_for_an_ament_python_build(manifest: Package) -> None:
    warnings: list[str] = []
    manifest.validate(warnings=warnings)

    assert warnings == []
    assert manifest.package_format == 3
    assert manifest.get_build_type() == "ament_python"


def test_manifest_is_the_one_source_of_the_version(manifest: Package, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])

    assert aegnn_core.__version__ == manifest.version
    assert capsys.readouterr().out == f"aegnn {manifest.version}\n"


def test_setup_finds_its_files_through_a_link_from_another_folder(manifest: Package, tmp_path: Path) -> None:
    """As ``colcon build --symlink-install`` runs it."""
    (tmp_path / "setup.py").symlink_to(ROOT / "setup.py")

    assert run(sys.executable, "setup.py", "--version", cwd=tmp_path).split() == [manifest.version]


@pytest.mark.slow
def test_a_wheel_can_be_built_from_the_source_distribution(checkout: Path, tmp_path: Path) -> None:
    build = "from setuptools.build_meta import __legacy__ as backend; print(backend.build_{}({!r}))"
    sdist = run(sys.executable, "-c", build.format("sdist", str(tmp_path)), cwd=checkout).split()[-1]
    shutil.unpack_archive(tmp_path / sdist, tmp_path)
    unpacked = tmp_path / sdist.removesuffix(".tar.gz")

    wheel = run(sys.executable, "-c", build.format("wheel", str(tmp_path)), cwd=unpacked).split()[-1]

    names = set(zipfile.ZipFile(tmp_path / wheel).namelist())
    assert {"aegnn_core/weights/scenes_detector.safetensors", "aegnn_ros/detector/event_detector.py"} <= names
    assert any(name.endswith("share/aegnn_ros/launch/detect.launch.py") for name in names)


def test_colcon_finds_one_ament_python_package(checkout: Path) -> None:
    listed = run(sys.executable, "-m", "colcon", "list", "--base-paths", ".", cwd=checkout.parent)

    assert listed.split() == ["aegnn_ros", "aegnn_ros", "(ros.ament_python)"]


@pytest.fixture(scope="module")
def installed(checkout: Path) -> Path:
    """The prefix into which colcon installed the package."""
    workspace = checkout.parents[1]
    run(sys.executable, "-m", "colcon", "build", "--base-paths", "src", cwd=workspace)
    return workspace / "install" / "aegnn_ros"


@pytest.mark.slow
def test_colcon_installs_what_ros_looks_up(installed: Path) -> None:
    share = installed / "share"
    node = installed / "lib" / "aegnn_ros" / "event_detector"

    assert (share / "ament_index" / "resource_index" / "packages" / "aegnn_ros").is_file()
    assert (share / "aegnn_ros" / "package.xml").is_file()
    for folder in ("config", "launch"):
        assert sorted(path.name for path in (share / "aegnn_ros" / folder).iterdir()) == sorted(
            path.name for path in (ROOT / folder).iterdir() if path.is_file()
        )
    assert os.access(node, os.X_OK)


@pytest.mark.slow
def test_colcon_installs_the_packages_with_types_weights_and_configurations(installed: Path) -> None:
    (core,) = installed.glob("lib/python*/site-packages/aegnn_core")

    for data in ("*.safetensors", "*.yaml"):
        shipped = {path.relative_to(ROOT / "aegnn_core") for path in (ROOT / "aegnn_core").rglob(data)}
        assert {path.relative_to(core) for path in core.rglob(data)} == shipped
    assert (core / "py.typed").is_file()


@pytest.mark.slow
@pytest.mark.skipif(" " in sys.executable, reason="colcon's scripts cannot call a Python whose path has a space")
def test_executables_run_from_a_sourced_workspace(installed: Path) -> None:
    sourced = f"source '{installed.parent}/setup.bash' && "

    where = run("bash", "-c", f"{sourced} command -v aegnn && aegnn --help", cwd=installed)
    node = subprocess.run(
        ["bash", "-c", f"{sourced} '{installed}'/lib/aegnn_ros/event_detector --ros-args --params-file absent.yaml"],
        capture_output=True,
        text=True,
    )

    assert where.startswith(str(installed))
    assert node.returncode != 0
    assert "absent.yaml" in node.stderr


def test_every_optional_package_is_in_the_file_of_its_extra() -> None:
    assert [package for package, extra in EXTRAS.items() if undeclared([package], required(extra, alone=True))] == []
    assert required("recordings", "evaluation", "tracking", "train", "wandb", "view", "cluster", "cuda") == {
        *required("core"),
        *(name for package in EXTRAS for name in map(canonical, providers().get(package, [package]))),
    }


CORE_ALONE = """
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from aegnn_core.extras import EXTRAS

has_ros = find_spec("rclpy") is not None
hidden, find = {*EXTRAS, "rclpy", "event_camera_msgs", "ament_index_python"}, PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name in hidden else find(name, *rest)

import numpy as np
from aegnn_core import *
from aegnn_core.events import make_events

folder = Path(sys.argv[1])
model = load_model("scenes_detector")
live = make_model_asynchronous(model.network, model.graph)
np.save(folder / "a.npy", make_events(range(100), range(100), range(100), [1] * 100))
live.update(read_events(folder / "a.npy").events)
print(live.output().ndim)

def read(name):
    (folder / name).write_bytes(b"nothing")
    read_events(folder / name)

for attempt in (
    lambda: read("a.h5"),
    lambda: read("a.aedat4"),
    lambda: read("a.mcap"),
    lambda: __import__("aegnn_core.datasets"),
    lambda: __import__("aegnn_core.evaluation"),
    lambda: __import__("aegnn_core.viewing"),
    lambda: __import__("aegnn_core.training.train"),
):
    try:
        attempt()
    except ModuleNotFoundError as error:
        print(error)

if has_ros:
    hidden = {*EXTRAS} - {"PIL"}
    import aegnn_ros.detector.event_detector
"""


def test_a_live_model_runs_with_the_core_alone_and_the_rest_says_which_extra_it_needs(tmp_path: Path) -> None:
    """And the node with its own requirements, on a machine with ROS."""
    output, *sentences = run(sys.executable, "-c", CORE_ALONE, str(tmp_path), cwd=ROOT).splitlines()

    assert output == "4"
    said = re.compile(r"the Python package \w+ is missing: pip install 'aegnn_ros\[(\w+)]', .*")
    extras = [said.fullmatch(sentence) for sentence in sentences]
    assert [found and found[1] for found in extras] == [*["recordings"] * 4, *["evaluation"] * 2, "train"]
