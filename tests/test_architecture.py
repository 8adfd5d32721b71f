# SPDX-License-Identifier: Apache-2.0
"""The map in docs/architecture.md is true: its folders, the order in which they use each other, the files it names."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGES = ("aegnn_ros", "aegnn_core")

#: The one place where the core asks for ROS, if it is there.
EXCEPTIONS = {("aegnn_core/viewing/view_command.py", "aegnn_ros.playback")}

#: The engines that compile are built alike, in folders of their own.
SAME_IN_BOTH_COMPILED_ENGINES = {"engine", "plan"}


def folders_on_the_map(package: str) -> list[str]:
    """The folders of a package on the map, from the highest to the lowest."""
    _, _, rest = PAGE.partition(f"\n{package}/")
    return re.findall(r"^  (\w+)/ ", re.split(r"\n(?:\w|```)", rest)[0], re.MULTILINE)


def imports(path: Path) -> Iterator[str]:
    """Names of the modules of ours that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGES):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(PACKAGES))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_has_the_folders_that_there_are(package: str) -> None:
    assert sorted(folders_on_the_map(package)) == sorted(
        path.parent.name for path in (ROOT / package).glob("*/__init__.py")
    )


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_uses_only_those_below_it(package: str) -> None:
    order = folders_on_the_map(package)
    wrong = set()
    for number, folder in enumerate(order):
        above = tuple(f"{package}.{other}" for other in order[:number])
        above += ("aegnn_ros",) if package == "aegnn_core" else ()
        for path in (ROOT / package / folder).rglob("*.py"):
            used = {".".join(name.split(".")[:2]) for name in imports(path)}
            wrong |= {(str(path.relative_to(ROOT)), name) for name in used if name.startswith(above)}
    assert wrong - EXCEPTIONS == set()


def test_a_room_of_the_training_uses_only_those_before_it() -> None:
    rooms = re.findall(r"^\d\. \*\*`training/(\w+)/`\*\*", PAGE, re.MULTILINE)
    training = ROOT / "aegnn_core" / "training"
    assert sorted(rooms) == sorted(path.parent.name for path in training.glob("*/__init__.py"))
    for number, room in enumerate(rooms):
        used = {name for path in (training / room).glob("*.py") for name in imports(path)}
        later = tuple(f"aegnn_core.training.{other}." for other in (*rooms[number + 1 :], "train"))
        assert not {name for name in used if name.startswith(later)}


def test_every_file_that_the_page_names_is_there() -> None:
    folders = (*PACKAGES, "config", "docs", "launch", "tests")
    files = [f"/{path.relative_to(ROOT)}" for folder in folders for path in (ROOT / folder).rglob("*.*")]
    named = set(re.findall(r"`([\w/]+(?:\.launch)?\.(?:py|yaml))`", PAGE))
    assert len(named) > 80
    assert [name for name in sorted(named) if not any(file.endswith(f"/{name}") for file in files)] == []


def private_names(path: Path) -> set[str]:
    """Attributes ``_name`` that a file takes from other objects than its own."""
    attributes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
    of_self = [node for node in attributes if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")]
    named = {node.attr for node in attributes if node not in of_self and re.match("_[^_]", node.attr)}
    return named - {node.attr for node in of_self}


def test_the_engines_use_private_names_of_torch_in_one_file() -> None:
    files = (ROOT / "aegnn_core" / "asynchronous").rglob("*.py")
    names = {path.stem: private_names(path) for path in files}
    assert len(names.pop("torch_internals")) > 8
    of_others = {"_fields", "_replace", "_getvalue"}  # named tuples, which have no other names for it, and Numba
    assert {stem: found for stem, found in names.items() if found - of_others} == {}


def test_no_two_modules_have_one_name() -> None:
    names = Counter(path.stem for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    assert {name for name, count in names.items() if count > 1} == {"__init__"} | SAME_IN_BOTH_COMPILED_ENGINES
