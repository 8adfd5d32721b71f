"""Pooling of a graph's nodes on grids fixed at the sensor's origin."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from numba import njit
from torch import Tensor, nn

__all__ = ["GridPooling", "PooledGraph", "VoxelPooling", "cells_of", "grid_shape", "segment_max"]


class PooledGraph(NamedTuple):
    """``x [M, C]``, ``pos [M, 3]`` px, ``edge_index [2, F]``, ``edge_attr [F, 3]`` and ``batch [M]``, pooled."""

    x: Tensor
    pos: Tensor
    edge_index: Tensor
    edge_attr: Tensor
    batch: Tensor


def grid_shape(sensor: tuple[int, int], size: tuple[float, float]) -> tuple[int, int]:
    """Columns and rows of the voxels of ``size`` (width, height) px that cover a sensor of (width, height) px."""
    return math.ceil(sensor[0] / size[0]), math.ceil(sensor[1] / size[1])


@njit(cache=True, nogil=True)
def _segment_max(x, segment, out, winner):
    for i in range(len(segment)):
        s = segment[i]
        for c in range(x.shape[1]):
            if winner[s, c] < 0 or x[i, c] > out[s, c]:
                out[s, c] = x[i, c]
                winner[s, c] = i


class _CompiledSegmentMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, segment, segments):
        out = x.new_zeros(segments, x.shape[1])
        winner = torch.full(out.shape, -1, dtype=torch.long)
        _segment_max(x.detach().contiguous().numpy(), segment.contiguous().numpy(), out.numpy(), winner.numpy())
        ctx.save_for_backward(winner)
        ctx.nodes = len(x)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out):
        (winner,) = ctx.saved_tensors
        grad = grad_out.new_zeros(ctx.nodes, grad_out.shape[1])
        if ctx.nodes:  # a batch of empty graphs has no winner
            grad.scatter_add_(0, winner.clamp(min=0), torch.where(winner >= 0, grad_out, 0))
        return grad, None, None


def segment_max(x: Tensor, segment: Tensor, segments: int) -> Tensor:
    """Maximum of ``x [N, C]`` over the nodes of each segment, ``segment [N]`` in [0, segments) → ``[segments, C]``.

    A segment without nodes is 0. Where several nodes hold the maximum, one of them gets the gradient (CPU) or they
    share it (other devices).
    """
    if x.device.type == "cpu":
        return _CompiledSegmentMax.apply(x, segment, segments)
    out = x.new_zeros(segments, x.shape[1])
    return out.scatter_reduce(0, segment[:, None].expand_as(x), x, "amax", include_self=False)


def cells_of(pos: Tensor, size: tuple[float, float], shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Column and row of every node's voxel, from ``pos [N, >=2]`` px."""
    column = torch.floor(pos[:, 0] / size[0]).long()
    row = torch.floor(pos[:, 1] / size[1]).long()
    outside = (column < 0) | (row < 0) | (column >= shape[0]) | (row >= shape[1])
    if bool(outside.any()):
        x, y = pos[int(outside.nonzero()[0, 0]), :2].tolist()
        raise ValueError(
            f"a node at ({x:g}, {y:g}) px lies outside the grid of {shape[0]} x {shape[1]} voxels"
            f" of {size[0]:g} x {size[1]:g} px: the network was made for a smaller sensor"
        )
    return column, row


