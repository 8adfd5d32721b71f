# SPDX-License-Identifier: Apache-2.0
"""How many threads a live model works with."""

from __future__ import annotations

import os
import sys

import numpy as np

from aegnn_core.asynchronous.compiled.pipeline import MOST_THREADS
from aegnn_core.cores import usable_cores

__all__ = ["MOST_THREADS", "THREADS_VARIABLE", "chosen_threads", "spare_cores"]

#: The environment variable that says how many, where the caller does not.
THREADS_VARIABLE = "AEGNN_THREADS"


#: More were slower on a machine of 16 cores: docs/benchmarks.md.
_MOST_OF_USE = 8


def spare_cores() -> int:
    """The cores that this process may use, less one for everything else, at most 8; 1 where threads could not sleep."""
    return max(1, min(usable_cores() - 1, _MOST_OF_USE)) if sys.platform == "linux" else 1


def chosen_threads(threads: int | None, default: int = 1) -> int:
    """The number of threads: ``threads``, or else what ``AEGNN_THREADS`` says, or else ``default``.

    Raises:
        ValueError: not a whole number from 1 to 64.
    """
    if threads is None:
        said = os.environ.get(THREADS_VARIABLE, "").strip()
        if not said:
            return min(default, MOST_THREADS)
        if not said.isdecimal() or not 1 <= int(said) <= MOST_THREADS:
            raise ValueError(f"{THREADS_VARIABLE} must be a whole number from 1 to {MOST_THREADS}, found {said!r}")
        return int(said)
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)) or not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads must be a whole number from 1 to {MOST_THREADS}, found {threads!r}")
    return int(threads)
