# SPDX-License-Identifier: Apache-2.0
"""Compiled code that is kept on disk is never older than what it was made from."""

import ast
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from numba.core.compiler_lock import global_compiler_lock

import aegnn_core
from aegnn_core import machine_code
from aegnn_core.machine_code import borrowed, inlined, kernel, kernel_sources
from tests.forked_children import end_after

PACKAGE = Path(aegnn_core.__file__).parent


def test_a_change_two_files_away_is_seen(tmp_path: Path) -> None:
    """A kernel calls one of another file, which calls one of a third, and that changes between two processes."""
    package = tmp_path / "aegnn_core"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(PACKAGE / "machine_code.py", package)
    head = "from aegnn_core.machine_code import kernel\n"
    (package / "outer.py").write_text(
        head + "from aegnn_core.middle import middle\n@kernel\ndef outer():\n    return 10 * middle()\n"
    )
    (package / "middle.py").write_text(
        head + "from aegnn_core.inner import inner\n@kernel\ndef middle():\n    return inner() + 1\n"
    )
    printed = []
    for value in (1, 1, 2):
        (package / "inner.py").write_text(head + f"@kernel(error_model='numpy')\ndef inner():\n    return {value}\n")
        # No .pyc either: one is out of date only if its source has another second or another size.
        run = subprocess.run(
            [sys.executable, "-B", "-c", "from aegnn_core.outer import outer as o; print(o(), *o.stats.cache_hits)"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        printed.append(run.stdout.split())
    assert printed == [["20"], ["20", "()"], ["30"]], "value, and the signatures that came from the disk"


def kernel_file(folder: Path, stamp: str = "new") -> machine_code._KernelFile:
    return machine_code._KernelFile(str(folder), "kernel", stamp)


def test_two_processes_that_compile_at_once_do_not_run_each_others_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find the index without an entry, give their signatures the same name, and one is late with its code."""
    late, other = kernel_file(tmp_path), kernel_file(tmp_path)
    save_data = late._save_data
    monkeypatch.setattr(other, "_load_index", dict)
    monkeypatch.setattr(late, "_save_data", lambda name, data: (other.save("float64", "code b"), save_data(name, data)))
    late.save("float32", "code a")
    assert kernel_file(tmp_path).load("float32") in (None, "code a")
    assert kernel_file(tmp_path).load("float64") in (None, "code b")
    for signature, code in (("float32", "code a"), ("float64", "code b")):
        kernel_file(tmp_path).save(signature, code)
    assert [kernel_file(tmp_path).load(name) for name in ("float32", "float64")] == ["code a", "code b"]


def test_a_process_that_dies_while_it_saves_leaves_no_old_code_under_a_new_index(tmp_path: Path) -> None:
    kernel_file(tmp_path, "old").save("float32", "old code")
    dying = kernel_file(tmp_path)
    dying._save_index({"float32": dying._data_name(1)})
    assert kernel_file(tmp_path).load("float32") is None
    kernel_file(tmp_path).save("float32", "new code")
    assert kernel_file(tmp_path).load("float32") == "new code"


def test_code_with_a_type_whose_module_is_gone_is_compiled_again(tmp_path: Path) -> None:
    module: Any = ModuleType("module_that_goes")
    module.Key = type("Key", (), {"__module__": module.__name__})
    sys.modules[module.__name__] = module
    for kept in ({module.Key: "data"}, {"float32": module.Key}):
        for key, data in kept.items():
            kernel_file(tmp_path).save(key, data)
    del sys.modules[module.__name__]
    assert kernel_file(tmp_path).load("float32") is None
    kernel_file(tmp_path).save("float32", "new code")
    assert kernel_file(tmp_path).load("float32") == "new code"


@pytest.mark.parametrize("what", ["package", "numba"])
def test_another_version_is_another_code(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = machine_code._stamp.__wrapped__
    before = stamp()
    if what == "numba":
        monkeypatch.setattr(numba, "__version__", "0.0")
    else:
        monkeypatch.setattr(machine_code, "version", lambda name: "0.0")
    assert stamp() != before


def test_all_compiled_functions_are_kernels() -> None:
    compiled = {file for file in PACKAGE.rglob("*.py") if "njit" in file.read_text()}
    assert compiled == {PACKAGE / "machine_code.py"}


def test_kernels_use_nothing_that_is_not_among_their_sources() -> None:
    sources = kernel_sources()
    assert len(sources) > 20
    for file in sources:
        tree = ast.parse(file.read_text())
        imported = {
            alias.asname or alias.name: node.module
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aegnn_core")
            for alias in node.names
        }
        made_of = {
            target.id: _names(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        kernels = [node for node in tree.body if isinstance(node, ast.FunctionDef) and _is_kernel(node)]
        used = set().union(*(_names(ast.Module(node.body, [])) for node in kernels))
        used |= set().union(*(made_of.get(name, set()) for name in used))
        for name in used & imported.keys():
            assert PACKAGE.parent.joinpath(*imported[name].split(".")).with_suffix(".py") in sources, (
                f"a kernel in {file.name} uses {name} of {imported[name]}"
            )


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _is_kernel(function: ast.FunctionDef) -> bool:
    return any({"kernel", "inlined"} & _names(decorator) for decorator in function.decorator_list)


class _Pair(NamedTuple):
    values: np.ndarray
    others: np.ndarray


@inlined
def _total(values: np.ndarray) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


@kernel
def _totals(pair: _Pair, matrix: np.ndarray, out: np.ndarray) -> None:
    pair, matrix = borrowed(pair), borrowed(matrix)
    for n in range(len(out)):
        out[n] = _total(matrix[n]) + _total(pair.values[n:]) + pair.others[n]


def test_what_is_borrowed_has_as_many_users_as_before() -> None:
    pair, matrix = _Pair(np.arange(3.0), np.ones(3)), np.full((3, 2), 10.0)
    before = [sys.getrefcount(array) for array in (*pair, matrix)]
    out = np.empty(3)

    _totals(pair, matrix, out)

    assert out.tolist() == [24, 24, 23]
    assert [sys.getrefcount(array) for array in (*pair, matrix)] == before


def test_a_process_forked_while_another_thread_compiles_can_compile() -> None:
    compiling = threading.Event()

    def compile_for_a_while() -> None:
        with global_compiler_lock:
            compiling.set()
            time.sleep(0.3)

    thread = threading.Thread(target=compile_for_a_while)
    thread.start()
    compiling.wait()
    child = os.fork()
    if child == 0:
        end_after(20)
        os._exit(numba.njit(lambda value: value + 1)(41))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    thread.join()


@pytest.mark.parametrize("compiled", [True, False])
def test_an_entry_gives_what_the_kernel_gives_for_its_types(tmp_path: Path, compiled: bool) -> None:
    (tmp_path / "doubled.py").write_text(
        "import numpy as np\n"
        "from aegnn_core.machine_code import entry, kernel\n"
        "@kernel\ndef doubled(values, times):\n    return 2 * values.sum() * times\n"
        "for kind in (np.float32, np.int64):\n"
        "    of_kind = entry(doubled, np.zeros(1, kind), 1)\n"
        "    values = np.arange(5).astype(kind)\n"
        "    print(of_kind(values, 3), doubled(values, 3), type(of_kind).__name__)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "NUMBA_DISABLE_JIT": str(int(not compiled))}
    ran = subprocess.run(
        [sys.executable, tmp_path / "doubled.py"], env=environment, capture_output=True, text=True, check=True
    )
    kind = "builtin_function_or_method" if compiled else "function"
    assert ran.stdout == f"60.0 60.0 {kind}\n60 60 {kind}\n"
