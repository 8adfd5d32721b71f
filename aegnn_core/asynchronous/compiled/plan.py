# SPDX-License-Identifier: Apache-2.0
"""What the compiled kernels need of a network, as tables: the splines of its edges, its layers and their constants."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from aegnn_core.asynchronous.compiled.convolution import LANES
from aegnn_core.asynchronous.compiled.layers import LAYER
from aegnn_core.asynchronous.event_layers import folded
from aegnn_core.asynchronous.folding import weights_of
from aegnn_core.nn.spline_kernels import spline_basis
from aegnn_core.torch_threads import torch_team

__all__ = ["LayerTable", "SplineTable", "padded"]


def padded(channels: int) -> int:
    """Width of a row of so many features."""
    return -(-channels // LANES) * LANES


@dataclass(frozen=True)
class SplineTable:
    """How edges of a few classes act on the rows of their node's sums.

    Edges of one class have the same attribute on all axes but the ``times`` kernels of the time axis, the last and
    slowest: every class has ``slots`` rows per time kernel. Edges that do not use the axis of time have ``times`` 1.

    Attributes:
        dense: all edges act on all rows in order.
        times: kernels of the time axis.
        slots: rows per time kernel.
        slot: ``[classes, S]`` rows on which a class acts, within those of a time kernel.
        weight: ``[classes, S]`` how much.
        spatial: ``[slots, kernels of the other axes]``, which kernels make up a row.
    """

    dense: bool
    times: int
    slots: int
    slot: np.ndarray
    weight: np.ndarray
    spatial: np.ndarray

    @classmethod
    def make(cls, kernel_size: Iterable[int], attributes: np.ndarray, *, time_varies: bool) -> SplineTable:
        """The table for classes with the given ``attributes [classes, dim]``, their last axis ignored if it varies."""
        sizes = np.array(list(kernel_size), np.int64)
        dense = bool((sizes == 2).all())
        times = int(sizes[-1]) if time_varies else 1
        axes = len(sizes) - time_varies
        fixed = np.ascontiguousarray(attributes[:, :axes])
        index = np.empty((len(fixed), 2**axes), np.int64)
        weight = np.empty(index.shape, fixed.dtype)
        spline_basis(torch_team(), fixed, sizes[:axes], index, weight)
        kernels = math.prod(sizes[:axes].tolist())
        if dense or kernels < len(fixed):
            return cls(dense, times, kernels, index.astype(np.int32), weight, np.eye(kernels))
        # Fewer classes than kernels: mix the kernels of every class beforehand.
        spatial = np.zeros((len(fixed), kernels))
        np.add.at(spatial, (np.arange(len(fixed))[:, None], index), weight)
        own = np.arange(len(fixed), dtype=np.int32)[:, None]
        return cls(False, times, len(fixed), own, np.ones(own.shape, fixed.dtype), spatial)

    @property
    def rows(self) -> int:
        """Rows of a node's sums."""
        return self.times * self.slots

    @property
    def per_edge(self) -> int:
        """Rows on which one edge acts."""
        return self.rows if self.dense else self.slot.shape[1] * min(2, self.times)

    def linear(self) -> tuple[np.ndarray, np.ndarray]:
        """``low`` and ``high [classes, rows]`` of a dense table: an edge's weights are ``low + fraction · high``."""
        if not self.dense:
            return (np.empty((0, 0), self.weight.dtype),) * 2
        low = np.zeros((len(self.weight), self.rows), self.weight.dtype)
        high = np.zeros_like(low)
        # Added, not set: at the far end of an axis a kernel occurs twice, once with weight 0.
        np.add.at(low, (np.arange(len(low))[:, None], self.slot), self.weight)
        if self.times == 2:
            high[:, self.slots :] = low[:, : self.slots]
            high[:, : self.slots] = -low[:, : self.slots]
        return low, high

    def mix(self, weight: np.ndarray) -> np.ndarray:
        """A layer's weights ``[kernels, in, out]`` for the rows: ``[rows, in, out]``."""
        by_time = weight.reshape(self.times, -1, *weight.shape[1:])
        mixed: np.ndarray = np.einsum("sk,tkio->tsio", self.spatial, by_time, optimize=True)
        return mixed.reshape(self.rows, *weight.shape[1:])


class LayerTable:
    """The layers of a sequence of blocks on one graph.

    Args:
        layers: from :func:`flatten`.
        splines: of the graph's edges.
        dtype: of the kernels.
        input_width: of a row of features that the first layer reads.

    Attributes:
        constants: ``[…]`` weights and the like of all layers.
        widths: of the rows of features, ``layers + 1`` of them.
    """

    def __init__(
        self, layers: list[tuple[Any, str | None]], splines: SplineTable, dtype: type, input_width: int
    ) -> None:
        self.dtype = dtype
        self.widths = [input_width, *(padded(block.conv.out_channels) for block, _ in layers)]
        self._records = np.full(len(layers), -1, LAYER)
        self._skips: list[int] = []
        parts: list[np.ndarray] = []
        size = 0

        def keep(values: np.ndarray) -> int:
            nonlocal size
            parts.append(np.ascontiguousarray(values, dtype).ravel())
            size += parts[-1].size
            return size - parts[-1].size

        begin = -1
        for n, (block, mark) in enumerate(layers):
            record, (inputs, outputs) = self._records[n], self.widths[n : n + 2]
            conv = block.conv
            weight = splines.mix(weights_of(conv.weight))
            record["inputs"], record["outputs"] = inputs, outputs
            record["weight"] = keep(_pad(weight, (splines.rows, inputs, outputs)))
            if conv.lin is not None:
                record["root"] = keep(_pad(weights_of(conv.lin.weight).T, (inputs, outputs)))
            if conv.bias is not None:
                record["bias"] = keep(_pad(weights_of(conv.bias), (outputs,)))
            scale, shift = folded(block)
            record["scale"] = keep(_pad(scale, (outputs,)))
            record["shift"] = keep(_pad(shift, (outputs,)))
            if mark == "begin":
                begin = n
            self._skips.append(begin if mark == "end" else -1)
        self.constants = np.concatenate(parts) if parts else np.empty(0, dtype)

    def __len__(self) -> int:
        return len(self._records)

    def records(self, rows: int) -> np.ndarray:
        """The layers as records of :data:`LAYER`, for features of so many rows in one array, layer after layer."""
        records = self._records.copy()
        begins = [rows * sum(self.widths[:n]) for n in range(len(self.widths))]
        for n, skip in enumerate(self._skips):
            records[n]["source"], records[n]["target"] = begins[n], begins[n + 1]
            if skip >= 0:
                records[n]["skip"], records[n]["skip_width"] = begins[skip], self.widths[skip]
        return records


def _pad(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``values`` with zeros behind, up to ``shape``."""
    return np.pad(values, [(0, to - of) for of, to in zip(values.shape, shape, strict=True)])
