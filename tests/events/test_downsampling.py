# SPDX-License-Identifier: Apache-2.0
"""Downsampling: as ten lines of NumPy for any sensors and packets, and even where the ratio is not whole."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from aegnn_core.events import (
    DOWNSAMPLING,
    EVENT_DTYPE,
    Downsampler,
    Letterbox,
    integrate,
    integration_state,
    make_events,
    project,
)
from aegnn_core.events.downsampling import integration_thresholds

sensors = st.tuples(st.integers(1, 14), st.integers(1, 14))
#: Exact in the filter's fixed point.
thresholds = st.integers(1, 512).map(lambda parts: parts / 256)


def random_events(seed: int, camera: tuple[int, int], count: int, bias: float = 0.8) -> np.ndarray:
    """Events of which most have the polarity of their row, so that sums grow both ways."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, camera[1], count)
    p = (rng.random(count) < bias) ^ (y % 2 == 0)
    return make_events(np.sort(rng.integers(0, 3 * count + 1, count)), rng.integers(0, camera[0], count), y, p)


def integrated_by_hand(events: np.ndarray, letterbox: Letterbox, threshold: float) -> list[tuple[int, int, int, int]]:
    sums, fired = np.full(letterbox.model[::-1], Fraction(0)), []
    least = np.array([[max(Fraction(threshold) * int(n), Fraction(1)) for n in row] for row in letterbox.pixels])
    for t, x, y, p in events.tolist():
        pixel = letterbox.rows[y], letterbox.columns[x]
        sums[pixel] += 1 if p else -1
        if abs(sums[pixel]) >= least[pixel]:
            sums[pixel] -= least[pixel] if p else -least[pixel]
            fired.append((t, int(pixel[1]), int(pixel[0]), p))
    return fired


@given(
    seed=st.integers(0, 999),
    camera=sensors,
    model=sensors,
    threshold=thresholds,
    count=st.integers(0, 300),
    cuts=st.lists(st.integers(0, 300), max_size=6),
)
def test_integrating_equals_its_twin_in_any_packets(
    seed: int, camera: tuple[int, int], model: tuple[int, int], threshold: float, count: int, cuts: list[int]
) -> None:
    letterbox = Letterbox(camera, model)
    if not letterbox.shrinks:
        camera, letterbox = model, Letterbox(model, camera)
    events = random_events(seed, camera, count)
    if letterbox.shrinks:
        expected = integrated_by_hand(events, letterbox, threshold)
    else:  # of equal sizes
        expected = project(events, letterbox).tolist()
    assert integrate(events, letterbox, threshold).tolist() == expected
    downsampler, sums, parts, others = Downsampler(letterbox, threshold=threshold), integration_state(letterbox), [], []
    for part in np.split(events, sorted(cuts)):
        parts += downsampler(part).tolist()
        others += integrate(part, letterbox, threshold, sums).tolist()
    assert parts == others == expected
    if letterbox.shrinks:
        assert_array_equal(downsampler.sums, sums)
    else:
        assert not downsampler.sums.size
        assert not sums.any()
    assert (abs(sums) < integration_thresholds(letterbox, threshold)).all()


def followed_by_hand(events: np.ndarray, letterbox: Letterbox) -> list[tuple[int, int, int, int]]:
    """Three quarters at 6 events per pixel and second of the past, in proportion below, but at least a quarter."""
    sums, fired, threshold, rate = np.zeros(letterbox.model[::-1], int), [], 0.75, None
    end, count = int(events["t"][0]) + 50_000, 0
    for t, x, y, p in events.tolist():
        while t >= end:
            newest = count / (letterbox.pixels.sum() * 0.05)
            rate = newest if rate is None else (rate + newest) / 2
            threshold = min(max(0.75 * rate / 6, 0.25), 0.75)
            end, count = end + 50_000, 0
        count += 1
        pixel = letterbox.rows[y], letterbox.columns[x]
        least = max(256, round(256 * threshold) * int(letterbox.pixels[pixel]))
        sums[pixel] += 256 if p else -256
        if abs(sums[pixel]) >= least:
            sign = int(np.sign(sums[pixel]))
            sums[pixel] -= sign * least
            fired.append((t, int(pixel[1]), int(pixel[0]), int(sign > 0)))
    return fired


