# SPDX-License-Identifier: Apache-2.0
"""Scenes of real recordings: every car has its box, hides what is behind it, and four scenes fit side by side."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from aegnn_core import GraphConfig
from aegnn_core.datasets import ncars_scenes, open_dataset
from aegnn_core.datasets.dataset_format import BOX_DTYPE
from aegnn_core.datasets.ncars_scenes import NCarsScenes, compose_street, tile_scenes
from aegnn_core.datasets.samples import EventSample
from aegnn_core.events import make_events
from aegnn_core.events.simulation import SceneConfig
from tests.datasets.tiny_datasets import write_ncars

SENSOR = (160, 120)


def recording(width: int, height: int, count: int, seed: int, p: int = 1) -> np.ndarray:
    """Events of one polarity all over a crop, within 100 ms."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 100_000, count))
    x, y = rng.integers(0, width, count), rng.integers(0, height, count)
    x[0], y[0] = width - 1, height - 1
    return make_events(t, x, y, np.full(count, p))


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera without noise."""
    monkeypatch.setattr(ncars_scenes, "draw_noise_hz", lambda rng: 0.0)


@pytest.mark.usefixtures("quiet")
def test_cars_lie_in_their_boxes_and_hide_the_background() -> None:
    cars = [recording(60, 30, 4000, seed) for seed in range(2)]
    backgrounds = [recording(110, 100, 4000, 9, p=0) for _ in range(4)]
    found = 0
    for seed in range(20):
        sample = compose_street(cars, backgrounds, SENSOR, 75_000, np.random.default_rng(seed))
        events, boxes = sample.events, sample.boxes
        assert boxes is not None
        assert (np.diff(events["t"]) >= 0).all()
        assert events["t"].min() > 0
        assert events["t"].max() <= 75_000
        assert events["x"].max() < 160
        assert events["y"].max() < 120
        assert boxes.dtype == BOX_DTYPE
        assert (boxes["t"] == sample.time).all()
        assert sample.time == 75_000
        assert (boxes["class_id"] == 0).all()
        for box in boxes:
            x, y = events["x"].astype(int), events["y"].astype(int)
            right, lower = box["x"] + box["w"], box["y"] + box["h"]
            inside = (x >= box["x"]) & (x < right) & (y >= box["y"]) & (y < lower)
            # Those of one polarity: the cars' alone.
            assert len(set(events["p"][inside])) == 1
            assert np.count_nonzero(inside) >= 0.05 * box["w"] * box["h"]
            found += 1
    assert found > 20


def test_nothing_to_place_is_noise_without_boxes() -> None:
    sample = compose_street([], [], SENSOR, 50_000, np.random.default_rng(0))
    assert sample.boxes is not None
    assert len(sample.boxes) == 0
    assert len(sample.events) < 4.0 * 160 * 120 * 0.05 * 1.2
    empty = compose_street([make_events(*np.empty((4, 0), int))], [], SENSOR, 50_000, np.random.default_rng(0))
    assert len(empty.boxes) == 0


@pytest.mark.usefixtures("quiet")
def test_a_car_that_a_camera_hardly_sees_has_no_box(monkeypatch: pytest.MonkeyPatch) -> None:
    cars = [recording(60, 40, 1500, 1)]
    monkeypatch.setattr(ncars_scenes, "_INSENSITIVE", 1.0)
    seen = []
    for least in (0.9, 1e-4):
        monkeypatch.setattr(ncars_scenes, "_LEAST_EVENTS", least)
        seen.append([compose_street(cars, [], SENSOR, 75_000, np.random.default_rng(seed)) for seed in range(20)])
    assert sum(len(sample.events) for sample in seen[1]) < sum(len(sample.events) for sample in seen[0]) / 2
    boxes = [sum(len(sample.boxes) for sample in samples if sample.boxes is not None) for samples in seen]
    assert 0 < boxes[1] < boxes[0]


def test_four_scenes_side_by_side_are_half_as_large() -> None:
    boxes = np.zeros(2, BOX_DTYPE)
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = [40, 100], [20, 100], [60, 6], [30, 6]
    samples = []
    for number in range(4):
        events = recording(160, 120, 9000, number, p=number % 2)
        events["t"] += 10_000 * number
        samples.append(EventSample(events, None, boxes, int(events["t"][-1]) + 7_000 * (number == 2)))
    tiled = tile_scenes(samples, SceneConfig())
    assert tiled.boxes is not None
    # The smaller boxes have become too small.
    assert sorted(zip(tiled.boxes["x"].tolist(), tiled.boxes["y"].tolist(), strict=True)) == [
        (20, 10), (20, 70), (100, 10), (100, 70),
    ]  # fmt: skip
    assert set(tiled.boxes["w"].tolist()) == {30}
    left = tiled.events["x"] < 80
    assert set(tiled.events["p"][left]) == {0}
    assert set(tiled.events["p"][~left]) == {1}
    assert 0 < len(tiled.events) < 36_000 / 3
    # They end together.
    ends = [tiled.events["t"][left == side].max() for side in (True, False)]
    assert abs(ends[0] - ends[1]) < 5_000
    assert tiled.time == samples[3].time
    assert (tiled.boxes["t"] == tiled.time).all()
    third = tiled.events["t"][left & (tiled.events["y"] >= 60)].max()
    assert 7_000 <= tiled.time - third < 12_000  # as long as its last event was before its moment


def test_samples_are_fixed_by_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("training", "validation"):
        write_ncars(tmp_path, split)
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    dataset = open_dataset("ncars", "training", task="recognition")
    graph = GraphConfig(radius=0.5, max_neighbors=1, window=100_000)
    first, again, other = (
        list(islice(NCarsScenes(dataset, graph, seed, scenes=2, in_memory=kept), 6))
        for seed, kept in ((1, False), (1, True), (2, False))
    )
    # Those that are kept in memory are the same.
    assert all(torch.equal(a.pos, b.pos) and torch.equal(a.boxes, b.boxes) for a, b in zip(first, again, strict=True))
    assert not all(a.pos.shape == b.pos.shape for a, b in zip(first, other, strict=True))
    assert len(dataset.joined(open_dataset("ncars", "validation", task="recognition"))) == 4
