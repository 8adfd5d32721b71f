# SPDX-License-Identifier: Apache-2.0
"""The building blocks of the graph networks: convolutions with activation and norm, residuals, sequences of both."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, elu

from aegnn_core.nn.spline import EdgeSplines, SplineConv
from aegnn_core.nn.spline_triton import OrderedEdges

__all__ = ["BlockSequence", "ConvBlock", "Residual", "mixed_splines"]


class ConvBlock(nn.Module):
    """``norm(elu(conv(x)))``, in AEGNN's order: ``[N, in]`` → ``[N, out]``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        dim: int,
        kernel_size: int,
        root_weight: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv = SplineConv(in_channels, out_channels, dim, kernel_size, root_weight=root_weight, bias=bias)
        self.norm = nn.BatchNorm1d(out_channels)

    def forward(self, x: Tensor, edges: EdgeSplines | OrderedEdges) -> Tensor:
        """``x [N, in]`` → ``[N, out]``."""
        return self.finish(self.conv.convolve(x, x, edges))

    def finish(self, convolved: Tensor) -> Tensor:
        """Activation and norm, row by row."""
        activated = elu(convolved)
        if self.norm.training and len(activated) == 1:  # a single node has no spread: it is taken as in evaluation
            norm = self.norm
            return batch_norm(
                activated, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
            )
        finished: Tensor = self.norm(activated)
        return finished


class Residual(nn.Module):
    """``x + blocks(x)``: ``[N, C]`` → ``[N, C]``."""

    def __init__(self, blocks: Iterable[ConvBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, edges: EdgeSplines | OrderedEdges) -> Tensor:
        """``x [N, C]`` → ``[N, C]``."""
        y = x
        for block in self.blocks:
            y = block(y, edges)
        return x + y


def mixed_splines(blocks: Iterable[nn.Module]) -> str | None:
    """Why the convolutions of blocks on one graph cannot share the splines on its edges, or None if they can."""
    convs = [part for block in blocks for part in block.modules() if isinstance(part, SplineConv)]
    for conv in convs[1:]:
        if (conv.sizes, conv.aggr) != (convs[0].sizes, convs[0].aggr):
            return f"convolutions on one graph must have one kernel size and aggregation, found {convs[0]} and {conv}"
    return None


class BlockSequence(nn.ModuleList):
    """Blocks on one graph. Their convolutions have one kernel size and aggregation: they share the edges' splines."""

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """``x [N, in]``, ``edge_index [2, E]``, ``edge_attr [E, dim or more]`` → ``[N, out]``.

        Raises:
            ValueError: convolutions of several kernel sizes or aggregations, fewer components than they read, or, on
                the CPU, an edge that is not between nodes.
        """
        if len(self) == 0:
            return x
        if reason := mixed_splines(self):
            raise ValueError(reason)
        first = next(module for module in self.modules() if isinstance(module, SplineConv))
        if edge_attr.shape[1] < first.dim:
            raise ValueError(f"edge_attr must be [E, {first.dim}], found {list(edge_attr.shape)}")
        attr = edge_attr[:, : first.dim].to(torch.promote_types(x.dtype, torch.float32))
        edges = first.edges(edge_index[0], edge_index[1], attr, len(x), check=True)
        for block in self:
            x = block(x, edges)
        return x
