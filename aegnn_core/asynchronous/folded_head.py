# SPDX-License-Identifier: Apache-2.0
"""A network's head in torch, with its norms folded into the convolutions before them."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from aegnn_core.asynchronous.metering import forward_flops

__all__ = ["TorchHead", "fold_norms"]


class TorchHead:
    """A head with its norms folded, as a torch module.

    Attributes:
        flops: of the last answer.
        memory: bytes that it holds between answers.
        threads: of the package that work on an answer.
    """

    description = "torch"
    memory = 0
    threads = 1

    def __init__(self, head: nn.Module) -> None:
        self._head = head
        self.flops = 0

    def __call__(self, image: Tensor) -> Tensor:
        """The answer to ``image [1, channels, rows, columns]``."""
        if not self.flops:
            self.flops = forward_flops(self._head, image)
        return self._run(image)

    def _run(self, image: Tensor) -> Tensor:
        answer: Tensor = self._head(image)
        return answer.clone()  # a head that passes the image on must not pass its memory on


def fold_norms(head: nn.Module) -> nn.Module:
    """A copy in evaluation mode that computes what a module does there, to rounding, in fewer passes over its data."""
    copy = deepcopy(head).eval()
    for module in copy.modules():
        if type(module) is not nn.Sequential:
            continue
        for n, (first, second) in enumerate(pairwise(list(module))):
            # Nothing that only derives from these, and may do something else with its weights.
            if type(first) is nn.Conv2d and type(second) is nn.BatchNorm2d and second.running_mean is not None:
                module[n], module[n + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
