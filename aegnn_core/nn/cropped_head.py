# SPDX-License-Identifier: Apache-2.0
"""A recogniser's head that looks at the part of the sensor that has events, wherever it is, at one scale or any."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from aegnn_core.nn.class_head import AnywhereHead

__all__ = ["CROP_OF", "CroppedHead", "CroppedViews"]

#: What a picture can be made of: the counts as they are, where there were events of a polarity at all, or how long ago
#: the last one was.
CROP_OF = ("counts", "occurrence", "recency")

#: In training, the rectangle is changed at random: the logarithm of its scale lies between these, that of its aspect
#: and its shift (as a share of half a side of what has events) at most so far from 0.
_SCALE, _ASPECT, _SHIFT = (-0.22, 0.26), 0.15, 0.15

#: In training, pictures are raised to a power whose logarithm is at most so far from 0, so that cameras and drives of
#: another contrast are seen.
_CONTRAST = 0.3

#: In training, this share of pictures loses a rectangle.
_ERASED = 0.3

#: Middle and half the length of something in rows or columns, ``[B]`` each.
_Span = tuple[Tensor, Tensor]


class CroppedHead(AnywhereHead):
    """Class scores from a picture of the rectangle that holds all events, always of the same size.

    The rectangle is stretched to the picture, so that neither place, nor size, nor shape of what is seen can be learned
    by heart. Or, with ``cell``, the picture shows its surroundings at one scale, with the rectangle in the middle: then
    the place makes no difference, but the size does. Nor does it matter how many events there are, as the picture is
    divided by its own mean. Behind it are residual blocks at a half, a fourth and an eighth of its resolution, with a
    fourth width also at its own, then mean and maximum over the picture. In training the picture shows somewhat more,
    less or what is beside, with more or less contrast, parts of pictures are erased, and a share of what the scores
    are made from is left out.

    The picture can be made of less than the counts, which differ from drive to drive: with ``of="occurrence"``, of 1
    where there was an event of a polarity, with ``of="recency"``, of ``exp(-k)`` where the last one lies in part k of
    the past, the youngest of which is 0.

    Args:
        channels: of the image; if it is not pictured as it is, those of :class:`aegnn_core.nn.pooling.CountPooling`.
        size: columns and rows of the picture.
        widths: features at the three resolutions, or at the four.
        outputs: classes.
        dropout: the share that is left out.
        cell: pixels that the side of a cell of the picture takes; None stretches.
        of: one of :data:`CROP_OF`.

    Raises:
        ValueError: a size that isn't two numbers of at least 8, neither three nor four widths of at least 1, a share
            that is none, a cell of no size, or something else that the picture is to be made of.
    """

    def __init__(
        self,
        channels: int,
        size: Sequence[int],
        widths: Sequence[int],
        outputs: int,
        dropout: float,
        cell: float | None = None,
        of: str = "counts",
    ) -> None:
        if len(size) != 2 or min(size) < 8:
            raise ValueError(f"crop must be columns and rows of a picture, at least 8 of each, found {list(size)}")
        if len(widths) not in (3, 4) or min(widths) < 1:
            raise ValueError(
                f"widths must be three or four numbers of features behind a crop, at least 1, found {list(widths)}"
            )
        if cell is not None and not 0 < cell < math.inf:
            raise ValueError(f"crop_cell must be a positive number of pixels, found {cell}")
        if of not in CROP_OF:
            raise ValueError(f"crop_of must be one of {', '.join(CROP_OF)}, found {of}")
        seen = channels if of == "counts" else 2
        strides = (1, 2, 2, 2)[-len(widths) :]
        layers = (
            nn.Sequential(_convolution(inputs, width, stride), nn.ReLU(inplace=True), _Residual(width))
            for (inputs, width), stride in zip(pairwise((seen, *widths)), strides, strict=True)
        )
        super().__init__(nn.Sequential(*layers), widths[-1], outputs, dropout, _ERASED)
        self.columns, self.rows = size
        self.cell, self.of = cell, of

    def picture(self, image: Tensor) -> Tensor:
        """What the layers see of ``image``, 0 where nothing happened: ``[B, C, self.rows, self.columns]``."""
        with torch.autocast(image.device.type, enabled=False):
            image = self._pictured(image.contiguous())
            (y, height), (x, width) = self._shown(image)
            rows = _resampling(y, height, self.rows, image.shape[2])
            columns = _resampling(x, width, self.columns, image.shape[3])
            picture = rows[:, None] @ image @ columns.transpose(1, 2)[:, None]
            if self.training:
                picture = _with_other_contrast(picture)
            picture = picture / (5 * picture.mean((1, 2, 3), keepdim=True) + 1e-3)
            return self._with_erased(picture) if self.training else picture

    def _pictured(self, image: Tensor) -> Tensor:
        """What the picture is made of, pixel by pixel."""
        if self.of == "counts":
            return image
        pictured = torch.zeros_like(image[:, :2])
        for part in reversed(range(image.shape[1] // 2)):
            value = math.exp(-part) if self.of == "recency" else 1.0
            pictured = torch.where(image[:, 2 * part : 2 * part + 2] != 0, value, pictured)
        return pictured

    def _shown(self, image: Tensor) -> tuple[_Span, _Span]:
        """The rows and the columns that the picture shows; in training nearly."""
        seen = image.abs().amax(1) != 0
        (y, height), (x, width) = (_extent(seen.any(axis), image.dtype) for axis in (2, 1))
        shown_height, shown_width = height, width
        if self.cell is not None:
            shown_height = torch.full_like(height, self.cell * self.rows / 2)
            shown_width = torch.full_like(width, self.cell * self.columns / 2)
        if not self.training:
            return (y, shown_height), (x, shown_width)
        scale, aspect, down, right = (
            image.new_empty(len(image)).uniform_(*limits)
            for limits in (_SCALE, (-_ASPECT, _ASPECT), (-_SHIFT, _SHIFT), (-_SHIFT, _SHIFT))
        )
        return (
            (y + down * height, shown_height * (scale + aspect).exp()),
            (x + right * width, shown_width * (scale - aspect).exp()),
        )


class CroppedViews(nn.Module):
    """The mean of the class scores of several :class:`CroppedHead`, which look at the same image in ways of their own.

    Args:
        views: with the same classes.
    """

    def __init__(self, views: Iterable[CroppedHead]) -> None:
        super().__init__()
        self.views = nn.ModuleList(views)

    def forward(self, image: Tensor) -> Tensor:
        """``image [B, C, rows, columns]`` → class logits ``[B, classes]``."""
        return torch.stack([view(image) for view in self.views]).mean(0)


class _Residual(nn.Module):
    """``relu(x + norm(conv(relu(norm(conv(x))))))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_convolution(width, width), nn.ReLU(inplace=True), _convolution(width, width))

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.relu(image + self.layers(image))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs))


