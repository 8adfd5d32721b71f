# SPDX-License-Identifier: Apache-2.0
"""Compiled loops over parts of an array, on as many threads as torch's own operations use.

The threads are not those of torch: they sleep when there is nothing to do, and a process that is forked, such as one
that loads samples, starts its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise

import numpy as np
import torch

__all__ = ["in_parts"]

_pools: dict[int, ThreadPoolExecutor] = {}
# The threads of a process are not in its fork.
os.register_at_fork(after_in_child=_pools.clear)


def in_parts(loop: Callable[[int, int], object], first: int, last: int, work: np.ndarray, least: int) -> None:
    """Call ``loop(first, last)`` for ranges that make up ``first`` to ``last``, at the same time.

    Args:
        loop: a compiled function without the interpreter's lock. What it writes for a range must not depend on others.
        first, last: the whole range.
        work: ascending ``[last + 1]``: the loop from a to b does ``work[b] - work[a]``.
        least: so much work at least is worth a thread.
    """
    begin, end = int(work[first]), int(work[last])
    parts = min(torch.get_num_threads(), max(1, (end - begin) // least))
    if parts == 1:
        loop(first, last)
        return
    cuts = np.searchsorted(work[first : last + 1], np.linspace(begin, end, parts + 1)[1:-1]) + first
    ranges = list(pairwise([first, *cuts.tolist(), last]))
    others = [_pool(parts - 1).submit(loop, *part) for part in ranges[1:]]
    try:
        loop(*ranges[0])
    finally:
        wait(others)
    for other in others:
        other.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads, "aegnn-loop")
    return _pools[threads]
