# SPDX-License-Identifier: Apache-2.0
"""Recordings with the truth at some of their moments: from simulated scenes, and from data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aegnn_core.datasets.event_dataset import EventDataset
from aegnn_core.datasets.simulated import HELD_OUT_SEED
from aegnn_core.events.simulation import (
    CLASSES,
    RECOGNITION_CLASSES,
    RECOGNITION_SCENE,
    SceneConfig,
    simulate_recognition,
    simulate_scene,
)

__all__ = ["LabelledMoments", "LabelledRecordings", "dataset_moments", "simulated_moments"]

#: The window has to fill before a scene's boxes count [µs], and they are looked at this often [µs].
_FIRST_US, _PERIOD_US = 100_000, 50_000


@dataclass(frozen=True)
class LabelledMoments:
    """A recording, and the truth at some of its moments.

    Attributes:
        events: all of it.
        moments: sensor times [µs], ascending.
        truth: at each moment the class, or the boxes as an array with x, y, w, h [px] and class_id.
    """

    events: np.ndarray
    moments: Sequence[int]
    truth: Sequence[int] | Sequence[np.ndarray]


@dataclass(frozen=True)
class LabelledRecordings:
    """Recordings to evaluate a model on.

    Attributes:
        name: of the data set.
        part: of it: the split, or the seeds.
        labels: names of the classes.
        sensor: width and height [px].
        task: ``"recognition"`` or ``"detection"``.
        read: makes an iterator over the recordings.
        count: their number.
        counts: which boxes, true or predicted, count at all, from their w and h [px]; None for all.
        evaluated_labels: of the classes whose average precision the mean is of; None for all.
    """

    name: str
    part: str
    labels: tuple[str, ...]
    sensor: tuple[int, int]
    task: str
    read: Callable[[], Iterator[LabelledMoments]]
    count: int
    counts: Callable[[np.ndarray, np.ndarray], NDArray[np.bool_]] | None = None
    evaluated_labels: tuple[str, ...] | None = None

    def counting(self, boxes: np.ndarray) -> np.ndarray:
        """Those of the boxes ``[M]`` that count."""
        return boxes if self.counts is None else boxes[self.counts(boxes["w"], boxes["h"])]


def simulated_moments(
    task: str,
    count: int,
    seed: int = HELD_OUT_SEED,
    config: SceneConfig | None = None,
    camera: tuple[int, int] | None = None,
) -> LabelledRecordings:
    """Simulated recordings with the seeds ``seed, seed + 1, …``: the class at their end, or boxes every 50 ms.

    Args:
        task: ``"recognition"`` or ``"detection"``.
        count: how many.
        seed: of the first; seeds below :data:`aegnn_core.datasets.simulated.HELD_OUT_SEED` may have been trained on.
        config: of the scenes, or of the recordings.
        camera: width and height [px] of a camera that sees the same scenes, see
            :meth:`aegnn_core.events.simulation.SceneConfig.for_camera`; None for the configuration's own.

    Raises:
        ValueError: no positive number of recordings.
    """
    if count < 1:
        raise ValueError(f"the number of simulated recordings is {count}, expected at least 1")
    seeds = range(seed, seed + count)
    part = f"seeds {seeds.start} to {seeds.stop - 1}"
    labels: tuple[str, ...]
    if task == "recognition":
        simulate, labels, config = _recording, RECOGNITION_CLASSES, config or RECOGNITION_SCENE
    else:
        simulate, labels, config = _scene, CLASSES, config or SceneConfig()

    if camera is not None:
        config = config.for_camera(camera)
        part += ", seen by a camera of {} x {} px".format(*camera)

    def read() -> Iterator[LabelledMoments]:
        return (simulate(number, config) for number in seeds)

    size = (config.sensor.width, config.sensor.height)
    return LabelledRecordings("simulated", part, labels, size, task, read, count)


def _recording(seed: int, config: SceneConfig) -> LabelledMoments:
    sample = simulate_recognition(seed, config)
    return LabelledMoments(sample.stream.events, [_end(sample.stream.events)], [sample.label])


def _scene(seed: int, config: SceneConfig) -> LabelledMoments:
    scene = simulate_scene(seed, config)
    moments = range(_FIRST_US, config.duration_us, _PERIOD_US)
    return LabelledMoments(
        scene.stream.events, moments, [scene.boxes[scene.boxes["t"] == moment] for moment in moments]
    )


def dataset_moments(dataset: EventDataset, task: str, most: int | None = None) -> LabelledRecordings:
    """The recordings of a data set: the class at their end, or boxes whenever there are boxes that count.

    Args:
        dataset: a split of it.
        task: ``"recognition"`` or ``"detection"``.
        most: at most so many recordings, evenly spread over the split; None for all.

    Raises:
        ValueError: no positive number of recordings.
    """
    if most is not None and most < 1:
        raise ValueError(f"the number of recordings is {most}, expected at least 1")
    form, size = dataset.form, len(dataset)
    count = size if most is None else min(most, size)
    part = dataset.split if count == size else f"{dataset.split}, evenly spread over all {size}"
    numbers = [n * size // count for n in range(count)]

    def read() -> Iterator[LabelledMoments]:
        for number in numbers:
            recording = dataset[number]
            events = recording.stream.events
            if recording.boxes is None:
                assert recording.label is not None
                yield LabelledMoments(events, [_end(events)], [recording.label])
                continue
            boxes = form.boxes_by_moment(recording.boxes)
            yield LabelledMoments(events, list(boxes), list(boxes.values()))

    return LabelledRecordings(
        form.name,
        part,
        form.labels,
        form.sensor,
        task,
        read,
        count,
        form.counts,
        form.evaluated_labels,
    )


def _end(events: np.ndarray) -> int:
    return int(events["t"][-1]) if len(events) else 0
