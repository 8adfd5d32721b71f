# SPDX-License-Identifier: Apache-2.0
"""The README's Python example runs as it stands there."""

import re
from pathlib import Path

import pytest

from aegnn_core.events import encode_evt3
from aegnn_core.events.simulation import simulate_recognition

README = Path(__file__).parents[1] / "README.md"


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    events = simulate_recognition(0).stream.events
    header = b"% evt 3.0\n% format EVT3;height=100;width=120\n% end\n"
    (tmp_path / "recording.raw").write_bytes(header + encode_evt3(events))
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(compile(code, README, "exec"), scope)
    assert len(scope["stream"]) == len(events)
    assert float(scope["difference"].detach()) <= 1e-4 * float(scope["scores"].detach().abs().max())
    assert "engine=compiled" in capsys.readouterr().out


def test_files_that_it_names_exist() -> None:
    for name in re.findall(r"\]\(([^)#:]+)\)", README.read_text()):
        assert (README.parent / name).is_file(), name
