# SPDX-License-Identifier: Apache-2.0
"""What the kernels read that does not change from packet to packet: the disc of pixels, the layers, the cells."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous.compiled.plan import SplineTable
from aegnn_core.asynchronous.event_layers import folded
from aegnn_core.asynchronous.folding import weights_of
from aegnn_core.graph import GraphConfig, NeighborSearch
from aegnn_core.graph.build import edge_attributes
from aegnn_core.nn.blocks import ConvBlock
from aegnn_core.nn.pooling import CountPooling, GridPooling, cells_of
from aegnn_core.nn.spline import SplineConv

__all__ = ["LARGEST_INPUT", "LARGEST_OUTPUT", "MOST_LANES", "CellMap", "Disc", "Layer", "Splines", "power_of_two"]

#: Features that a layer reads and writes at most, and pixels within the radius: what fits a program's registers.
LARGEST_INPUT, LARGEST_OUTPUT, MOST_LANES = 64, 128, 1024
#: Sides of the matrices in a product.
_LEAST_SIDE = 16
#: Warps of a program of the convolution, and neighbours of an event whose features are on their way at the same time:
#: the fastest on an H100. Where an edge acts on few of many slots, half as many neighbours are, and twice as many warps
#: if the layer reads many features.
_WARPS, _NEIGHBORS_AT_ONCE, _FEW_SLOTS, _WIDE = 4, 8, 4, 32


class Disc:
    """The pixels within the radius, on a device.

    Attributes:
        stride, margin: of the image of pixels, which has an empty margin all around.
        size: pixels of that image.
        offsets, reach: see :func:`.kernels.search`.
        steps: ``[pixels, 2]`` the same as columns and rows.
    """

    def __init__(self, graph: GraphConfig, sensor: tuple[int, int], device: torch.device) -> None:
        search = NeighborSearch(graph, *sensor, 1)
        arrays = search.arrays
        self.stride, self.margin, self.size = search.stride, search.margin, len(arrays.head)
        self.offsets = torch.from_numpy(arrays.offsets.astype(np.int32)).to(device)
        self.reach = torch.from_numpy(arrays.reach_us.copy()).to(device)
        rows, columns = np.divmod(arrays.offsets + self.margin * (self.stride + 1), self.stride)
        self.steps = np.stack([columns, rows], 1) - self.margin

    def __len__(self) -> int:
        return len(self.steps)


class Splines:
    """How the edges from every pixel of a disc act on the rows of their node's sums.

    Attributes:
        table: see :class:`SplineTable`.
        times: kernels of the time axis on which an edge from the past can act, 1 for edges in the image plane.
        time_intervals: kernels of the time axis less one.
        shares: ``[pixels, slots]`` how much.
        own: whether every pixel has a slot of its own, of its number, which need not be read from a table.
    """

    def __init__(self, conv: SplineConv, disc: Disc, graph: GraphConfig, dtype: torch.dtype, device: torch.device):
        attributes = [
            edge_attributes(float(dx), float(dy), 0.0, graph.radius, graph.time_scale) for dx, dy in disc.steps
        ]
        kind = np.float64 if dtype == torch.float64 else np.float32
        timed = conv.dim == 3
        self.table = SplineTable.make(
            conv.kernel_size.tolist(), np.array(attributes, kind)[:, : conv.dim], time_varies=timed
        )
        self.time_intervals = self.table.times - 1
        # The past is the first half of the time axis.
        self.times = math.ceil(self.time_intervals / 2) + 1
        shares = np.zeros((len(disc), self.table.slots), kind)
        np.add.at(shares, (np.arange(len(disc))[:, None], self.table.slot), self.table.weight)
        self.shares = torch.from_numpy(shares).to(device)
        self.own = np.array_equal(shares, np.eye(len(disc)))

    @property
    def rows(self) -> int:
        """Rows of a node's sums."""
        return self.times * self.table.slots


