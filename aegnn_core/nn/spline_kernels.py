# SPDX-License-Identifier: Apache-2.0
"""Compiled loops of the spline convolution: the kernels around an edge, and the neighbours' features summed by kernel.

For a node i these are the sums ``A[i, k] = Σ_e b_k(u_e) · x[other_e]`` over its edges, with the linear open B-spline
basis b (Fey et al., SplineCNN, CVPR 2018, eq. 5). The layer's output is then one matrix product, ``A · W``. Its
gradients are made of the same sums over the edges that leave a node.
"""

from __future__ import annotations

import numpy as np

from aegnn_core.machine_code import inlined, kernel
from aegnn_core.simd import broadcast, load, multiply_add, prefetch_early, store
from aegnn_core.torch_threads import in_shares

__all__ = ["LANES", "spline_basis", "sum_by_kernel", "sum_into_8_kernels", "take_items", "weights_of_8_kernels"]

#: Features per node are one, or a multiple of this.
LANES = 8
#: What an edge is summed from is requested from memory so many edges before.
_AHEAD = 64
#: Edges, or nodes, that are worth it to be shared by threads.
_LEAST_EDGES, _LEAST_NODES = 4096, 256


@kernel(error_model="numpy")
def _weigh_corners(first, last, edge_attr, kernel_size, index, weight):
    for e in range(first, last):
        index[e, 0] = 0
        weight[e, 0] = 1.0
        stride = 1
        corners = 1
        for d in range(len(kernel_size)):
            position = edge_attr[e, d] * (kernel_size[d] - 1)
            low = max(0, min(np.int64(position), kernel_size[d] - 2))
            fraction = position - low
            for c in range(corners):
                index[e, c + corners] = index[e, c] + (low + 1) * stride
                weight[e, c + corners] = weight[e, c] * fraction
                index[e, c] += low * stride
                weight[e, c] *= 1 - fraction
            stride *= kernel_size[d]
            corners *= 2


@kernel(error_model="numpy")
def spline_basis(team, edge_attr, kernel_size, index, weight):
    """Kernels and weights of every edge; a ``team`` of threads shares the edges.

    ``edge_attr [E, dim]`` in [0, 1] and ``kernel_size [dim]`` in; ``index`` and ``weight`` ``[E, 2^dim]`` out. The
    first dimension runs fastest in the numbering of the kernels, as in PyG. With two kernels per dimension, an index is
    the same for all edges.
    """
    in_shares(team, 0, len(edge_attr), _LEAST_EDGES, _weigh_corners, (edge_attr, kernel_size, index, weight))


@kernel(error_model="numpy")
def _weigh_8_kernels(first, last, edge_attr, weight):
    for e in range(first, last):
        u, v, w = edge_attr[e, 0], edge_attr[e, 1], edge_attr[e, 2]
        p, q, r = 1 - u, 1 - v, 1 - w
        weight[e, 0], weight[e, 1], weight[e, 2], weight[e, 3] = p * q * r, u * q * r, p * v * r, u * v * r
        weight[e, 4], weight[e, 5], weight[e, 6], weight[e, 7] = p * q * w, u * q * w, p * v * w, u * v * w


@kernel(error_model="numpy")
def weights_of_8_kernels(team, edge_attr, weight):
    """As :func:`spline_basis` for two kernels in each of three dimensions: ``weight [E, 8]`` of all of them."""
    in_shares(team, 0, len(edge_attr), _LEAST_EDGES, _weigh_8_kernels, (edge_attr, weight))


@kernel(error_model="numpy")
def _take(first, last, values, item, taken):
    for n in range(first, last):
        taken[n] = values[item[n]]


@kernel(error_model="numpy")
def take_items(team, values, item, taken):
    """``taken [N] = values[item]``; a ``team`` of threads shares the items."""
    in_shares(team, 0, len(item), _LEAST_EDGES, _take, (values, item, taken))


