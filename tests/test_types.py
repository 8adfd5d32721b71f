# SPDX-License-Identifier: Apache-2.0
"""What mypy's configuration lets through is what Numba and Triton compile, and nothing else."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPILERS = {"kernel", "inlined", "intrinsic", "overload", "jit"}
OVERRIDES = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["tool"]["mypy"]["overrides"]
EXEMPTED = next(override["module"] for override in OVERRIDES if "disallow_untyped_defs" in override)


def untyped_functions(node: ast.AST, compiled: bool = False) -> Iterator[tuple[str, bool]]:
    """Names of the functions below a node that lack an annotation, and whether they are compiled."""
    for child in ast.iter_child_nodes(node):
        within = compiled
        if isinstance(child, ast.FunctionDef):
            within |= any(
                ast.unparse(decorator).split("(")[0].split(".")[-1] in COMPILERS for decorator in child.decorator_list
            )
            arguments = [*child.args.posonlyargs, *child.args.args, *child.args.kwonlyargs]
            known = [one.annotation for one in arguments if one.arg not in ("self", "cls")]
            if None in (*known, child.returns):
                yield child.name, within
        yield from untyped_functions(child, within)


@pytest.mark.parametrize("module", EXEMPTED)
def test_of_an_exempted_module_only_compiled_functions_lack_types(module: str) -> None:
    source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text("utf8")

    untyped = list(untyped_functions(ast.parse(source)))

    assert [name for name, compiled in untyped if not compiled] == []
    assert untyped, "needs no exemption"
