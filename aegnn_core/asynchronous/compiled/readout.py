# SPDX-License-Identifier: Apache-2.0
"""What lies behind the layers on events: the cells of the first pooling, the layers on them, and the head."""

from __future__ import annotations

from time import monotonic_ns
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous.compiled.counts import log_table
from aegnn_core.asynchronous.compiled.head import ClassScores, make_head
from aegnn_core.asynchronous.compiled.image_head import ImageHead
from aegnn_core.asynchronous.compiled.memory import aligned
from aegnn_core.asynchronous.compiled.plan import LayerTable, SplineTable, padded
from aegnn_core.asynchronous.compiled.stream import RULE, Batch, Cells, Nodes
from aegnn_core.asynchronous.compiled.voxels import (
    VoxelGraph,
    count_ages,
    pool_ages,
    pool_cells,
    read_cells,
    read_edges,
    run_voxels,
    touch_leaving,
)
from aegnn_core.asynchronous.costs import Cost, CostMeter
from aegnn_core.asynchronous.event_layers import block_flops, flatten
from aegnn_core.asynchronous.folded_head import TorchHead
from aegnn_core.asynchronous.metering import Metering
from aegnn_core.graph import GraphConfig
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.pooling import GridPooling, VoxelPooling, cells_of

__all__ = ["CellGrid", "Readout", "make_batch"]

#: Columns of the tally, whose rows are the layers on cells, the pooling, and what lies behind.
_FLOPS, _NANOSECONDS = 1, 2


