# SPDX-License-Identifier: Apache-2.0
"""Weights as kernels take them: plain numbers, and norms as factors and summands."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["fold_norm", "weights_of"]


def weights_of(tensor: torch.Tensor) -> np.ndarray:
    """A tensor of weights, wherever it lies, as float64."""
    return tensor.detach().to("cpu", torch.float64).numpy()


def fold_norm(norm: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """A norm in evaluation mode as ``x · scale + shift``; None if it is no batch norm with running statistics."""
    if type(norm) not in (nn.BatchNorm1d, nn.SyncBatchNorm) or norm.running_mean is None:
        return None
    scale = 1 / np.sqrt(weights_of(norm.running_var) + norm.eps)
    if norm.affine:
        scale = scale * weights_of(norm.weight)
    shift = -weights_of(norm.running_mean) * scale
    return scale, shift + weights_of(norm.bias) if norm.affine else shift
