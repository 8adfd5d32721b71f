# SPDX-License-Identifier: Apache-2.0
"""Triton kernels of the spline convolution on whole graphs: its sums, and the gradient of its weights.

Edges come in the order of the node that sums over them, so that one program has all edges of its nodes and nothing is
added by atomic operations: two runs give the same bits. How an edge acts on each spline kernel is computed from its
attribute where it is needed, and the sums per spline kernel stay in registers: nothing is as large as edges × kernels.
"""

import triton
import triton.language as tl

__all__ = ["convolve", "weight_gradient"]


@triton.jit
def _share(attr, edge, has, row, size_0, size_1, size_2, number: tl.constexpr, DIM: tl.constexpr):
    """How much edges act on the spline kernels ``row``: linear B-splines, ``[edges, rows]``."""
    place = tl.load(attr + edge * DIM, has, 0).to(number) * (size_0 - 1)
    share = tl.maximum(1 - tl.abs(place[:, None] - (row % size_0).to(number)[None, :]), 0)
    if DIM > 1:
        place = tl.load(attr + edge * DIM + 1, has, 0).to(number) * (size_1 - 1)
        share *= tl.maximum(1 - tl.abs(place[:, None] - (row // size_0 % size_1).to(number)[None, :]), 0)
    if DIM > 2:
        place = tl.load(attr + edge * DIM + 2, has, 0).to(number) * (size_2 - 1)
        share *= tl.maximum(1 - tl.abs(place[:, None] - (row // size_0 // size_1).to(number)[None, :]), 0)
    return share


@triton.jit
def _sums(
    first, found, other, attr, features, row, channel, inputs, size_0, size_1, size_2, number: tl.constexpr,
    NODES: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """The other ends' features, summed per node and spline kernel in the order of the edges.

    ``first`` and ``found [NODES]``, each node's first edge and how many it has, → ``[NODES, ROWS · INPUTS]``.
    """
    sums = tl.zeros([NODES, ROWS, INPUTS], number)
    for i in range(0, tl.max(found, 0)):
        has = i < found
        edge = first + i
        share = _share(attr, edge, has, row, size_0, size_1, size_2, number, DIM)
        node = tl.load(other + edge, has, 0).to(tl.int64)
        x = tl.load(
            features + (node[:, None] * inputs + channel[None, :]), has[:, None] & (channel < inputs)[None, :], 0
        ).to(number)
        sums += share[:, :, None] * x[:, None, :]
    return tl.reshape(sums, [NODES, ROWS * INPUTS])


@triton.jit
def _edges_of(start, node, nodes):
    """The first edge of nodes, and how many edges they have."""
    first = tl.load(start + node, node < nodes, 0)
    return first, (tl.load(start + node + 1, node < nodes, 0) - first).to(tl.int32)


@triton.jit
def convolve(
    start, other, attr, features, weight, out, nodes, kernels, inputs, outputs, size_0, size_1, size_2,
    NODES: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, DIM: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """``out_i = Σ_e Σ_k b_k(u_e) · features[other_e] · weight[k]`` over the edges of node i.

    Args:
        start: ``[nodes + 1]`` where each node's edges begin.
        other: ``[E]`` the node at the other end of each edge.
        attr: ``[E, DIM]`` attributes in [0, 1].
        features: ``[*, inputs]``.
        weight: ``[kernels, inputs, outputs]``.
        out: out, ``[nodes, outputs]``, float32 or float64: sums and products are of its type.
        size_0, size_1, size_2: spline kernels per component, 1 behind the last; the first runs fastest.
        PRECISION: of the products of float32, ``ieee`` or ``tf32``.
    """
    number: tl.constexpr = out.dtype.element_ty
    node = tl.program_id(0).to(tl.int64) * NODES + tl.arange(0, NODES)
    target = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    first, found = _edges_of(start, node, nodes)
    result = tl.zeros([NODES, OUTPUTS], number)
    for chunk in range(0, kernels, ROWS):
        row = chunk + tl.arange(0, ROWS)
        for begin in range(0, inputs, INPUTS):
            channel = begin + tl.arange(0, INPUTS)
            sums = _sums(
                first, found, other, attr, features, row, channel, inputs, size_0, size_1, size_2, number, NODES, ROWS,
                INPUTS, DIM,
            )  # fmt: skip
            term = tl.reshape(row[:, None] * inputs + channel[None, :], [ROWS * INPUTS]).to(tl.int64)
            real = tl.reshape((row < kernels)[:, None] & (channel < inputs)[None, :], [ROWS * INPUTS])
            matrix = tl.load(
                weight + (term[:, None] * outputs + target[None, :]), real[:, None] & (target < outputs)[None, :], 0
            ).to(number)
            result += tl.dot(sums, matrix, input_precision=PRECISION, out_dtype=number)
    at = node[:, None] * outputs + target[None, :]
    tl.store(out + at, result, (node < nodes)[:, None] & (target < outputs)[None, :])


@triton.jit
def weight_gradient(
    start, other, attr, features, grad, out, nodes, per_part, kernels, inputs, outputs, size_0, size_1, size_2,
    NODES: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, DIM: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """What ``grad`` behind :func:`convolve` sends back to its weights, summed over each part of the nodes.

    A program computes some spline kernels and features of one part; the sums of :func:`convolve` are made again.

    Args:
        start, other, attr, features, size_0, size_1, size_2: see :func:`convolve`.
        grad: ``[nodes, outputs]``.
        out: out, ``[parts, kernels, inputs, outputs]``, float32 or float64.
        per_part: nodes of a part.
    """
    number: tl.constexpr = out.dtype.element_ty
    blocks = tl.cdiv(inputs, INPUTS)
    row = tl.program_id(0) // blocks * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(0) % blocks * INPUTS + tl.arange(0, INPUTS)
    target = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    part = tl.program_id(2).to(tl.int64)
    result = tl.zeros([ROWS * INPUTS, OUTPUTS], number)
    for begin in range(0, per_part, NODES):
        within = begin + tl.arange(0, NODES)
        node = part * per_part + within
        real = (within < per_part) & (node < nodes)
        first, found = _edges_of(start, node, nodes)
        sums = _sums(
            first, tl.where(real, found, 0), other, attr, features, row, channel, inputs, size_0, size_1, size_2,
            number, NODES, ROWS, INPUTS, DIM,
        )  # fmt: skip
        behind = tl.load(
            grad + (node[:, None] * outputs + target[None, :]), real[:, None] & (target < outputs)[None, :], 0
        ).to(number)
        result += tl.dot(tl.trans(sums), behind, input_precision=PRECISION, out_dtype=number)
    term = tl.reshape(row[:, None] * inputs + channel[None, :], [ROWS * INPUTS]).to(tl.int64)
    kept = tl.reshape((row < kernels)[:, None] & (channel < inputs)[None, :], [ROWS * INPUTS])
    at = (part * kernels * inputs + term)[:, None] * outputs + target[None, :]
    tl.store(out + at, result, kept[:, None] & (target < outputs)[None, :])
