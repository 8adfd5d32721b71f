# SPDX-License-Identifier: Apache-2.0
"""The search for the oldest live node, beside a look at every node."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aegnn_core.asynchronous.live_nodes import first_live
from aegnn_core.graph.neighbors import FOREVER


@given(
    steps=st.lists(st.integers(0, 5), max_size=100),
    gone=st.integers(0, 110),
    later=st.integers(0, 30),
    window=st.one_of(st.integers(1, 200), st.just(FOREVER)),
    max_nodes=st.one_of(st.integers(1, 120), st.just(FOREVER)),
)
def test_the_oldest_live_node_is_found(steps: list[int], gone: int, later: int, window: int, max_nodes: int) -> None:
    times = np.cumsum(steps, dtype=np.int64)
    size, capacity = len(times), 64
    oldest = max(min(gone, size), size - capacity, 0)
    ring = np.full(capacity, -1, np.int64)
    for number in range(max(0, size - capacity), size):
        ring[number % capacity] = times[number]
    now = int(times[-1]) + later if size else 0
    live = [n for n in range(oldest, size) if now - times[n] < window and n >= size - max_nodes]
    assert first_live(oldest, size, now, window, max_nodes, ring) == (live[0] if live else size)
