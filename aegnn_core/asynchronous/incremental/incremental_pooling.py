# SPDX-License-Identifier: Apache-2.0
"""The package's poolings during an update: touched voxels only."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aegnn_core.asynchronous.incremental.clusters import ClusterMaximum, Grouping, means
from aegnn_core.asynchronous.incremental.forward import Forward
from aegnn_core.asynchronous.incremental.graphs import Graph
from aegnn_core.asynchronous.incremental.rows import Rows
from aegnn_core.asynchronous.incremental.tracked import Tracked
from aegnn_core.asynchronous.incremental.values import (
    ConstantRows,
    EdgeAttributes,
    EdgeIndex,
    RowValue,
    StoredRows,
    WholeValue,
)
from aegnn_core.asynchronous.torch_internals import undispatched
from aegnn_core.nn.pooling import CountPooling, GridPooling, PooledGraph, VoxelPooling, cells_of

__all__ = ["follow_counts", "follow_grid", "follow_voxels"]


class _Pooled(Grouping):
    """What a pooling keeps: its voxels with their members, maxima and positions, and the graph that they make."""

    def __init__(self, voxels: int, channels: int, dtype: torch.dtype, edges: bool) -> None:
        super().__init__(voxels, edges)
        self.maximum = ClusterMaximum(voxels, channels, dtype)
        self.pos = torch.zeros(voxels, 3, dtype=dtype, device="cpu")

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return super().nbytes + self.maximum.nbytes + self.pos.nbytes

    def update(
        self, x: RowValue, pos: RowValue, voxel_of: Callable[[Tensor], np.ndarray], fresh: bool, graph: Graph | None
    ) -> tuple[bool, np.ndarray, int]:
        """Bring all of it up to date: whether anew, the voxels whose maximum changed, and FLOPs."""
        fresh = self.regroup(pos, voxel_of, fresh, graph)
        touched, flops = self.maximum.follow(self.members, x, fresh)
        return fresh, touched, flops


def _voxels_of(module: VoxelPooling | GridPooling) -> Callable[[Tensor], np.ndarray]:
    """Numbers of the voxels that positions ``[R, >=2]`` px lie in, by rows."""
    columns, rows = module.shape
    size = np.asarray(module.size)

    def voxels_of(positions: Tensor) -> NDArray[np.int64]:
        places = positions.numpy()[:, :2]
        cells: NDArray[np.int64] = np.floor(places / size.astype(places.dtype)).astype(np.int64)
        if len(cells) and (cells.min() < 0 or (cells >= (columns, rows)).any()):
            cells_of(positions, module.size, module.shape)  # says which node it is
        return cells[:, 1] * columns + cells[:, 0]

    return voxels_of


def follow_voxels(module: VoxelPooling, running: Callable[[], Forward | None]) -> None:
    """Make a voxel pooling work on touched voxels only, when it is called during an update."""
    original = module.forward

    def forward(x: Any, pos: Any, edge_index: Any, batch: Any, batch_size: int) -> Any:
        run = running()
        if run is None:
            return original(x, pos, edge_index, batch, batch_size)
        values = _values(x, pos, batch, batch_size)
        index = edge_index.value if isinstance(edge_index, Tracked) else None
        if values is None or not isinstance(index, EdgeIndex) or index.graph.nodes is not values[0].space:
            return run.whole(original, (x, pos, edge_index, batch, batch_size), {})
        with undispatched():
            return _pool_voxels(run, module, original, *values, index)

    module.forward = forward  # type: ignore[method-assign]


def _values(x: Any, pos: Any, batch: Any, batch_size: int) -> tuple[RowValue, RowValue] | None:
    values = [part.value if isinstance(part, Tracked) else None for part in (x, pos, batch)]
    if not all(isinstance(value, RowValue) for value in values) or batch_size != 1:
        return None
    if values[0].device.type != "cpu":  # type: ignore[union-attr]  # loops over touched voxels are compiled for the CPU
        return None
    if not isinstance(values[2], ConstantRows) or any(value.space is not values[0].space for value in values):  # type: ignore[union-attr]
        return None
    return values[0], values[1]  # type: ignore[return-value]


def _pool_voxels(
    run: Forward, module: VoxelPooling, original: Any, x: RowValue, pos: RowValue, index: EdgeIndex
) -> PooledGraph:
    state = run.next(original, (x, pos, index), {})
    columns, rows = module.shape
    if state.fresh:
        state.kept = _Pooled(columns * rows, x.tail[0], x.dtype, edges=True)
        state.kept.graph.attributes_of = module.edge_attributes
        if module.position == "center":
            state.kept.pos = module.centers(torch.arange(columns * rows, device="cpu"), pos.dtype)
    kept: _Pooled = state.kept

    graph = kept.graph
    assert graph is not None
    nodes, members, voxels_of = graph.nodes, kept.members, _voxels_of(module)
    graph.attribute_table = kept.pos
    moved = nodes.added

    def update() -> tuple[Tensor, Rows]:
        nonlocal moved
        begin = perf_counter()
        fresh, touched, flops = kept.update(x, pos, voxels_of, state.fresh, index.graph)
        changed = nodes.all if fresh else nodes.union(nodes.added, Rows.of(touched[members.count[touched] > 0]))
        moved = nodes.added
        if module.position == "mean":
            others = pos.changed.numpy() if pos.changed is not pos.space.added else np.empty(0, np.int64)
            where = np.unique(np.concatenate([members.changed, members.key[others]]))
            where = nodes.all.numpy() if fresh else where[members.count[where] > 0]
            table = pos.table().numpy()
            means(where, members.base, members.first, members.after, members.count, table, kept.pos.numpy())
            moved = nodes.all if fresh else Rows.of(where)
        run.meter.account(module, flops, perf_counter() - begin)
        return kept.maximum.table, changed

    pooled = run.track(StoredRows((state.origin, "x"), nodes, update))
    pooled_pos = StoredRows((state.origin, "pos"), nodes, lambda: (kept.pos, moved))
    attributes = EdgeAttributes(graph, 3, pos.dtype)
    if module.position == "mean":
        attributes.nodes = (pooled_pos,)
    zero = torch.zeros((), dtype=torch.long, device="cpu")
    return PooledGraph(
        pooled,
        run.track(pooled_pos),
        run.track(EdgeIndex(graph)),
        run.track(attributes),
        run.track(ConstantRows((state.origin, "batch"), nodes, zero)),
    )


def follow_grid(module: GridPooling, running: Callable[[], Forward | None]) -> None:
    """Make a grid pooling work on touched cells only, when it is called during an update.

    One that pools by age works on all nodes.
    """
    original = module.forward

    def forward(x: Any, pos: Any, batch: Any, batch_size: int, t: Any = None) -> Any:
        run = running()
        if run is None:
            return original(x, pos, batch, batch_size, t)
        values = _values(x, pos, batch, batch_size)
        if values is None or module.ages > 1:  # every event makes all others older
            return run.whole(original, (x, pos, batch, batch_size, t), {})
        with undispatched():
            return _pool_grid(run, module, original, *values)

    module.forward = forward  # type: ignore[method-assign]


def follow_counts(module: CountPooling, running: Callable[[], Forward | None]) -> None:
    """Make a count pooling look at all live nodes when it is called during an update: each makes the others older."""
    original = module.forward

    def forward(*args: Any) -> Any:
        run = running()
        return original(*args) if run is None else run.whole(original, args, {})

    module.forward = forward  # type: ignore[method-assign, assignment]


def _pool_grid(run: Forward, module: GridPooling, original: Any, x: RowValue, pos: RowValue) -> Any:
    state = run.next(original, (x, pos), {})
    columns, rows = module.shape
    if state.fresh:
        state.kept = _Pooled(columns * rows, x.tail[0], x.dtype, edges=False)

    kept: _Pooled = state.kept
    voxels_of = _voxels_of(module)

    def update() -> tuple[Tensor, bool]:
        begin = perf_counter()
        fresh, touched, flops = kept.update(x, pos, voxels_of, state.fresh, None)
        run.meter.account(module, flops, perf_counter() - begin)
        return kept.maximum.table.view(1, rows, columns, -1).permute(0, 3, 1, 2), fresh or len(touched) > 0

    image = WholeValue(state.origin, *update())
    run.steps.append(lambda: image.set(*update()))
    return run.track(image)
