# SPDX-License-Identifier: Apache-2.0
"""Features of frozen event layers, computed once for all recordings, to train the layers behind them on."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch_geometric.data import Data

from aegnn_core.datasets.simulated import SimulatedRecordings
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.training.samples.loader_process import start_loader_process
from aegnn_core.training.samples.recorded_samples import ChangedRecordings

__all__ = ["PooledFeatures"]


class _Image(NamedTuple):
    """The cells ``[M]`` that hold events, row by row, their features ``[M, C]``, and the label."""

    cell: NDArray[np.int32]
    features: NDArray[np.float16]
    label: int


class PooledFeatures(Dataset[tuple[Tensor, Tensor]]):
    """The grids of features ``[C, rows, columns]`` that a network's head sees, with their labels ``[]``.

    All of them stay in memory: the cells with events, in half precision, about 0.1 MB for 5000 events on 120 × 100 px.
    They come shifted by a random number of whole cells, which torch's random numbers choose; what leaves the grid is
    lost.

    Args:
        network: whose event layers and grid to use; in evaluation mode as far as the event layers go.
        recordings: what to compute them for.
        workers: processes that compute, 0 for none.
        shift: largest shift along either axis, as a share of the grid's columns; whole cells.

    Raises:
        ValueError: the network has more than a grid between its event layers and the head.
    """

    def __init__(
        self, network: GraphNetwork, recordings: SimulatedRecordings | ChangedRecordings, workers: int, shift: float
    ) -> None:
        if network.reads_edges or network.grid is None or network.counts is not None:
            raise ValueError(
                "features can be pooled once if nothing but a grid lies behind the event layers, as in graph_grid;"
                " found a network that pools graphs or counts events"
            )
        self._columns, self._rows = network.grid.shape
        self._shift = round(shift * self._columns)
        loader: DataLoader[Any] = DataLoader(
            _PooledRecordings(network, recordings),
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=start_loader_process,
        )
        self._images: list[_Image] = [
            image for images in track(loader, "Pooling features", transient=True) for image in images
        ]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        cell, features, label = self._images[number]
        right, down = torch.randint(-self._shift, self._shift + 1, (2,)).tolist()
        column, row = cell % self._columns + right, cell // self._columns + down
        inside = (column >= 0) & (column < self._columns) & (row >= 0) & (row < self._rows)
        grid = np.zeros((features.shape[1], self._rows, self._columns), np.float32)
        grid[:, row[inside], column[inside]] = features[inside].T
        return torch.from_numpy(grid), torch.tensor(label)


class _PooledRecordings(Dataset[list[_Image]]):
    """The images of one recording after the other, for worker processes."""

    def __init__(self, network: GraphNetwork, recordings: SimulatedRecordings | ChangedRecordings) -> None:
        self._recordings = recordings
        blocks = list(network.event_blocks)
        self._until_head = GraphNetwork(
            network.sensor, network.task, network.dim, blocks, [], network.grid, torch.nn.Identity()
        )

    def __len__(self) -> int:
        return len(self._recordings)

    def __getitem__(self, number: int) -> list[_Image]:
        return [self._pool(graph) for graph in self._recordings[number]]

    @torch.no_grad()
    def _pool(self, graph: Data) -> _Image:
        features = self._until_head(graph)[0].flatten(1).T.numpy()
        cell = features.any(1).nonzero()[0].astype(np.int32)
        return _Image(cell, features[cell].astype(np.float16), int(graph.y))


def _as_it_is(item: Any) -> Any:
    return item