class VoxelPooling(nn.Module):
    """Max pooling of nodes into voxels of the image plane, and of edges between them (AEGNN, section 3.1).

    A pooled node exists for every voxel with a node, its features the maximum over them. A pooled edge A → B, A ≠ B,
    exists where an edge does. Edge attributes are ``clamp(offset / (2 · size) + 1/2, 0, 1)``, the offset from B to A in
    px and the size the voxel's, so they depend on the two voxels alone. A voxel spans all of time: its third
    coordinate is 0.

    Args:
        sensor: sensor width and height [px].
        size: voxel width and height [px].
        position: of a pooled node: ``"center"`` of its voxel's part on the sensor, or ``"mean"`` of its nodes (the
            paper's). With the mean, the time axis (β·t, px) is scaled by the larger side of the voxel.
    """

    def __init__(self, sensor: tuple[int, int], size: tuple[float, float], position: str = "center") -> None:
        super().__init__()
        if min(size) <= 0 or min(sensor) <= 0:
            raise ValueError(f"voxel size and sensor size must be positive, found {size} and {sensor}")
        if position not in ("center", "mean"):
            raise ValueError(f"position must be center or mean, found {position!r}")
        self.sensor, self.size, self.position = sensor, size, position
        self.shape = grid_shape(sensor, size)

    def forward(self, x: Tensor, pos: Tensor, edge_index: Tensor, batch: Tensor, batch_size: int) -> PooledGraph:
        """Pool ``x [N, C]`` at ``pos [N, 3]`` px with ``edge_index [2, E]`` and ``batch [N]``."""
        columns, rows = self.shape
        column, row = cells_of(pos, self.size, self.shape)
        voxel = (batch * rows + row) * columns + column
        voxels = batch_size * rows * columns
        occupied = torch.zeros(voxels, dtype=torch.bool, device=x.device)
        occupied[voxel] = True
        kept = occupied.nonzero()[:, 0]
        number = torch.full((voxels,), -1, dtype=torch.long, device=x.device)
        number[kept] = torch.arange(len(kept), device=x.device)
        node = number[voxel]
        pooled = segment_max(x, node, len(kept))

        if self.position == "center":
            pooled_pos = self.centers(kept % (rows * columns), pos.dtype)
        else:
            count = torch.bincount(node, minlength=len(kept)).to(pos.dtype)
            pooled_pos = pos.new_zeros(len(kept), 3).index_add(0, node, pos) / count[:, None]

        source, target = self._edges(edge_index, column, row, voxel, voxels)
        edges = torch.stack([number[source], number[target]])
        edge_attr = self.edge_attributes(pooled_pos[edges[0]] - pooled_pos[edges[1]])
        return PooledGraph(pooled, pooled_pos, edges, edge_attr, kept // (rows * columns))

    def centers(self, voxels: Tensor, dtype: torch.dtype) -> Tensor:
        """Positions ``[M, 3]`` px of the centres of voxels, numbered by rows: of their parts on the sensor."""
        columns, _ = self.shape
        centers = torch.zeros(len(voxels), 3, dtype=dtype, device=voxels.device)
        for axis, cell in enumerate((voxels % columns, voxels // columns)):
            upper = ((cell + 1) * self.size[axis]).clamp(max=self.sensor[axis])
            centers[:, axis] = (cell * self.size[axis] + upper) / 2
        return centers

    def edge_attributes(self, offset: Tensor) -> Tensor:
        """Attributes of pooled edges from their ``offset [F, 3]`` px, the source's position minus the target's."""
        scale = 2 * offset.new_tensor([self.size[0], self.size[1], max(self.size)])
        return (offset / scale + 0.5).clamp(0, 1)

    def _edges(
        self, edge_index: Tensor, column: Tensor, row: Tensor, voxel: Tensor, voxels: int
    ) -> tuple[Tensor, Tensor]:
        """Source and target voxel of every pooled edge, by target. A table of the few offsets replaces sorting."""
        source, target = edge_index[0], edge_index[1]
        dx, dy = column[source] - column[target], row[source] - row[target]
        if not len(dx):
            return source, target
        reach = int(torch.maximum(dx.abs().max(), dy.abs().max()))
        side = 2 * reach + 1
        present = torch.zeros(voxels * side * side, dtype=torch.bool, device=voxel.device)
        present[(voxel[target] * side + dy + reach) * side + dx + reach] = True
        present.view(voxels, -1)[:, (side * side) // 2] = False
        key = present.nonzero()[:, 0]
        pooled_target = key // (side * side)
        dy, dx = key // side % side - reach, key % side - reach
        return pooled_target + dy * self.shape[0] + dx, pooled_target

    def extra_repr(self) -> str:
        return f"{self.size[0]:g} x {self.size[1]:g} px, {self.position}"


class GridPooling(nn.Module):
    """Maximum over each cell of a fixed grid, empty cells 0: from any number of nodes to one image of features.

    With ``ages`` above 1 there are as many grids, one behind the other: the first for the nodes that are younger than
    ``age``, seen from the youngest node of their graph, the next for those below twice that, and the last for all that
    are older. What has moved is then not pooled on top of itself.

    Args:
        sensor: sensor width and height [px].
        shape: columns and rows of the grid.
        ages: parts of the time axis.
        age: length of such a part [px of the time axis, β · µs].
        size: width and height of a cell [px], where the cells of the last column or row may reach beyond the sensor; by
            default the sensor is divided evenly.

    Raises:
        ValueError: ``ages`` below 1, or ``age`` that is not positive.
    """

    def __init__(
        self,
        sensor: tuple[int, int],
        shape: tuple[int, int],
        ages: int = 1,
        age: float = 3.0,
        size: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        if ages < 1 or not 0 < age < math.inf:
            raise ValueError(f"a grid needs at least one part of a positive age, found {ages} of {age}")
        self.sensor, self.shape, self.ages, self.age = sensor, shape, ages, age
        self.size = size or (sensor[0] / shape[0], sensor[1] / shape[1])

    @property
    def least_ages(self) -> list[float]:
        """The ages [px] at which all parts but the first begin."""
        return [part * self.age for part in range(1, self.ages)]

    def forward(self, x: Tensor, pos: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """``x [N, C]`` at ``pos [N, 3]`` px with ``batch [N]`` → ``[batch_size, ages · C, rows, columns]``."""
        columns, rows = self.shape
        column, row = cells_of(pos, self.size, self.shape)
        part = batch
        if self.ages > 1:
            time = pos[:, 2]
            youngest = time.new_zeros(batch_size).scatter_reduce(0, batch, time, "amax", include_self=False)
            least = time.new_tensor(self.least_ages)
            part = batch * self.ages + torch.bucketize(youngest[batch] - time, least, right=True)
        cells = segment_max(x, (part * rows + row) * columns + column, batch_size * self.ages * rows * columns)
        return cells.view(batch_size, self.ages, rows, columns, -1).permute(0, 1, 4, 2, 3).flatten(1, 2)

    def extra_repr(self) -> str:
        ages = "" if self.ages == 1 else f", {self.ages} ages of {self.age:g} px"
        return f"{self.shape[0]} x {self.shape[1]} cells{ages}"