@dataclass(frozen=True)
class Layer:
    """A block's constants on a device, and the sizes that its kernel is compiled for; see :func:`.kernels.convolve`."""

    inputs: int
    outputs: int
    begin: int | None
    weight: Tensor
    root: Tensor | None
    bias: Tensor | None
    norm: Tensor
    block_inputs: int
    block_outputs: int
    block_root: int
    mean: bool
    warps: int
    at_once: int

    @classmethod
    def make(cls, block: ConvBlock, begin: int | None, splines: Splines, like: Tensor) -> Layer:
        """The layer of a block.

        Args:
            block: to take the weights from.
            begin: the layer whose input is added to the result, or None.
            splines: of the edges.
            like: a tensor of the type and on the device of the constants.
        """
        conv = block.conv
        inputs, outputs = conv.in_channels, conv.out_channels
        block_inputs, block_outputs = block_sizes(inputs, outputs)
        mixed = splines.table.mix(weights_of(conv.weight))[: splines.rows]
        weight = np.zeros((splines.rows, block_inputs, block_outputs))
        weight[:, :inputs, :outputs] = mixed
        few_slots = splines.table.slots <= _FEW_SLOTS
        block_root = max(_LEAST_SIDE, block_inputs)

        def on_device(values: np.ndarray, *shape: int) -> Tensor:
            padded = np.zeros(shape)
            padded[tuple(slice(size) for size in values.shape)] = values
            return torch.from_numpy(padded).to(like.device, like.dtype)

        return cls(
            inputs,
            outputs,
            begin,
            on_device(weight, *weight.shape),
            None if conv.lin is None else on_device(weights_of(conv.lin.weight).T, block_root, block_outputs),
            None if conv.bias is None else on_device(weights_of(conv.bias), block_outputs),
            on_device(np.stack(folded(block)), 2, block_outputs),
            block_inputs,
            block_outputs,
            block_root,
            conv.aggr == "mean",
            _WARPS if few_slots or block_inputs < _WIDE else 2 * _WARPS,
            _NEIGHBORS_AT_ONCE if few_slots else _NEIGHBORS_AT_ONCE // 2,
        )


def block_sizes(inputs: int, outputs: int) -> tuple[int, int]:
    """Features read and written, as :func:`.kernels.convolve` counts them."""
    return 1 if inputs == 1 else max(_LEAST_SIDE, power_of_two(inputs)), max(_LEAST_SIDE, power_of_two(outputs))


class CellMap:
    """Which pixels lie in which cell of a grid, and when the parts of its past begin, on a device.

    Args:
        pooling: with the grid.
        sensor: width and height [px].
        disc: with the image of pixels.
        like: a tensor of the type and on the device of the network's own positions, by which cells are rounded.

    Attributes:
        pixels: ``[cells, per_cell]`` pixels of the image with margins, -1 where there are fewer.
        ages: ``[parts + 1]`` begins and ends [µs].
    """

    def __init__(self, pooling: GridPooling | CountPooling, sensor: tuple[int, int], disc: Disc, like: Tensor) -> None:
        self.pooling = pooling
        y, x = np.divmod(np.arange(sensor[0] * sensor[1]), sensor[0])
        place = torch.from_numpy(np.stack([x, y], 1)).to(like.device, like.dtype)
        column, row = cells_of(place, pooling.size, pooling.shape)
        cell = (row * pooling.shape[0] + column).cpu().numpy()
        order = np.argsort(cell, kind="stable")
        cells = pooling.shape[0] * pooling.shape[1]
        counts = np.bincount(cell, minlength=cells)
        nth = np.arange(len(cell)) - np.repeat(np.cumsum(counts) - counts, counts)
        pixels = np.full((cells, max(1, counts.max())), -1, np.int32)
        pixels[cell[order], nth] = ((y + disc.margin) * disc.stride + x + disc.margin)[order]
        self.pixels = torch.from_numpy(pixels).to(like.device)
        self.ages = torch.tensor([0, *pooling.least_ages, 2**62], dtype=torch.int64, device=like.device)

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.pixels)

    @property
    def parts(self) -> int:
        """Number of parts of the past."""
        return len(self.ages) - 1


def power_of_two(number: int) -> int:
    """The least power of two that is not below a number."""
    return 1 << max(0, number - 1).bit_length()
