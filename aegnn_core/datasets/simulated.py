"""Simulated scenes as training samples: graphs of a moment with its boxes, or of a recording with its label."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, product

import numpy as np
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from torch_geometric.data import Data

from aegnn_core.datasets.samples import corners_of, with_boxes, with_label
from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.events.simulation import SceneConfig, SimulatedSample, simulate_recognition, simulate_scene
from aegnn_core.graph import GraphConfig, build_graph

__all__ = ["HELD_OUT_SEED", "SimulatedRecordings", "SimulatedSamples"]

#: Scenes with seeds from here on are never trained on.
HELD_OUT_SEED = 1_000_000
_MOMENTS_PER_SCENE = 6
_MIXED = 64


class SimulatedSamples(IterableDataset[Data]):
    """Endless samples for one task, in an order that the seed fixes.

    A detection sample is a moment of a scene: the graph of the events before it (the window, and some of what preceded
    it, as a live model would have seen it), with ``boxes [M, 4]`` (x0, y0, x1, y1 px) and ``classes [M]``. A
    recognition sample is a whole short recording with ``y [1]``. Half of them are mirrored, half have their polarity
    inverted.

    Args:
        task: ``"detection"`` or ``"recognition"``.
        graph: the rule; for detection it needs a ``window``.
        seed: of the order and of everything else.
        scene: of the detection scenes.
    """

    def __init__(self, task: str, graph: GraphConfig, seed: int, scene: SceneConfig | None = None) -> None:
        if task == "detection" and graph.window is None:
            raise ValueError("training a detector on scenes needs a graph with a window, found None")
        self.task, self.graph, self.seed = task, graph, seed
        self.scene = scene or SceneConfig()

    def __iter__(self) -> Iterator[Data]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        rng = np.random.default_rng([self.seed, number])
        samples = self._detection(rng) if self.task == "detection" else self._recognition(rng)
        # Moments of one scene look alike: mix those of several before they meet in a batch.
        mixed: list[Data] = []
        for sample in samples:
            if len(mixed) < _MIXED // workers:
                mixed.append(sample)
                continue
            n = int(rng.integers(len(mixed)))
            yield mixed[n]
            mixed[n] = sample

    def _detection(self, rng: np.random.Generator) -> Iterator[Data]:
        window = self.graph.window
        assert window is not None
        width = self.scene.sensor.width
        for _ in count():
            scene = simulate_scene(int(rng.integers(HELD_OUT_SEED)), self.scene)
            events, boxes = scene.stream.events, scene.boxes
            period = self.scene.box_period_us
            moments = np.arange(-(-window // period) * period, self.scene.duration_us, period)
            for moment in rng.choice(moments, min(_MOMENTS_PER_SCENE, len(moments)), replace=False):
                begin = moment - window - int(rng.integers(window // 2 + 1))
                first, last = np.searchsorted(events["t"], [begin, moment])
                seen = boxes[boxes["t"] == moment]
                corners = corners_of(seen)
                mirror = bool(rng.integers(2))
                if mirror:
                    corners[:, [0, 2]] = width - corners[:, [2, 0]]
                data = build_graph(_augment(events[first:last], mirror, bool(rng.integers(2)), width), self.graph)
                yield with_boxes(data, corners, seen["class_id"])

    def _recognition(self, rng: np.random.Generator) -> Iterator[Data]:
        for _ in count():
            sample = simulate_recognition(int(rng.integers(HELD_OUT_SEED)))
            for mirror, invert in product((False, True), repeat=2):
                yield _labelled_graph(sample, self.graph, mirror, invert)


class SimulatedRecordings(Dataset[list[Data]]):
    """A fixed number of simulated recordings for recognition.

    An item is two graphs of one recording with ``y [1]``, with opposite polarity and the other way round: the recording
    and its inverted mirror image, and with every second recording its mirror image and its inverse.

    Args:
        graph: the rule.
        seed: of the choice of recordings. A smaller number of them are the first of a larger.
        recordings: how many.
    """

    def __init__(self, graph: GraphConfig, seed: int, recordings: int) -> None:
        if not 0 < recordings <= HELD_OUT_SEED:
            raise ValueError(f"recordings must be from 1 to {HELD_OUT_SEED}, found {recordings}")
        self.graph = graph
        self._seeds = np.random.default_rng(seed).permutation(HELD_OUT_SEED)[:recordings]

    def __len__(self) -> int:
        return len(self._seeds)

    def __getitem__(self, number: int) -> list[Data]:
        sample = simulate_recognition(int(self._seeds[number]))
        mirror = number % 2 == 1
        return [_labelled_graph(sample, self.graph, mirror != invert, invert) for invert in (False, True)]


def _labelled_graph(sample: SimulatedSample, graph: GraphConfig, mirror: bool, invert: bool) -> Data:
    data = build_graph(_augment(sample.stream.events, mirror, invert, sample.stream.width), graph)
    return with_label(data, sample.label)


def _augment(events: np.ndarray, mirror: bool, invert: bool, width: int) -> np.ndarray:
    """The events seen in a mirror, or with dark and bright exchanged."""
    changed = np.empty(len(events), EVENT_DTYPE)
    changed[:] = events
    if mirror:
        changed["x"] = width - 1 - changed["x"]
    if invert:
        changed["p"] = 1 - changed["p"]
    return changed