@inlined(error_model="numpy")
def _sum_lanes_into_8(zero, first, last, number, others, basis, x, lane, channels, sums, to):
    a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
    for n in range(first, last):
        soon = np.uintp(min(n + _AHEAD, len(others) - 1))
        prefetch_early(x, np.intp(others[soon]) * channels + lane)
        prefetch_early(basis, np.intp(number[soon]) * 8)
        value = load(x, np.intp(others[np.uintp(n)]) * channels + lane, zero)
        b = np.uintp(number[np.uintp(n)]) * np.uintp(8)
        a0 = multiply_add(basis[b], value, a0)
        a1 = multiply_add(basis[b + np.uintp(1)], value, a1)
        a2 = multiply_add(basis[b + np.uintp(2)], value, a2)
        a3 = multiply_add(basis[b + np.uintp(3)], value, a3)
        a4 = multiply_add(basis[b + np.uintp(4)], value, a4)
        a5 = multiply_add(basis[b + np.uintp(5)], value, a5)
        a6 = multiply_add(basis[b + np.uintp(6)], value, a6)
        a7 = multiply_add(basis[b + np.uintp(7)], value, a7)
    store(sums, to, a0)
    store(sums, to + channels, a1)
    store(sums, to + 2 * channels, a2)
    store(sums, to + 3 * channels, a3)
    store(sums, to + 4 * channels, a4)
    store(sums, to + 5 * channels, a5)
    store(sums, to + 6 * channels, a6)
    store(sums, to + 7 * channels, a7)


@kernel(error_model="numpy")
def _sum_8_kernels(first, last, start, number, others, basis, x, channels, sums, origin):
    wide = broadcast(x.dtype.type(0), 16)
    narrow = broadcast(x.dtype.type(0), 8)
    for i in range(first, last):
        begin, end = start[i], start[i + 1]
        to = (i - origin) * 8 * channels
        if channels == 1:
            total = narrow
            for n in range(begin, end):
                value = x[np.uintp(others[np.uintp(n)])]
                total = multiply_add(value, load(basis, np.intp(number[np.uintp(n)]) * 8, narrow), total)
            store(sums, to, total)
            continue
        lane = 0
        while lane < channels:
            if channels - lane >= 16:
                _sum_lanes_into_8(wide, begin, end, number, others, basis, x, lane, channels, sums, to + lane)
                lane += 16
            else:
                _sum_lanes_into_8(narrow, begin, end, number, others, basis, x, lane, channels, sums, to + lane)
                lane += 8


@kernel(error_model="numpy")
def sum_into_8_kernels(team, first, last, start, number, others, basis, x, channels, sums):
    """The sums of the nodes from ``first`` to ``last`` where every edge has weights for all of 8 kernels.

    Args:
        team: of threads that share the nodes.
        first, last: the nodes.
        start, number: the edges by node, see :class:`aegnn_core.nn.groups.Groups`.
        others: ``[E]``, the other end of each, in that order.
        basis: ``[E · 8]`` weights of the edges by their number.
        x: ``[M · channels]`` features, a row for every ``other``.
        channels: 1, or a multiple of :data:`LANES`.
        sums: ``[* · 8 · channels]`` out; the first row belongs to the node ``first``.
    """
    arguments = (start, number, others, basis, x, channels, sums, first)
    in_shares(team, first, last, _LEAST_NODES, _sum_8_kernels, arguments)


@kernel(error_model="numpy")
def _sum_kernels(first, last, start, number, others, index, corners, basis, kernels, x, channels, sums, origin):
    narrow = broadcast(x.dtype.type(0), 8)
    for i in range(first, last):
        to = (i - origin) * kernels * channels
        sums[to : to + kernels * channels] = 0
        for n in range(start[i], start[i + 1]):
            row = np.intp(others[np.uintp(n)]) * channels
            edge = np.intp(number[np.uintp(n)]) * corners
            for c in range(edge, edge + corners):
                weight, at = basis[np.uintp(c)], to + index[np.uintp(c)] * channels
                if channels == 1:
                    sums[np.uintp(at)] += weight * x[np.uintp(row)]
                else:
                    for lane in range(0, channels, 8):
                        total = load(sums, at + lane, narrow)
                        store(sums, at + lane, multiply_add(weight, load(x, row + lane, narrow), total))


@kernel(error_model="numpy")
def sum_by_kernel(team, first, last, start, number, others, index, corners, basis, kernels, x, channels, sums):
    """As :func:`sum_into_8_kernels` for any number of kernels.

    Args:
        index, basis: ``[E · corners]``, the kernels around each edge, and their weights.
        kernels: how many there are; the sums are ``[* · kernels · channels]``.
    """
    arguments = (start, number, others, index, corners, basis, kernels, x, channels, sums, first)
    in_shares(team, first, last, _LEAST_NODES, _sum_kernels, arguments)
