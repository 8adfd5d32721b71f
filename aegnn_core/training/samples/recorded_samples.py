# SPDX-License-Identifier: Apache-2.0
"""Samples of a data set to train with: changed at random, then made a graph or counted, or from stored graphs."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from aegnn_core.datasets.samples import EventSample, EventSamples, GraphMaker, labelled_graph
from aegnn_core.graph import GraphConfig
from aegnn_core.graph.build import first_live
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.training.samples.augmentation import Augmentation

__all__ = ["ChangedRecordings", "ChangedStoredGraphs", "CountedSamples", "RecordedSamples"]


class RecordedSamples(Dataset[Data]):
    """Graphs of samples with their labels, read, changed and built when they are accessed.

    Torch's random numbers, which the loader seeds, choose the changes.

    Args:
        samples: of a data set.
        augmentation: changes the samples; None leaves them as they are.
        make: makes graphs of them.
    """

    def __init__(
        self, samples: EventSamples, augmentation: Augmentation | None, make: GraphMaker = labelled_graph
    ) -> None:
        self._samples, self._augmentation, self._make = samples, augmentation, make

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> Data:
        return self._make(self.changed(number), self._samples.graph)

    def changed(self, number: int) -> EventSample:
        """A sample before it becomes a graph."""
        sample = self._samples[number]
        if self._augmentation is None:
            return sample
        return self._augmentation(sample, self._samples.dataset.form.sensor, _random_numbers())


class CountedSamples(Dataset[tuple[Tensor, Tensor]]):
    """The images ``[C, rows, columns]`` that the head of a recogniser without layers on events sees, and labels ``[]``.

    They are what the network makes of the samples' graphs, without the graphs. For a sample's events, NumPy takes half
    to two thirds of the time of :class:`aegnn_core.nn.pooling.CountPooling`.

    Args:
        samples: of a data set, changed at random.
        network: without layers on events.
        graph: the rule, which says which events are live.
    """

    def __init__(self, samples: RecordedSamples, network: GraphNetwork, graph: GraphConfig) -> None:
        if not network.only_counts:
            raise ValueError("samples are counted for a network that only counts events, found one with other layers")
        assert network.counts is not None
        self._samples, self._counts, self._graph = samples, network.counts, graph

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        sample = self._samples.changed(number)
        t = sample.events["t"].astype(np.int64)
        first = first_live(t, self._graph, sample.moment)
        live, age = sample.events[first:], t[-1:] - t[first:]
        (width, height), (columns, rows) = self._counts.size, self._counts.shape
        column, row = np.floor_divide(live["x"], width).astype(int), np.floor_divide(live["y"], height).astype(int)
        channel = 2 * np.searchsorted(self._counts.least_ages, age, "right") + (live["p"] > 0)
        shape = (self._counts.channels, rows, columns)
        counts = np.bincount((channel * rows + row) * columns + column, minlength=math.prod(shape))
        image = np.log1p(counts.reshape(shape), dtype=np.float32)
        return torch.from_numpy(image), torch.tensor(sample.label)


class ChangedStoredGraphs(Dataset[Data]):
    """Stored graphs with the changes that leave their edges as they are, see :meth:`Augmentation.of_graph`.

    Args:
        graphs: of a data set.
        augmentation: changes them.
        sensor: width and height [px].
    """

    def __init__(self, graphs: Dataset[Data], augmentation: Augmentation, sensor: tuple[int, int]) -> None:
        self._graphs, self._augmentation, self._sensor = graphs, augmentation, sensor

    def __len__(self) -> int:
        return len(self._graphs)  # type: ignore[arg-type]  # torch's type has no length, those of map style have

    def __getitem__(self, number: int) -> Data:
        return self._augmentation.of_graph(self._graphs[number], self._sensor, _random_numbers())


class ChangedRecordings(Dataset[list[Data]]):
    """A fixed number of changed recordings: all of a data set in turn, each time changed in another way.

    An item is one graph with ``y [1]``, in a list.

    Args:
        samples: of a data set, for recognition.
        augmentation: changes the events.
        seed: of the changes. A smaller number of recordings are the first of a larger.
        recordings: how many.
    """

    def __init__(self, samples: EventSamples, augmentation: Augmentation, seed: int, recordings: int) -> None:
        if recordings < 1:
            raise ValueError(f"recordings must be at least 1, found {recordings}")
        self._samples, self._augmentation = samples, augmentation
        self._seed, self._recordings = seed, recordings

    def __len__(self) -> int:
        return self._recordings

    def __getitem__(self, number: int) -> list[Data]:
        rng = np.random.default_rng([self._seed, number])
        sample = self._samples[number % len(self._samples)]
        changed = self._augmentation(sample, self._samples.dataset.form.sensor, rng)
        return [labelled_graph(changed, self._samples.graph)]


def _random_numbers() -> np.random.Generator:
    return np.random.default_rng(int(torch.randint(2**62, ())))
