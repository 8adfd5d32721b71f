# SPDX-License-Identifier: Apache-2.0
"""The heads behind a grid of features or an image of counts: class scores, or boxes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from aegnn_core.nn.class_head import AnywhereHead, ClassHead, check_share
from aegnn_core.nn.cropped_head import CroppedHead, CroppedViews

__all__ = [
    "DETECTION_GRID",
    "PYRAMID_DEPTHS",
    "ConvolutionalHead",
    "FlatHead",
    "PlacesHead",
    "anywhere_head",
    "check_dropout_used",
    "image_head",
    "linear_head",
]

#: Columns and rows of AEGNN's detection grid.
DETECTION_GRID = (8, 6)

#: Features, and residual blocks, of the head on an image of one pixel a cell.
_PYRAMID_WIDTHS = (32, 48, 64, 96, 128)
PYRAMID_DEPTHS = (0, 1, 2, 1)

#: Features of the head on a picture cut out.
_CROPPED_WIDTHS = (24, 48, 96)

#: Columns and rows of what a recogniser on a grid tells apart.
_PLACES = 4

#: Convolutions that halve the resolution in a head on small voxels.
_MOST_HALVINGS = 3

#: Heads of a recogniser with ``crop``.
_MOST_VIEWS = 16

#: The logit of an object with which heads begin: hardly any cell holds one.
_NO_OBJECT = -4.0


class FlatHead(nn.Module):
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


class ConvolutionalHead(nn.Module):
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


class PyramidHead(nn.Module):
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


class PlacesHead(ClassHead):
    """Ordinary convolutions on the grid of features, and class scores from what is left on a grid of 4 x 4.

    In training, a share ``dropout`` of what the scores are made from is left out.

    Raises:
        ValueError: ``dropout`` is no share.
    """

    def __init__(self, channels: int, width: int, outputs: int, dropout: float) -> None:
        super().__init__()
        check_share("dropout", dropout)
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


def anywhere_head(
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
    if outputs < 1:
        raise ValueError(f"a head's convolution must have at least 1 feature, found {outputs}")
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ELU(inplace=True)
    )


def check_dropout_used(task: str, dropout: float) -> None:
    """Raise ``ValueError`` where something is to be left out in the training of a detector, whose heads do not."""
    if task == "detection" and dropout:
        raise ValueError(f"dropout is for a recogniser, found {dropout} for {task}")


def linear_head(inputs: int, task: str, num_classes: int) -> FlatHead:
    """AEGNN's: weights for every cell, to class scores or a grid of boxes."""
    if task == "recognition":
        return FlatHead(nn.Linear(inputs, num_classes, bias=False), None)
    columns, rows = DETECTION_GRID
    layer = nn.Linear(inputs, columns * rows * (5 + num_classes))
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.bias.view(-1, 5 + num_classes)[:, 4] = _NO_OBJECT
    return FlatHead(layer, DETECTION_GRID)


def image_head(
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
    """The heads for an image of one pixel a cell.

    Raises:
        ValueError: options that make no such head, or that the head does not have.
    """
    if task == "recognition" and tuple(depths) != PYRAMID_DEPTHS:
        raise ValueError(f"depths are for a detector, found {list(depths)} for {task}")
    check_dropout_used(task, dropout)
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
            CroppedHead(channels, crop, _CROPPED_WIDTHS if widths is None else widths, num_classes, dropout, cell, what)
            for cell, what in zip(cells, of, strict=True)
        ]
        return views[0] if len(views) == 1 else CroppedViews(views)
    if crop_cell is not None:
        raise ValueError(f"crop_cell is for a recogniser with crop, found {crop_cell} without")
    if crop_of != "counts":
        raise ValueError(f"crop_of is for a recogniser with crop, found {crop_of} without")
    needed = len(_PYRAMID_WIDTHS) if task == "detection" else 2
    widths = _PYRAMID_WIDTHS[:needed] if widths is None else widths
    if len(widths) != needed:
        raise ValueError(f"widths must be {needed} numbers of features for {task} without crop, found {list(widths)}")
    if len(depths) != len(PYRAMID_DEPTHS) or min(depths) < 0:
        raise ValueError(f"depths must be {len(PYRAMID_DEPTHS)} numbers of residual blocks, found {list(depths)}")
    if task == "detection":
        return PyramidHead(channels, widths, depths, 5 + num_classes)
    return nn.Sequential(_conv(channels, widths[0], stride=2), PlacesHead(widths[0], widths[1], num_classes, dropout))
