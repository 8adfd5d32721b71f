# SPDX-License-Identifier: Apache-2.0
"""Time order: late events are lifted, jumps are refused, and packets do not matter."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegnn_core.events import MAX_DISORDER_US, TimeJumpError, check_events, in_time_order, make_events


def at(*t):
    zeros = np.zeros(len(t), int)
    return make_events(np.array(t, np.int64), np.arange(len(t)), zeros, zeros)


def test_events_in_order_are_returned_as_they_are():
    events = at(1, 1, 5)
    assert in_time_order(events) is events
    assert in_time_order(events, last_t=1) is events
    assert len(in_time_order(at(), last_t=1)) == 0


def test_late_events_get_the_latest_time_before_them_and_keep_their_place():
    events = at(10, 8, 9, 12, 11)
    ordered = in_time_order(events)
    assert ordered["t"].tolist() == [10, 10, 10, 12, 12]
    assert ordered["x"].tolist() == [0, 1, 2, 3, 4]
    assert events["t"].tolist() == [10, 8, 9, 12, 11]
    assert in_time_order(events, last_t=11)["t"].tolist() == [11, 11, 11, 12, 12]


def test_a_jump_back_names_the_event_where_the_new_time_starts():
    far = MAX_DISORDER_US
    assert in_time_order(at(far, 0))["t"].tolist() == [far, far]
    with pytest.raises(TimeJumpError, match=f"event 2 at 0 µs .* jumps back by {far + 1} µs") as error:
        in_time_order(at(far, far + 1, 0, 7))
    assert error.value.index == 2
    with pytest.raises(TimeJumpError) as error:
        in_time_order(at(0, 7), last_t=far + 1)
    assert error.value.index == 0


@given(steps=st.lists(st.integers(-50, 60), min_size=1, max_size=60), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_any_split_gives_the_same_times(steps, cuts):
    events = at(*np.cumsum(steps))
    whole = in_time_order(events)
    check_events(whole)
    borders = sorted({0, len(events), *(min(cut, len(events)) for cut in cuts)})
    last_t, parts = None, []
    for a, b in pairwise(borders):
        part = in_time_order(events[a:b], last_t)
        last_t = int(part["t"][-1])
        parts += part["t"].tolist()
    assert parts == whole["t"].tolist()