@given(
    seed=st.integers(0, 999),
    rates_hz=st.lists(st.sampled_from([0.01, 0.5, 1, 3, 6, 20]), min_size=1, max_size=5),
    cuts=st.lists(st.integers(0, 3000), max_size=6),
    begin=st.sampled_from([0, -7, 10**15]),
)
def test_the_threshold_follows_the_camera_in_any_packets(
    seed: int, rates_hz: list[float], cuts: list[int], begin: int
) -> None:
    rng, letterbox, parts, start = np.random.default_rng(seed), Letterbox((20, 14), (5, 4)), [], begin
    for rate_hz in rates_hz:
        part = random_events(seed, (20, 14), 1 + rng.poisson(rate_hz * 280 * 0.2), bias=0.95)
        part["t"] = start + np.sort(rng.integers(0, 200_000, len(part)))
        start += 200_000
        parts.append(part)
    events = np.concatenate(parts)
    downsampler, found = Downsampler(letterbox), []
    for part in np.split(events, sorted(cuts)):
        found += downsampler(part).tolist()
    assert found == followed_by_hand(events, letterbox)
    first = downsampler.threshold
    downsampler.reset()
    assert downsampler.threshold == 0.75
    assert downsampler(events).tolist() == found
    assert downsampler.threshold == first