def _with_other_contrast(picture: Tensor) -> Tensor:
    """The pictures raised to powers near 1, with the signs kept and slopes that stay finite at 0."""
    power = picture.new_empty(len(picture), 1, 1, 1).uniform_(-_CONTRAST, _CONTRAST).exp()
    return picture * (picture.abs() + 1e-3) ** (power - 1)


def _extent(seen: Tensor, dtype: torch.dtype) -> _Span:
    """Middle and half the length ``[B]`` of the part of ``seen [B, n]`` that is true; of all where nothing is."""
    n = seen.shape[1]
    place = torch.arange(n, device=seen.device)
    first, last = torch.where(seen, place, n).amin(1), torch.where(seen, place, -1).amax(1)
    nothing = last < 0
    first, last = torch.where(nothing, 0, first).to(dtype), torch.where(nothing, n - 1, last).to(dtype)
    return (first + last) / 2, (last - first + 1) / 2


def _resampling(middle: Tensor, half: Tensor, cells: int, pixels: int) -> Tensor:
    """Weights ``[B, cells, pixels]`` that resample pixels to cells that divide ``middle ± half [B]`` evenly.

    Each cell takes a triangle of the pixels around its own middle, as wide as the cell and at least as a pixel.
    """
    step = 2 * half / cells
    place = torch.arange(cells, device=half.device, dtype=half.dtype) + (0.5 - cells / 2)
    centre = middle[:, None] + place * step[:, None]
    width = step.clamp(min=1)[:, None, None]
    pixel = torch.arange(pixels, device=half.device, dtype=half.dtype)
    return (1 - (pixel - centre[:, :, None]).abs() / width).clamp(min=0) / width
