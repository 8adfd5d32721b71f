# SPDX-License-Identifier: Apache-2.0
"""Street scenes to train detectors on: real cars and backgrounds of N-Cars on a canvas, besides simulated scenes.

N-Cars (Sironi et al., CVPR 2018) has recordings of 100 ms, cut out around a car or somewhere else, of which the corner
lies at the origin. Here several of them are put on one sensor, smaller or larger, mirrored, faster or slower. A car's
box is where the car was placed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info
from torch_geometric.data import Data

from aegnn_core.datasets.dataset_format import BOX_DTYPE
from aegnn_core.datasets.event_dataset import EventDataset
from aegnn_core.datasets.samples import EventSample, GraphMaker, labelled_graph
from aegnn_core.datasets.simulated import SimulatedSamples, mixed
from aegnn_core.events.array import EVENT_DTYPE, make_events
from aegnn_core.events.downsampling import INTEGRATION_THRESHOLD, LEAST_THRESHOLD, integrate, project
from aegnn_core.events.letterbox import Letterbox
from aegnn_core.events.simulation import CLASSES, NOISE_SPREAD, SceneConfig, draw_noise_hz
from aegnn_core.graph import GraphConfig

__all__ = ["NCarsScenes", "compose_street", "tile_scenes"]

#: Shares of the samples: real recordings on a canvas, and four simulated scenes side by side, seen from further away.
#: The others are single simulated scenes.
_REAL, _TILED = 0.35, 0.15

#: Share of the simulated scenes that other cameras see.
_VARIED = 0.7

_MIXED = 64
_CAR = CLASSES.index("car")

#: Widths of cars and of pieces of background on the canvas [px], the logarithm evenly spread.
_CAR_WIDTH, _BACKGROUND_WIDTH = (12.0, 110.0), (20.0, 110.0)
#: How many of each there are at most; the speed changes by up to this factor.
_MOST_CARS, _MOST_BACKGROUNDS, _SPEED = 3, 6, 1.7
#: Share of the samples without any background, as a camera that stands still sees a street; and of those with a share
#: of their events, from here to all, as a less sensitive camera has.
_STILL, _INSENSITIVE, _LEAST_EVENTS = 0.3, 0.5, 0.15
#: Cars do not overlap by more than this share of the smaller one, and are on the canvas with at least that share.
_LARGEST_OVERLAP, _LEAST_SHARE = 0.2, 0.6
#: What has fewer events per pixel than this is nothing to be seen.
_LEAST_SEEN = 0.05
#: Smaller boxes [px] are left out.
_LEAST_SIDE_PX = 4.0
#: Thresholds of the pixels that integrate, of which scenes side by side are made [events per pixel].
_THRESHOLD = (LEAST_THRESHOLD, 1.0)


class NCarsScenes(IterableDataset[Data]):
    """Endless detection samples, in an order that the seed fixes: graphs with ``boxes`` and ``classes``.

    Args:
        recordings: of N-Cars, opened for recognition.
        graph: the rule, with a ``window``.
        seed: of the order and of everything else.
        scenes: how many different simulated scenes there are, see :class:`SimulatedSamples`.
        make: makes graphs of the samples.
        in_memory: whether recordings and scenes are kept once they have been read or simulated.
    """

    def __init__(
        self,
        recordings: EventDataset,
        graph: GraphConfig,
        seed: int,
        scenes: int | None = None,
        make: GraphMaker = labelled_graph,
        in_memory: bool = False,
    ) -> None:
        self._simulated = SimulatedSamples("detection", graph, seed, scenes=scenes, varied=_VARIED, in_memory=in_memory)
        self._in_memory, self._kept = in_memory, dict[int, np.ndarray]()
        self._graph, self._seed, self._recordings, self._make = graph, seed, recordings, make
        labels = [recording.label for recording in recordings.recordings]
        self._cars, self._backgrounds = (
            [number for number, label in enumerate(labels) if label == wanted]
            for wanted in (recordings.form.labels.index("car"), recordings.form.labels.index("background"))
        )

    def __iter__(self) -> Iterator[Data]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        rng = np.random.default_rng([self._seed, number, 1])
        return (self._make(sample, self._graph) for sample in self._samples(number, workers, rng))

    def _samples(self, number: int, workers: int, rng: np.random.Generator) -> Iterator[EventSample]:
        scene = self._simulated.scene
        simulated = mixed(self._simulated.samples(number, workers), _MIXED // workers, rng)
        while True:
            kind = rng.random()
            if kind < _REAL:
                yield self._street(scene, rng)
            elif kind < _REAL + _TILED:
                yield tile_scenes([next(simulated) for _ in range(4)], scene, rng.uniform(*_THRESHOLD))
            else:
                yield next(simulated)

    def _street(self, scene: SceneConfig, rng: np.random.Generator) -> EventSample:
        most_backgrounds = 0 if rng.random() < _STILL else _MOST_BACKGROUNDS
        cars, backgrounds = (
            [self._read(int(number)) for number in rng.choice(known, rng.integers(most + 1))]
            for known, most in ((self._cars, _MOST_CARS), (self._backgrounds, most_backgrounds))
        )
        assert self._graph.window is not None
        memory = self._graph.window + self._graph.window // 2
        return compose_street(cars, backgrounds, (scene.sensor.width, scene.sensor.height), memory, rng)

    def _read(self, number: int) -> np.ndarray:
        if number in self._kept:
            return self._kept[number]
        events = self._recordings[number].stream.events
        if self._in_memory:
            self._kept[number] = events
        return events


def compose_street(
    cars: list[np.ndarray],
    backgrounds: list[np.ndarray],
    sensor: tuple[int, int],
    memory_us: int,
    rng: np.random.Generator,
) -> EventSample:
    """Put recordings on one sensor; each ends at the same moment, and what is older than ``memory_us`` is left out.

    Args:
        cars, backgrounds: events ``[N]`` of recordings of which the corner lies at the origin.
        sensor: width and height [px].
        memory_us: how far back the sample reaches [µs].
        rng: chooses places, sizes, speeds, noise, how sensitive the camera is, and whether ON and OFF change places.

    Returns:
        Events until the time ``memory_us``, with a box for each car that found a place.
    """
    share = float(np.exp(rng.uniform(np.log(_LEAST_EVENTS), 0))) if rng.random() < _INSENSITIVE else 1.0
    placed = [_put(events, _BACKGROUND_WIDTH, sensor, memory_us, share, rng)[0] for events in backgrounds]
    corners: list[np.ndarray] = []
    for events in cars:
        put, place = _put(events, _CAR_WIDTH, sensor, memory_us, share, rng)
        inside = np.clip(place, 0, [*sensor, *sensor])
        hidden = _area(inside) < _LEAST_SHARE * _area(place) or len(put) < _LEAST_SEEN * _area(inside)
        if hidden or any(_overlap(inside, c) > _LARGEST_OVERLAP for c in corners):
            continue
        # A car hides what is behind it.
        placed = [part[~_within(part, inside)] for part in placed]
        placed.append(put)
        corners.append(inside)
    events = np.concatenate([np.empty(0, EVENT_DTYPE), *placed])
    events = np.concatenate([events, _noise(sensor, memory_us, rng)])
    events = events[np.argsort(events["t"], kind="stable")]
    if rng.integers(2):
        events["p"] = 1 - events["p"]
    boxes = _boxes(np.array(corners).reshape(-1, 4), np.full(len(corners), _CAR), memory_us)
    return EventSample(events, None, boxes, memory_us)


def tile_scenes(
    samples: list[EventSample], config: SceneConfig, threshold: float = INTEGRATION_THRESHOLD
) -> EventSample:
    """Four samples of scenes by ``config`` side by side on one sensor, each half as wide and high.

    They end at the same moment. They are halved in size by pixels that integrate, as those of the node do, with a
    ``threshold`` in events per pixel.
    """
    width, height = config.sensor.width, config.sensor.height
    half = (width // 2, height // 2)
    letterbox = Letterbox((width, height), half)
    parts, boxes = [], []
    end = max(sample.moment for sample in samples)
    for number, sample in enumerate(samples):
        left, top = (number % 2) * half[0], (number // 2) * half[1]
        small = integrate(sample.events, letterbox, threshold)
        small["x"] += left
        small["y"] += top
        small["t"] += end - sample.moment
        parts.append(small)
        assert sample.boxes is not None
        moved = letterbox.to_model(sample.boxes)
        moved["x"] += left
        moved["y"] += top
        moved["t"] = end
        boxes.append(moved[np.minimum(moved["w"], moved["h"]) >= _LEAST_SIDE_PX])
    events = np.concatenate(parts)
    return EventSample(events[np.argsort(events["t"], kind="stable")], None, np.concatenate(boxes), end)


def _put(
    events: np.ndarray,
    widths: tuple[float, float],
    sensor: tuple[int, int],
    end: int,
    share: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """A recording at a random place and of a random width, its last event at ``end``; and its corners ``[4]`` [px].

    Of the events, a ``share`` is kept.
    """
    side = np.array([int(events["x"].max()) + 1, int(events["y"].max()) + 1]) if len(events) else np.ones(2, int)
    # Enlarged recordings would have holes.
    width = min(np.exp(rng.uniform(*np.log(widths))), side[0])
    size = np.maximum(1, np.rint(side * width / side[0])).astype(int)
    corner = rng.integers(-size // 2, np.array(sensor) - size // 2 + 1)
    if rng.integers(2):
        events = events.copy()
        events["x"] = side[0] - 1 - events["x"]
    letterbox = Letterbox((int(side[0]), int(side[1])), (int(size[0]), int(size[1])))
    small = integrate(events, letterbox) if letterbox.shrinks else project(events, letterbox)
    speed = np.exp(rng.uniform(-1, 1) * np.log(_SPEED))
    last = int(events["t"][-1]) if len(events) else 0
    t = end - np.rint((last - small["t"]) / speed).astype(np.int64)
    x, y = small["x"].astype(np.int64) + corner[0], small["y"].astype(np.int64) + corner[1]
    seen = (x >= 0) & (y >= 0) & (x < sensor[0]) & (y < sensor[1]) & (t > 0)
    if share < 1:
        seen &= rng.random(len(seen)) < share
    return make_events(t[seen], x[seen], y[seen], small["p"][seen]), np.concatenate([corner, corner + size])


def _noise(sensor: tuple[int, int], end: int, rng: np.random.Generator) -> np.ndarray:
    """Shot noise, of which some pixels make more than others."""
    pixels = sensor[0] * sensor[1]
    rates = np.exp(rng.uniform(*NOISE_SPREAD) * rng.standard_normal(pixels))
    per_pixel = rng.poisson(rates * (draw_noise_hz(rng) * end * 1e-6 / rates.mean()))
    where = np.repeat(np.arange(pixels), per_pixel)
    t = rng.integers(1, end + 1, len(where))
    return make_events(t, where % sensor[0], where // sensor[0], rng.integers(0, 2, len(where)))


def _boxes(corners: np.ndarray, classes: np.ndarray, t: int) -> np.ndarray:
    boxes = np.zeros(len(corners), BOX_DTYPE)
    boxes["t"], boxes["class_id"], boxes["track_id"] = t, classes, np.arange(len(corners))
    boxes["x"], boxes["y"] = corners[:, :2].T
    boxes["w"], boxes["h"] = (corners[:, 2:] - corners[:, :2]).T
    large: NDArray[np.bool_] = np.minimum(boxes["w"], boxes["h"]) >= _LEAST_SIDE_PX
    return boxes[large]


def _area(corners: np.ndarray) -> float:
    return float(np.clip(corners[2:] - corners[:2], 0, None).prod())


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """The share of the smaller of two boxes that lies in the other."""
    shared = _area(np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])]))
    return shared / max(1e-9, min(_area(a), _area(b)))


def _within(events: np.ndarray, corners: np.ndarray) -> NDArray[np.bool_]:
    x, y = events["x"], events["y"]
    inside: NDArray[np.bool_] = (x >= corners[0]) & (y >= corners[1]) & (x < corners[2]) & (y < corners[3])
    return inside
