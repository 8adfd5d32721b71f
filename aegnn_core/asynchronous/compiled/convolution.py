# SPDX-License-Identifier: Apache-2.0
"""Compiled kernels of the spline convolution for a batch of nodes: sum the neighbours per kernel, multiply, activate.

All arrays are flat. Features lie in rows of ``channels`` floats, a multiple of :data:`LANES`; missing channels are
zeros, and so are their weights. Edges lie one behind the other, first the ``counts[0]`` of the batch's first node.
``source`` has ``ahead`` more elements than there are edges, of any value: while an edge is summed, the features for the
one so many behind it are requested from memory. Those for the first edges are the caller's to request, see
:func:`request_features`.

An edge adds to ``J`` rows of its node's sums, each with a weight. Where every axis has two kernels the rows are simply
all the kernels (*dense*), and the sums stay in registers while the edges pass. Otherwise an edge names its rows
(*sparse*).
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from aegnn_core.machine_code import inlined, kernel
from aegnn_core.simd import (
    broadcast,
    filled,
    load,
    maximum,
    minimum,
    multiply_add,
    power_of_two,
    prefetch_early,
    round_down,
    store,
)

__all__ = [
    "LANES",
    "activate",
    "aggregate_input_kernels",
    "aggregate_input_rows",
    "aggregate_kernels",
    "aggregate_rows",
    "elu",
    "elu_of_vector",
    "project",
    "request_features",
]

#: Features per node are padded to a multiple of this.
LANES = 8


@inlined(error_model="numpy")
def _sum_into_8_kernels(zero, first, last, ahead, source, weight, features, base, channels, sums, to):
    """As many channels as ``zero`` has lanes: ``sums[to + j · channels …] = Σ_e weight[e, j] · features[source_e]``."""
    a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
    for e in range(first, last):
        x = load(features, base + np.intp(source[np.uintp(e)]) * channels, zero)
        prefetch_early(features, base + np.intp(source[np.uintp(e + ahead)]) * channels)
        w = np.uintp(e * 8)
        a0 = multiply_add(weight[w], x, a0)
        a1 = multiply_add(weight[w + np.uintp(1)], x, a1)
        a2 = multiply_add(weight[w + np.uintp(2)], x, a2)
        a3 = multiply_add(weight[w + np.uintp(3)], x, a3)
        a4 = multiply_add(weight[w + np.uintp(4)], x, a4)
        a5 = multiply_add(weight[w + np.uintp(5)], x, a5)
        a6 = multiply_add(weight[w + np.uintp(6)], x, a6)
        a7 = multiply_add(weight[w + np.uintp(7)], x, a7)
    store(sums, to, a0)
    store(sums, to + channels, a1)
    store(sums, to + 2 * channels, a2)
    store(sums, to + 3 * channels, a3)
    store(sums, to + 4 * channels, a4)
    store(sums, to + 5 * channels, a5)
    store(sums, to + 6 * channels, a6)
    store(sums, to + 7 * channels, a7)


@inlined(error_model="numpy")
def _sum_into_4_kernels(zero, first, last, ahead, source, weight, features, base, channels, sums, to):
    """As :func:`_sum_into_8_kernels`."""
    a0, a1, a2, a3 = zero, zero, zero, zero
    for e in range(first, last):
        x = load(features, base + np.intp(source[np.uintp(e)]) * channels, zero)
        prefetch_early(features, base + np.intp(source[np.uintp(e + ahead)]) * channels)
        w = np.uintp(e * 4)
        a0 = multiply_add(weight[w], x, a0)
        a1 = multiply_add(weight[w + np.uintp(1)], x, a1)
        a2 = multiply_add(weight[w + np.uintp(2)], x, a2)
        a3 = multiply_add(weight[w + np.uintp(3)], x, a3)
    store(sums, to, a0)
    store(sums, to + channels, a1)
    store(sums, to + 2 * channels, a2)
    store(sums, to + 3 * channels, a3)


@inlined(error_model="numpy")
def aggregate_kernels(batch, counts, source, weight, kernels, features, base, channels, sums, ahead):
    """Sums over the neighbours for 4 or 8 kernels, ``sums [batch, kernels, channels]``.

    ``counts [batch]`` edges per node, ``source [edges]`` rows of the features ``[rows, channels]`` that begin at
    ``features[base]``, ``weight [edges, kernels]``.
    """
    wide = broadcast(features.dtype.type(0), 16)
    narrow = broadcast(features.dtype.type(0), 8)
    last = np.intp(0)
    for k in range(batch):
        first = last
        last = first + np.intp(counts[k])
        to = k * kernels * channels
        lane = 0
        while lane < channels:
            at = base + lane
            if channels - lane >= 16:
                if kernels == 8:
                    _sum_into_8_kernels(
                        wide, first, last, ahead, source, weight, features, at, channels, sums, to + lane
                    )
                else:
                    _sum_into_4_kernels(
                        wide, first, last, ahead, source, weight, features, at, channels, sums, to + lane
                    )
                lane += 16
            else:
                if kernels == 8:
                    _sum_into_8_kernels(
                        narrow, first, last, ahead, source, weight, features, at, channels, sums, to + lane
                    )
                else:
                    _sum_into_4_kernels(
                        narrow, first, last, ahead, source, weight, features, at, channels, sums, to + lane
                    )
                lane += 8


@inlined(error_model="numpy")
def request_features(edges, source, features, base, channels):
    """Begin to bring into the cache what the first ``edges`` edges read, for a layer that is run only some time later.

    ``source [edges]`` rows of the features ``[rows, channels]`` that begin at ``features[base]``.
    """
    for e in range(edges):
        for lane in range(0, channels, 16):
            prefetch_early(features, base + np.intp(source[np.uintp(e)]) * channels + lane)


@inlined(error_model="numpy")
def _sum_into_rows(
    zero, first, last, ahead, source, row, weight, per_edge, skipped, features, base, channels, sums, to
):
    for e in range(first, last):
        x = load(features, base + np.intp(source[np.uintp(e)]) * channels, zero)
        prefetch_early(features, base + np.intp(source[np.uintp(e + ahead)]) * channels)
        for j in range(e * per_edge, (e + 1) * per_edge):
            at = to + (np.intp(row[np.uintp(j)]) - skipped) * channels
            store(sums, at, multiply_add(weight[np.uintp(j)], x, load(sums, at, zero)))


@inlined(error_model="numpy")
def aggregate_rows(batch, counts, source, row, weight, per_edge, skipped, rows, features, base, channels, sums, ahead):
    """Sums over the neighbours for any kernels, ``sums [batch, rows, channels]``.

    Edge e adds ``weight[e, j]`` times its features to the row ``row[e, j] - skipped``, for its ``per_edge`` rows. The
    rest as in :func:`aggregate_kernels`.
    """
    wide = broadcast(features.dtype.type(0), 16)
    narrow = broadcast(features.dtype.type(0), 8)
    sums[: batch * rows * channels] = 0
    last = np.intp(0)
    for k in range(batch):
        first = last
        last = first + np.intp(counts[k])
        to = k * rows * channels
        lane = 0
        while lane < channels:
            at = base + lane
            if channels - lane >= 16:
                _sum_into_rows(
                    wide, first, last, ahead, source, row, weight, per_edge, skipped, features, at, channels, sums,
                    to + lane,
                )  # fmt: skip
                lane += 16
            else:
                _sum_into_rows(
                    narrow, first, last, ahead, source, row, weight, per_edge, skipped, features, at, channels, sums,
                    to + lane,
                )  # fmt: skip
                lane += 8


@inlined(error_model="numpy")
def aggregate_input_kernels(batch, counts, source, weight, kernels, features, base, sums):
    """As :func:`aggregate_kernels` for a single channel: ``sums [batch, kernels]``, the kernels in one register."""
    four = broadcast(features.dtype.type(0), 4)
    eight = broadcast(features.dtype.type(0), 8)
    last = np.intp(0)
    for k in range(batch):
        first = last
        last = first + np.intp(counts[k])
        if kernels == 8:
            a = eight
            for e in range(first, last):
                a = multiply_add(features[np.uintp(base + np.intp(source[e]))], load(weight, e * 8, eight), a)
            store(sums, k * 8, a)
        else:
            b = four
            for e in range(first, last):
                b = multiply_add(features[np.uintp(base + np.intp(source[e]))], load(weight, e * 4, four), b)
            store(sums, k * 4, b)


@inlined(error_model="numpy")
def aggregate_input_rows(batch, counts, source, row, weight, per_edge, skipped, rows, features, base, sums):
    """As :func:`aggregate_rows` for a single channel: ``sums [batch, rows]``."""
    sums[: batch * rows] = 0
    last = np.intp(0)
    for k in range(batch):
        first = last
        last = first + np.intp(counts[k])
        for e in range(first, last):
            x = features[np.uintp(base + np.intp(source[e]))]
            for j in range(e * per_edge, (e + 1) * per_edge):
                sums[np.uintp(k * rows + np.intp(row[j]) - skipped)] += weight[j] * x


@inlined(error_model="numpy")
def _project_4_nodes(zero, rows, sums, at, stride, weight, weight_at, outputs, out, to):
    """As many outputs as ``zero`` has lanes, for four nodes: every row of the weights is read once for all four."""
    a0 = load(out, to, zero)
    a1 = load(out, to + outputs, zero)
    a2 = load(out, to + 2 * outputs, zero)
    a3 = load(out, to + 3 * outputs, zero)
    for r in range(rows):
        w = load(weight, weight_at + r * outputs, zero)
        a0 = multiply_add(sums[np.uintp(at + r)], w, a0)
        a1 = multiply_add(sums[np.uintp(at + stride + r)], w, a1)
        a2 = multiply_add(sums[np.uintp(at + 2 * stride + r)], w, a2)
        a3 = multiply_add(sums[np.uintp(at + 3 * stride + r)], w, a3)
    store(out, to, a0)
    store(out, to + outputs, a1)
    store(out, to + 2 * outputs, a2)
    store(out, to + 3 * outputs, a3)


@inlined(error_model="numpy")
def _project_1_node(zero, rows, sums, at, weight, weight_at, outputs, out, to):
    """As :func:`_project_4_nodes`; four sums side by side, so that an addition need not wait for the one before."""
    a0 = load(out, to, zero)
    a1, a2, a3 = zero, zero, zero
    r = 0
    while r + 4 <= rows:
        w = weight_at + r * outputs
        a0 = multiply_add(sums[np.uintp(at + r)], load(weight, w, zero), a0)
        a1 = multiply_add(sums[np.uintp(at + r + 1)], load(weight, w + outputs, zero), a1)
        a2 = multiply_add(sums[np.uintp(at + r + 2)], load(weight, w + 2 * outputs, zero), a2)
        a3 = multiply_add(sums[np.uintp(at + r + 3)], load(weight, w + 3 * outputs, zero), a3)
        r += 4
    while r < rows:
        a0 = multiply_add(sums[np.uintp(at + r)], load(weight, weight_at + r * outputs, zero), a0)
        r += 1
    one = out.dtype.type(1)
    store(out, to, multiply_add(one, multiply_add(one, a0, a1), multiply_add(one, a2, a3)))


@inlined(error_model="numpy")
def project(batch, rows, sums, stride, weight, weight_at, outputs, out):
    """Add a matrix product: ``out [batch, outputs] += sums[:, :rows] · weight [rows, outputs]``.

    Node k's sums begin at ``sums[k · stride]``, the weights at ``weight[weight_at]``.
    """
    wide = broadcast(out.dtype.type(0), 16)
    narrow = broadcast(out.dtype.type(0), 8)
    lane = 0
    while lane < outputs:
        is_wide = outputs - lane >= 16
        k = 0
        while k < batch:
            at, to, w = k * stride, k * outputs + lane, weight_at + lane
            if batch - k >= 4:
                if is_wide:
                    _project_4_nodes(wide, rows, sums, at, stride, weight, w, outputs, out, to)
                else:
                    _project_4_nodes(narrow, rows, sums, at, stride, weight, w, outputs, out, to)
                k += 4
            else:
                if is_wide:
                    _project_1_node(wide, rows, sums, at, weight, w, outputs, out, to)
                else:
                    _project_1_node(narrow, rows, sums, at, weight, w, outputs, out, to)
                k += 1
        lane += 16 if is_wide else 8


def elu(x: float) -> float:
    """``x`` where positive, else ``exp(x) - 1`` without cancellation; float32 in a form that vectorises."""
    raise NotImplementedError("compiled code only")


@intrinsic
def _float32_of_bits(typing, bits):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
#: exp(x) - 1 is -1 in float32 from here down.
_LOWEST = np.float32(-18)
_LOG2_E = np.float32(math.log2(math.e))
#: ln 2 in two parts, the first with so few bits that its products with small integers are exact (Cody & Waite, 1980).
_LN_2_HIGH = np.float32(0.693359375)
_LN_2_LOW = np.float32(math.log(2) - 0.693359375)
_C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(1 / math.factorial(n)) for n in range(2, 8))


@overload(elu)
def _elu(x):
    if x == types.float32:

        def elu_float32(x):
            below = max(min(x, _ZERO), _LOWEST)
            power = math.floor(below * _LOG2_E + _HALF)
            rest = below - np.float32(power) * _LN_2_HIGH - np.float32(power) * _LN_2_LOW
            series = ((((_C7 * rest + _C6) * rest + _C5) * rest + _C4) * rest + _C3) * rest + _C2
            grown = series * rest * rest + rest
            scale = _float32_of_bits(np.int32((np.int32(power) + np.int32(127)) << np.int32(23)))
            return (scale * grown + (scale - _ONE)) + max(x, _ZERO)

        return elu_float32
    return lambda x: x if x > 0 else math.expm1(x)


@kernel(error_model="numpy")
def elu_of_vector(x):
    """:func:`elu` of every lane, to rounding; float32 only."""
    zero, one = filled(_ZERO, x), filled(_ONE, x)
    below = maximum(minimum(x, zero), filled(_LOWEST, x))
    power = round_down(multiply_add(_LOG2_E, below, filled(_HALF, x)))
    rest = multiply_add(-_LN_2_LOW, power, multiply_add(-_LN_2_HIGH, power, below))
    series = multiply_add(_C7, rest, filled(_C6, x))
    series = multiply_add(series, rest, filled(_C5, x))
    series = multiply_add(series, rest, filled(_C4, x))
    series = multiply_add(series, rest, filled(_C3, x))
    series = multiply_add(series, rest, filled(_C2, x))
    grown = multiply_add(multiply_add(series, rest, zero), rest, rest)
    scale = power_of_two(power)
    # Where x is not a number, maximum keeps it.
    return multiply_add(_ONE, multiply_add(scale, grown, multiply_add(-_ONE, one, scale)), maximum(zero, x))


@inlined(error_model="numpy")
def activate(batch, outputs, out, constants, scale_at, shift_at):
    """``out [batch, outputs] = elu(out) · scale + shift``; scale and shift ``[outputs]`` lie in ``constants``."""
    scale = constants[scale_at : scale_at + outputs]
    shift = constants[shift_at : shift_at + outputs]
    for k in range(batch):
        row = out[k * outputs : (k + 1) * outputs]
        for c in range(outputs):
            row[c] = elu(row[c]) * scale[c] + shift[c]
