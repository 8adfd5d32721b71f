"""Recordings of a data set as training samples: changed at random, then made a graph."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset
from torch_geometric.data import Data

from aegnn_core.datasets import EventDataset
from aegnn_core.graph import GraphConfig, build_graph
from aegnn_core.training.augmentation import Augmentation

__all__ = ["ChangedRecordings", "RecordedSamples"]


class RecordedSamples(Dataset[Data]):
    """Graphs of whole recordings with ``y [1]``, read, changed and built when they are asked for.

    Torch's random numbers, which the loader seeds, choose the changes.

    Args:
        dataset: recordings with labels.
        graph: the rule.
        augmentation: changes the events.
    """

    def __init__(self, dataset: EventDataset, graph: GraphConfig, augmentation: Augmentation) -> None:
        self._dataset, self._graph, self._augmentation = dataset, graph, augmentation

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, number: int) -> Data:
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        return _changed_graph(self._dataset, number, self._graph, self._augmentation, rng)


class ChangedRecordings(Dataset[list[Data]]):
    """A fixed number of changed recordings: all of a data set in turn, each time changed in another way.

    An item is one graph with ``y [1]``, in a list.

    Args:
        dataset: recordings with labels.
        graph: the rule.
        augmentation: changes the events.
        seed: of the changes. A smaller number of recordings are the first of a larger.
        recordings: how many.
    """

    def __init__(
        self, dataset: EventDataset, graph: GraphConfig, augmentation: Augmentation, seed: int, recordings: int
    ) -> None:
        if recordings < 1:
            raise ValueError(f"recordings must be at least 1, found {recordings}")
        self._dataset, self._graph, self._augmentation = dataset, graph, augmentation
        self._seed, self._recordings = seed, recordings

    def __len__(self) -> int:
        return self._recordings

    def __getitem__(self, number: int) -> list[Data]:
        rng = np.random.default_rng([self._seed, number])
        return [_changed_graph(self._dataset, number % len(self._dataset), self._graph, self._augmentation, rng)]


def _changed_graph(
    dataset: EventDataset, number: int, graph: GraphConfig, augmentation: Augmentation, rng: np.random.Generator
) -> Data:
    recording = dataset[number]
    data = build_graph(augmentation(recording.stream.events, dataset.form.sensor, rng), graph)
    data.y = torch.tensor([recording.label])
    return data
