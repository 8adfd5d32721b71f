# SPDX-License-Identifier: Apache-2.0
"""Whole graphs from event arrays, for training, evaluation and as the reference of the live model."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Data

from aegnn_core.events.array import check_events
from aegnn_core.graph.config import GraphConfig
from aegnn_core.graph.neighbors import FOREVER, NeighborSearch
from aegnn_core.machine_code import kernel
from aegnn_core.torch_threads import torch_team

__all__ = [
    "Neighbors",
    "build_graph",
    "build_nodes",
    "check_neighbors",
    "edge_attributes",
    "find_neighbors",
    "first_live",
    "join_neighbors",
    "most_live",
]

_FLOAT = {torch.float32: np.float32, torch.float64: np.float64}


@kernel
def edge_attributes(dx: float, dy: float, dt: float, radius: float, time_scale: float) -> tuple[float, float, float]:
    """``clamp((pos_j - pos_k) / (2 radius) + 1/2, 0, 1)`` of one edge j → k; differences [px, px, µs] are j minus k."""
    scale = 1.0 / (2.0 * radius)
    u = min(max(dx * scale + 0.5, 0.0), 1.0)
    v = min(max(dy * scale + 0.5, 0.0), 1.0)
    w = min(max(time_scale * dt * scale + 0.5, 0.0), 1.0)
    return u, v, w


@kernel
def _close_up(rows: np.ndarray, counts: np.ndarray, sources: np.ndarray) -> None:
    """Write the first ``counts[k]`` values of each of the ``rows`` one after the other into ``sources``."""
    e = 0
    for k in range(len(counts)):
        for i in range(counts[k]):
            sources[e] = rows[k, i]
            e += 1


@kernel
def _fill_edges(
    t: NDArray[np.int64],
    x: np.ndarray,
    y: np.ndarray,
    sources: np.ndarray,
    counts: np.ndarray,
    first: int,
    radius: float,
    time_scale: float,
    directed: bool,
    edge_index: NDArray[np.int64],
    edge_attr: np.ndarray,
) -> int:
    """Write the edges with both ends at or after node ``first`` in the order of their younger node; return how many."""
    e = n = 0
    for k in range(len(t)):
        for _ in range(counts[k]):
            j = np.int64(sources[n])
            n += 1
            if j < first:
                continue
            u, v, w = edge_attributes(
                float(x[j]) - float(x[k]), float(y[j]) - float(y[k]), float(t[j] - t[k]), radius, time_scale
            )
            edge_index[0, e], edge_index[1, e] = j - first, k - first
            edge_attr[e, 0], edge_attr[e, 1], edge_attr[e, 2] = u, v, w
            e += 1
            if not directed:
                edge_index[0, e], edge_index[1, e] = k - first, j - first
                u, v, w = edge_attributes(
                    float(x[k]) - float(x[j]), float(y[k]) - float(y[j]), float(t[k] - t[j]), radius, time_scale
                )
                edge_attr[e, 0], edge_attr[e, 1], edge_attr[e, 2] = u, v, w
                e += 1
    return e


class Neighbors(NamedTuple):
    """The neighbours of all nodes of a graph, before any of them has left it.

    Attributes:
        counts: int32 ``[N]``, how many each node has.
        sources: int32 ``[M]``, their node numbers, those of node 0 first.
    """

    counts: np.ndarray
    sources: np.ndarray


def first_live(t: np.ndarray, graph: GraphConfig, time: int) -> int:
    """The number of the oldest live node at ``time`` [µs], given all node times ``t`` [µs, ``[N]``, ascending]."""
    first = 0
    if graph.max_nodes is not None:
        first = max(0, len(t) - graph.max_nodes)
    if graph.window is not None and len(t) and time - graph.window >= t[0]:
        first = max(first, int(np.searchsorted(t, time - graph.window, side="right")))
    return first


def build_graph(
    events: np.ndarray, graph: GraphConfig, *, time: int | None = None, dtype: torch.dtype = torch.float32
) -> Data:
    """The graph of the rule over an event array.

    Args:
        events: structured array ``[N]`` with fields t [µs], x, y [px], p, in time order.
        graph: the rule.
        time: sensor time [µs] at which nodes are live or not, at least the last event's; that is also the default.
        dtype: of the floating-point tensors, float32 or float64.

    Returns:
        ``Data`` with ``x [N, 1]`` polarity ±1, ``pos [N, 3]`` = (x, y, β·(t - t of the first event)) in px,
        ``edge_index [2, E]`` (row 0 source, row 1 target, in the order of the younger node), ``edge_attr [E, 3]`` in
        [0, 1] and ``t [N]``, whole µs since the first event. With ``expiry="readout"`` all events are nodes and ``live
        [N]`` marks the live ones; with ``expiry="graph"`` only the live nodes and the edges between them are there.

    Raises:
        ValueError: not an event array, not in time order, or ``time`` before the last event.
    """
    return join_neighbors(events, find_neighbors(events, graph), graph, time=time, dtype=dtype)


def build_nodes(events: np.ndarray, graph: GraphConfig) -> Data:
    """The graph of :func:`build_graph` without ``edge_index`` and ``edge_attr``, for whoever finds them elsewhere.

    Raises:
        ValueError: not an event array, or not in time order.
    """
    checked = check_events(events)
    nobody = Neighbors(np.zeros(len(checked), np.int32), np.empty(0, np.int32))
    nodes = join_neighbors(checked, nobody, graph)
    del nodes.edge_index, nodes.edge_attr
    return nodes


def find_neighbors(events: np.ndarray, graph: GraphConfig) -> Neighbors:
    """The search that :func:`build_graph` begins with; it is the same for directed and undirected graphs.

    Raises:
        ValueError: not an event array, or not in time order.
    """
    t, x, y = _columns(check_events(events))
    count = len(t)
    rows = np.empty((count, graph.max_neighbors), np.int32)
    counts = np.empty(count, np.int32)
    if count:
        capacity = 1 << max(0, count - 1).bit_length()
        search = NeighborSearch(graph, int(x.max()) + 1, int(y.max()) + 1, capacity)
        search.insert(t, x, y, rows, counts, torch_team())
    sources = np.empty(int(counts.sum()), np.int32)
    _close_up(rows, counts, sources)
    return Neighbors(counts, sources)


@kernel
def _first_foreign(
    t: NDArray[np.int64],
    x: np.ndarray,
    y: np.ndarray,
    counts: np.ndarray,
    sources: np.ndarray,
    reach2: float,
    time_scale: float,
    longest: int,
    max_nodes: int,
) -> int:
    """The first node with a neighbour that the rule does not give it, or one twice; -1 if there is none."""
    n = 0
    for k in range(len(t)):
        for i in range(counts[k]):
            j = np.int64(sources[n + i])
            if j < 0 or j >= k or k - j >= max_nodes or t[k] - t[j] > longest:
                return k
            dx, dy, dt = float(x[k] - x[j]), float(y[k] - y[j]), time_scale * float(t[k] - t[j])
            if dx * dx + dy * dy + dt * dt > reach2:
                return k
            for other in range(i):
                if sources[n + other] == j:
                    return k
        n += counts[k]
    return -1


def check_neighbors(events: np.ndarray, neighbors: Neighbors, graph: GraphConfig) -> None:
    """Raise ``ValueError`` unless the neighbours of events are ones that the rule allows, so that they may be joined.

    Whether there should be others beside them is not looked for.
    """
    counts, sources = neighbors
    t, x, y = _columns(events)
    if len(counts) != len(t) or (len(counts) and (counts.min() < 0 or counts.max() > graph.max_neighbors)):
        raise ValueError(
            f"expected up to {graph.max_neighbors} neighbours for each of {len(t)} events, found up to"
            f" {counts.max(initial=0)} for {len(counts)}"
        )
    if int(counts.sum()) != len(sources):
        raise ValueError(f"the events have {counts.sum()} neighbours, found {len(sources)}")
    youth = FOREVER if graph.window is None else graph.window - 1
    longest = min(youth, FOREVER if graph.time_horizon is None else graph.time_horizon)
    most = FOREVER if graph.max_nodes is None else graph.max_nodes
    k = _first_foreign(t, x, y, counts, sources, graph.radius**2, graph.time_scale, longest, most)
    if k >= 0:
        raise ValueError(f"event {k} has a neighbour that the graph rule does not give it")


def join_neighbors(
    events: np.ndarray,
    neighbors: Neighbors,
    graph: GraphConfig,
    *,
    time: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Data:
    """The graph of :func:`build_graph` from events whose neighbours :func:`find_neighbors` has found.

    Raises:
        ValueError: ``time`` before the last event.
    """
    if dtype not in _FLOAT:
        raise ValueError(f"dtype must be torch.float32 or torch.float64, found {dtype}")
    t, x, y = _columns(events)
    count = len(t)
    if time is None:
        time = int(t[-1]) if count else 0
    elif count and time < t[-1]:
        raise ValueError(f"time is {time} µs, before the last event at {t[-1]} µs")
    live_from = first_live(t, graph, time)
    first = live_from if graph.resolved_expiry == "graph" else 0

    counts, sources = neighbors
    size = int(counts[first:].sum()) * (1 if graph.directed else 2)
    edge_index = np.empty((2, size), np.int64)
    edge_attr = np.empty((size, 3), _FLOAT[dtype])
    size = _fill_edges(
        t, x, y, sources, counts, first, graph.radius, graph.time_scale, graph.directed, edge_index, edge_attr
    )
    pos = np.empty((count - first, 3), _FLOAT[dtype])
    pos[:, 0], pos[:, 1] = x[first:], y[first:]
    pos[:, 2] = graph.time_scale * (t[first:] - t[0]) if count else 0
    polarity = np.where(events["p"][first:] > 0, 1, -1).astype(_FLOAT[dtype])[:, None]
    data = Data(
        x=torch.from_numpy(polarity),
        pos=torch.from_numpy(pos),
        edge_index=torch.from_numpy(np.ascontiguousarray(edge_index[:, :size])),
        edge_attr=torch.from_numpy(edge_attr[:size]),
        t=torch.from_numpy(t[first:] - t[:1]),
    )
    if graph.resolved_expiry == "readout":
        data.live = torch.arange(count, device="cpu") >= live_from
    return data


def _columns(events: np.ndarray) -> list[np.ndarray]:
    """Times [µs] and pixels ``[N]`` as 64-bit integers, which compiled code is made for."""
    return [np.ascontiguousarray(events[name], np.int64) for name in "txy"]


def most_live(t: np.ndarray, graph: GraphConfig, before: int) -> int:
    """The most nodes that are live at once while events at ``t`` [µs, ``[N]``, ascending] join ``before`` live ones."""
    # Columns can be strided or not: made contiguous, so that only one kind of array is compiled for.
    count = before + (len(t) if graph.window is None else _most_within(np.ascontiguousarray(t), graph.window))
    return count if graph.max_nodes is None else min(count, graph.max_nodes)


@kernel
def _most_within(t: np.ndarray, window: int) -> int:
    """The most of the events at ``t`` [µs, ascending] that lie within a window [µs]."""
    most = first = 0
    for k in range(len(t)):
        while t[k] - t[first] >= window:
            first += 1
        most = max(most, k + 1 - first)
    return most
