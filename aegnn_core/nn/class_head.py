# SPDX-License-Identifier: Apache-2.0
"""A recogniser's head in three steps, of which the live model compiles the middle one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["AnywhereHead", "ClassHead"]


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

    In training, a share of these is left out.

    Args:
        layers: the convolutions.
        channels: features that they give.
        outputs: classes.
        dropout: the share that is left out.
    """

    def __init__(self, layers: nn.Module, channels: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.layers = layers
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(2 * channels, outputs)

    def scores(self, features: Tensor) -> Tensor:
        """Class logits from what the layers give."""
        logits: Tensor = self.linear(self.dropout(torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)))
        return logits
