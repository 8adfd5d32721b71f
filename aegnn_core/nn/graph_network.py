# SPDX-License-Identifier: Apache-2.0
"""A network on the event graph that every engine knows: what its parts are, and what it computes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from aegnn_core.nn.blocks import BlockSequence
from aegnn_core.nn.event_network import EventNetwork
from aegnn_core.nn.heads import FlatHead
from aegnn_core.nn.pooling import CountPooling, GridPooling, VoxelPooling

__all__ = ["GraphNetwork"]


class GraphNetwork(EventNetwork):
    """Convolutions on the event graph, poolings with convolutions between them, a grid, and a head.

    ``event_blocks`` see single events: their features are what the live model computes as events arrive. Everything
    behind them, :meth:`readout`, works on the live nodes only and on few voxels.

    Args:
        sensor: width and height [px].
        task: ``"recognition"`` or ``"detection"``.
        dim: components of the edge attributes in use, 2 (image plane) or 3 (and time).
        event_blocks: blocks on events.
        stages: pairs of a pooling and the blocks behind it.
        grid: the last pooling, to an image of features; None if the head sees the counts alone.
        head: ``[B, C, rows, columns]`` → ``[B, classes]`` or ``[B, rows, columns, 5 + classes]``.
        counts: of the live events, on the same cells as the grid; the head sees them behind its features.

    Raises:
        ValueError: neither a grid nor counts, or counts of other cells than the grid's.
    """

    def __init__(
        self,
        sensor: tuple[int, int],
        task: str,
        dim: int,
        event_blocks: list[nn.Module],
        stages: list[tuple[VoxelPooling, list[nn.Module]]],
        grid: GridPooling | None,
        head: nn.Module,
        counts: CountPooling | None = None,
    ) -> None:
        super().__init__(sensor, task)
        shapes = {pooling.shape for pooling in (grid, counts) if pooling is not None}
        if len(shapes) != 1:
            raise ValueError(f"a network needs a grid, counts, or both on the same cells, found {grid} and {counts}")
        self.dim = dim
        self.event_blocks = BlockSequence(event_blocks)
        self.poolings = nn.ModuleList([pooling for pooling, _ in stages])
        self.voxel_blocks = nn.ModuleList([BlockSequence(blocks) for _, blocks in stages])
        self.grid = grid
        self.counts = counts
        self.head = head

    def forward(self, data: Data) -> Tensor:
        """The output for a graph or a batch of graphs from :func:`aegnn_core.graph.build_graph`.

        Returns:
            Recognition: class logits ``[B, classes]``. Detection: ``[B, rows, columns, 5 + classes]``, see
            :mod:`aegnn_core.nn.detection`.
        """
        polarity, pos, edge_index = data.x, data.pos, data.edge_index
        t = data.t if "t" in data else None
        x = self.event_blocks(polarity, edge_index, data.edge_attr)
        batch = data.batch if "batch" in data else torch.zeros(len(x), dtype=torch.long, device=x.device)
        batch_size = data.num_graphs if "batch" in data else 1
        if "live" in data and not bool(data.live.all()):
            live = data.live
            if self.reads_edges:
                number = torch.cumsum(live, 0) - 1
                edge_index = number[edge_index[:, live[edge_index[0]] & live[edge_index[1]]]]
            x, pos, batch, polarity = x[live], pos[live], batch[live], polarity[live]
            t = None if t is None else t[live]
        return self.readout(x, pos, edge_index, batch, batch_size, polarity=polarity, t=t)

    def readout(
        self,
        x: Tensor,
        pos: Tensor,
        edge_index: Tensor,
        batch: Tensor,
        batch_size: int,
        done: int = 0,
        *,
        polarity: Tensor | None = None,
        t: Tensor | None = None,
    ) -> Tensor:
        """The output from the features ``[N, C]`` of the live nodes at ``pos [N, 3]`` px and the edges between them.

        Args:
            x, pos, edge_index, batch, batch_size: the graph.
            done: the nodes are those behind so many poolings and the blocks that follow each.
            polarity: of the live events ``[N, 1]``, ±1; for counts.
            t: their sensor times ``[N]`` [µs, int64]; for parts of the past.
        """
        images = []
        if self.counts is not None:
            assert polarity is not None
            images.append(self.counts(polarity, pos, batch, batch_size, t))
        for pooling, blocks in list(zip(self.poolings, self.voxel_blocks, strict=True))[done:]:
            graph = pooling(x, pos, edge_index, batch, batch_size)
            x, pos, edge_index, batch = graph.x, graph.pos, graph.edge_index, graph.batch
            x = blocks(x, edge_index, graph.edge_attr)
        if self.grid is not None:
            images.insert(0, self.grid(x, pos, batch, batch_size, t))
        output: Tensor = self.head(images[0] if len(images) == 1 else torch.cat(images, 1))
        return output

    @property
    def reads_edges(self) -> bool:
        """Whether :meth:`readout` needs the edges between live nodes."""
        return len(self.poolings) > 0

    @property
    def only_counts(self) -> bool:
        """Whether the head sees the numbers of events and nothing else."""
        return self.counts is not None and self.grid is None and not len(self.event_blocks) and not self.reads_edges

    @property
    def needs_times(self) -> bool:
        """Whether :meth:`readout` needs the events' times: the past has parts."""
        return any(len(part.least_ages) > 0 for part in (self.grid, self.counts) if part is not None)

    @property
    def stride(self) -> tuple[float, float] | None:
        """Width and height [px] of the cells of a detector's output; None where they divide the sensor evenly."""
        steps = getattr(self.head, "stride", None)
        return None if steps is None else (steps * self.cell[0], steps * self.cell[1])

    @property
    def cell(self) -> tuple[float, float]:
        """Width and height [px] of a cell of what the head sees."""
        pooling = self.grid if self.grid is not None else self.counts
        assert pooling is not None
        return pooling.size

    @property
    def fits_any_sensor(self) -> bool:
        """Whether the same weights are right for a sensor of another size: the head has no weights of a place."""
        return not isinstance(self.head, FlatHead)

    @property
    def place_bound(self) -> str:
        """What binds a network that does not fit any sensor to its own, for messages."""
        return f"has a fully connected head, with weights for every place of its {' x '.join(map(str, self.sensor))}"
