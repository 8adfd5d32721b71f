# SPDX-License-Identifier: Apache-2.0
"""One of the package's spline convolutions for some rows only, with the edges into them."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous.incremental.graphs import RowEdges
from aegnn_core.asynchronous.incremental.layer_meter import LayerMeter
from aegnn_core.asynchronous.incremental.rows import Rows
from aegnn_core.asynchronous.incremental.spline_sums import corner_weights, sum_neighbors
from aegnn_core.asynchronous.incremental.values import EdgeValue, RowValue
from aegnn_core.asynchronous.operation_flops import basis_flops, spline_flops
from aegnn_core.nn.spline import EdgeSplines, SplineConv

__all__ = ["convolve_rows"]

#: Larger updates go through the layer's own code, which works in slices.
_ROWS_AT_ONCE = 4096


def convolve_rows(
    meter: LayerMeter,
    conv: SplineConv,
    convolve: Callable[..., Tensor],
    x: RowValue,
    attributes: EdgeValue,
    edges: RowEdges,
    rows: Rows,
) -> Tensor:
    """Features ``[R, outputs]`` of some rows.

    Args:
        meter: told what it costs.
        conv: the convolution.
        convolve: its own method for that.
        x: features of all rows.
        attributes: of the edges.
        edges: into the rows.
        rows: to be computed.
    """
    begin = perf_counter()
    table, flops = x.table(), 0
    kernels, channels, outputs = conv.weight.shape
    sizes = conv.sizes
    key = ("basis", attributes.origin, *sizes)
    if key not in edges.values:
        flops += basis_flops(conv, len(edges))
    if (
        table.device.type == "cpu"
        and kernels in (4, 8)
        and max(sizes) == 2
        and (channels == 1 or channels % 8 == 0)
        and len(rows) <= _ROWS_AT_ONCE
    ):
        weights = edges.once(key, lambda part: _corner_weights(attributes.at(part)))
        sums = table.new_empty(len(rows), kernels * channels)
        sum_neighbors(
            edges.starts,
            edges.source,
            weights.numpy().ravel(),
            kernels,
            table.numpy().ravel(),
            channels,
            conv.aggr == "mean",
            sums.numpy().ravel(),
        )
        result = sums @ conv.weight.view(kernels * channels, outputs)
        if conv.lin is not None:
            result += x.at(rows) @ conv.lin.weight.t()
        if conv.bias is not None:
            result += conv.bias
    else:
        # Two tensors per edge; the key tells that they were counted.
        kernel, basis = conv.basis(attributes.at(edges))
        edges.values[key] = basis
        source, target = (torch.from_numpy(end).to(table.device) for end in (edges.source, edges.positions()))
        counts = torch.from_numpy(np.diff(edges.starts)).clamp(min=1).to(table.device, table.dtype)
        scale = 1 / counts if conv.aggr == "mean" else torch.ones_like(counts)
        splines = EdgeSplines(source, target, scale, kernel, basis)
        result = convolve(table, x.at(rows), splines)
    flops += spline_flops(conv, len(rows), len(edges))
    meter.account(conv, flops, perf_counter() - begin)
    return result


def _corner_weights(attributes: Tensor) -> Tensor:
    """Weights of all kernels ``[E, 2^dim]`` where there are two per component."""
    weights = attributes.new_empty(len(attributes), 2 ** attributes.shape[1])
    corner_weights(attributes.contiguous().numpy(), weights.numpy())
    return weights