class CellGrid:
    """The cells of a pooling, numbered by rows in a grid with an empty ``margin`` of cells all around.

    Two cells that edges can join are then a number of cells apart that depends on the step between them alone.

    Args:
        pooling: to cells.
        reach: of an edge between nodes [px], and margin of the neighbour search's image.
        joined: whether there are edges between cells; otherwise there is no margin.
        dtype: of the network's positions.

    Attributes:
        at_border: of the same image, whether an edge from there can lead to another cell.
        of_pixel: the cell of every pixel of the neighbour search's flat image; -1 in that image's margin.
        inside: ``[rows · columns]`` the cells on the sensor, by rows.
        step: ``[steps]`` what is to be added to a cell's number for the cells around it, 0 excluded.
    """

    def __init__(self, pooling: VoxelPooling | GridPooling, reach: int, *, joined: bool, dtype: torch.dtype) -> None:
        self.columns, self.rows = pooling.shape
        self.margin = int(reach / min(pooling.size)) + 1 if joined else 0
        self.stride = self.columns + 2 * self.margin
        self.count = self.stride * (self.rows + 2 * self.margin)
        width, height = pooling.sensor
        lines = (torch.arange(length, device="cpu") for length in (height, width))
        pos = torch.cartesian_prod(*lines).flip(1).to(dtype)
        column, row = (index.numpy() for index in cells_of(pos, pooling.size, pooling.shape))
        image = self._number(column, row).astype(np.int32).reshape(height, width)
        # An edge reaches as far to each side as the margin is wide; columns and rows of cells never fall again.
        sides = [np.pad(line, reach, mode="edge") for line in (column[:width], row[::width])]
        across, down = (line[2 * reach :] != line[: len(line) - 2 * reach] for line in sides)
        self.at_border = np.pad(down[:, None] | across, reach).ravel()
        self.of_pixel = np.pad(image, reach, constant_values=-1).ravel()
        inside = np.arange(self.rows * self.columns)
        self.inside = self._number(inside % self.columns, inside // self.columns)
        side = np.arange(-self.margin, self.margin + 1)
        step = (side[:, None] * self.stride + side).ravel()
        self.step = np.delete(step, len(step) // 2)

    def _number(self, column: np.ndarray, row: np.ndarray) -> np.ndarray:
        number: np.ndarray = (row + self.margin) * self.stride + column + self.margin
        return number


def make_batch(room: int, reach: int, splines: SplineTable, widths: list[int], dtype: type, ahead: int = 0) -> Batch:
    """Buffers for ``room`` nodes with up to ``reach`` edges each, in layers of the given row ``widths``.

    Features are requested from memory ``ahead`` edges before they are read.
    """
    edges = room * reach
    batch = Batch(
        neighbors=aligned(edges, np.int64).reshape(room, reach),
        counts=aligned(room, np.int64),
        source=aligned(edges + ahead, np.uint32),
        row=aligned(0 if splines.dense else edges * splines.per_edge, np.int32),
        weight=aligned(edges * splines.per_edge, dtype),
        node=aligned(room, np.int64),
        own=aligned(room * max(widths), dtype),
        out=aligned(room * max(widths), dtype),
        sums=aligned(room * splines.rows * max(widths), dtype),
    )
    batch.counts[:] = 0
    batch.source[:] = 0
    return batch


class Readout:
    """The first pooling and all that lies behind it; computes what has changed, when asked.

    Args:
        model: the network.
        graph: the graph rule.
        dtype: of the kernels, as NumPy calls the model's.
        room: cells that go through a layer together.
        threads: that work on the head, if it is one of images.

    Attributes:
        grid: the cells.
        cells: their queues of live nodes.
        layers: on cells, see ``flatten``.
        is_update_new: whether there has been an update since the last output; costs from there on belong to it.
    """

    def __init__(self, model: GraphNetwork, graph: GraphConfig, dtype: type, room: int, threads: int = 1) -> None:
        self._model, self._dtype, self._threads = model, dtype, threads
        self._log_table = log_table(dtype)
        self._kind = next(model.parameters()).dtype
        pooling = model.poolings[0] if model.reads_edges else model.grid
        assert isinstance(pooling, (VoxelPooling, GridPooling))
        self.grid = CellGrid(pooling, int(graph.radius), joined=model.reads_edges, dtype=self._kind)
        self._channels = flatten(model.event_blocks)[-1][0].conv.out_channels
        self.layers = flatten(model.voxel_blocks[0].children()) if model.reads_edges else []
        attributes, self._step_class = self._edge_classes(pooling)
        kernel_size = self.layers[0][0].conv.kernel_size.tolist() if self.layers else [2] * model.dim
        self._splines = SplineTable.make(kernel_size, attributes[:, : len(kernel_size)], time_varies=False)
        self._rules = np.zeros(1, RULE)
        rule = self._rules[0]
        rule["mean"] = not self.layers or self.layers[0][0].conv.aggr == "mean"
        rule["dense"], rule["times"], rule["slots"] = self._splines.dense, 1, self._splines.slots
        rule["per_class"], rule["per_edge"] = self._splines.slot.shape[1], self._splines.per_edge
        self._parent = self._parents(pooling)
        self._room = room
        self._meter = CostMeter()
        self._metering = Metering(model, self._meter)
        names = {module: name for name, module in model.named_modules()}
        self._names = [names[block] for block, _ in self.layers]
        self.take_weights()
        self.reset()

    def take_weights(self) -> None:
        """Read the model's weights."""
        self._table = LayerTable(self.layers, self._splines, self._dtype, padded(self._channels))
        self._head: ImageHead | TorchHead | ClassScores | None = None
        self._batch = make_batch(
            self._room, max(1, len(self.grid.step)), self._splines, self._table.widths, self._dtype
        )

    def reset(self) -> None:
        """Empty all cells."""
        # As in the engine, the old arrays go first.
        for name in ("cells", "_voxels", "_by_age", "_counts", "_count_image", "_held"):
            self.__dict__.pop(name, None)
        grid, steps, width = self.grid, len(self.grid.step), self._table.widths[0]
        none = np.full(grid.count, -1, np.int64)
        step_number = np.zeros(2 * int(np.abs(grid.step).max(initial=0)) + 1, np.int64)
        step_number[grid.step + len(step_number) // 2] = np.arange(steps)
        self.cells = Cells(
            of_pixel=grid.of_pixel,
            at_border=grid.at_border,
            front_oldest=none,
            back_newest=none.copy(),
            back_oldest=none.copy(),
            back_maximum=np.zeros(grid.count * width, self._dtype),
            touched=np.zeros(grid.count, np.bool_),
            newest_source=np.full(grid.count * steps, -1, np.int64),
            step_number=step_number,
        )
        self._forget_cells()
        self._by_age: np.ndarray = np.zeros(0, self._dtype)
        self._counts: np.ndarray = np.zeros(0, np.int32)
        if self.by_age:
            assert self._model.grid is not None
            self._by_age = np.zeros((self._model.grid.ages, grid.count, width), self._dtype)
        if self._model.counts is not None:
            self._counts = np.zeros((len(self._model.counts.least_ages) + 1, 2, grid.count), np.int32)
        self._count_image: np.ndarray = np.zeros(self._counts.shape, self._dtype)
        self._tally = np.zeros((len(self.layers) + 2, 3), np.int64)
        self.is_update_new = True

    def _forget_cells(self) -> None:
        """Take everything for changed, as if there had been no output yet."""
        grid, steps = self.grid, len(self.grid.step)
        self.cells.touched[:] = True
        low, high = self._splines.linear()
        self._voxels = VoxelGraph(
            step=grid.step,
            step_class=self._step_class,
            present=np.zeros((grid.count, steps), np.bool_),
            occupied=np.zeros(grid.count, np.bool_),
            changed=np.zeros(grid.count, np.bool_),
            rewired=np.zeros(grid.count, np.bool_),
            features=np.zeros(grid.count * sum(self._table.widths), self._dtype),
            layers=self._table.records(grid.count),
            constants=self._table.constants,
            low=low.ravel(),
            high=high.ravel(),
            class_slot=self._splines.slot.ravel(),
            class_weight=self._splines.weight.ravel(),
        )
        self._held: Tensor | None = None
        self._held_for = (0, 0)
        self._unfinished = False

    @property
    def behind(self) -> str:
        """How what lies behind the layers on cells is computed."""
        return "torch" if self._head is None else self._head.description

    def _costs_before(self) -> np.ndarray:
        """The tally when the last update began; since only outputs add to it, it may be copied when one does."""
        if self.is_update_new:
            self._before, self.is_update_new = self._tally.copy(), False
        return self._before

    def output(self, oldest: int, first: int, nodes: Nodes, width: int, final: int) -> Tensor:
        """The network's output.

        Args:
            oldest: number of the oldest node in the cells.
            first: number of the oldest that is live.
            nodes: their rings.
            width: of a row of the last features on events.
            final: where those begin.
        """
        self._costs_before()
        begin = monotonic_ns()
        if self._unfinished:  # the last output was interrupted: what it had marked as read was not followed up
            self._forget_cells()
        self._unfinished = True
        cells, voxels, mask = self.cells, self._voxels, len(nodes.cell) - 1
        leaving = (oldest, first, mask, nodes.cell, cells.touched)
        touch_leaving(*leaving)
        changed = read_cells(first, mask, nodes, cells, width, final, voxels, self._batch.own)
        # They have only left this output: at the next one they may be live again, if its time is before this one's.
        touch_leaving(*leaving)
        if self._model.reads_edges:
            changed |= read_edges(first, cells.newest_source, voxels)
        pooling, behind = self._tally[-2:]
        pooling[_NANOSECONDS] += monotonic_ns() - begin
        if changed or self._held is None:
            run_voxels(self._rules, voxels, self._batch, self._tally)
            begin = monotonic_ns()
            self._held, flops = self._behind()
            behind[_FLOPS] += flops
            behind[_NANOSECONDS] += monotonic_ns() - begin
        self._unfinished = False
        return self._held.clone()

    @property
    def by_age(self) -> bool:
        """Whether the pooling looks at all live nodes at an output: every node is then another age than before."""
        grid = self._model.grid
        return self._model.counts is not None or (grid is not None and grid.ages > 1)

    def output_by_age(self, first: int, size: int, nodes: Nodes, width: int, final: int, node_t: np.ndarray) -> Tensor:
        """The network's output if it pools by age, or counts.

        Args:
            first, size: the live nodes are those from ``first`` to ``size - 1``.
            nodes, width, final: as for :meth:`output`.
            node_t: ring of the nodes' times [µs].
        """
        if self._held is not None and self._held_for == (first, size):
            return self._held.clone()
        self._held = None
        self._costs_before()
        begin = monotonic_ns()
        grid, counts = self._model.grid, self._model.counts
        assert grid is not None
        columns, rows = grid.shape
        least_ages: np.ndarray = np.array(grid.least_ages, np.int64)
        pool_ages(first, size, least_ages, node_t, nodes.cell, nodes.features, final, width, self._by_age)
        image = torch.from_numpy(self._by_age[..., : self._channels]).unflatten(1, (rows, columns))  # type: ignore[no-untyped-call]
        images = [image.permute(0, 3, 1, 2).flatten(0, 1)]
        work = (size - first) * self._channels
        if counts is not None:
            least_ages = np.array(counts.least_ages, np.int64)
            count_ages(
                first, size, least_ages, node_t, nodes.cell, nodes.features, self._counts, self._count_image,
                self._log_table,
            )  # fmt: skip
            images.append(torch.from_numpy(self._count_image).view(counts.channels, rows, columns))
            work += size - first
        pooling, behind = self._tally[-2:]
        pooling[_FLOPS] += work
        pooling[_NANOSECONDS] += monotonic_ns() - begin
        begin = monotonic_ns()
        self._held, flops = self._head_of((images[0] if len(images) == 1 else torch.cat(images))[None])
        self._held_for = (first, size)
        behind[_FLOPS] += flops
        behind[_NANOSECONDS] += monotonic_ns() - begin
        return self._held.clone()

    def flops(self) -> dict[str, Cost]:
        """FLOPs by layer."""
        last = self._tally - self._costs_before()
        per_edge, rows = self._splines.per_edge, self._splines.rows
        costs = {
            name: Cost(
                *(
                    block_flops(block, int(nodes), int(edges), per_edge, int(nodes) * rows, mark)
                    for nodes, edges, _ in (last[n], self._tally[n])
                )
            )
            for n, (name, (block, mark)) in enumerate(zip(self._names, self.layers, strict=True))
        }
        if self.by_age:
            costs["pooling"] = Cost(int(last[-2, _FLOPS]), int(self._tally[-2, _FLOPS]))
        return costs | {"head": Cost(int(last[-1, _FLOPS]), int(self._tally[-1, _FLOPS]))}

    def runtime(self) -> dict[str, Cost]:
        """Seconds by layer."""
        last, total = ((self._tally - self._costs_before()) * 1e-9, self._tally * 1e-9)
        return {
            name: Cost(float(last[n, _NANOSECONDS]), float(total[n, _NANOSECONDS]))
            for n, name in enumerate([*self._names, "pooling", "head"])
        }

    def _behind(self) -> tuple[Tensor, int]:
        """What lies behind the layers on cells, and its FLOPs."""
        grid, voxels, width = self.grid, self._voxels, self._table.widths[-1]
        features = voxels.features[len(voxels.features) - grid.count * width :].reshape(grid.count, width)
        features = features[:, : self._channels_out]
        if len(self._model.poolings) > 1:
            return self._behind_in_torch(features)
        assert self._model.grid is not None
        columns, rows = self._model.grid.shape
        pooled, flops = features, 0
        if self._model.reads_edges:
            pooled = np.zeros((rows * columns, self._channels_out), features.dtype)
            pool_cells(grid.inside, self._parent, voxels.occupied, features, pooled)
            flops = int(voxels.occupied.sum()) * self._channels_out
        image = torch.from_numpy(pooled).unflatten(0, (rows, columns)).permute(2, 0, 1)[None]  # type: ignore[no-untyped-call]
        output, flops_of_head = self._head_of(image)
        return output, flops + flops_of_head

    def _head_of(self, image: Tensor) -> tuple[Tensor, int]:
        """The head's answer to ``image [1, C, rows, columns]``, and its FLOPs."""
        if self._head is None:
            _, channels, rows, columns = image.shape
            self._head = make_head(self._model.head, (channels, rows, columns), self._dtype, self._threads)
        return self._head(image), self._head.flops

    def _behind_in_torch(self, features: np.ndarray) -> tuple[Tensor, int]:
        """The poolings after the first, and all that follows, from the features of the cells."""
        grid, voxels, pooling = self.grid, self._voxels, self._model.poolings[0]
        assert isinstance(pooling, VoxelPooling)
        occupied = np.flatnonzero(voxels.occupied[grid.inside])
        number = np.full(grid.count, -1)
        number[grid.inside[occupied]] = np.arange(len(occupied))
        target, step = np.nonzero(voxels.present)
        before = self._meter.flops().total.total
        metered: Any = self._metering.model
        with self._metering:
            output = metered.readout(
                torch.from_numpy(features[grid.inside[occupied]]),
                pooling.centers(torch.from_numpy(occupied), self._kind),
                torch.from_numpy(np.stack([number[target + grid.step[step]], number[target]])),
                torch.zeros(len(occupied), dtype=torch.long, device="cpu"),
                1,
                done=1,
            )
        return output, int(self._meter.flops().total.total - before)

    @property
    def _channels_out(self) -> int:
        return int(self.layers[-1][0].conv.out_channels) if self.layers else self._channels

    def memory(self) -> int:
        """Bytes of the cells and of what lies behind."""
        return sum(
            array.nbytes
            for array in (*self.cells, *self._voxels, *self._batch, self._by_age, self._counts, self._count_image)
        ) + (0 if self._head is None else self._head.memory)

    def _edge_classes(self, pooling: VoxelPooling | GridPooling) -> tuple[np.ndarray, np.ndarray]:
        """Attributes of the classes of edges between cells, and the class of the edge from every step to every cell."""
        grid = self.grid
        step_class = np.full((grid.count, len(grid.step)), -1, np.int32)
        if not isinstance(pooling, VoxelPooling) or not len(grid.step):
            return np.zeros((1, 3), self._dtype), step_class
        number = np.full(grid.count, -1)
        number[grid.inside] = np.arange(len(grid.inside))
        target, step = np.divmod(np.arange(len(grid.inside) * len(grid.step)), len(grid.step))
        source = number[grid.inside[target] + grid.step[step]]
        target, step, source = target[source >= 0], step[source >= 0], source[source >= 0]
        centers = pooling.centers(torch.arange(len(grid.inside), device="cpu"), self._kind)
        attributes = pooling.edge_attributes(centers[source] - centers[target]).numpy()
        classes, number_of = np.unique(attributes, axis=0, return_inverse=True)
        step_class[grid.inside[target], step] = number_of.ravel()
        return classes, step_class

    def _parents(self, pooling: VoxelPooling | GridPooling) -> np.ndarray:
        """The cell of the last grid in which every cell on the sensor lies, ``[rows · columns]``."""
        if len(self._model.poolings) != 1:
            return np.empty(0, np.int64)
        assert isinstance(pooling, VoxelPooling)
        last = self._model.grid
        assert last is not None
        centers = pooling.centers(torch.arange(len(self.grid.inside), device="cpu"), self._kind)
        column, row = cells_of(centers, last.size, last.shape)
        return (row * last.shape[0] + column).numpy()
