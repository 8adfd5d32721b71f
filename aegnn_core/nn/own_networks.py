# SPDX-License-Identifier: Apache-2.0
"""The package's own networks: AEGNN's two with the paper's sizes, one with a convolutional head, and histograms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from aegnn_core.known_datasets import GEN1, NCALTECH101, NCARS, NMNIST, KnownDataset
from aegnn_core.nn.blocks import ConvBlock, Residual
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.heads import (
    DETECTION_GRID,
    PYRAMID_DEPTHS,
    ConvolutionalHead,
    FlatHead,
    PlacesHead,
    anywhere_head,
    check_dropout_used,
    image_head,
    linear_head,
)
from aegnn_core.nn.pooling import CountPooling, GridPooling, VoxelPooling, grid_shape

__all__ = ["DATASETS", "OWN_NETWORKS", "TASKS", "DatasetSize"]

TASKS = ("recognition", "detection")


@dataclass(frozen=True)
class DatasetSize:
    """What a network has to know of a data set, and AEGNN's layer sizes for it.

    Attributes:
        sensor: width and height [px].
        classes: number of classes per task that the data set has.
        kernel_size: spline kernels per dimension in ``graph_res``.
        channels: features after each of the seven convolutions of ``graph_res``.
        voxel: width and height of the pooling in ``graph_res`` [px].
    """

    sensor: tuple[int, int]
    classes: dict[str, int]
    kernel_size: int
    channels: tuple[int, ...]
    voxel: tuple[int, int] = (16, 12)


_SMALL = (8, 16, 16, 16, 32, 32, 32)
_LARGE = (16, 32, 32, 32, 128, 128, 128)


def _sized(known: KnownDataset, tasks: Sequence[str], kernel_size: int, channels: tuple[int, ...]) -> DatasetSize:
    return DatasetSize(known.sensor, dict.fromkeys(tasks, len(known.labels)), kernel_size, channels)


DATASETS = {
    "ncars": _sized(NCARS, ["recognition"], 2, _SMALL),
    "ncaltech101": _sized(NCALTECH101, TASKS, 8, _LARGE),
    "gen1": _sized(GEN1, TASKS, 8, _LARGE),
    "nmnist": replace(_sized(NMNIST, ["recognition"], 2, _SMALL), voxel=(4, 4)),
    "simulated": DatasetSize((160, 120), {"recognition": 3, "detection": 2}, 2, _SMALL, voxel=(8, 8)),
}

#: What is left out in the training of a ``graph_res`` with widths, unless it is said.
_WIDTHS_DROPOUT = 0.3

#: Below so many pixels a side, every pixel counts.
_SMALL_SENSOR = 64


def _convolution(dim: int, kernel_size: int, root_weight: bool) -> dict[str, Any]:
    """Arguments of a block's convolution.

    AEGNN's see the neighbours only: what an event has found, itself, is lost in the next layer unless its neighbours
    have found it, too, and one without neighbours is nothing. With ``root_weight``, an event's own features have
    weights as well, and there is a bias.
    """
    return {"dim": dim, "kernel_size": kernel_size, "root_weight": root_weight, "bias": root_weight}


def _event_blocks(channels: tuple[int, ...], convolution: dict[str, Any]) -> list[nn.Module]:
    """AEGNN's five convolutions on events, with a residual around the third and fourth."""
    c = (1, *channels)
    return [
        ConvBlock(c[0], c[1], **convolution),
        ConvBlock(c[1], c[2], **convolution),
        Residual([ConvBlock(c[2], c[3], **convolution), ConvBlock(c[3], c[4], **convolution)]),
        ConvBlock(c[4], c[5], **convolution),
    ]


