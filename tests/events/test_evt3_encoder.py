# SPDX-License-Identifier: Apache-2.0
"""EVT3 encoder: encode, then decode, is the identity; vectors are used where they pay."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegnn_core.events import EVENT_DTYPE, Evt3EncoderState, encode_evt3, make_decoder, make_events

WRAP = 1 << 24
SIDE = 2048

#: Waiting times that meet every case: none, within TIME_LOW, a TIME_HIGH step, about a jitter's size, wraps, days.
gaps = st.one_of(
    st.just(0),
    st.integers(0, 5000),
    st.sampled_from([4084 << 12, 4085 << 12, 4086 << 12, WRAP - 1, WRAP, WRAP + 1, 7 * WRAP, 10**10]),
)
#: Neighbours, repeats and jumps.
columns = st.one_of(st.integers(0, 30), st.integers(SIDE - 14, SIDE - 1), st.integers(0, SIDE - 1))
event_rows = st.lists(st.tuples(gaps, columns, st.sampled_from([0, 1, SIDE - 1]), st.integers(0, 1)), max_size=80)


def stream(rows, start):
    table = np.array(rows, np.int64).reshape(-1, 4)
    return make_events(start + np.cumsum(table[:, 0]) - (table[0, 0] if len(table) else 0), *table.T[1:])


@given(rows=event_rows, start=st.integers(0, WRAP - 1), cuts=st.lists(st.integers(0, 80), max_size=5))
def test_decoding_gives_back_what_was_encoded_for_any_packets(rows, start, cuts):
    events = stream(rows, start)
    state, decoder = Evt3EncoderState(), make_decoder("evt3", SIDE, SIDE)
    borders = sorted({0, len(events), *(min(cut, len(events)) for cut in cuts)})
    decoded = [np.empty(0, EVENT_DTYPE)]
    decoded += [decoder.decode(encode_evt3(events[a:b], state)) for a, b in pairwise(borders)]
    np.testing.assert_array_equal(np.concatenate(decoded), events)
    assert decoder.counts.malformed == decoder.counts.unplaced_events == 0


@given(y=st.integers(0, 99), at=st.integers(0, WRAP - 1), order=st.permutations(range(40)), p=st.booleans())
def test_bursts_at_one_time_keep_their_order(y, at, order, p):
    x = np.array([*range(40), *order, *range(39, -1, -1), 5, 5, 5])
    events = make_events(np.full(len(x), at), x, np.full(len(x), y), np.full(len(x), p))
    np.testing.assert_array_equal(make_decoder("evt3", 40, 100).decode(encode_evt3(events)), events)


@given(rows=event_rows.filter(len), start=st.integers(0, 2**50))
def test_a_packet_alone_decodes_to_times_modulo_the_wrap(rows, start):
    events = stream(rows, start)
    decoded = make_decoder("evt3", SIDE, SIDE).decode(encode_evt3(events))
    np.testing.assert_array_equal(decoded["t"], events["t"] - (start >> 24 << 24))
    np.testing.assert_array_equal(decoded[["x", "y", "p"]], events[["x", "y", "p"]])


@given(rows=event_rows.filter(lambda rows: len(rows) > 1), start=st.integers(0, WRAP - 1))
def test_a_reader_that_misses_packets_finds_its_place_again(rows, start):
    events, state = stream(rows, start), Evt3EncoderState()
    encode_evt3(events[:1], state)
    late = make_decoder("evt3", SIDE, SIDE).decode(encode_evt3(events[1:], state))
    assert len(late) == len(events) - 1
    np.testing.assert_array_equal(np.diff(late["t"]), np.diff(events["t"][1:]))


def words(x, y=0, t=0, p=1):
    events = make_events(*np.broadcast_arrays(t, np.asarray(x), y, p))
    return len(encode_evt3(events)) // 2


def test_runs_of_pixels_become_vectors():
    head = 3  # TIME_HIGH, TIME_LOW, ADDR_Y
    assert words([5]) == head + 1
    assert words([5, 60]) == head + 2
    assert words(range(12)) == head + 2
    assert words(range(0, 24, 2)) == head + 3
    assert words(range(48)) == head + 1 + 4
    assert words([3, 3, 3]) == head + 3


def test_wide_gaps_are_stated_in_few_words():
    assert words([1, 2], t=[0, 3600 * 10**6]) < 3600 // 8 + 10


def test_no_events_are_no_words():
    state = Evt3EncoderState()
    assert encode_evt3(np.empty(0, EVENT_DTYPE), state) == b""
    assert state.last_t is None


def test_events_that_evt3_cannot_state_are_refused():
    with pytest.raises(ValueError, match="x must be below the sensor's 2048 px, found 2048"):
        encode_evt3(make_events([0], [2048], [0], [0]))
    with pytest.raises(ValueError, match="time order"):
        encode_evt3(make_events([5, 4], [0, 0], [0, 0], [0, 0]))
    state = Evt3EncoderState()
    encode_evt3(make_events([10], [0], [0], [0]), state)
    with pytest.raises(ValueError, match="start at 9 µs, expected no earlier than the last packet's 10 µs"):
        encode_evt3(make_events([9], [0], [0], [0]), state)
