# SPDX-License-Identifier: Apache-2.0
"""Augmentation maps events as it says, and boxes follow their events."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from aegnn_core import GraphConfig
from aegnn_core.datasets.dataset_format import BOX_DTYPE
from aegnn_core.datasets.samples import EventSample, corners_of, labelled_graph
from aegnn_core.events import make_events
from aegnn_core.training.samples.augmentation import Augmentation, default_augmentation

NOTHING = Augmentation(0, 0, 0, 0, 0)


def changed(
    augmentation: Augmentation, events: np.ndarray, sensor: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """The events of a changed sample without boxes."""
    return augmentation(EventSample(events, 0, None), sensor, rng).events


def make_boxes(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    """Boxes from x, y, w and h [px], numbered by class."""
    return np.array([(9, *box, n, 0) for n, box in enumerate(boxes)], BOX_DTYPE)


def test_events_are_mapped_pixel_by_pixel() -> None:
    events = make_events(np.arange(4), np.array([0, 33, 16, 17]), np.array([5, 5, 0, 33]), np.array([0, 1, 0, 1]))
    rng = np.random.default_rng(0)
    assert_array_equal(changed(NOTHING, events, (34, 34), rng), events)
    mirrored = [changed(replace(NOTHING, mirror=True), events, (34, 34), rng)["x"].tolist() for _ in range(20)]
    assert {tuple(x) for x in mirrored} == {(0, 33, 16, 17), (33, 0, 17, 16)}
    inverted = [changed(replace(NOTHING, invert=True), events, (34, 34), rng)["p"].tolist() for _ in range(20)]
    assert {tuple(p) for p in inverted} == {(0, 1, 0, 1), (1, 0, 1, 0)}
    # A shift by up to a fifth of a 10 x 20 px sensor: what leaves it is gone, and the rest keeps its order.
    shifts = set()
    for _ in range(300):
        shifted = changed(replace(NOTHING, shift=0.2), events[:1], (10, 20), rng)
        shifts |= {(int(event["x"]), int(event["y"]) - 5) for event in shifted}
    assert {x for x, _ in shifts} == {0, 1, 2}
    assert {y for _, y in shifts} == set(range(-4, 5))
    kept = [len(changed(replace(NOTHING, drop=0.5), np.repeat(events, 250), (34, 34), rng)) for _ in range(50)]
    assert 480 < min(kept) < 600
    assert 900 < max(kept) <= 1000
    turned = [changed(replace(NOTHING, rotation=90), events[:1], (34, 34), rng) for _ in range(200)]
    distance = [np.hypot(t["x"][0] - 16.5, t["y"][0] - 16.5) for t in turned if len(t)]
    assert np.allclose(distance, np.hypot(16.5, 11.5), atol=1)
    assert len({(int(t["x"][0]), int(t["y"][0])) for t in turned if len(t)}) > 12


def test_half_of_the_samples_end_early() -> None:
    rng = np.random.default_rng(0)
    events = make_events(1000 * np.arange(500, 1001), *np.ones((3, 501), int))
    cut = replace(NOTHING, cut=0.6)
    kept = [changed(cut, events, (34, 34), rng) for _ in range(400)]
    lengths = np.array([len(part) for part in kept])
    assert all(np.array_equal(part, events[: len(part)]) for part in kept)
    assert 150 < np.count_nonzero(lengths == 501) < 250
    assert 201 <= lengths.min() < 215
    assert len(changed(cut, events[:0], (34, 34), rng)) == 0
    with_boxes = EventSample(events, None, make_boxes((1, 1, 5, 5)))
    with pytest.raises(ValueError, match=r"cut is for recognition, found 0\.6 with boxes"):
        cut(with_boxes, (34, 34), rng)


def test_a_crop_keeps_a_rectangle_and_a_change_of_speed_the_end() -> None:
    rng = np.random.default_rng(0)
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(20), np.arange(10)))
    events = make_events(1000 * np.arange(200), x, y, np.ones(200))
    sizes = set()
    for _ in range(200):
        left = changed(replace(NOTHING, crop=0.5), events, (20, 10), rng)
        width, height = (int(np.ptp(left[axis])) + 1 for axis in "xy")
        assert len(left) == width * height
        sizes.add((width, height))
    assert {width for width, _ in sizes} == set(range(10, 21))
    assert {height for _, height in sizes} == set(range(5, 11))
    factors = []
    for _ in range(50):
        faster = changed(replace(NOTHING, time_scale=0.5), events, (20, 10), rng)
        assert faster["t"][-1] == events["t"][-1]
        assert (np.diff(faster["t"]) >= 0).all()
        factors.append((faster["t"][-1] - faster["t"][0]) / 199_000)
    assert np.exp(-0.5) <= min(factors) < 0.75
    assert 1.35 < max(factors) <= np.exp(0.5) + 1e-6


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(rotation=20, shear=0, scale=0, shift=0, drop=0),
        Augmentation(rotation=0, shear=0.3, scale=0.3, shift=0.1, drop=0, mirror=True),
        replace(default_augmentation("gen1", "detection"), drop=0),
    ],
)
def test_boxes_follow_their_events(augmentation: Augmentation) -> None:
    """Every box holds the events of its object, and is no larger than the upright rectangle around them."""
    rng = np.random.default_rng(1)
    sensor = (80, 60)
    boxes = make_boxes((10, 20, 21, 11), (50, 5, 8, 30))
    # Each object is a filled rectangle; its number is told by the polarity.
    pixels = [
        (x, y, n)
        for n, (x0, y0, w, h) in enumerate([(10, 20, 21, 11), (50, 5, 8, 30)])
        for x in range(x0, x0 + w)
        for y in range(y0, y0 + h)
    ]
    x, y, n = np.array(pixels).T
    events = make_events(np.arange(len(x)), x, y, n)
    kept = 0
    for _ in range(60):
        sample = replace(augmentation, invert=False)(EventSample(events, None, boxes), sensor, rng)
        assert sample.boxes is not None
        assert sample.events["x"].max(initial=0) < 80
        assert sample.events["y"].max(initial=0) < 60
        for box, (x0, y0, x1, y1) in zip(sample.boxes, corners_of(sample.boxes).astype(float), strict=True):
            own = sample.events[sample.events["p"] == box["class_id"]]
            kept += 1
            assert len(own)
            assert 0 <= x0 < x1 <= 80 + 1e-3
            assert 0 <= y0 < y1 <= 60 + 1e-3
            # Rounding to pixels moves an event by half a pixel, and enlarging leaves gaps of one between two.
            for low, high, axis in ((x0, x1, "x"), (y0, y1, "y")):
                assert low - 1 <= own[axis].min() <= low + 2.5
                assert high - 3.5 <= own[axis].max() <= high
    assert kept > 60


def test_boxes_of_which_little_is_left_are_gone_and_others_clipped() -> None:
    rng = np.random.default_rng(2)
    boxes = make_boxes((0, 10, 20, 20), (40, 20, 20, 20))
    shares = set()
    for _ in range(300):
        sample = replace(NOTHING, shift=0.3)(EventSample(make_events(*np.zeros((4, 0))), None, boxes), (100, 100), rng)
        assert sample.boxes is not None
        assert 1 in sample.boxes["class_id"]
        for box in sample.boxes[sample.boxes["class_id"] == 0]:
            shares.add(round(float(box["w"] * box["h"]) / 400, 2))
    assert 0.25 <= min(shares) < 0.3
    assert max(shares) == 1
    assert_array_equal(boxes, make_boxes((0, 10, 20, 20), (40, 20, 20, 20)))


def test_a_mirrored_graph_is_that_of_the_mirrored_events() -> None:
    rng = np.random.default_rng(3)
    count = 200
    x, y = rng.integers(0, 30, count), rng.integers(0, 20, count)
    events = make_events(np.sort(rng.integers(0, 9000, count)), x, y, rng.integers(0, 2, count))
    graph = GraphConfig(radius=4, max_neighbors=400, time_scale=1e-3, window=20_000)
    boxes = make_boxes((3, 4, 10, 8))
    data = labelled_graph(EventSample(events, None, boxes), graph)
    mirrored, there = events.copy(), make_boxes((30 - 13, 4, 10, 8))
    mirrored["x"] = 29 - x
    wanted = labelled_graph(EventSample(mirrored, None, there), graph)
    seen = set()
    for _ in range(30):
        found = replace(NOTHING, mirror=True, invert=True).of_graph(data, (30, 20), rng)
        sides = "mirrored" if torch.equal(found.pos, wanted.pos) else "as it was"
        expected = wanted if sides == "mirrored" else data
        assert torch.equal(found.pos, expected.pos)
        assert torch.equal(found.boxes, expected.boxes)
        assert edges(found) == edges(expected)
        opposite = torch.equal(found.x, -data.x)
        assert opposite or torch.equal(found.x, data.x)
        seen.add((sides, opposite))
    assert len(seen) == 4


def edges(data) -> set[tuple[int, ...]]:
    """Edges with their attributes in millionths, in no order."""
    attributes = (data.edge_attr * 1e6).round().long().T
    return set(zip(*data.edge_index.tolist(), *attributes.tolist(), strict=True))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shear": -0.1}, "shear must be a number of at least 0, found -0.1"),
        ({"mirror": 1}, "mirror must be true or false, found 1"),
        ({"crop": 1.5}, "crop must be a share of at most 1, found 1.5"),
        ({"zoom": 2}, "unknown changes zoom; known are rotation, shear"),
        ({7: 2, "zoom": 2}, "unknown changes 7, zoom; known are rotation, shear"),
    ],
)
def test_wrong_values_are_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation.from_dict(values)


def test_a_change_of_speed_keeps_the_moment_of_boxes_and_changes_the_time_before_it() -> None:
    rng = np.random.default_rng(4)
    events = make_events(1000 * np.arange(11), *np.ones((3, 11), int))
    sample = EventSample(events, None, make_boxes((1, 1, 5, 5)), 20_000)
    gaps = set()
    for _ in range(50):
        found = replace(NOTHING, time_scale=0.5)(sample, (34, 34), rng)
        assert found.time == 20_000
        gap, length = 20_000 - found.events["t"][-1], np.ptp(found.events["t"])
        assert abs(gap - length) <= 1  # both were 10 ms
        gaps.add(int(gap))
    assert 10_000 * np.exp(-0.5) - 1 <= min(gaps) < 7_500
    assert 13_500 < max(gaps) <= 10_000 * np.exp(0.5) + 1
