# SPDX-License-Identifier: Apache-2.0
"""Pooling of a graph's nodes on grids fixed at the sensor's origin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aegnn_core.machine_code import kernel

__all__ = [
    "POOLINGS",
    "CountPooling",
    "GridPooling",
    "PooledGraph",
    "VoxelPooling",
    "age_parts",
    "cells_of",
    "grid_shape",
    "segment_max",
]


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


@kernel
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


def age_parts(t: Tensor, batch: Tensor, batch_size: int, least_ages: Sequence[int]) -> Tensor:
    """The part of the past in which every node lies, ``[N]``: how many of the ``least_ages`` [µs] it has reached.

    A node's age is counted from the youngest node of its graph, in whole microseconds: it does not depend on how long
    the stream has lasted.

    Args:
        t: sensor times [µs, int64] ``[N]``.
        batch: the graph of every node ``[N]``.
        batch_size: number of graphs.
        least_ages: ascending ages at which the second part and those behind it begin.
    """
    if not least_ages:
        return torch.zeros_like(batch)
    youngest = t.new_zeros(batch_size).scatter_reduce(0, batch, t, "amax", include_self=False)
    return torch.bucketize(youngest[batch] - t, t.new_tensor(list(least_ages)), right=True)


def check_least_ages(least_ages: Sequence[int]) -> tuple[int, ...]:
    """The ages [µs] at which parts of the past begin, if they are whole numbers, positive and ascending."""
    ages = tuple(least_ages)
    whole = all(isinstance(age, int) and not isinstance(age, bool) for age in ages)
    if not whole or not all(before < age for before, age in pairwise((0, *ages))):
        raise ValueError(f"parts of the past must begin at ascending whole ages above 0 µs, found {list(least_ages)}")
    return ages


class GridPooling(nn.Module):
    """Maximum over each cell of a fixed grid, empty cells 0: from any number of nodes to one image of features.

    With ``least_ages`` there are as many grids more, one behind the other: the first for the nodes that are younger
    than the first of these ages, seen from the youngest node of their graph, the last for all that have reached the
    last of them. What has moved is then not pooled on top of itself.

    Args:
        sensor: sensor width and height [px].
        shape: columns and rows of the grid.
        least_ages: ages at which the second part of the past and those behind it begin [µs].
        size: width and height of a cell [px], where the cells of the last column or row may reach beyond the sensor; by
            default the sensor is divided evenly.

    Raises:
        ValueError: ``least_ages`` that are not positive and ascending.
    """

    def __init__(
        self,
        sensor: tuple[int, int],
        shape: tuple[int, int],
        least_ages: Sequence[int] = (),
        size: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        self.sensor, self.shape, self.least_ages = sensor, shape, check_least_ages(least_ages)
        self.size = size or (sensor[0] / shape[0], sensor[1] / shape[1])

    @property
    def ages(self) -> int:
        """Number of parts of the past."""
        return len(self.least_ages) + 1

    def forward(self, x: Tensor, pos: Tensor, batch: Tensor, batch_size: int, t: Tensor | None = None) -> Tensor:
        """``x [N, C]`` at ``pos [N, 3]`` px with ``batch [N]`` → ``[batch_size, ages · C, rows, columns]``.

        ``t [N]``, sensor times [µs, int64], are needed if the past has parts.
        """
        columns, rows = self.shape
        column, row = cells_of(pos, self.size, self.shape)
        part = batch
        if self.least_ages:
            part = batch * self.ages + age_parts(_needed(t), batch, batch_size, self.least_ages)
        cells = segment_max(x, (part * rows + row) * columns + column, batch_size * self.ages * rows * columns)
        return cells.view(batch_size, self.ages, rows, columns, -1).permute(0, 1, 4, 2, 3).flatten(1, 2)

    def extra_repr(self) -> str:
        return f"{self.shape[0]} x {self.shape[1]} cells{_described(self.least_ages)}"


class CountPooling(nn.Module):
    """``log(1 + n)`` of the n live events in each cell of a fixed grid, per part of the past and polarity.

    The channels are those of the first part, OFF before ON, then those of the second. As in :class:`GridPooling`, parts
    begin at the ``least_ages``.

    Args:
        sensor: sensor width and height [px].
        size: width and height of a cell [px]; those of the last column or row may reach beyond the sensor.
        least_ages: ages at which the second part of the past and those behind it begin [µs].

    Raises:
        ValueError: ``least_ages`` that are not positive and ascending.
    """

    def __init__(
        self, sensor: tuple[int, int], size: tuple[float, float] = (1.0, 1.0), least_ages: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.sensor, self.size, self.least_ages = sensor, size, check_least_ages(least_ages)
        self.shape = grid_shape(sensor, size)

    @property
    def channels(self) -> int:
        """Of the image."""
        return 2 * (len(self.least_ages) + 1)

    def forward(self, polarity: Tensor, pos: Tensor, batch: Tensor, batch_size: int, t: Tensor | None = None) -> Tensor:
        """``polarity [N, 1]`` ±1 of events at ``pos [N, 3]`` px → ``[batch_size, channels, rows, columns]``.

        ``t [N]``, sensor times [µs, int64], are needed if the past has parts.
        """
        columns, rows = self.shape
        column, row = cells_of(pos, self.size, self.shape)
        part = age_parts(_needed(t), batch, batch_size, self.least_ages) if self.least_ages else torch.zeros_like(batch)
        channel = batch * self.channels + 2 * part + (polarity[:, 0] > 0)
        counts = torch.bincount(
            (channel * rows + row) * columns + column, minlength=batch_size * self.channels * rows * columns
        )
        return counts.to(polarity.dtype).log1p().view(batch_size, self.channels, rows, columns)

    def extra_repr(self) -> str:
        return f"{self.shape[0]} x {self.shape[1]} cells{_described(self.least_ages)}"


#: The kinds of pooling; whatever they do to a tensor is their work, one comparison or addition per node and channel.
POOLINGS = (VoxelPooling, GridPooling, CountPooling)


def _needed(t: Tensor | None) -> Tensor:
    if t is None:
        raise ValueError("a grid with parts of the past needs the events' times: data.t [N], sensor time in µs")
    return t


def _described(least_ages: Sequence[int]) -> str:
    return (
        f", parts of the past from {', '.join(f'{age / 1e3:g}' for age in (0, *least_ages))} ms" if least_ages else ""
    )
