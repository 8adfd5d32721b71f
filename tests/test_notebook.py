# SPDX-License-Identifier: Apache-2.0
"""The notebook's cells run one after the other, as Jupyter would run them, with small numbers."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("lightning", reason="training needs lightning")

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"
#: So that it takes seconds.
SMALL = {"SCENES": 2, "STEPS": 2, "HELD_OUT": 1}


def cells() -> list[dict]:
    return json.loads(NOTEBOOK.read_text())["cells"]


def test_all_cells_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    pictures = []
    for cell in cells():
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"])
        for name, value in SMALL.items():
            source = re.sub(rf"^{name} = [\d_]+", f"{name} = {value}", source, flags=re.MULTILINE)
        *statements, last = ast.parse(source).body
        exec(compile(ast.Module(statements, []), cell["id"], "exec"), names)
        if not isinstance(last, ast.Expr):
            exec(compile(ast.Module([last], []), cell["id"], "exec"), names)
        elif isinstance(shown := eval(compile(ast.Expression(last.value), cell["id"], "eval"), names), Image.Image):
            pictures.append(np.ptp(np.asarray(shown.convert("L"))))

    assert len(pictures) == 2
    assert min(pictures) > 0
    assert {name: names[name] for name in SMALL} == SMALL
    assert names["result"].agreement.answers == names["result"].agreement.equal
    assert names["live"].output().isfinite().all()
    assert Path("mine.safetensors").is_file()


def test_no_outputs_are_kept_in_the_repository() -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells() if "outputs" in cell)
