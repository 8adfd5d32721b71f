# SPDX-License-Identifier: Apache-2.0
"""Compiled loops of a spline convolution with two kernels per component: every edge has a share in all of them."""

from __future__ import annotations

import numpy as np

from aegnn_core.machine_code import inlined, kernel
from aegnn_core.simd import broadcast, load, multiply_add, store

__all__ = ["corner_weights", "sum_neighbors"]


@kernel(error_model="numpy")
def corner_weights(edge_attr, out):
    """Weights of all kernels per edge: ``edge_attr [E, dim]`` in [0, 1] in, ``out [E, 2^dim]``.

    The first component runs fastest, as in :func:`aegnn_core.nn.spline_kernels.spline_basis`.
    """
    one = edge_attr.dtype.type(1)
    for e in range(len(edge_attr)):
        out[e, 0] = one
        corners = 1
        for d in range(edge_attr.shape[1]):
            upper = edge_attr[e, d]
            lower = one - upper
            for c in range(corners):
                out[e, c + corners] = out[e, c] * upper
                out[e, c] *= lower
            corners *= 2


@inlined(error_model="numpy")
def _sum_row(zero, first, last, source, weight, kernels, at, features, lane, channels, scale, sums, to):
    """Four kernels from ``at`` on, and as many channels from ``lane`` on as ``zero`` has lanes."""
    a0, a1, a2, a3 = zero, zero, zero, zero
    for e in range(first, last):
        x = load(features, source[np.uintp(e)] * channels + lane, zero)
        w = np.uintp(e * kernels + at)
        a0 = multiply_add(weight[w], x, a0)
        a1 = multiply_add(weight[w + np.uintp(1)], x, a1)
        a2 = multiply_add(weight[w + np.uintp(2)], x, a2)
        a3 = multiply_add(weight[w + np.uintp(3)], x, a3)
    store(sums, to, multiply_add(scale, a0, zero))
    store(sums, to + channels, multiply_add(scale, a1, zero))
    store(sums, to + 2 * channels, multiply_add(scale, a2, zero))
    store(sums, to + 3 * channels, multiply_add(scale, a3, zero))


@kernel(error_model="numpy")
def sum_neighbors(starts, source, weight, kernels, features, channels, mean, sums):
    """Sums or means over the edges of every row, per kernel.

    Args:
        starts: ``[R + 1]``, row r has the edges ``starts[r] .. starts[r + 1] - 1``.
        source: ``[E]`` slots.
        weight: ``[E * kernels]``, flat; ``kernels`` is 4 or 8.
        features: ``[slots * channels]``, flat; ``channels`` is 1 or a multiple of 8.
        mean: divide by the number of edges.
        sums: output, ``[R * kernels * channels]``, flat.
    """
    wide = broadcast(features.dtype.type(0), 16)
    narrow = broadcast(features.dtype.type(0), 8)
    one = features.dtype.type(1)
    for r in range(len(starts) - 1):
        first, last = starts[r], starts[r + 1]
        scale = one / features.dtype.type(max(last - first, 1)) if mean else one
        row = r * kernels * channels
        if channels == 1:
            for k in range(kernels):
                total = features.dtype.type(0)
                for e in range(first, last):
                    total += weight[np.uintp(e * kernels + k)] * features[np.uintp(source[np.uintp(e)])]
                sums[row + k] = total * scale
            continue
        for at in range(0, kernels, 4):
            to = row + at * channels
            lane = 0
            while lane < channels:
                if channels - lane >= 16:
                    _sum_row(
                        wide, first, last, source, weight, kernels, at, features, lane, channels, scale, sums, to + lane
                    )
                    lane += 16
                else:
                    _sum_row(
                        narrow, first, last, source, weight, kernels, at, features, lane, channels, scale, sums,
                        to + lane,
                    )  # fmt: skip
                    lane += 8
