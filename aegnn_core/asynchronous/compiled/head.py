# SPDX-License-Identifier: Apache-2.0
"""The head as it runs fastest on the CPU: compiled where it is one of images throughout, else in torch."""

from __future__ import annotations

from torch import nn

from aegnn_core.asynchronous.compiled.image_head import ImageHead
from aegnn_core.asynchronous.folded_head import TorchHead, fold_norms

__all__ = ["make_head"]


def make_head(head: nn.Module, shape: tuple[int, int, int], dtype: type, threads: int = 1) -> ImageHead | TorchHead:
    """What computes a head's answers to single images fastest, the same to rounding.

    Args:
        head: in evaluation mode, on the CPU; its weights are copied.
        shape: channels, rows and columns of the images.
        dtype: of the weights.
        threads: that work on an answer, if the head is one of images throughout.
    """
    folded = fold_norms(head)
    try:
        return ImageHead(folded, shape, dtype, threads)
    except NotImplementedError:  # it is not one of images throughout
        return TorchHead(folded)
