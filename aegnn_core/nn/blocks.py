"""The two building blocks of the graph networks: one convolution with its activation and norm, and a residual of such."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.functional import elu

from aegnn_core.nn.spline import SplineConv

__all__ = ["ConvBlock", "Residual"]


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

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """``x [N, in]``, ``edge_index [2, E]``, ``edge_attr [E, dim]`` → ``[N, out]``."""
        return self.finish(self.conv(x, edge_index, edge_attr))

    def finish(self, convolved: Tensor) -> Tensor:
        """Activation and norm, row by row."""
        return self.norm(elu(convolved))


class Residual(nn.Module):
    """``x + blocks(x)``: ``[N, C]`` → ``[N, C]``."""

    def __init__(self, blocks: Iterable[ConvBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """Shapes as in :class:`ConvBlock`."""
        y = x
        for block in self.blocks:
            y = block(y, edge_index, edge_attr)
        return x + y