def _graph_res(
    size: DatasetSize,
    task: str,
    num_classes: int,
    dim: int,
    voxel: tuple[float, float] | None = None,
    position: str = "center",
    cells: Sequence[int] | None = None,
    widths: Sequence[int] = (),
    dropout: float | None = None,
    halving: bool = False,
    erase: float = 0.0,
    root_weight: bool = False,
) -> GraphNetwork:
    """AEGNN's residual network (CVPR 2022, section 4): seven spline convolutions, pooling after five.

    ``cells`` are columns and rows of the last pooling, in each of which only the largest features remain, by default
    4 of each; AEGNN's head has weights for every one. With ``widths``, a recogniser has ordinary convolutions of so
    many features on the voxels instead, and looks at what they find anywhere; in training, a share ``dropout`` of that
    (0.3 if None) is left out, and a share ``erase`` of the images of voxels loses a rectangle. With ``halving``, the
    last three of the convolutions halve the resolution, and all have a residual block behind them, which suits small
    voxels. With ``root_weight``, convolutions see a node's own features, too.
    """
    convolution = _convolution(dim, size.kernel_size, root_weight)
    c = size.channels
    behind: list[nn.Module] = [Residual([ConvBlock(c[4], c[5], **convolution), ConvBlock(c[5], c[6], **convolution)])]
    pooling = VoxelPooling(size.sensor, voxel or size.voxel, position)
    if widths:
        if task != "recognition" or cells is not None:
            raise ValueError(f"widths {list(widths)} are for a recogniser without cells, found {task}, {cells}")
        if min(widths) < 1:
            raise ValueError(f"widths must be numbers of features, at least 1, found {list(widths)}")
        grid = GridPooling(size.sensor, pooling.shape, size=pooling.size)
        share = _WIDTHS_DROPOUT if dropout is None else dropout
        head: nn.Module = anywhere_head(c[6], widths, num_classes, share, halving, erase)
    else:
        if halving or erase or dropout:
            raise ValueError("halving, erase and dropout are for a recogniser with widths, found none")
        grid = GridPooling(size.sensor, _columns_and_rows((4, 4) if cells is None else cells))
        inputs = c[6] * grid.shape[0] * grid.shape[1]
        head = linear_head(inputs, task, num_classes)
    return GraphNetwork(size.sensor, task, dim, _event_blocks(c, convolution), [(pooling, behind)], grid, head)


def _columns_and_rows(cells: Sequence[int]) -> tuple[int, int]:
    if len(cells) != 2 or min(cells) < 1:
        raise ValueError(f"cells must be columns and rows, at least 1 of each, found {list(cells)}")
    return cells[0], cells[1]


def _graph_wen(size: DatasetSize, task: str, num_classes: int, dim: int, position: str = "center") -> GraphNetwork:
    """AEGNN's network after Wen: four convolutions of kernel size 4, each followed by a pooling of twice the size.

    The voxels are of the image plane only; AEGNN's also cut the time axis, which makes them depend on the time origin.
    """
    c = (1, 64, 128, 256, 512)
    convolution = _convolution(dim, 4, root_weight=True)
    blocks: list[nn.Module] = [ConvBlock(*sizes, **convolution) for sizes in pairwise(c)]
    stages = [
        (VoxelPooling(size.sensor, (2 ** (n + 2), 2 ** (n + 2)), position), blocks[n + 1 : n + 2]) for n in range(4)
    ]
    columns, rows = DETECTION_GRID
    outputs = num_classes if task == "recognition" else columns * rows * (5 + num_classes)
    layers = nn.Sequential(nn.Linear(c[4] * 4, 512), nn.Dropout(0.3), nn.Linear(512, outputs))
    head = FlatHead(layers, None if task == "recognition" else DETECTION_GRID)
    return GraphNetwork(size.sensor, task, dim, blocks[:1], stages, GridPooling(size.sensor, (2, 2)), head)


