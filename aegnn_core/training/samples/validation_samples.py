# SPDX-License-Identifier: Apache-2.0
"""Samples to validate with: the same ones each time, numbered, so that several processes can share them."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset
from torch_geometric.data import Data

from aegnn_core.datasets.samples import EventSample, labelled_graph, sample_events
from aegnn_core.datasets.simulated import HELD_OUT_SEED
from aegnn_core.events.simulation import SceneConfig, simulate_recognition, simulate_scene
from aegnn_core.graph import GraphConfig

__all__ = ["HeldOutScenes", "NumberedGraphs"]

#: Evaluation counts up from ``HELD_OUT_SEED``; what chooses the best weights must be other scenes.
_FIRST_SEED = HELD_OUT_SEED + 1_000_000

#: The window has to fill before a scene's boxes count [µs], and a scene is looked at at one of these times.
_FIRST_US, _PERIOD_US = 100_000, 50_000


class HeldOutScenes(Dataset[Data]):
    """Graphs of simulated recordings that neither training nor evaluation sees, or of one moment of a scene each.

    Their events stay in memory once they have been asked for.

    Args:
        task: ``"recognition"`` or ``"detection"``.
        graph: the rule.
        count: how many.
    """

    def __init__(self, task: str, graph: GraphConfig, count: int) -> None:
        self._task, self._graph, self._count = task, graph, count
        self._samples: dict[int, EventSample] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Data:
        if number not in self._samples:
            make = _simulate_moment if self._task == "detection" else _simulate_recording
            self._samples[number] = make(number, self._graph)
        return labelled_graph(self._samples[number], self._graph)


class NumberedGraphs(Dataset[Data]):
    """At most ``count`` graphs of a data set, evenly spread over it, each with its ``number [1]``.

    Args:
        graphs: to choose from.
        count: how many to choose.
    """

    def __init__(self, graphs: Dataset[Data], count: int) -> None:
        size = len(graphs)  # type: ignore[arg-type]  # torch's type has no length, those of map style have
        count = min(count, size)
        self._graphs = graphs
        self._numbers = [n * size // count for n in range(count)]

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Data:
        data = self._graphs[self._numbers[number]]
        data.number = torch.tensor([number])
        return data


def _simulate_recording(number: int, graph: GraphConfig) -> EventSample:
    sample = simulate_recognition(_FIRST_SEED + number)
    return EventSample(sample.stream.events, sample.label, None)


def _simulate_moment(number: int, graph: GraphConfig) -> EventSample:
    config = SceneConfig()
    scene = simulate_scene(_FIRST_SEED + number, config)
    moments = range(_FIRST_US, config.duration_us, _PERIOD_US)
    moment = moments[number % len(moments)]
    events = sample_events(scene.stream.events, moment, graph)
    return EventSample(events, None, scene.boxes[scene.boxes["t"] == moment], moment)
