# SPDX-License-Identifier: Apache-2.0
"""Simulated scenes as training samples: graphs of a moment with its boxes, or of a recording with its label."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, cycle, product

import numpy as np
from torch.utils.data import Dataset, IterableDataset, get_worker_info
from torch_geometric.data import Data

from aegnn_core.datasets.samples import EventSample, GraphMaker, labelled_graph
from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.events.simulation import (
    SceneConfig,
    SimulatedSample,
    SimulatedScene,
    simulate_recognition,
    simulate_scene,
    vary_camera,
)
from aegnn_core.graph import GraphConfig

__all__ = ["HELD_OUT_SEED", "SimulatedRecordings", "SimulatedSamples", "mixed", "scene_moments"]

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
        scenes: how many different scenes, or recordings, are looked at again and again; None for no end of new ones.
        make: makes graphs of the samples.
        varied: share of the detection scenes that other cameras see, see
            :func:`aegnn_core.events.simulation.vary_camera`.
        in_memory: whether detection scenes are kept, about 0.7 MB each, instead of simulated anew for each look.
    """

    def __init__(
        self,
        task: str,
        graph: GraphConfig,
        seed: int,
        scene: SceneConfig | None = None,
        scenes: int | None = None,
        make: GraphMaker = labelled_graph,
        varied: float = 0.0,
        in_memory: bool = False,
    ) -> None:
        if task == "detection" and graph.window is None:
            raise ValueError("training a detector on scenes needs a graph with a window, found None")
        self.task, self.graph, self.seed, self.scenes = task, graph, seed, scenes
        self.scene, self._make = scene or SceneConfig(), make
        self._varied, self._in_memory = varied, in_memory and scenes is not None

    def __iter__(self) -> Iterator[Data]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        rng = np.random.default_rng([self.seed, number, 2])
        # Moments of one scene look alike: those of several scenes are mixed before they are batched.
        samples = mixed(self.samples(number, workers), _MIXED // workers, rng)
        return (self._make(sample, self.graph) for sample in samples)

    def samples(self, number: int, workers: int) -> Iterator[EventSample]:
        """Those of one of the ``workers``, without graphs and not yet mixed."""
        rng = np.random.default_rng([self.seed, number])
        return self._moments(number, workers, rng) if self.task == "detection" else self._recordings(number, workers)

    def _seeds(self, number: int, workers: int) -> Iterator[int]:
        """Random numbers for the scenes of one of the ``workers``, so that the scenes do not depend on their use."""
        rng = np.random.default_rng([self.seed, number, 0])
        if self.scenes is None:
            return (int(rng.integers(HELD_OUT_SEED)) for _ in count())
        share = len(range(number, max(self.scenes, workers), workers))
        return cycle([int(rng.integers(HELD_OUT_SEED)) for _ in range(share)])

    def _moments(self, number: int, workers: int, rng: np.random.Generator) -> Iterator[EventSample]:
        kept: dict[int, SimulatedScene] = {}
        for seed in self._seeds(number, workers):
            config = self._seen_by_a_camera(seed)
            scene = kept.get(seed) or simulate_scene(seed, config)
            if self._in_memory:
                kept[seed] = scene
            yield from scene_moments(scene, config, self.graph, rng)

    def _seen_by_a_camera(self, seed: int) -> SceneConfig:
        """The configuration of a seed's scene, with its camera: a scene keeps it, however often it is used."""
        rng = np.random.default_rng([seed, 1])
        return vary_camera(self.scene, rng) if rng.random() < self._varied else self.scene

    def _recordings(self, number: int, workers: int) -> Iterator[EventSample]:
        for seed in self._seeds(number, workers):
            sample = simulate_recognition(seed)
            for mirror, invert in product((False, True), repeat=2):
                yield _changed_recording(sample, mirror, invert)


def scene_moments(
    scene: SimulatedScene, config: SceneConfig, graph: GraphConfig, rng: np.random.Generator
) -> Iterator[EventSample]:
    """Some moments of a scene by ``config``, with the events before them that matter to a ``graph`` with a window."""
    window = graph.window
    assert window is not None
    events, width = scene.stream.events, config.sensor.width
    # Where the window is longer than a part of the scene, there is a time before its first event.
    first = min(window, config.duration_us // 3)
    moments = np.arange(-(-first // config.box_period_us), config.duration_us / config.box_period_us, dtype=np.int64)
    for moment in config.box_period_us * rng.choice(moments, min(_MOMENTS_PER_SCENE, len(moments)), replace=False):
        begin = moment - window - int(rng.integers(window // 2 + 1))
        start, stop = np.searchsorted(events["t"], [begin, moment])
        boxes = scene.boxes[scene.boxes["t"] == moment].copy()
        mirror = bool(rng.integers(2))
        if mirror:
            boxes["x"] = width - boxes["x"] - boxes["w"]
        seen = _changed(events[start:stop], mirror, bool(rng.integers(2)), width)
        yield EventSample(seen, None, boxes, int(moment))


def mixed(samples: Iterator[EventSample], size: int, rng: np.random.Generator) -> Iterator[EventSample]:
    """The samples in another order: each replaces a random one of ``size`` waiting samples, which is yielded.

    One waits at least, also where ``size`` is a process's share of less than one.
    """
    waiting: list[EventSample] = []
    for sample in samples:
        if len(waiting) < max(1, size):
            waiting.append(sample)
            continue
        n = int(rng.integers(len(waiting)))
        yield waiting[n]
        waiting[n] = sample


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
        samples = (_changed_recording(sample, mirror != invert, invert) for invert in (False, True))
        return [labelled_graph(changed, self.graph) for changed in samples]


def _changed_recording(sample: SimulatedSample, mirror: bool, invert: bool) -> EventSample:
    return EventSample(_changed(sample.stream.events, mirror, invert, sample.stream.width), sample.label, None)


def _changed(events: np.ndarray, mirror: bool, invert: bool, width: int) -> np.ndarray:
    """The events seen in a mirror, or with dark and bright exchanged."""
    changed = np.empty(len(events), EVENT_DTYPE)
    changed[:] = events
    if mirror:
        changed["x"] = width - 1 - changed["x"]
    if invert:
        changed["p"] = 1 - changed["p"]
    return changed
