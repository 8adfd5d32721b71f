# SPDX-License-Identifier: Apache-2.0
"""Filters: five events by hand, NumPy twins, and packets that do not matter where a filter has a state."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegnn_core.events import (
    every_nth,
    hot_pixels,
    make_events,
    refractory_period,
    refractory_state,
    region_of_interest,
    remove_pixels,
    rescale,
)
from aegnn_core.events.filters import PixelRateLimit, background_activity

WIDTH, HEIGHT = 6, 4

FIVE = make_events([0, 10, 20, 30, 40], [1, 2, 1, 5, 1], [1, 1, 1, 3, 1], [1, 0, 0, 1, 1])

streams = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(0, 1)), max_size=60
).map(lambda rows: make_events(*(np.array(rows, np.int64).reshape(-1, 4).T)))


def ordered(events):
    events = events.copy()
    events["t"] = np.cumsum(events["t"])
    return events


def test_every_nth_keeps_an_even_share():
    assert every_nth(FIVE, 2)["t"].tolist() == [0, 20, 40]
    assert every_nth(FIVE, 2, phase=1)["t"].tolist() == [10, 30]
    assert every_nth(FIVE, 1)["t"].tolist() == FIVE["t"].tolist()
    for n, phase in ((0, 0), (3, 3), (3, -1)):
        with pytest.raises(ValueError, match=f"n is {n} and phase {phase}"):
            every_nth(FIVE, n, phase)


@given(events=streams, cut=st.integers(0, 60), n=st.integers(1, 7))
def test_every_nth_goes_on_across_packets(events, cut, n):
    events = ordered(events)
    first, second = events[:cut], events[cut:]
    parts = [every_nth(first, n), every_nth(second, n, -len(first) % n)]
    np.testing.assert_array_equal(np.concatenate(parts), every_nth(events, n))


def refractory_by_hand(events, period_us):
    last, kept = {}, []
    for event in events:
        pixel = event["x"], event["y"]
        if pixel not in last or event["t"] - last[pixel] >= period_us:
            last[pixel] = event["t"]
            kept.append(event)
    return np.array(kept, events.dtype)


def test_refractory_period_silences_the_same_pixel_only():
    assert refractory_period(FIVE, 21, WIDTH, HEIGHT)["t"].tolist() == [0, 10, 30, 40]
    assert refractory_period(FIVE, 20, WIDTH, HEIGHT)["t"].tolist() == [0, 10, 20, 30, 40]
    with pytest.raises(ValueError, match="x must be below the sensor's 5 px"):
        refractory_period(FIVE, 1, 5, HEIGHT)


@given(events=streams, cut=st.integers(0, 60), period_us=st.integers(0, 300))
def test_refractory_period_equals_its_twin_in_any_packets(events, cut, period_us):
    events = ordered(events)
    expected = refractory_by_hand(events, period_us)
    np.testing.assert_array_equal(refractory_period(events, period_us, WIDTH, HEIGHT), expected)
    state = refractory_state(WIDTH, HEIGHT)
    parts = [refractory_period(part, period_us, WIDTH, HEIGHT, state) for part in (events[:cut], events[cut:])]
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def supported_by_hand(events, period_us):
    kept, last = [], {}
    for event in events:
        t, x, y = int(event["t"]), int(event["x"]), int(event["y"])
        around = [(x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
        if any(t - last[pixel] <= period_us for pixel in around if pixel in last):
            kept.append(event)
        last[x, y] = t
    return np.array(kept, events.dtype)


def limited_by_hand(events, most):
    kept, seconds = [], {}
    for event in events:
        pixel, t = (int(event["x"]), int(event["y"])), int(event["t"])
        began, count = seconds.get(pixel, (t, 0))
        began, count = (t, 1) if t - began >= 1_000_000 else (began, count + 1)
        seconds[pixel] = (began, count)
        if count <= most:
            kept.append(event)
    return np.array(kept, events.dtype)


@given(events=streams, cut=st.integers(0, 60), period_us=st.integers(0, 300), most=st.integers(1, 5))
def test_noise_filters_equal_their_twins_in_any_packets(events, cut, period_us, most):
    events = ordered(events)
    parts = (events[:cut], events[cut:])
    state = refractory_state(WIDTH, HEIGHT)
    found = [background_activity(part, period_us, WIDTH, HEIGHT, state) for part in parts]
    np.testing.assert_array_equal(np.concatenate(found), supported_by_hand(events, period_us))
    events["t"] *= 10_000
    limit = PixelRateLimit(most, WIDTH, HEIGHT)
    np.testing.assert_array_equal(np.concatenate([limit(part) for part in parts]), limited_by_hand(events, most))


@pytest.mark.parametrize("kept_by", [refractory_period, background_activity])
@pytest.mark.parametrize("period_us", [-1, float("nan"), float("inf")])
def test_a_period_that_is_no_time_is_refused(kept_by, period_us):
    with pytest.raises(ValueError, match=f"period is {period_us} µs, expected 0 to"):
        kept_by(FIVE, period_us, WIDTH, HEIGHT)


@pytest.mark.parametrize("kept_by", [refractory_period, background_activity])
@pytest.mark.parametrize(
    ("state", "found"),
    [
        (refractory_state(HEIGHT, WIDTH), r"array int64 \(6, 4\)"),
        (refractory_state(3, 2), r"array int64 \(2, 3\)"),
        (refractory_state(WIDTH, HEIGHT).ravel(), r"array int64 \(24,\)"),
        (np.zeros((HEIGHT, WIDTH), np.float32), r"array float32 \(4, 6\)"),
        (np.broadcast_to(np.int64(0), (HEIGHT, WIDTH)), r"read-only array int64 \(4, 6\)"),
        ([[0] * WIDTH] * HEIGHT, "list"),
    ],
)
def test_the_state_of_another_sensor_is_refused(kept_by, state, found):
    with pytest.raises(ValueError, match=rf"^state: expected a writeable array int64 \(4, 6\), found {found}$"):
        kept_by(FIVE, 10, WIDTH, HEIGHT, state)


@pytest.mark.parametrize("rate_hz", [0, -1, float("nan")])
def test_a_limit_that_is_no_rate_is_refused(rate_hz):
    with pytest.raises(ValueError, match=f"highest rate of a pixel is {rate_hz} Hz"):
        PixelRateLimit(rate_hz, WIDTH, HEIGHT)


def test_region_of_interest_becomes_a_sensor_of_its_own():
    region = region_of_interest(FIVE, 1, 1, 2, 2)
    assert region.tolist() == [(0, 0, 0, 1), (10, 1, 0, 0), (20, 0, 0, 0), (40, 0, 0, 1)]
    assert FIVE["x"].tolist() == [1, 2, 1, 5, 1]
    assert len(region_of_interest(FIVE, 3, 0, 2, 9)) == 0
    for size in ((0, 2), (2, float("nan"))):
        with pytest.raises(ValueError, match="{} x {} px at".format(*size)):
            region_of_interest(FIVE, 0, 0, *size)


def test_hot_pixels_are_found_by_their_rate_and_removed():
    t = np.arange(0, 1_000_001, 1000)
    busy = make_events(t, np.full(len(t), 2), np.full(len(t), 3), np.zeros(len(t)))
    quiet = make_events([0, 1_000_000], [1, 1], [0, 0], [1, 1])
    events = np.concatenate([busy, quiet])[np.argsort(np.concatenate([busy["t"], quiet["t"]]), kind="stable")]
    mask = hot_pixels(events, WIDTH, HEIGHT, max_rate_hz=1000)
    assert np.argwhere(mask).tolist() == [[3, 2]]
    assert not hot_pixels(events, WIDTH, HEIGHT, max_rate_hz=1001).any()
    np.testing.assert_array_equal(remove_pixels(events, mask), quiet)


def test_hot_pixels_need_a_time_span():
    assert not hot_pixels(FIVE[:0], WIDTH, HEIGHT, 10).any()
    with pytest.raises(ValueError, match="all 1 events are at 0 µs"):
        hot_pixels(FIVE[:1], WIDTH, HEIGHT, 10)


@pytest.mark.parametrize("rate_hz", [-1.0, float("nan")])
def test_hot_pixels_need_a_rate(rate_hz):
    with pytest.raises(ValueError, match=f"the highest rate is {rate_hz} Hz, expected 0 or more"):
        hot_pixels(FIVE, WIDTH, HEIGHT, rate_hz)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("hot", [1, 255])
def test_a_mask_may_be_a_black_and_white_image(kind, hot):
    mask = np.zeros((HEIGHT, WIDTH), kind)
    mask[1, 1] = hot
    assert remove_pixels(FIVE, mask)["t"].tolist() == [10, 30]


@pytest.mark.parametrize("shape", [(HEIGHT * WIDTH,), (HEIGHT, WIDTH, 3)])
def test_a_mask_has_a_row_for_every_row_of_the_sensor(shape):
    with pytest.raises(ValueError, match=rf"expected a mask \[height, width\], found an array bool \({shape[0]},"):
        remove_pixels(FIVE, np.zeros(shape, bool))


def test_rescale_fills_the_smaller_sensor():
    assert rescale(FIVE, (WIDTH, HEIGHT), (3, 2))[["x", "y"]].tolist() == [(0, 0), (1, 0), (0, 0), (2, 1), (0, 0)]
    assert rescale(FIVE, (WIDTH, HEIGHT), (WIDTH, HEIGHT)) is FIVE
    for size in ((0, 2), (float("nan"), 2), (3, 65_537)):
        for sizes in ((size, (3, 2)), ((WIDTH, HEIGHT), size)):
            with pytest.raises(ValueError, match=re.escape("{} and {} px, expected sides of 1 to".format(*sizes))):
                rescale(FIVE, *sizes)
    with pytest.raises(ValueError, match="below the sensor's 5 px"):
        rescale(FIVE, (5, 4), (3, 2))


@given(events=streams, width=st.integers(1, 2000), height=st.integers(1, 2000))
def test_rescaled_events_lie_on_the_new_sensor_and_keep_order(events, width, height):
    scaled = rescale(ordered(events), (WIDTH, HEIGHT), (width, height))
    assert (scaled["x"] < width).all()
    assert (scaled["y"] < height).all()
    np.testing.assert_array_equal(scaled["x"], np.floor(events["x"] * (width / WIDTH) + 1e-9))
    np.testing.assert_array_equal(scaled["t"], ordered(events)["t"])
