"""Recordings of a data set as training samples: changed at random each time, then made a graph."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset
from torch_geometric.data import Data

from aegnn_core.datasets import EventDataset
from aegnn_core.graph import GraphConfig, build_graph
from aegnn_core.training.augmentation import Augmentation

__all__ = ["RecordedSamples"]


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
        recording = self._dataset[number]
        events = self._augmentation(recording.stream.events, self._dataset.form.sensor, rng)
        data = build_graph(events, self._graph)
        data.y = torch.tensor([recording.label])
        return data
