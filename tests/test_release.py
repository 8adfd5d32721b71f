# SPDX-License-Identifier: Apache-2.0
"""What a released package has beside its code agrees with the code: versions, documentation, what CI runs."""

import re
from pathlib import Path

import pytest
import yaml

from aegnn_core import __version__

ROOT = Path(__file__).parents[1]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("CHANGELOG.rst", r"^(\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d\)$"), ("CITATION.cff", r"^version: (.*)$")],
)
def test_the_newest_version_is_the_manifests(name: str, pattern: str) -> None:
    assert re.findall(pattern, (ROOT / name).read_text(), re.MULTILINE)[0] == __version__


def test_every_page_is_in_the_table_of_contents() -> None:
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (ROOT / "docs" / "index.md").read_text(), re.DOTALL)
    listed = {line for tree in trees for line in tree.splitlines() if re.fullmatch(r"\w+", line)}

    assert listed == {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"}


def test_the_reference_has_every_public_name_of_the_core() -> None:
    import aegnn_core

    page = (ROOT / "docs" / "api.md").read_text()
    undocumented = [name for name in aegnn_core.__all__ if f":: {name}\n" not in page]
    assert undocumented == ["__version__"]


def test_ci_runs_make_targets_that_exist_on_the_supported_distributions() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    called = [target for command in commands for target in re.findall(r"^make (?:-C \S+ )?([a-z-]+)", command)]

    assert {"test", "docs", "ros-test"} <= set(called) <= make_targets()
    assert ".ci/run" in commands
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    supported = re.findall(r"^\| (\w+) .*\| supported", (ROOT / "docs" / "machines.md").read_text(), re.MULTILINE)
    assert {"Kilted"} < set(supported)
    assert {name.lower() for name in supported} < set(jobs["ros"]["strategy"]["matrix"]["distribution"])


def test_commit_hooks_are_what_make_lint_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    makefile = (ROOT / "Makefile").read_text()

    for hook in repository["hooks"]:
        assert hook["entry"].replace(".venv/bin", "$(VENV)") in makefile


def test_every_source_file_names_its_licence() -> None:
    folders = ("aegnn_core", "aegnn_ros", "benchmarks", "docs", "interfaces", "launch", "scripts", "tests")
    sources = [file for folder in folders for kind in ("*.py", "*.sh") for file in (ROOT / folder).rglob(kind)]
    ours = [file for file in sources if not {"build", "dist"} & set(file.relative_to(ROOT).parts)]

    without = [file for file in ours if "# SPDX-License-Identifier: Apache-2.0\n" not in file.open().readlines()[:2]]
    assert len(ours) > 200
    assert without == []
