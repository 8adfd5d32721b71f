# SPDX-License-Identifier: Apache-2.0
"""The code of the page "Make your own model asynchronous" runs as it stands there, block after block."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "any_model.md"


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict = {"__name__": "page"}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(code, PAGE, "exec"), scope)
    assert float(scope["difference"].detach()) <= 1e-4 * float(scope["scores"].abs().max())
    assert float((scope["moved"].output() - scope["scores"]).abs().max()) <= 1e-5
    printed = capsys.readouterr().out
    assert "engine=incremental" in printed
    assert "conv1 (GCNConv): affected nodes with their incoming edges" in printed
    assert "dense" not in printed
