"""Compiled code on disk that is made anew when any file changes that it was made from.

Numba keeps a compiled function until the file in which it stands changes. What it calls from other files is compiled
into it, and would go on living in there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aegnn_core.graph

__all__ = ["SOURCES", "stamp_of", "with_all_sources"]

#: All files with functions that are compiled into those of this package.
SOURCES = sorted([*Path(__file__).parent.glob("*.py"), *Path(str(aegnn_core.graph.__file__)).parent.glob("*.py")])


def stamp_of(files: list[Path]) -> tuple[tuple[float, int], ...]:
    """When files were written and how large they are, as Numba tells one version of a file from another."""
    return tuple((state.st_mtime, state.st_size) for state in (file.stat() for file in files))


def with_all_sources(function: Any) -> Any:
    """Decorator for a function of ``njit(cache=True)`` that calls compiled functions of other files."""
    function._cache._cache_file._source_stamp = stamp_of(SOURCES)
    return function
