# SPDX-License-Identifier: Apache-2.0
"""The compiled step through one layer, and the splines on the edges that it reads."""

from __future__ import annotations

import numpy as np

from aegnn_core.asynchronous.compiled.convolution import (
    activate,
    aggregate_input_kernels,
    aggregate_input_rows,
    aggregate_kernels,
    aggregate_rows,
    project,
)
from aegnn_core.machine_code import inlined
from aegnn_core.simd import broadcast, load, multiply_add, store

__all__ = ["LAYER", "run_layer", "weigh_dense", "weigh_sparse"]

#: A layer: its row widths, and where the rest of it begins in the flat arrays; -1 for what it does not have.
LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "inputs",  # width of a row of features that it reads
            "outputs",  # width of a row that it writes
            "source",  # features that it reads
            "target",  # features that it writes
            "weight",  # in the constants: [rows of the sums, outputs]
            "root",  # in the constants: [inputs, outputs]
            "bias",  # in the constants: [outputs]
            "scale",  # in the constants: [outputs], the norm's
            "shift",  # in the constants: [outputs], the norm's
            "skip",  # features that are added behind it
            "skip_width",  # width of a row of those
        )
    ]
)


@inlined(error_model="numpy")
def weigh_dense(edge, edge_class, fraction, share, rows, low, high, weight):
    """Write ``weight[edge] = share · (low[class] + fraction · high[class])``, all ``[rows]``, 4 or 8 of them."""
    at = edge * rows
    of = edge_class * rows
    if rows == 8:
        zero8 = broadcast(weight.dtype.type(0), 8)
        value8 = multiply_add(fraction, load(high, of, zero8), load(low, of, zero8))
        store(weight, at, multiply_add(share, value8, zero8))
    else:
        zero4 = broadcast(weight.dtype.type(0), 4)
        value4 = multiply_add(fraction, load(high, of, zero4), load(low, of, zero4))
        store(weight, at, multiply_add(share, value4, zero4))


@inlined(error_model="numpy")
def weigh_sparse(edge, edge_class, position, share, times, slots, class_slot, class_weight, per_class, row, weight):
    """Write the rows on which an edge acts and how much; ``position`` is its place among the ``times`` time kernels.

    Returns:
        The first and the last of the time kernels.
    """
    kernel = np.int64(position)
    later = min(kernel + 1, times - 1)
    fraction = position - weight.dtype.type(kernel)
    at = edge * per_class * min(2, times)
    for s in range(edge_class * per_class, (edge_class + 1) * per_class):
        row[at] = kernel * slots + class_slot[s]
        if times == 1:
            weight[at] = share * class_weight[s]
            at += 1
        else:
            weight[at] = share * class_weight[s] * (weight.dtype.type(1) - fraction)
            row[at + 1] = later * slots + class_slot[s]
            weight[at + 1] = share * class_weight[s] * fraction
            at += 2
    return kernel, later


@inlined(error_model="numpy")
def run_layer(
    layer, batch, counts, source, row, weight, per_edge, dense, skipped, rows, node, own, features, constants,
    sums, out, ahead,
):  # fmt: skip
    """Compute a layer for some nodes and write their features.

    Args:
        layer: a record of ``LAYER``.
        batch: number of nodes.
        counts, source: their edges, see :mod:`aegnn_core.asynchronous.compiled.convolution`.
        row, weight, per_edge: the rows that every edge acts on; ``row`` is not read if ``dense``.
        skipped, rows: the rows in use begin at ``skipped`` and are so many.
        node: ``[batch]`` their rows of the features.
        own: ``[batch, inputs]`` their own features.
        features: of all layers.
        constants: of all layers.
        sums: buffer ``[batch, rows, inputs]``.
        out: output, their features ``[batch, outputs]``.
        ahead: features are requested from memory so many edges before they are read, see there.
    """
    inputs = layer.inputs
    outputs = layer.outputs
    if inputs == 1 and dense:
        aggregate_input_kernels(batch, counts, source, weight, rows, features, layer.source, sums)
    elif inputs == 1:
        aggregate_input_rows(batch, counts, source, row, weight, per_edge, skipped, rows, features, layer.source, sums)
    elif dense:
        aggregate_kernels(batch, counts, source, weight, rows, features, layer.source, inputs, sums, ahead)
    else:
        aggregate_rows(
            batch, counts, source, row, weight, per_edge, skipped, rows, features, layer.source, inputs, sums, ahead
        )
    if layer.bias < 0:
        out[: batch * outputs] = 0
    else:
        for k in range(batch):
            for c in range(outputs):
                out[k * outputs + c] = constants[layer.bias + c]
    width = rows * inputs
    project(batch, width, sums, width, constants, layer.weight + skipped * inputs * outputs, outputs, out)
    if layer.root >= 0:
        project(batch, inputs, own, inputs, constants, layer.root, outputs, out)
    activate(batch, outputs, out, constants, layer.scale, layer.shift)
    for k in range(batch):
        if layer.skip >= 0:
            skip = layer.skip + np.intp(node[k]) * layer.skip_width
            for c in range(layer.skip_width):
                out[k * outputs + c] += features[skip + c]
        to = layer.target + np.intp(node[k]) * outputs
        for c in range(outputs):
            features[to + c] = out[k * outputs + c]
