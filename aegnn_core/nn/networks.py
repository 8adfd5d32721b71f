# SPDX-License-Identifier: Apache-2.0
"""The networks by name: AEGNN's two with the paper's sizes, and one with a convolutional head on the voxel grid."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from aegnn_core.known_datasets import GEN1, NCALTECH101, NCARS, NMNIST, KnownDataset
from aegnn_core.nn.blocks import BlockSequence, ConvBlock, Residual
from aegnn_core.nn.class_head import AnywhereHead, ClassHead
from aegnn_core.nn.cropped_head import CroppedHead, CroppedViews
from aegnn_core.nn.event_network import EventNetwork
from aegnn_core.nn.pooling import CountPooling, GridPooling, VoxelPooling, grid_shape
from aegnn_core.nn.user_network import UserNetwork
from aegnn_core.registry import Registry

__all__ = [
    "DATASETS",
    "NETWORKS",
    "TASKS",
    "DatasetSize",
    "GraphNetwork",
    "is_own",
    "network",
    "network_options",
    "reads_edges",
]

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

#: Below so many pixels a side, every pixel counts.
_SMALL_SENSOR = 64

#: Features, and residual blocks, of the head on an image of one pixel a cell.
_PYRAMID_WIDTHS = (32, 48, 64, 96, 128)
_PYRAMID_DEPTHS = (0, 1, 2, 1)

#: Columns and rows of what a recogniser on a grid tells apart.
_PLACES = 4

#: Convolutions that halve the resolution in a head on small voxels.
_MOST_HALVINGS = 3

#: Features of the head on a picture cut out.
_CROPPED_WIDTHS = (24, 48, 96)

#: The logit of an object with which heads begin: hardly any cell holds one.
_NO_OBJECT = -4.0

#: Columns and rows of AEGNN's detection grid.
_DETECTION_GRID = (8, 6)


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
        return not isinstance(self.head, _FlatHead)

    @property
    def place_bound(self) -> str:
        """What binds a network that does not fit any sensor to its own, for messages."""
        return f"has a fully connected head, with weights for every place of its {' x '.join(map(str, self.sensor))}"


class _FlatHead(nn.Module):
    """Fully connected layers on the flattened grid; AEGNN's class scores and its YOLO grid."""

    def __init__(self, layers: nn.Module, detection_grid: tuple[int, int] | None) -> None:
        super().__init__()
        self.layers, self.detection_grid = layers, detection_grid

    def forward(self, grid: Tensor) -> Tensor:
        out: Tensor = self.layers(grid.permute(0, 2, 3, 1).flatten(1))
        if self.detection_grid is None:
            return out
        columns, rows = self.detection_grid
        return out.view(len(out), rows, columns, -1)