def test_a_camera_that_sends_little_is_not_silenced() -> None:
    letterbox = Letterbox((40, 40), (10, 10))
    for rate_hz, threshold in ((20.0, 0.75), (3.0, 0.375), (0.5, 0.25)):
        count = round(rate_hz * 1600 * 8)
        t = np.arange(count) * (8_000_000 // count)
        place = np.arange(count) * 7 % 1600
        events = make_events(t, place % 40, place // 40, np.ones(count, int))
        downsampler = Downsampler(letterbox)
        fired = downsampler(events)
        assert downsampler.threshold == pytest.approx(threshold, rel=0.05)
        last = np.count_nonzero(fired["t"] > 500_000) / np.count_nonzero(t > 500_000)
        assert last == pytest.approx(1 / (16 * threshold), rel=0.2)


def test_times_at_both_ends_of_their_type_do_not_disturb_the_threshold() -> None:
    letterbox = Letterbox((4, 4), (2, 2))
    for begin in (np.iinfo(np.int64).min + 1, np.iinfo(np.int64).max - 59_000):
        events = make_events(begin + np.arange(60_000, step=1000), *np.ones((3, 60), int))
        fired = Downsampler(letterbox)(events)
        assert len(fired) == 20  # one for three events, all the time: a busy camera


@given(seed=st.integers(0, 99), camera=sensors, model=sensors, cut=st.integers(0, 50))
def test_projecting_keeps_every_event_and_gives_it_the_models_pixel(
    seed: int, camera: tuple[int, int], model: tuple[int, int], cut: int
) -> None:
    letterbox, events = Letterbox(camera, model), random_events(seed, camera, 50)
    expected = events.copy()
    expected["x"], expected["y"] = letterbox.columns[events["x"]], letterbox.rows[events["y"]]
    assert_array_equal(project(events, letterbox), expected)
    downsampler = Downsampler(letterbox, "coordinates")
    parts = [downsampler(events[:cut]), downsampler(events[cut:])]
    assert_array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("way", DOWNSAMPLING)
@pytest.mark.parametrize("camera", [(160, 120), (80, 60), (50, 120), (1, 1)])
def test_a_camera_that_is_not_larger_loses_no_event(way: str, camera: tuple[int, int]) -> None:
    letterbox, events = Letterbox(camera, (160, 120)), random_events(1, camera, 200)
    assert_array_equal(Downsampler(letterbox, way)(events), project(events, letterbox))
    assert_array_equal(integrate(events, letterbox), project(events, letterbox))
    assert len(project(events, letterbox)) == 200


def test_four_pixels_fire_once_for_three_events() -> None:
    letterbox = Letterbox((4, 4), (2, 2))
    t = np.arange(8)
    events = make_events(t, [0, 1, 0, 1, 0, 1, 0, 3], [0, 0, 1, 1, 0, 0, 1, 3], [1, 1, 1, 1, 0, 0, 0, 0])
    #         sums of the first pixel: 1, 2, 3 → fires, 1, then back: 0, -1, -2; the last event lies elsewhere
    assert integrate(events, letterbox).tolist() == [(2, 0, 0, 1)]
    downsampler = Downsampler(letterbox)
    downsampler(events)
    assert (downsampler.sums / 256).tolist() == [[-2, 0], [0, -1]]
    assert repr(downsampler) == (
        "Downsampler(4 x 4 px on 2 x 2 px, 2 px to one; integrate, threshold=0.75, charged=2 px)"
    )
    downsampler.reset()
    assert not downsampler.sums.any()
    assert downsampler(events).tolist() == [(2, 0, 0, 1)]


@pytest.mark.parametrize("camera", [(640, 480), (346, 260), (400, 200), (640, 100), (350, 260)])
def test_all_pixels_are_as_sensitive_where_the_ratio_is_not_whole(camera: tuple[int, int]) -> None:
    """Light that makes every pixel of the camera fire 30 times makes every pixel of the model fire 40 times."""
    letterbox = Letterbox(camera, (160, 120))
    y, x = np.divmod(np.arange(camera[0] * camera[1]), camera[0])
    x, y = np.tile(x, 30), np.tile(y, 30)
    events = make_events(np.arange(len(x)), x, y, np.ones(len(x)))
    fired = integrate(events, letterbox)
    counts = np.zeros(letterbox.model[::-1], int)
    np.add.at(counts, (fired["y"], fired["x"]), 1)
    shared = letterbox.pixels >= 2
    assert shared.any()
    assert set(np.unique(counts[shared])) == {40}
    assert set(np.unique(counts[letterbox.pixels == 0])) <= {0}


def test_noise_of_both_polarities_cancels() -> None:
    """A thousand times fewer events than the camera's, where coordinates keep all."""
    letterbox, rng = Letterbox((640, 480), (160, 120)), np.random.default_rng(0)
    count = 200_000
    columns = (np.arange(count), rng.integers(0, 640, count), rng.integers(0, 480, count), rng.integers(0, 2, count))
    events = make_events(*columns)
    assert len(integrate(events, letterbox)) < count / 1000
    assert len(project(events, letterbox)) == count


def test_other_integers_and_polarities_of_plus_and_minus_one_are_the_same_events() -> None:
    letterbox, events = Letterbox((12, 9), (4, 3)), random_events(3, (12, 9), 2000)
    expected = integrate(events, letterbox)
    assert len(expected) > 20
    signed = np.empty(2000, [("x", "i2"), ("t", "i8"), ("y", "i4"), ("p", "i1")])
    signed["t"], signed["x"], signed["y"] = events["t"], events["x"], events["y"]
    signed["p"] = np.where(events["p"] > 0, 1, -1)
    switched = events.astype([("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "?")])
    twice = np.repeat(events, 2)[::2]
    twice.flags.writeable = False
    for same in (signed, switched, twice):
        for found in (integrate(same, letterbox), Downsampler(letterbox)(same)):
            assert found.dtype == EVENT_DTYPE
            assert_array_equal(found, expected)
    assert_array_equal(project(signed, letterbox), project(events, letterbox))


@pytest.mark.parametrize("threshold", [0, -1, float("nan"), float("inf")])
def test_a_threshold_that_is_not_positive_is_refused(threshold: float) -> None:
    letterbox, events = Letterbox((4, 4), (2, 2)), random_events(0, (4, 4), 3)
    for make in (lambda: integrate(events, letterbox, threshold), lambda: Downsampler(letterbox, threshold=threshold)):
        with pytest.raises(ValueError, match=f"the threshold of downsampling is {threshold} events per pixel"):
            make()


@pytest.mark.parametrize("camera", [(12, 8), (3, 2)])
@pytest.mark.parametrize("sums", [np.zeros((3, 2), int), np.zeros((1, 1), int), np.zeros((2, 3), np.float32)])
def test_the_sums_of_another_sensor_are_refused(camera: tuple[int, int], sums: np.ndarray) -> None:
    letterbox, events = Letterbox(camera, (3, 2)), random_events(0, camera, 9)
    with pytest.raises(ValueError, match=r"^sums: expected a writeable array int64 \(2, 3\), found array "):
        integrate(events, letterbox, sums=sums)


def test_an_unknown_way_and_events_of_another_camera_are_refused() -> None:
    letterbox = Letterbox((4, 4), (2, 2))
    with pytest.raises(ValueError, match="unknown downsampling 'average', known are integrate, coordinates"):
        Downsampler(letterbox, "average")
    outside = make_events([0], [4], [0], [1])
    for way in DOWNSAMPLING:
        with pytest.raises(ValueError, match="x must be below the sensor's 4 px, found 4"):
            Downsampler(letterbox, way)(outside)
    late = make_events([5, 0], [0, 1], [0, 1], [1, 1])
    with pytest.raises(ValueError, match="events must be in time order"):
        integrate(late, letterbox)
    assert len(integrate(late[:0], letterbox)) == 0
