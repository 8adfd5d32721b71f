# SPDX-License-Identifier: Apache-2.0
"""A recogniser's head in three steps, of which the live model compiles the middle one, and the cutting of pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["AnywhereHead", "ClassHead", "check_share"]

#: Sides of the rectangle that a picture loses in training, as shares of the picture's.
_ERASED_SIDES = 0.2, 0.5


def check_share(name: str, share: float) -> None:
    """Raise ``ValueError`` unless the option by that name is a share."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be a share from 0 to 1, found {share}")


class ClassHead(nn.Module):
    """Class scores from an image: what is looked at of it, convolutions, and what becomes of their features.

    Attributes:
        layers: the convolutions, from an image to an image.
    """

    layers: nn.Module

    def forward(self, image: Tensor) -> Tensor:
        """``image [B, C, rows, columns]`` → class logits ``[B, classes]``."""
        return self.scores(self.layers(self.picture(image)))

    def picture(self, image: Tensor) -> Tensor:
        """What the layers see of an image: all of it."""
        return image

    def scores(self, features: Tensor) -> Tensor:
        """Class logits from what the layers give."""
        raise NotImplementedError


class AnywhereHead(ClassHead):
    """A head that looks at what its layers find anywhere, their mean and maximum: places make no difference.

    In training, a share of pictures loses a rectangle, and a share of what the scores are made from is left out.

    Args:
        layers: the convolutions.
        channels: features that they give.
        outputs: classes.
        dropout: the share that is left out.
        erase: the share of pictures that lose a rectangle, from a fifth to a half of each side.

    Raises:
        ValueError: ``dropout`` or ``erase`` is no share.
    """

    def __init__(self, layers: nn.Module, channels: int, outputs: int, dropout: float, erase: float = 0.0) -> None:
        super().__init__()
        check_share("dropout", dropout)
        check_share("erase", erase)
        self.layers = layers
        self.erase = erase
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(2 * channels, outputs)

    def picture(self, image: Tensor) -> Tensor:
        """What the layers see of an image: all of it, in training perhaps without a rectangle."""
        return self._with_erased(image) if self.training and self.erase else image

    def scores(self, features: Tensor) -> Tensor:
        """Class logits from what the layers give."""
        logits: Tensor = self.linear(self.dropout(torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)))
        return logits

    def _with_erased(self, picture: Tensor) -> Tensor:
        """The pictures, of which some have lost a rectangle."""

        def outside(cells: int) -> Tensor:
            length = torch.empty(len(picture), device=picture.device).uniform_(*_ERASED_SIDES)
            begin = torch.rand_like(length) * (1 - length)
            place = (torch.arange(cells, device=picture.device) + 0.5) / cells
            return (place < begin[:, None]) | (place > (begin + length)[:, None])

        whole = torch.rand(len(picture), 1, 1, device=picture.device) >= self.erase
        _, _, rows, columns = picture.shape
        kept = outside(rows)[:, :, None] | outside(columns)[:, None, :] | whole
        return picture * kept[:, None]
