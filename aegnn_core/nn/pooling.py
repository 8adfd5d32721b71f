# SPDX-License-Identifier: Apache-2.0
"""Pooling of a graph's nodes on grids fixed at the sensor's origin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aegnn_core.machine_code import kernel
from aegnn_core.nn.groups import grouped
from aegnn_core.torch_threads import Team, in_shares, torch_team

__all__ = [
    "POOLINGS",
    "CountPooling",
    "GridPooling",
    "PooledGraph",
    "VoxelPooling",
    "age_parts",
    "cells_of",
    "even_ages",
    "grid_shape",
    "segment_max",
]


#: Nodes, or segments of them, that are worth it to be shared by threads.
_LEAST_SHARED = 1024


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


@kernel(error_model="numpy")
def _maxima(
    first: int, last: int, start: NDArray[np.int64], item: NDArray[np.int32], x: np.ndarray, out: np.ndarray,
    winner: NDArray[np.int32],
) -> None:  # fmt: skip
    for s in range(first, last):
        if start[s] == start[s + 1]:
            out[s], winner[s] = 0, -1
            continue
        out[s], winner[s] = x[item[start[s]]], item[start[s]]
        for n in range(start[s] + 1, start[s + 1]):
            i = item[n]
            for c in range(x.shape[1]):  # without a branch, which nobody could guess
                is_larger = x[i, c] > out[s, c]
                out[s, c] = x[i, c] if is_larger else out[s, c]
                winner[s, c] = i if is_larger else winner[s, c]


@kernel(error_model="numpy")
def _segment_max(
    team: Team, start: NDArray[np.int64], item: NDArray[np.int32], x: np.ndarray, out: np.ndarray,
    winner: NDArray[np.int32],
) -> None:  # fmt: skip
    """``winner`` is the first item of a segment with the maximum, or -1; a ``team`` of threads shares the segments."""
    in_shares(team, 0, len(out), _LEAST_SHARED, _maxima, (start, item, x, out, winner))


@kernel(error_model="numpy")
def _gradients_of_winners(
    first: int, last: int, segment: NDArray[np.int64], winner: NDArray[np.int32], grad_out: np.ndarray,
    grad: np.ndarray,
) -> None:  # fmt: skip
    for i in range(first, last):
        s = segment[i]
        for c in range(grad.shape[1]):
            grad[i, c] = grad_out[s, c] if winner[s, c] == i else 0


@kernel(error_model="numpy")
def _segment_max_backward(
    team: Team, segment: NDArray[np.int64], winner: NDArray[np.int32], grad_out: np.ndarray, grad: np.ndarray
) -> None:
    in_shares(team, 0, len(grad), _LEAST_SHARED, _gradients_of_winners, (segment, winner, grad_out, grad))


class _CompiledSegmentMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, segment: Tensor, segments: int) -> Tensor:
        groups = grouped(segment.contiguous().numpy(), segments)
        out = x.new_empty(segments, x.shape[1])
        winner = torch.empty(out.shape, dtype=torch.int32, device="cpu")
        _segment_max(torch_team(), *groups, x.detach().contiguous().numpy(), out.numpy(), winner.numpy())
        ctx.save_for_backward(segment, winner)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, None, None]:
        segment, winner = ctx.saved_tensors
        grad = grad_out.new_empty(len(segment), grad_out.shape[1])
        _segment_max_backward(torch_team(), *(a.contiguous().numpy() for a in (segment, winner, grad_out, grad)))
        return grad, None, None


def segment_max(x: Tensor, segment: Tensor, segments: int) -> Tensor:
    """Maximum of ``x [N, C]`` over the nodes of each segment, ``segment [N]`` in [0, segments) → ``[segments, C]``.

    A segment without nodes is 0. Where several nodes hold the maximum, one of them gets the gradient (CPU) or they
    share it (other devices).
    """
    if x.device.type == "cpu" and x.element_size() > 2:  # compiled code knows no numbers of 16 bits
        maximum: Tensor = _CompiledSegmentMax.apply(x, segment, segments)  # type: ignore[no-untyped-call]
        return maximum
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


@kernel(error_model="numpy")
def _farthest_offset(edge_index: NDArray[np.int64], column: NDArray[np.int64], row: NDArray[np.int64]) -> int:
    """The largest distance between the ends of an edge along either axis, in voxels."""
    reach = 0
    for e in range(edge_index.shape[1]):
        j, i = edge_index[0, e], edge_index[1, e]
        reach = max(reach, abs(column[j] - column[i]), abs(row[j] - row[i]))
    return reach


@kernel(error_model="numpy")
def _mark_offsets(
    edge_index: NDArray[np.int64],
    column: NDArray[np.int64],
    row: NDArray[np.int64],
    voxel: NDArray[np.int64],
    reach: int,
    present: NDArray[np.bool_],
) -> None:
    """Set ``present [voxels, rows, columns]`` where an edge has that offset, plus ``reach``, from its target."""
    for e in range(edge_index.shape[1]):
        j, i = edge_index[0, e], edge_index[1, e]
        present[voxel[i], row[j] - row[i] + reach, column[j] - column[i] + reach] = True


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
        # In float32, whatever torch would make of a whole number times another in this process.
        for axis, cell in enumerate((voxels % columns, voxels // columns)):
            cell = cell.float()
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
        if not edge_index.shape[1]:
            return edge_index[0], edge_index[1]
        if voxel.device.type == "cpu":
            ends = edge_index.contiguous().numpy(), column.contiguous().numpy(), row.contiguous().numpy()
            reach = _farthest_offset(*ends)
            present = torch.zeros(voxels, 2 * reach + 1, 2 * reach + 1, dtype=torch.bool, device="cpu")
            _mark_offsets(*ends, voxel.numpy(), reach, present.numpy())
        else:
            source, target = edge_index[0], edge_index[1]
            dx, dy = column[source] - column[target], row[source] - row[target]
            reach = int(torch.maximum(dx.abs().max(), dy.abs().max()))
            present = torch.zeros(voxels, 2 * reach + 1, 2 * reach + 1, dtype=torch.bool, device=voxel.device)
            present[voxel[target], dy + reach, dx + reach] = True
        present[:, reach, reach] = False
        pooled_target, dy, dx = present.nonzero().t()
        return pooled_target + (dy - reach) * self.shape[0] + dx - reach, pooled_target

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


#: Parts of the past that settings and files may ask for.
_MOST_PARTS = 1_000


def even_ages(parts: int, length: float) -> list[int]:
    """Where the second of so many equally long parts of the past and those behind it begin [µs].

    Args:
        parts: 1 to 1000.
        length: of a part [µs].

    Raises:
        ValueError: another number of parts.
    """
    if not 1 <= parts <= _MOST_PARTS:
        raise ValueError(f"ages must be 1 to {_MOST_PARTS} parts of the past, found {parts}")
    return [round(part * length) for part in range(1, parts)]


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

        The image lies in memory with its channels last, as the convolutions behind it are fastest on a CPU.
        ``t [N]``, sensor times [µs, int64], are needed if the past has parts.
        """
        columns, rows = self.shape
        column, row = cells_of(pos, self.size, self.shape)
        cell = (batch * rows + row) * columns + column
        if self.least_ages:
            cell = cell * self.ages + age_parts(_needed(t), batch, batch_size, self.least_ages)
        cells = segment_max(x, cell, batch_size * rows * columns * self.ages)
        return cells.view(batch_size, rows, columns, self.ages * x.shape[1]).permute(0, 3, 1, 2)

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
        cell = ((batch * rows + row) * columns + column) * self.channels + 2 * part + (polarity[:, 0] > 0)
        counts = torch.bincount(cell, minlength=batch_size * rows * columns * self.channels)
        image = counts.to(polarity.dtype).log1p().view(batch_size, rows, columns, self.channels)
        return image.permute(0, 3, 1, 2)

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
