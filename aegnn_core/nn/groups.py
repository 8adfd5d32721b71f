# SPDX-License-Identifier: Apache-2.0
"""Items by the group that each belongs to, such as edges by their target, in compiled loops on the CPU."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aegnn_core.machine_code import kernel

__all__ = ["Groups", "grouped"]


class Groups(NamedTuple):
    """``start [G + 1]``, where the items of every group begin in ``item [N]``, the items' numbers."""

    start: np.ndarray
    item: np.ndarray


def grouped(group: np.ndarray, groups: int) -> Groups:
    """The items of every group one after the other, in their first order, from the group in [0, ``groups``) of each."""
    result = Groups(np.zeros(groups + 1, np.int64), np.empty(len(group), np.int32))
    _sort_by_counting(group, *result)
    return result


@kernel(error_model="numpy")
def _sort_by_counting(group: np.ndarray, start: NDArray[np.int64], item: NDArray[np.int32]) -> None:
    groups = len(start) - 1
    is_sorted = True
    for n in range(len(group)):
        start[group[n] + 1] += 1
        is_sorted &= group[max(n - 1, 0)] <= group[n]
    for g in range(groups):
        start[g + 1] += start[g]
    if is_sorted:
        for n in range(len(group)):
            item[n] = n
        return
    for n in range(len(group)):
        place = start[group[n]]
        item[place] = n
        start[group[n]] = place + 1
    for g in range(groups, 0, -1):
        start[g] = start[g - 1]
    start[0] = 0
