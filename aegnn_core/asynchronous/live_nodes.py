# SPDX-License-Identifier: Apache-2.0
"""Which nodes of a ring are live, in compiled code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aegnn_core.machine_code import kernel

__all__ = ["first_live"]


@kernel(error_model="numpy")
def first_live(oldest: int, size: int, time: int, window: int, max_nodes: int, node_t: NDArray[np.int64]) -> int:
    """Number of the oldest node that is live at ``time``, if ``size`` nodes have come; at least ``oldest``.

    It takes steps of 1, 2, 4, … nodes as far as all of them have left, and then halves the last one: from one packet to
    the next, a few nodes leave or many.

    Args:
        oldest: none before it is live.
        size: nodes that have come; those from ``oldest`` on are in the ring.
        time: [µs], not before the last node's.
        window, max_nodes: see :class:`aegnn_core.graph.GraphConfig`.
        node_t: ring of the nodes' times [µs], which do not decrease; its length is a power of two.
    """
    mask = len(node_t) - 1
    first, step = max(oldest, size - max_nodes), 1
    while first + step <= size and time - node_t[(first + step - 1) & mask] >= window:
        first += step
        step *= 2
    while step > 1:
        step //= 2
        if first + step <= size and time - node_t[(first + step - 1) & mask] >= window:
            first += step
    return first
