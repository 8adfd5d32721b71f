# SPDX-License-Identifier: Apache-2.0
"""The layers on events as engines run them: what they have to know of each kind, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from aegnn_core.asynchronous.folding import fold_norm
from aegnn_core.asynchronous.row_by_row import works_row_by_row
from aegnn_core.nn.blocks import ConvBlock, Residual, mixed_splines
from aegnn_core.nn.spline import SplineConv

__all__ = ["LAYER_KINDS", "LayerKind", "block_flops", "flatten", "folded", "mixed_nodes", "unknown_layer"]


@dataclass(frozen=True)
class LayerKind:
    """What engines have to know of a kind of layer besides its forward.

    A layer is a module with a spline convolution ``conv`` and a method ``finish(convolved)`` that works row by row, and
    is ``finish(conv.convolve(x, x, edges))``. What it keeps of a node is a row of ``conv.out_channels`` features.

    Attributes:
        flops_per_value: of ``finish``, for each feature that comes out of it.
        folded: gives ``(scale, shift)``, each ``[out_channels]``, so that ``finish(y)`` is ``elu(y) · scale + shift``:
            then the kernels of ``compiled`` and ``cuda`` run the layer. None for a layer whose ``finish`` is something
            else; and instead of the function, if that is so for all of the kind.
    """

    flops_per_value: int
    folded: Callable[[Any], tuple[np.ndarray, np.ndarray] | None] | None = None


#: The kinds of layers that engines know. A :class:`Residual` may hold two or more of them.
LAYER_KINDS: dict[type[nn.Module], LayerKind] = {
    ConvBlock: LayerKind(flops_per_value=3, folded=lambda block: fold_norm(block.norm)),
}


def unknown_layer(blocks: Iterable[nn.Module], *, compiled: bool) -> str | None:
    """Why an engine cannot run blocks one node at a time, or None.

    Args:
        blocks: layers, and residuals of them.
        compiled: whether it runs them in kernels, which need what is folded.
    """
    blocks = list(blocks)
    known = [kind for kind, what in LAYER_KINDS.items() if what.folded is not None or not compiled]
    names = " and ".join([*(kind.__name__ for kind in known), Residual.__name__])
    for block in blocks:
        layers: Iterable[nn.Module] = block.blocks if type(block) is Residual else [block]
        for layer in layers:
            if type(layer) not in known:
                return f"it knows {names}, found {type(layer).__name__}"
            fold = LAYER_KINDS[type(layer)].folded
            if compiled and fold is not None and fold(layer) is None:
                found = " ".join(repr(layer).split())
                return f"it knows layers that end in ELU and a norm with running statistics, found {found}"
        if type(block) is Residual and len(block.blocks) < 2:
            return f"it knows residuals of at least two layers, found one of {len(block.blocks)}"
    return mixed_splines(blocks)


def mixed_nodes(blocks: Iterable[nn.Module]) -> str | None:
    """Why the features of a node may depend on others than those that edges lead from, or None."""
    for block in blocks:
        for layer in block.modules():
            if isinstance(layer, ConvBlock) and not all(map(works_row_by_row, layer.norm.modules())):
                return f"a norm on events must be known to work row by row, found {layer.norm}"
    return None


def flatten(blocks: Iterable[nn.Module]) -> list[tuple[Any, str | None]]:
    """Every layer in turn, and whether a residual begins before it or ends behind it.

    Raises:
        ValueError: there are blocks of which :func:`unknown_layer` says that they are not known.
    """
    blocks = list(blocks)
    if reason := unknown_layer(blocks, compiled=False):
        raise ValueError(reason)
    layers: list[tuple[Any, str | None]] = []
    for block in blocks:
        if isinstance(block, Residual):
            marks = ["begin", *[None] * (len(block.blocks) - 2), "end"]
            layers.extend(zip(block.blocks, marks, strict=True))
        else:
            layers.append((block, None))
    return layers


def folded(layer: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """What follows a layer's convolution and its ELU: scale and shift, ``[out_channels]`` each."""
    fold = LAYER_KINDS[type(layer)].folded
    scale_and_shift = None if fold is None else fold(layer)
    assert scale_and_shift is not None, f"the kernels do not know {type(layer).__name__}"
    return scale_and_shift


def block_flops(block: Any, nodes: int, edges: int, per_edge: int, rows: int, mark: str | None) -> int:
    """FLOPs of a layer.

    Args:
        block: the layer.
        nodes: that went through it.
        edges: into these nodes.
        per_edge: rows of sums on which an edge acts.
        rows: of the sums of all the nodes.
        mark: ``"end"`` if a residual is added behind the layer.
    """
    conv: SplineConv = block.conv
    inputs, outputs = conv.in_channels, conv.out_channels
    flops = 2 * edges * per_edge * inputs + 2 * rows * inputs * outputs
    if conv.lin is not None:
        flops += 2 * nodes * inputs * outputs
    # What follows row by row, then the bias and the residual.
    behind = LAYER_KINDS[type(block)].flops_per_value
    return flops + nodes * outputs * (behind + (conv.bias is not None) + (mark == "end"))
