# SPDX-License-Identifier: Apache-2.0
"""Arrays that begin where a line of the cache does."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["aligned"]

#: Bytes of the two lines that a processor fetches together.
_LINES = 128


def aligned(count: int, dtype: Any) -> np.ndarray:
    """An uninitialised array of ``count`` elements that shares no cache line with another array.

    Its rows lie in as few lines as possible, and threads that write to two such arrays do not disturb each other.
    """
    size = count * np.dtype(dtype).itemsize
    raw = np.empty(size + 2 * _LINES, np.uint8)
    begin = -raw.ctypes.data % _LINES
    return raw[begin : begin + size].view(dtype)
