# SPDX-License-Identifier: Apache-2.0
"""Compiled steps behind the first pooling: which cells have changed, and the layers on the graph of the cells.

Everything here is small, runs when an output is asked for, and only for cells that have changed or read one that has.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from aegnn_core.asynchronous.compiled.cells import read_cell
from aegnn_core.asynchronous.compiled.clock import nanoseconds
from aegnn_core.asynchronous.compiled.layers import run_layer, weigh_dense, weigh_sparse
from aegnn_core.machine_code import borrowed, inlined, kernel

__all__ = [
    "VoxelGraph",
    "count_ages",
    "pool_ages",
    "pool_cells",
    "read_cells",
    "read_edges",
    "run_voxels",
    "touch_leaving",
]


class VoxelGraph(NamedTuple):
    """The graph of the cells, as it was at the last output.

    ``step [steps]`` from a cell to a neighbour, ``step_class [cells, steps]`` the class of the edge from there, -1 if
    that is not on the sensor; ``present [cells, steps]`` which edges there are. ``occupied``, ``changed`` and
    ``rewired [cells]``: whether a cell has live nodes, whether its features have changed since, and whether its edges
    have. ``features``, ``layers`` and ``constants`` see ``LayerTable``, the rest see ``SplineTable``.
    """

    step: np.ndarray
    step_class: np.ndarray
    present: np.ndarray
    occupied: np.ndarray
    changed: np.ndarray
    rewired: np.ndarray
    features: np.ndarray
    layers: np.ndarray
    constants: np.ndarray
    low: np.ndarray
    high: np.ndarray
    class_slot: np.ndarray
    class_weight: np.ndarray


@kernel(error_model="numpy")
def touch_leaving(oldest, first, mask, cell, touched):
    """Mark the cells of the nodes ``oldest … first - 1``, which are still in their queues but not live any more."""
    for number in range(oldest, first):
        touched[cell[number & mask]] = True


@kernel(error_model="numpy")
def read_cells(first, mask, nodes, cells, width, final, voxels, row):
    """Bring the features of the cells up to date with the live nodes, those numbered ``first`` or above.

    Returns:
        Whether any cell has changed.
    """
    nodes, cells, voxels, row = borrowed(nodes), borrowed(cells), borrowed(voxels), borrowed(row)
    any_changed = False
    for cell in range(len(cells.touched)):
        voxels.changed[cell] = False
        if not cells.touched[cell]:
            continue
        cells.touched[cell] = False
        occupied = read_cell(
            first, mask, cell, nodes.features, final, width, nodes.link, cells.front_oldest, cells.back_newest,
            cells.back_oldest, cells.back_maximum, row,
        )  # fmt: skip
        if not occupied:
            row[:width] = 0
        changed = occupied != voxels.occupied[cell]
        voxels.occupied[cell] = occupied
        held = voxels.features[cell * width : (cell + 1) * width]
        for c in range(width):
            changed |= held[c] != row[c]
            held[c] = row[c]
        voxels.changed[cell] = changed
        any_changed |= changed
    return any_changed


@kernel(error_model="numpy")
def read_edges(first, newest_source, voxels):
    """Bring the edges between cells up to date: there is one while its youngest source is live.

    Returns:
        Whether any cell's edges have changed.
    """
    voxels = borrowed(voxels)
    any_changed = False
    cells, steps = voxels.present.shape
    for cell in range(cells):
        rewired = False
        for n in range(steps):
            present = newest_source[cell * steps + n] >= first
            rewired |= present != voxels.present[cell, n]
            voxels.present[cell, n] = present
        voxels.rewired[cell] = rewired
        any_changed |= rewired
    return any_changed


@inlined(error_model="numpy")
def _reads_change(cell, voxels):
    """Whether what a cell's convolution reads has changed."""
    if not voxels.occupied[cell]:
        return False
    if voxels.changed[cell] or voxels.rewired[cell]:
        return True
    reads = False
    for n in range(len(voxels.step)):
        reads |= voxels.present[cell, n] and voxels.changed[cell + voxels.step[n]]
    return reads


