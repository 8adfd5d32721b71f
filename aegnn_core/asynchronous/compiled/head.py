# SPDX-License-Identifier: Apache-2.0
"""The head as it runs fastest on the CPU: compiled where it is one of images throughout, else in torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from aegnn_core.asynchronous.compiled.counts import log_table, logarithms
from aegnn_core.asynchronous.compiled.image_head import ImageHead
from aegnn_core.asynchronous.folded_head import TorchHead, fold_norms

__all__ = ["make_head"]


def make_head(
    head: nn.Module, shape: tuple[int, int, int], dtype: type, threads: int = 1, of_counts: bool = False
) -> ImageHead | TorchHead:
    """What computes a head's answers to single images fastest, the same to rounding.

    Args:
        head: in evaluation mode, on the CPU; its weights are copied.
        shape: channels, rows and columns of the images.
        dtype: of the weights.
        threads: that work on an answer, if the head is one of images throughout.
        of_counts: whether it is given numbers of events, and has to see their logarithms.
    """
    folded = fold_norms(head)
    try:
        return ImageHead(folded, shape, dtype, threads, of_counts)
    except NotImplementedError:  # it is not one of images throughout
        return TorchHead(_BehindLogarithms(folded, dtype) if of_counts else folded)


class _BehindLogarithms(nn.Module):
    """A head behind ``log(1 + n)``."""

    def __init__(self, head: nn.Module, dtype: type) -> None:
        super().__init__()
        self._head, self._table = head, log_table(dtype)

    def forward(self, counts: Tensor) -> Tensor:
        """``counts [1, channels, rows, columns]`` int32, channels last → the head's answer."""
        cells = counts.permute(0, 2, 3, 1)
        image = np.empty(tuple(cells.shape), self._table.dtype)
        logarithms(cells.numpy().reshape(-1), self._table, image.reshape(-1))
        answer: Tensor = self._head(torch.from_numpy(image).permute(0, 3, 1, 2))
        return answer