class _ConvolutionalHead(nn.Module):
    """Ordinary convolutions on the grid of features, a box per cell of a quarter of its resolution.

    The cells see their surroundings at two scales: the finer knows where an edge is, the coarser what it is part of.
    """

    #: Cells of the grid of features along one of its own.
    stride = 4

    def __init__(self, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(_conv(channels, 32, stride=2), _conv(32, width, stride=2), _conv(width, width))
        self.coarse = nn.Sequential(
            _conv(width, 2 * width, stride=2), _conv(2 * width, 2 * width), _conv(2 * width, width)
        )
        self.merge = _conv(2 * width, width)
        self.predict = _box_predictor(width, outputs)

    def forward(self, grid: Tensor) -> Tensor:
        fine = self.fine(grid)
        coarse = nn.functional.interpolate(self.coarse(fine), size=fine.shape[2:], mode="nearest")
        boxes: Tensor = self.predict(self.merge(torch.cat([fine, coarse], 1)))
        return boxes.permute(0, 2, 3, 1)


class _PyramidHead(nn.Module):
    """Boxes from an image of one pixel a cell: residual blocks at four resolutions, a box per cell of eight pixels.

    What the coarsest see of the surroundings comes back to the finer ones as in feature pyramid networks (Lin et al.,
    CVPR 2017). Residual blocks begin as the identity.

    Args:
        channels: of the image.
        widths: features at a half, a fourth, an eighth, a 16th and a 32nd of its resolution.
        depths: residual blocks at the last four of these.
        outputs: per cell.
    """

    #: Pixels of the image along a cell.
    stride = 8

    def __init__(self, channels: int, widths: Sequence[int], depths: Sequence[int], outputs: int) -> None:
        super().__init__()
        half, fourth, eighth, sixteenth, last = widths

        def stage(inputs: int, width: int, depth: int) -> nn.Sequential:
            return nn.Sequential(_conv(inputs, width, stride=2), *(_ImageResidual(width) for _ in range(depth)))

        self.stem = _conv(channels, half, stride=2)
        self.fourth = stage(half, fourth, depths[0])
        self.eighth = stage(fourth, eighth, depths[1])
        self.sixteenth = stage(eighth, sixteenth, depths[2])
        self.last = stage(sixteenth, last, depths[3])
        self.from_last = nn.Conv2d(last, sixteenth, 1)
        self.from_sixteenth = _conv(sixteenth, eighth)
        self.merge = nn.Sequential(_conv(2 * eighth, eighth), _conv(eighth, eighth))
        self.predict = _box_predictor(eighth, outputs)

    def forward(self, image: Tensor) -> Tensor:
        eighth = self.eighth(self.fourth(self.stem(image)))
        sixteenth = self.sixteenth(eighth)
        sixteenth = self.from_sixteenth(sixteenth + _as_large(self.from_last(self.last(sixteenth)), sixteenth))
        merged = self.merge(torch.cat([eighth, _as_large(sixteenth, eighth)], 1))
        boxes: Tensor = self.predict(merged)
        return boxes.permute(0, 2, 3, 1)


class _ImageResidual(nn.Module):
    """``elu(x + norm(conv(elu(norm(conv(x))))))``, at first ``elu(x)``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(width)
        nn.init.zeros_(norm.weight)
        self.first = _conv(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), norm)

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.elu(image + self.second(self.first(image)))


def _as_large(image: Tensor, other: Tensor) -> Tensor:
    return nn.functional.interpolate(image, size=other.shape[2:], mode="nearest")


def _box_predictor(channels: int, outputs: int) -> nn.Conv2d:
    """The last layer of a detector. Objects are rare: from a low objectness, no steps are spent on unlearning boxes."""
    predict = nn.Conv2d(channels, outputs, 1)
    assert predict.bias is not None
    nn.init.normal_(predict.weight, std=0.01)
    nn.init.zeros_(predict.bias)
    with torch.no_grad():
        predict.bias[4] = _NO_OBJECT
    return predict


class _PlacesHead(ClassHead):
    """Ordinary convolutions on the grid of features, and class scores from what is left on a grid of 4 x 4.

    In training, a share ``dropout`` of what the scores are made from is left out.
    """

    def __init__(self, channels: int, width: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.layers = nn.Sequential(
            _conv(channels, 32, stride=2),
            _conv(32, width, stride=2),
            _conv(width, 2 * width, stride=2),
            _conv(2 * width, 2 * width),
        )
        self.linear = nn.Linear(_PLACES**2 * 2 * width, outputs)

    def scores(self, features: Tensor) -> Tensor:
        """Class logits from what the layers give."""
        seen = nn.functional.adaptive_avg_pool2d(features, _PLACES).flatten(1)
        logits: Tensor = self.linear(nn.functional.dropout(seen, self.dropout, self.training))
        return logits


def _anywhere_head(
    channels: int, widths: Sequence[int], outputs: int, dropout: float, halving: bool, erase: float
) -> AnywhereHead:
    """Ordinary convolutions on the grid of features, and class scores from what they find anywhere.

    Args:
        channels: of the grid.
        widths: features behind each convolution.
        outputs: classes.
        dropout: the share of what the scores are made from that is left out in training.
        halving: the last three of the convolutions halve the resolution, and a residual block follows each.
        erase: the share of images that lose a rectangle in training.
    """
    layers: list[nn.Module] = []
    for n, (inputs, width) in enumerate(pairwise((channels, *widths)), 1 - len(widths)):
        halves = halving and n > -_MOST_HALVINGS
        layers.append(_conv(inputs, width, stride=2 if halves else 1))
        if halving:
            layers.append(_ImageResidual(width))
    return AnywhereHead(nn.Sequential(*layers), widths[-1], outputs, dropout, erase)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ELU(inplace=True)
    )


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
    voxel: tuple[int, int] | None = None,
    position: str = "center",
    cells: Sequence[int] | None = None,
    widths: Sequence[int] = (),
    dropout: float = 0.3,
    halving: bool = False,
    erase: float = 0.0,
    root_weight: bool = False,
) -> GraphNetwork:
    """AEGNN's residual network (CVPR 2022, section 4): seven spline convolutions, pooling after five.

    ``cells`` are columns and rows of the last pooling, in each of which only the largest features remain, by default
    4 of each; AEGNN's head has weights for every one. With ``widths``, a recogniser has ordinary convolutions of so
    many features on the voxels instead, and looks at what they find anywhere; in training, a share ``dropout`` of that
    is left out, and a share ``erase`` of the images of voxels loses a rectangle. With ``halving``, the last three of
    the convolutions halve the resolution, and all have a residual block behind them, which suits small voxels.
    With ``root_weight``, convolutions see a node's own features, too.
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
        head: nn.Module = _anywhere_head(c[6], widths, num_classes, dropout, halving, erase)
    else:
        if halving or erase:
            raise ValueError("halving and erase are for a recogniser with widths, found none")
        grid = GridPooling(size.sensor, _columns_and_rows((4, 4) if cells is None else cells))
        inputs = c[6] * grid.shape[0] * grid.shape[1]
        head = _linear_head(inputs, task, num_classes)
    return GraphNetwork(size.sensor, task, dim, _event_blocks(c, convolution), [(pooling, behind)], grid, head)


def _columns_and_rows(cells: Sequence[int]) -> tuple[int, int]:
    if len(cells) != 2 or min(cells) < 1:
        raise ValueError(f"cells must be columns and rows, at least 1 of each, found {list(cells)}")
    return cells[0], cells[1]


def _linear_head(inputs: int, task: str, num_classes: int) -> _FlatHead:
    """AEGNN's: weights for every cell, to class scores or a grid of boxes."""
    if task == "recognition":
        return _FlatHead(nn.Linear(inputs, num_classes, bias=False), None)
    columns, rows = _DETECTION_GRID
    layer = nn.Linear(inputs, columns * rows * (5 + num_classes))
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.bias.view(-1, 5 + num_classes)[:, 4] = _NO_OBJECT
    return _FlatHead(layer, _DETECTION_GRID)


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
    columns, rows = _DETECTION_GRID
    outputs = num_classes if task == "recognition" else columns * rows * (5 + num_classes)
    layers = nn.Sequential(nn.Linear(c[4] * 4, 512), nn.Dropout(0.3), nn.Linear(512, outputs))
    head = _FlatHead(layers, None if task == "recognition" else _DETECTION_GRID)
    return GraphNetwork(size.sensor, task, dim, blocks[:1], stages, GridPooling(size.sensor, (2, 2)), head)


def _graph_grid(
    size: DatasetSize,
    task: str,
    num_classes: int,
    dim: int,
    voxel: tuple[int, int] | None = None,
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
    ages = len(least_ages) + 1
    head: nn.Module
    if task == "recognition":
        head = _PlacesHead(ages * _SMALL[4], width, num_classes, dropout)
    else:
        head = _ConvolutionalHead(ages * _SMALL[4], width, 5 + num_classes)
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
    voxel: tuple[int, int] = (1, 1),
    least_ages: Sequence[int] = (),
    widths: Sequence[int] | None = None,
    depths: Sequence[int] = _PYRAMID_DEPTHS,
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
    head = _image_head(counts.channels, task, num_classes, widths, depths, dropout, crop, crop_cell, crop_of)
    return GraphNetwork(size.sensor, task, dim, [], [], None, head, counts)


_histogram.reads_edges = False  # type: ignore[attr-defined]


def _graph_histogram(
    size: DatasetSize,
    task: str,
    num_classes: int,
    dim: int,
    voxel: tuple[int, int] = (1, 1),
    least_ages: Sequence[int] = (),
    channels: Sequence[int] = (8, 16, 16),
    feature_ages: Sequence[int] = (),
    widths: Sequence[int] | None = None,
    depths: Sequence[int] = _PYRAMID_DEPTHS,
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
    head = _image_head(features + counts.channels, task, num_classes, widths, depths, dropout, crop, crop_cell)
    first = next(module for module in head.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        first.weight[:, :features] = 0
    return GraphNetwork(size.sensor, task, dim, blocks, [], grid, head, counts)


def _image_head(
    channels: int,
    task: str,
    num_classes: int,
    widths: Sequence[int] | None,
    depths: Sequence[int],
    dropout: float,
    crop: Sequence[int] | None,
    crop_cell: float | Sequence[float | None] | None,
    crop_of: str | Sequence[str] = "counts",
) -> nn.Module:
    """The heads for an image of one pixel a cell."""
    if crop is not None:
        if task != "recognition":
            raise ValueError(f"crop is for recognition, found {list(crop)} for {task}")
        cells: Sequence[float | None] = crop_cell if isinstance(crop_cell, Sequence) else [crop_cell]
        of = [crop_of] * len(cells) if isinstance(crop_of, str) else crop_of
        if not 1 <= len(cells) <= _MOST_VIEWS:
            raise ValueError(
                f"crop_cell has {len(cells)} views, expected 1 to {_MOST_VIEWS} numbers of pixels (or null)"
            )
        if len(of) != len(cells):
            raise ValueError(f"crop_of says of {len(of)} views what they look at, crop_cell has {len(cells)}")
        views = [
            CroppedHead(channels, crop, widths or _CROPPED_WIDTHS, num_classes, dropout, cell, what)
            for cell, what in zip(cells, of, strict=True)
        ]
        return views[0] if len(views) == 1 else CroppedViews(views)
    if crop_cell is not None:
        raise ValueError(f"crop_cell is for a recogniser with crop, found {crop_cell} without")
    if crop_of != "counts":
        raise ValueError(f"crop_of is for a recogniser with crop, found {crop_of} without")
    widths = widths or _PYRAMID_WIDTHS
    if task == "detection":
        return _PyramidHead(channels, widths, depths, 5 + num_classes)
    return nn.Sequential(_conv(channels, widths[0], stride=2), _PlacesHead(widths[0], widths[1], num_classes, dropout))


#: Heads of a recogniser with ``crop``.
_MOST_VIEWS = 16

_OWN: dict[str, Callable[..., nn.Module]] = {
    "graph_res": _graph_res,
    "graph_wen": _graph_wen,
    "graph_grid": _graph_grid,
    "histogram": _histogram,
    "graph_histogram": _graph_histogram,
}

#: What makes each network. It is called with what it names of ``size``, ``sensor``, ``task``, ``num_classes`` and
#: ``dim``, and with the options that its user chooses; what it gives is a :class:`GraphNetwork`, or any module that a
#: :class:`aegnn_core.nn.user_network.UserNetwork` can hold.
NETWORKS: Registry[Callable[..., nn.Module]] = Registry("network", "aegnn_core.networks", _OWN)

#: The parameters of what makes a network that are not options.
_GIVEN = ("size", "sensor", "task", "num_classes", "dim")

#: The sizes for a data set that the papers have none for.
_OTHER_SIZES = DATASETS["simulated"]


def is_own(name: str) -> bool:
    """Whether a network is one of this package's."""
    return name in _OWN


def network_options(name: str) -> dict[str, inspect.Parameter]:
    """The options of a network by their names; one that takes any has the name ``**``."""
    parameters = _parameters(name)
    return {"**" if p.kind is p.VAR_KEYWORD else key: p for key, p in parameters.items() if key not in _GIVEN}


def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    make = NETWORKS[name]
    if not callable(make):
        raise ValueError(f"network {name} is {type(make).__name__}, expected a call that makes a torch.nn.Module")
    return inspect.signature(make).parameters


def reads_edges(name: str) -> bool:
    """Whether a network looks at edges, as they all do unless ``reads_edges = False`` stands on what makes them."""
    return name not in NETWORKS or getattr(NETWORKS[name], "reads_edges", True) is not False


def _is_whole(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)


def network(
    name: str,
    *,
    dataset: str | None = None,
    task: str = "recognition",
    num_classes: int | None = None,
    sensor: Sequence[int] | None = None,
    dim: int = 3,
    **options: Any,
) -> EventNetwork:
    """A new network with random weights, in evaluation mode (call ``train()`` to train it).

    Args:
        name: a key of :data:`NETWORKS`.
        dataset: gives sensor, sizes and number of classes: a key of :data:`DATASETS`. Without one, the sizes are those
            for simulated scenes.
        task: ``"recognition"`` or ``"detection"``.
        num_classes: overrides the data set's number.
        sensor: width and height [px], overrides the data set's.
        dim: components of the edge attributes in use, 2 (image plane) or 3 (and time).
        options: of the network by that name, such as ``voxel`` or ``least_ages``.

    Raises:
        ValueError: unknown network, data set, task or option, or a data set without that task; the message lists what
            there is. Or a network of another package that cannot be made, or gives something else than such networks.
    """
    for what, value, known in (("network", name, NETWORKS), ("data set", dataset, DATASETS), ("task", task, TASKS)):
        if value is not None and value not in known:
            raise ValueError(f"unknown {what} {repr(value)[:300]}, known are {', '.join(known)}")
    if dataset is None and (sensor is None or num_classes is None):
        raise ValueError("a network needs a dataset, or else both sensor and num_classes")
    size = _OTHER_SIZES if dataset is None else DATASETS[dataset]
    if num_classes is None:
        if task not in size.classes:
            raise ValueError(f"data set {dataset} has no labels for {task}, only for {', '.join(size.classes)}")
        num_classes = size.classes[task]
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, found {num_classes}")
    if dim not in (2, 3):
        raise ValueError(f"dim must be 2 or 3, found {dim}")
    if sensor is not None:
        if len(sensor) != 2 or not all(_is_whole(side) and side >= 1 for side in sensor):
            raise ValueError(f"sensor must be a width and a height of at least 1 px, whole numbers, found {sensor}")
        size = replace(size, sensor=(int(sensor[0]), int(sensor[1])))
    taken = network_options(name)
    if (unknown := sorted(set(options) - set(taken))) and "**" not in taken:
        raise ValueError(f"network {name} has no option {', '.join(unknown)}, known are {', '.join(taken) or 'none'}")
    given = dict(zip(_GIVEN, (size, size.sensor, task, num_classes, dim), strict=True))
    given = {key: given[key] for key in _parameters(name) if key in given}
    made = _made(name, given, options)
    if not isinstance(made, EventNetwork):
        made = UserNetwork(made, size.sensor, task, num_classes)
    return made.eval()


def _made(name: str, given: dict[str, Any], options: dict[str, Any]) -> nn.Module:
    """What makes a network, called; if that gives a module."""
    try:
        made = NETWORKS[name](**given, **options)
    except Exception as error:  # of any kind, as other code than this package's may raise
        if is_own(name) and isinstance(error, ValueError):
            raise  # it says what is wrong
        shown = options if is_own(name) else {**given, **options}
        listed = ", ".join(f"{key}={repr(value)[:100]}" for key, value in shown.items())
        raise ValueError(f"network {name}({listed}) cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"network {name} is {type(made).__name__}, expected a torch.nn.Module")
    return made
