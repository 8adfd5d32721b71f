# SPDX-License-Identifier: Apache-2.0
"""The layers on events as engines run them: one convolution block after another, and what each costs."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from aegnn_core.nn.blocks import ConvBlock, Residual

__all__ = ["block_flops", "flatten"]


def flatten(blocks: Iterable[nn.Module]) -> list[tuple[ConvBlock, str | None]]:
    """Every convolution block in turn, and whether a residual begins before it or ends behind it."""
    layers: list[tuple[ConvBlock, str | None]] = []
    for block in blocks:
        if isinstance(block, ConvBlock):
            layers.append((block, None))
        elif isinstance(block, Residual) and len(block.blocks) >= 2:
            inner = [part for part in block.blocks if isinstance(part, ConvBlock)]
            marks = ["begin", *[None] * (len(inner) - 2), "end"]
            layers.extend(zip(inner, marks, strict=True))
        else:
            raise ValueError(f"blocks must be ConvBlock or Residual of at least two, found {block}")
    return layers


def block_flops(block: ConvBlock, nodes: int, edges: int, per_edge: int, rows: int, mark: str | None) -> int:
    """FLOPs of a block.

    Args:
        block: convolution, activation and norm.
        nodes: that went through it.
        edges: into these nodes.
        per_edge: rows of sums on which an edge acts.
        rows: of the sums of all the nodes.
        mark: ``"end"`` if a residual is added behind the block.
    """
    inputs, outputs = block.conv.in_channels, block.conv.out_channels
    flops = 2 * edges * per_edge * inputs + 2 * rows * inputs * outputs
    if block.conv.lin is not None:
        flops += 2 * nodes * inputs * outputs
    # Activation and norm, then the bias and the residual.
    return flops + nodes * outputs * (3 + (block.conv.bias is not None) + (mark == "end"))
