# SPDX-License-Identifier: Apache-2.0
"""PyTorch Geometric's max poolings by clusters of the model's own, during an update: touched clusters only.

``max_pool`` and ``max_pool_x`` are plain functions that a model may hold by name, so the functions that they call are
replaced in their module, private ones among them, while a forward runs. Calls with anything but values of an update,
from other threads for example, work as before. Tried on PyTorch Geometric 2.8.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous.incremental.clusters import ClusterMaximum, Grouping, means
from aegnn_core.asynchronous.incremental.forward import Forward
from aegnn_core.asynchronous.incremental.replacement import Replacement
from aegnn_core.asynchronous.incremental.rows import Rows
from aegnn_core.asynchronous.incremental.tracked import Tracked
from aegnn_core.asynchronous.incremental.values import ConstantRows, EdgeIndex, OperationState, RowValue, StoredRows
from aegnn_core.asynchronous.torch_internals import undispatched

__all__ = ["FOLLOWED_MAX_POOLING"]

_POOLING = importlib.import_module("torch_geometric.nn.pool.max_pool")
_MOST_CLUSTERS = 1 << 20


class _Clusters:
    """What ``consecutive_cluster`` returns during an update, for the functions that its result is passed to."""

    def __init__(self, state: OperationState, cluster: Tracked, fresh: bool) -> None:
        self.origin, self.cluster, self.fresh, self.forward = state.origin, cluster, fresh, cluster.forward
        self.value: RowValue = cluster.value  # type: ignore[assignment]
        self.grouping: Grouping = state.kept


def _either(step: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    def either(first: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(first, (_Clusters, Tracked)):
            return step(first.forward, original, first, *args, **kwargs)
        return original(first, *args, **kwargs)

    return either


def _max_pool_anew(cluster: Tensor, x: Tensor) -> Tensor:
    out: Tensor = _ORIGINALS["_max_pool_x"](_ORIGINALS["consecutive_cluster"](cluster)[0], x)
    return out


def _pool_edge_anew(cluster: Tensor, *args: Any, **kwargs: Any) -> Any:
    return _ORIGINALS["pool_edge"](_ORIGINALS["consecutive_cluster"](cluster)[0], *args, **kwargs)


def _pool_pos_anew(cluster: Tensor, pos: Tensor) -> Tensor:
    out: Tensor = _ORIGINALS["pool_pos"](_ORIGINALS["consecutive_cluster"](cluster)[0], pos)
    return out


def _pool_batch_anew(cluster: Tensor, batch: Tensor) -> Tensor:
    out: Tensor = _ORIGINALS["pool_batch"](_ORIGINALS["consecutive_cluster"](cluster)[1], batch)
    return out


def _consecutive_cluster(run: Forward, original: Callable[..., Any], cluster: Any) -> Any:
    value = cluster.value if isinstance(cluster, Tracked) else None
    if not isinstance(value, RowValue) or value.tail or value.dtype is not torch.long or not len(value.space.all):
        return run.whole(original, (cluster,), {})
    if value.device.type != "cpu":  # loops over touched clusters are compiled for the CPU
        return run.whole(original, (cluster,), {})
    with undispatched():
        changed = value.at(value.changed)
        low, high = (int(changed.min()), int(changed.max())) if len(changed) else (0, 0)
        if low < 0 or high >= _MOST_CLUSTERS:
            return run.whole(original, (cluster,), {})
        state = run.next(original, (cluster,), {})
        fresh = state.fresh or len(state.kept.members.count) <= high
        if fresh:
            state.kept = Grouping(1 << max(6, high.bit_length()), edges=True)
        fresh = state.kept.regroup(value, Tensor.numpy, fresh, value.space.graph)
        clusters = _Clusters(state, cluster, fresh)
        return clusters, clusters


def _max_pool_x(run: Forward, original: Callable[..., Any], clusters: Any, x: Any, size: int | None = None) -> Any:
    value = x.value if isinstance(x, Tracked) else None
    if not isinstance(clusters, _Clusters):
        return run.whole(original, (clusters, x, size), {})
    cluster = clusters.cluster
    if not isinstance(value, RowValue) or value.space is not clusters.value.space or len(value.tail) != 1:
        return run.whole(_max_pool_anew, (cluster, x), {})
    grouping = clusters.grouping
    assert grouping.graph is not None
    with undispatched():
        begin = perf_counter()
        state = run.next(original, (cluster, x), {})
        nodes, members = grouping.graph.nodes, grouping.members
        fresh = state.fresh or clusters.fresh
        if state.kept is None or len(state.kept.table) != len(members.count):
            state.kept = ClusterMaximum(len(members.count), value.tail[0], value.dtype)
        touched, flops = state.kept.follow(members, value, fresh)
        rows = nodes.all if fresh else nodes.union(nodes.added, Rows.of(touched[members.count[touched] > 0]))
        run.meter.account(original, flops, perf_counter() - begin)
        run.observed = True  # not among the steps
        origin = (state.origin, id(grouping))
        return run.track(StoredRows(origin, nodes, lambda: (state.kept.table, rows)))


def _pool_edge(
    run: Forward, original: Callable[..., Any], clusters: Any, edge_index: Any, edge_attr: Any = None, **kwargs: Any
) -> Any:
    index = edge_index.value if isinstance(edge_index, Tracked) else None
    if not isinstance(clusters, _Clusters):
        return run.whole(original, (clusters, edge_index, edge_attr), kwargs)
    if edge_attr is None and isinstance(index, EdgeIndex) and index.graph is clusters.value.space.graph:
        assert clusters.grouping.graph is not None
        return run.track(EdgeIndex(clusters.grouping.graph)), None
    return run.whole(_pool_edge_anew, (clusters.cluster, edge_index, edge_attr), kwargs)


def _pool_pos(run: Forward, original: Callable[..., Any], clusters: Any, pos: Any) -> Any:
    value = pos.value if isinstance(pos, Tracked) else None
    if not isinstance(clusters, _Clusters):
        return run.whole(original, (clusters, pos), {})
    cluster, grouping = clusters.cluster, clusters.grouping
    if not isinstance(value, RowValue) or value.space is not clusters.value.space or len(value.tail) != 1:
        return run.whole(_pool_pos_anew, (cluster, pos), {})
    assert grouping.graph is not None
    with undispatched():
        state = run.next(original, (cluster, pos), {})
        nodes, members = grouping.graph.nodes, grouping.members
        fresh = state.fresh or clusters.fresh
        if state.kept is None or len(state.kept) != len(members.count):
            state.kept = torch.zeros(len(members.count), *value.tail, dtype=value.dtype, device="cpu")
        where = nodes.all.numpy()
        if not fresh:
            where = np.unique(np.concatenate([members.changed, members.key[value.changed.numpy()]]))
            where = where[members.count[where] > 0]
        means(
            where, members.base, members.first, members.after, members.count, value.table().numpy(), state.kept.numpy()
        )
        rows = nodes.all if fresh else nodes.union(nodes.added, Rows.of(where))
        run.observed = True  # not among the steps
        return run.track(StoredRows((state.origin, id(grouping)), nodes, lambda: (state.kept, rows)))


def _pool_batch(run: Forward, original: Callable[..., Any], clusters: Any, batch: Any) -> Any:
    value = batch.value if isinstance(batch, Tracked) else None
    if isinstance(clusters, _Clusters) and isinstance(value, ConstantRows) and clusters.grouping.graph is not None:
        origin = (clusters.origin, id(clusters.grouping), "batch")
        return run.track(ConstantRows(origin, clusters.grouping.graph.nodes, value.row))
    if isinstance(clusters, _Clusters):
        return run.whole(_pool_batch_anew, (clusters.cluster, batch), {})
    return run.whole(original, (clusters, batch), {})


_STEPS = {
    "consecutive_cluster": _consecutive_cluster,
    "_max_pool_x": _max_pool_x,
    "pool_edge": _pool_edge,
    "pool_pos": _pool_pos,
    "pool_batch": _pool_batch,
}
_ORIGINALS: dict[str, Callable[..., Any]] = {name: getattr(_POOLING, name) for name in _STEPS}
#: Within it, the max poolings of models take part in updates.
FOLLOWED_MAX_POOLING = Replacement(_POOLING, {name: _either(step, _ORIGINALS[name]) for name, step in _STEPS.items()})
