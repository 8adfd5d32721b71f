# SPDX-License-Identifier: Apache-2.0
"""FLOPs of the compiled layers, as docs/flops.md counts them: from how many nodes and edges went through them."""

from __future__ import annotations

from aegnn_core.nn.blocks import ConvBlock

__all__ = ["block_flops"]


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
