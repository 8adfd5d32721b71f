# SPDX-License-Identifier: Apache-2.0
"""Compiled loops of the spline convolution: sum the neighbours' features per spline kernel, and the gradient of that.

For a target node i: ``A[i, k] = scale_i · Σ_e b_k(u_e) · x[source_e]`` over its incoming edges, with the linear open
B-spline basis b (Fey et al., SplineCNN, CVPR 2018, eq. 5). The layer's output is then one matrix product, ``A · W``.
"""

from __future__ import annotations

import numpy as np

from aegnn_core.machine_code import kernel

__all__ = ["aggregate", "aggregate_backward", "spline_basis"]


@kernel(error_model="numpy")
def spline_basis(edge_attr, kernel_size, index, weight):
    """Kernels and weights of every edge.

    ``edge_attr [E, dim]`` in [0, 1] and ``kernel_size [dim]`` in; ``index`` and ``weight`` ``[E, 2^dim]`` out. The
    first dimension runs fastest in the numbering of the kernels, as in PyG.
    """
    for e in range(len(edge_attr)):
        index[e, 0] = 0
        weight[e, 0] = 1.0
        stride = 1
        corners = 1
        for d in range(len(kernel_size)):
            position = edge_attr[e, d] * (kernel_size[d] - 1)
            low = np.int64(position)
            fraction = position - low
            first = low * stride
            # At the far end of the axis the upper kernel has weight 0, whichever it is.
            second = min(low + 1, kernel_size[d] - 1) * stride
            for c in range(corners):
                index[e, c + corners] = index[e, c] + second
                weight[e, c + corners] = weight[e, c] * fraction
                index[e, c] += first
                weight[e, c] *= 1 - fraction
            stride *= kernel_size[d]
            corners *= 2


@kernel(error_model="numpy")
def aggregate(x, source, target, first, scale, index, weight, out):
    """Add every edge's share to ``out [N, K, C]``, whose row 0 belongs to node ``first``.

    ``x [*, C]``, ``source``, ``target`` ``[E]``, ``scale [*]`` per target node, ``index`` and ``weight`` ``[E, S]``.
    """
    channels = x.shape[1]
    for e in range(len(source)):
        j = source[e]
        i = target[e]
        for s in range(weight.shape[1]):
            w = weight[e, s] * scale[i]
            row = out[i - first, index[e, s]]
            for c in range(channels):
                row[c] += w * x[j, c]


@kernel(error_model="numpy")
def aggregate_backward(grad_out, source, target, first, scale, index, weight, grad_x):
    """Add to ``grad_x [*, C]`` what ``grad_out [N, K, C]`` sends back through every edge."""
    channels = grad_x.shape[1]
    for e in range(len(source)):
        j = source[e]
        i = target[e]
        for s in range(weight.shape[1]):
            w = weight[e, s] * scale[i]
            row = grad_out[i - first, index[e, s]]
            for c in range(channels):
                grad_x[j, c] += w * row[c]
