# SPDX-License-Identifier: Apache-2.0
"""`aegnn doctor` says what is there and what is missing, and needs nothing of it itself."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aegnn_core import doctor
from aegnn_core.cli import main
from aegnn_core.doctor import Finding, diagnose
from aegnn_core.nn import packaged_models

ROOT = Path(__file__).parents[1]


def test_it_finds_what_this_machine_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path / "absent"))

    status = main(["doctor", "--json", str(tmp_path / "doctor.json")])

    printed = capsys.readouterr().out
    findings = {found["name"]: found for found in json.loads((tmp_path / "doctor.json").read_text())}
    assert status == (1 if any(found["state"] == "missing" for found in findings.values()) else 0)
    for name in ("torch", "numba", "torch-geometric", *packaged_models()):
        assert findings[name]["state"] == "ok"
        assert f"  {name}: {findings[name]['found']}\n" in printed
    assert findings["AEGNN_DATA_DIR"]["remedy"] in printed


def test_it_runs_without_torch_and_so_says_every_other_command() -> None:
    without = "import sys; sys.modules['torch'] = None; from aegnn_core.cli import main; sys.exit(main(sys.argv[1:]))"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", without, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    asked, other = run("doctor"), run("replay", "a.raw")

    assert (asked.returncode, asked.stderr) == (1, "")
    assert "torch: not installed [missing]\n    -> install the build of torch" in asked.stdout
    assert other.returncode == 2
    assert other.stderr.startswith(
        "aegnn: the Python package torch is missing: pip install -r requirements/runtime.txt"
    )


def test_packages_that_are_missing_or_too_old_come_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=999", "no-such-package (>=1.5)", 'later>=1; python_version < "3.1"', 'absent>=2; extra == "view"']
    monkeypatch.setattr(doctor, "requires", lambda name: lines)

    found = {finding.name: finding for finding in diagnose() if finding.part == "packages"}

    assert (found["numpy"].state, found["numpy"].remedy) == ("missing", "pip install --upgrade 'numpy>=999'")
    assert found["no-such-package"].remedy == "pip install 'no-such-package>=1.5'"
    assert "later" not in found
    (extra,) = (finding for finding in found.values() if finding.state == "optional")
    assert (extra.found, extra.remedy) == ("not installed", "pip install 'absent>=2'")


def test_models_that_a_missing_package_keeps_from_loading_are_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aegnn_core.nn.checkpoint", None)

    (models,) = (finding for finding in diagnose() if finding.name == "packaged models")

    assert (models.state, models.remedy) == ("missing", "put the packages right first")


def test_a_part_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Finding]:
        raise RuntimeError("no answer")

    monkeypatch.setattr(doctor, "_PARTS", {"machine": broken})

    (finding,) = diagnose()

    assert (finding.state, finding.found) == ("missing", "RuntimeError: no answer")
