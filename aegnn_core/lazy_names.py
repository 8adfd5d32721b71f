# SPDX-License-Identifier: Apache-2.0
"""Names of a package that are imported when somebody asks for them, and with them what they need."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

from aegnn_core.extras import naming_extras

__all__ = ["lazy_names"]


def lazy_names(
    package: str, homes: dict[str, str], renamed: dict[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: its ``__name__``.
        homes: the module below it where each name is defined.
        renamed: names of earlier versions and what they are called now; they are still found, with a warning.
    """
    names = vars(sys.modules[package])

    def get(name: str) -> Any:
        if renamed is not None and name in renamed:
            warnings.warn(f"{package}.{name} is deprecated, expected {renamed[name]}", DeprecationWarning, stacklevel=2)
            return getattr(sys.modules[package], renamed[name])
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with naming_extras():
            names[name] = getattr(import_module(f"{package}.{homes[name]}"), name)
        return names[name]

    def listed() -> list[str]:
        return sorted({*names, *homes})

    return get, listed
