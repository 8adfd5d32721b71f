# SPDX-License-Identifier: Apache-2.0
"""Networks for tests: random weights and statistics of a size that makes every layer count."""

import torch
from torch import nn

from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.spline import SplineConv


def randomize(module: GraphNetwork, seed: int) -> GraphNetwork:
    """Fill weights, biases and running statistics so that features stay of the order of 1 through all layers."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, SplineConv):
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator) * 2 / part.in_channels**0.5)
                if part.bias is not None:
                    part.bias.copy_(torch.randn(part.bias.shape, generator=generator) / 2)
            elif isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
                part.running_mean.copy_(torch.randn(part.num_features, generator=generator) / 4)
                part.running_var.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
                part.weight.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
                part.bias.copy_(torch.randn(part.num_features, generator=generator) / 4)
            elif isinstance(part, (nn.Linear, nn.Conv2d)):
                part.weight.copy_(torch.randn(part.weight.shape, generator=generator) / part.weight[0].numel() ** 0.5)
    return module


def taken_by(engine: str) -> str:
    """Name of a network that an engine takes: graph_res, but for the one that only counts."""
    return "histogram" if engine == "counting" else "graph_res"
