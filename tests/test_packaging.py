# SPDX-License-Identifier: Apache-2.0
"""The package installs as ROS and pip expect, and its core imports without ROS and without Lightning."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from catkin_pkg.package import Package, parse_package

import aegnn_core
from aegnn_core.cli import main

ROOT = Path(__file__).parents[1]

BLOCK_IMPORTS = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from aegnn_core import *
"""


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


def test_core_imports_where_ros_and_lightning_are_not_installed() -> None:
    absent = {"rclpy", "event_camera_msgs", "vision_msgs", "ament_index_python", "lightning", "pytorch_lightning"}

    run(sys.executable, "-c", BLOCK_IMPORTS.format(absent=absent), cwd=ROOT)


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


def required(*purposes: str) -> set[str]:
    """Names of the distributions that `requirements/<purpose>.txt` asks for."""
    lines = [
        line for purpose in purposes for line in (ROOT / "requirements" / f"{purpose}.txt").read_text().split("\n")
    ]
    return {canonical(re.split(r"[<>=\[;]", line)[0]) for line in lines if line and not line.startswith("#")}


def canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


#: Packages of extras that no set-up installs, by the distribution that would bring them under another name.
NOT_INSTALLED = {"rerun": ["rerun-sdk"]}


def undeclared(imports: Iterable[str], declared: set[str]) -> set[str]:
    """The imported packages that no declared distribution or ROS package provides."""
    providers = {**NOT_INSTALLED, **packages_distributions()}
    return {name for name in imports if declared.isdisjoint({name, *map(canonical, providers.get(name, []))})}


def test_core_imports_only_what_its_requirements_declare() -> None:
    assert (
        undeclared(imported(ROOT / "aegnn_core"), required("runtime", "train", "wandb", "view", "cluster", "cuda"))
        == set()
    )


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


def test_a_live_model_needs_no_packages_for_recordings() -> None:
    """As on a machine that has torch, PyTorch Geometric, Numba and safetensors, and little else."""
    program = """
import sys
for name in ("aedat", "rosbags", "h5py", "hdf5plugin", "lightning", "torchmetrics", "matplotlib", "rich"):
    sys.modules[name] = None  # importing it fails
import numpy as np
from aegnn_core import EventStream, load_model, make_model_asynchronous
model = load_model("scenes_detector")
live = make_model_asynchronous(model.network, model.graph)
live.output()
try:
    from aegnn_core import read_events
except ModuleNotFoundError as error:
    print(error.name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    assert done.stdout.strip() in ("aedat", "rosbags")