@kernel(error_model="numpy")
def run_voxels(rules, voxels, batch, tally):
    """Run the layers on the cells that read a change; ``voxels.changed`` is then that of the last layer's features.

    ``tally [layers, 3]`` counts nodes, edges and nanoseconds.
    """
    voxels, batch = borrowed(voxels), borrowed(batch)
    rule = rules[0]
    cells, steps = voxels.present.shape
    kind = batch.weight.dtype.type
    room = len(batch.counts)
    reads = np.empty(cells, np.bool_)
    for n in range(len(voxels.layers)):
        clock = nanoseconds()
        layer = voxels.layers[n]
        for cell in range(cells):
            reads[cell] = _reads_change(cell, voxels)
        count = 0
        edge = 0
        for cell in range(cells + 1):
            if cell < cells and reads[cell]:
                edges = np.int64(0)
                for s in range(steps):
                    edges += np.int64(voxels.present[cell, s])
                share = kind(1) / kind(max(edges, 1)) if rule.mean else kind(1)
                for s in range(steps):
                    if not voxels.present[cell, s]:
                        continue
                    batch.source[edge] = cell + voxels.step[s]
                    edge_class = np.int64(voxels.step_class[cell, s])
                    if rule.dense:
                        weigh_dense(edge, edge_class, kind(0), share, rule.slots, voxels.low, voxels.high, batch.weight)
                    else:
                        weigh_sparse(
                            edge, edge_class, kind(0), share, 1, rule.slots, voxels.class_slot, voxels.class_weight,
                            rule.per_class, batch.row, batch.weight,
                        )  # fmt: skip
                    edge += 1
                batch.counts[count] = edges
                batch.node[count] = cell
                begin = layer.source + cell * layer.inputs
                for c in range(layer.inputs):
                    batch.own[count * layer.inputs + c] = voxels.features[begin + c]
                count += 1
                tally[n, 0] += 1
                tally[n, 1] += edges
            if count == room or (cell == cells and count > 0):
                run_layer(
                    layer, count, batch.counts, batch.source, batch.row, batch.weight, rule.per_edge, rule.dense,
                    0, rule.slots, batch.node, batch.own, voxels.features, voxels.constants, batch.sums, batch.out,
                    0,
                )  # fmt: skip
                count = edge = 0
        voxels.changed[:] = reads
        tally[n, 2] += nanoseconds() - clock


@kernel(error_model="numpy")
def pool_ages(first, size, least_ages, node_t, cell, features, final, width, pooled):
    """Maximum of the features of the nodes ``first … size - 1`` over each cell and part of the past.

    Args:
        first, size: the live nodes.
        least_ages: ``[ages - 1]`` the age [µs] at which each part but the first begins, seen from the youngest node.
        node_t, cell: rings of the nodes' times and cells.
        features, final, width: where their features are, and how many.
        pooled: ``[ages, cells, width]``, written.
    """
    features, pooled = borrowed(features), borrowed(pooled)
    mask = len(node_t) - 1
    filled = np.zeros(pooled.shape[:2], np.bool_)
    pooled[:] = 0
    youngest = node_t[(size - 1) & mask]
    part = len(least_ages)
    for number in range(first, size):
        slot = number & mask
        while part > 0 and youngest - node_t[slot] < least_ages[part - 1]:
            part -= 1
        into = pooled[part, cell[slot]]
        row = features[final + slot * width : final + (slot + 1) * width]
        if filled[part, cell[slot]]:
            for c in range(width):
                into[c] = max(into[c], row[c])
        else:
            filled[part, cell[slot]] = True
            into[:] = row


@kernel(error_model="numpy")
def count_ages(first, size, least_ages, node_t, cell, polarity, counts, image, table):
    """Logarithms ``log(1 + n)`` of the numbers of the nodes ``first … size - 1``, per part, polarity and cell.

    Args:
        first, size, least_ages, node_t, cell: see :func:`pool_ages`.
        polarity: ring of ±1.
        counts, image: ``[ages, 2, cells]``, written: the numbers and their logarithms.
        table: logarithms of the smaller numbers.
    """
    mask = len(node_t) - 1
    counts[:] = 0
    image[:] = 0
    youngest = node_t[(size - 1) & mask]
    part = len(least_ages)
    for number in range(first, size):
        slot = number & mask
        while part > 0 and youngest - node_t[slot] < least_ages[part - 1]:
            part -= 1
        on = 1 if polarity[slot] > 0 else 0
        count = counts[part, on, cell[slot]] + 1
        counts[part, on, cell[slot]] = count
        image[part, on, cell[slot]] = table[count] if count < len(table) else math.log1p(count)


@kernel(error_model="numpy")
def pool_cells(inside, parent, occupied, features, pooled):
    """Maximum of ``features [cells, C]`` over the occupied cells of each parent, to ``pooled [parents, C]``, zeros."""
    filled = np.zeros(len(pooled), np.bool_)
    for n in range(len(inside)):
        cell = inside[n]
        if not occupied[cell]:
            continue
        to = parent[n]
        for c in range(pooled.shape[1]):
            value = features[cell, c]
            if not filled[to] or value > pooled[to, c]:
                pooled[to, c] = value
        filled[to] = True