def _graph_grid(
    size: DatasetSize,
    task: str,
    num_classes: int,
    dim: int,
    voxel: tuple[float, float] | None = None,
    width: int = 48,
    dropout: float = 0.0,
    least_ages: Sequence[int] = (),
    root_weight: bool = False,
) -> GraphNetwork:
    """AEGNN's convolutions on events, and ordinary convolutions behind the pooling.

    After DAGR (Gehrig & Scaramuzza, Nature 2024), which showed that a head that is the same in every cell finds objects
    far better than one that has to learn every place on its own. Voxels have 2 px a side, on a small sensor 1. With
    ``least_ages``, the head sees young and old events apart, see :class:`aegnn_core.nn.pooling.GridPooling`.
    With ``root_weight``, convolutions see an event's own features, too.
    """
    check_dropout_used(task, dropout)
    ages = len(least_ages) + 1
    head: nn.Module
    if task == "recognition":
        head = PlacesHead(ages * _SMALL[4], width, num_classes, dropout)
    else:
        head = ConvolutionalHead(ages * _SMALL[4], width, 5 + num_classes)
    if voxel is None:
        voxel = (1, 1) if max(size.sensor) < _SMALL_SENSOR else (2, 2)
    return GraphNetwork(
        size.sensor,
        task,
        dim,
        _event_blocks(_SMALL, _convolution(dim, 2, root_weight)),
        [],
        GridPooling(size.sensor, grid_shape(size.sensor, voxel), least_ages, (float(voxel[0]), float(voxel[1]))),
        head,
    )


def _histogram(
    size: DatasetSize,
    task: str,
    num_classes: int,
    dim: int,
    voxel: tuple[float, float] = (1, 1),
    least_ages: Sequence[int] = (),
    widths: Sequence[int] | None = None,
    depths: Sequence[int] = PYRAMID_DEPTHS,
    dropout: float = 0.0,
    crop: Sequence[int] | None = None,
    crop_cell: float | Sequence[float | None] | None = None,
    crop_of: str | Sequence[str] = "counts",
) -> GraphNetwork:
    """No graph at all: events counted per pixel, polarity and part of the past, and ordinary convolutions.

    With ``crop``, columns and rows of a picture, a recogniser looks at the rectangle that holds the events; with
    ``crop_cell``, at one scale, so many pixels to a side of the picture's cells; with ``crop_of``, at less than the
    counts, see :class:`aegnn_core.nn.cropped_head.CroppedHead`. With lists of such numbers, or None to stretch, and of
    what is looked at, the scores are the mean of as many heads.
    """
    counts = CountPooling(size.sensor, (float(voxel[0]), float(voxel[1])), least_ages)
    head = image_head(counts.channels, task, num_classes, widths, depths, dropout, crop, crop_cell, crop_of)
    return GraphNetwork(size.sensor, task, dim, [], [], None, head, counts)


_histogram.reads_edges = False  # type: ignore[attr-defined]


def _graph_histogram(
    size: DatasetSize,
    task: str,
    num_classes: int,
    dim: int,
    voxel: tuple[float, float] = (1, 1),
    least_ages: Sequence[int] = (),
    channels: Sequence[int] = (8, 16, 16),
    feature_ages: Sequence[int] = (),
    widths: Sequence[int] | None = None,
    depths: Sequence[int] = PYRAMID_DEPTHS,
    dropout: float = 0.0,
    crop: Sequence[int] | None = None,
    crop_cell: float | Sequence[float | None] | None = None,
    root_weight: bool = False,
) -> GraphNetwork:
    """The histogram, and in every cell beside it the largest features that spline convolutions find in its events.

    The head begins with what the counts say: its first weights for the features are zero. With ``root_weight``,
    convolutions see an event's own features, too.
    """
    cell = (float(voxel[0]), float(voxel[1]))
    counts = CountPooling(size.sensor, cell, least_ages)
    grid = GridPooling(size.sensor, counts.shape, feature_ages, cell)
    features = grid.ages * channels[-1]
    convolution = _convolution(dim, 2, root_weight)
    blocks: list[nn.Module] = [ConvBlock(*sizes, **convolution) for sizes in pairwise((1, *channels))]
    head = image_head(features + counts.channels, task, num_classes, widths, depths, dropout, crop, crop_cell)
    first = next(module for module in head.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        first.weight[:, :features] = 0
    return GraphNetwork(size.sensor, task, dim, blocks, [], grid, head, counts)


#: What makes each, by name.
OWN_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "graph_res": _graph_res,
    "graph_wen": _graph_wen,
    "graph_grid": _graph_grid,
    "histogram": _histogram,
    "graph_histogram": _graph_histogram,
}
