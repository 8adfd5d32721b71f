# SPDX-License-Identifier: Apache-2.0
"""Convolutions on the rows that an update affects: their incoming edges, and the module's own forward on those."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg
from torch_geometric.nn.conv import MessagePassing

from aegnn_core.asynchronous.incremental.forward import Forward
from aegnn_core.asynchronous.incremental.graphs import Graph, Space, Subgraph
from aegnn_core.asynchronous.incremental.local_operations import ELEMENTWISE
from aegnn_core.asynchronous.incremental.nesting import leaves
from aegnn_core.asynchronous.incremental.rows import Rows
from aegnn_core.asynchronous.incremental.spline_rows import convolve_rows
from aegnn_core.asynchronous.incremental.tracked import Tracked
from aegnn_core.asynchronous.incremental.values import (
    EdgeEnd,
    EdgeIndex,
    EdgeValue,
    OperationState,
    RowValue,
    StoredRows,
    Value,
)
from aegnn_core.asynchronous.row_by_row import works_row_by_row
from aegnn_core.asynchronous.torch_internals import undispatched
from aegnn_core.nn.spline import SplineConv

__all__ = ["Reach", "follow_aggregation", "follow_convolution", "follow_splines", "reach_of"]


@dataclass(frozen=True)
class Reach:
    """How far a convolution looks.

    Attributes:
        hops: edges between a row of the result and the farthest row that it depends on.
        degrees: it also depends on how many edges lead into the nodes at the other end of its edges.
        out_degrees: ... on how many edges lead out of them.
    """

    hops: int = 1
    degrees: bool = False
    out_degrees: bool = False


def _known(*names: str) -> list[type]:
    return [getattr(pyg, name) for name in names if hasattr(pyg, name)]


_ONE_HOP = frozenset(
    _known(
        "SplineConv", "GraphConv", "SAGEConv", "GINConv", "GINEConv", "GATConv", "GATv2Conv", "EdgeConv",
        "PointNetConv", "PointConv", "NNConv", "ECConv", "CGConv", "TransformerConv", "GENConv", "ResGatedGraphConv",
        "SimpleConv", "MFConv", "LEConv", "FiLMConv", "GMMConv", "PointTransformerConv", "PPFConv", "FeaStConv",
        "PNAConv", "GeneralConv",
    )
)  # fmt: skip
_NORMALIZED = frozenset(_known("GCNConv", "LGConv", "GCN2Conv", "ClusterGCNConv", "FAConv", "EGConv", "PDNConv"))
_SEVERAL_HOPS = frozenset(_known("SGConv", "SSGConv", "APPNP", "ARMAConv", "GatedGraphConv"))
#: Convolutions that put features with several heads, ``[N, heads, C]``, along their edges.
_WITH_HEADS = frozenset(_known("GATConv", "GATv2Conv", "EGConv", "GeneralConv", "PNAConv", "TransformerConv"))
#: The dimension of the nodes in ``[N, C]``, as most convolutions count it.
_SECOND_LAST = -2


def reach_of(module: MessagePassing) -> Reach | None:
    """How far a convolution looks, None for one that is not known to be local."""
    kind = type(module)
    if getattr(module, "flow", "source_to_target") != "source_to_target" or getattr(module, "cached", False):
        return None
    # ARMAConv puts its stacks in front of the nodes.
    dims = (0,) if kind in _WITH_HEADS else (_SECOND_LAST,) if kind is pyg.ARMAConv else (_SECOND_LAST, 0)
    if module.node_dim not in dims:
        return None
    if not all(works_row_by_row(part) for name, part in module.named_modules() if name):
        return None
    functions = [getattr(part, "act", None) for part in module.modules()]
    if any(callable(act) and not isinstance(act, nn.Module) and act not in ELEMENTWISE for act in functions):
        return None
    if kind in _ONE_HOP:
        return Reach()
    if kind in _NORMALIZED:
        return Reach(degrees=True)
    if kind in _SEVERAL_HOPS:
        hops = getattr(module, "K", None) or getattr(module, "num_layers", None)
        return Reach(int(hops), degrees=True) if hops else None
    if kind is pyg.TAGConv:
        return Reach(max(1, len(module.lins) - 1), degrees=True)
    if kind is pyg.ChebConv and module.normalization == "sym":
        return Reach(max(1, len(module.lins) - 1), degrees=True, out_degrees=True)
    return None


def follow_convolution(module: MessagePassing, reach: Reach, running: Callable[[], Forward | None]) -> None:
    """Make a convolution compute affected rows only, when it is called during an update."""
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        run = running()
        if run is None:
            return original(*args, **kwargs)
        return _convolve(run, module, original, reach, args, kwargs)

    module.forward = forward


def _convolve(
    run: Forward, module: MessagePassing, original: Callable[..., Any], reach: Reach, args: Any, kwargs: Any
) -> Any:
    values, others = [], []
    for leaf in leaves((args, kwargs)):
        if isinstance(leaf, Tracked):
            values.append(leaf.value)
        elif leaf is not None:
            others.append(leaf)
    graph = _graph_of(values, reach)
    if module.node_dim == _SECOND_LAST and any(isinstance(v, RowValue) and len(v.tail) != 1 for v in values):
        graph = None  # it takes another dimension for that of the nodes
    if graph is None or not all(_same_in_subgraphs(run, leaf) for leaf in others):
        return run.whole(original, args, kwargs)
    # Where weights of edges are computed from nodes, one that changes also changes the degrees of those that read it.
    computed = reach.degrees and any(isinstance(value, EdgeValue) and value.nodes for value in values)
    hops = reach.hops + 1 if computed else reach.hops
    with undispatched():
        state = run.next(original, args, kwargs)
        nodes = graph.nodes
        changed = nodes.union(
            nodes.added,
            *(value.changed for value in values if isinstance(value, RowValue)),
            *(node.changed for value in values if isinstance(value, EdgeValue) for node in value.nodes),
        )
        rows = nodes.all if state.fresh else graph.affected(changed, hops, reach.degrees, reach.out_degrees)
        work = len(rows) > 0 or state.tail is None
        if work:
            subgraph = graph.subgraph(rows, reach.hops + reach.degrees, reach.out_degrees)
            local = run.replaced((args, kwargs), lambda value: _on(value, subgraph))
    if work:
        result = run.meter.execute(run.meter.layer_of(module), original, *local)
        if not isinstance(result, Tensor):
            # Attention weights per edge, for example.
            return run.whole(original, args, kwargs)
    with undispatched():
        if work:
            store_rows(state, nodes, rows, result[: len(rows)])
        run.observed = True  # not among the steps
        return run.track(StoredRows(state.origin, nodes, lambda: (state.table(nodes), rows)))


def store_rows(state: OperationState, space: Space, rows: Rows, result: Tensor) -> None:
    """Keep the rows that an operation computed."""
    state.describe(result)
    rows.put(state.table(space), result)


def _same_in_subgraphs(run: Forward, argument: Any) -> bool:
    """Whether an argument means the same for a part of the graph: it has no rows, and is no number of nodes."""
    if isinstance(argument, Tensor):
        with undispatched():
            return argument.dim() == 0 and run.reader.constant(argument) is not None
    return isinstance(argument, (bool, float, str))


def _graph_of(values: list[Value], reach: Reach) -> Graph | None:
    """The graph that all arguments belong to, None where they belong to different ones."""
    index = [value for value in values if isinstance(value, EdgeIndex)]
    if len(index) != 1:
        return None
    graph = index[0].graph
    for value in values:
        if isinstance(value, RowValue) and value.space is graph.nodes and not value.guessed:
            continue
        if isinstance(value, EdgeValue) and value.graph is graph and not reach.out_degrees:
            continue
        if value is not index[0]:
            return None
    return graph


def _on(value: Value, subgraph: Subgraph) -> Tensor:
    """A value, for the nodes or edges of a subgraph."""
    if isinstance(value, RowValue):
        return subgraph.nodes.take(value.table())  # a table from the start: the next update reads unchanged rows
    if isinstance(value, EdgeValue):
        return value.at(subgraph)
    return subgraph.edge_index


def follow_aggregation(module: MessagePassing, running: Callable[[], Forward | None]) -> None:
    """For an unknown convolution: track its own steps, and aggregate for affected rows only."""
    original = module.aggr_module.forward

    def forward(x: Tensor, index: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        run = running()
        if run is None:
            return original(x, index, *args, **kwargs)
        return _aggregate(run, module.aggr_module, original, x, index, args, kwargs)

    if module.aggr_module is not None:
        module.aggr_module.forward = forward


def _aggregate(
    run: Forward,
    module: nn.Module,
    original: Callable[..., Any],
    x: Any,
    index: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    messages = x.value if isinstance(x, Tracked) else None
    end = index.value if isinstance(index, Tracked) else None
    if not (
        isinstance(messages, EdgeValue)
        and isinstance(end, EdgeEnd)
        and end.which == "target"
        and end.graph is messages.graph
        and all(works_row_by_row(part) for part in module.modules())
        and not args
        and kwargs.get("ptr") is None
        and kwargs.get("dim", -2) % (len(messages.tail) + 1) == 0
    ):
        return run.whole(original, (x, index, *args), kwargs)
    graph, nodes = messages.graph, messages.graph.nodes
    with undispatched():
        state = run.next(original, (x, index), {})
        changed = nodes.union(nodes.added, *(node.changed for node in messages.nodes))
        rows = nodes.all if state.fresh else graph.affected(changed, 1, False, False)
        work = len(rows) > 0 or state.tail is None
        if work:
            edges = graph.edges_into(rows)
            local = messages.at(edges), torch.from_numpy(edges.positions()).to(messages.device)
    if work:
        result = run.meter.execute(
            run.meter.layer_of(module), original, local, {"dim_size": len(rows), "dim": kwargs.get("dim", -2)}
        )
    with undispatched():
        if work:
            store_rows(state, nodes, rows, result)
        run.observed = True  # not among the steps
        return run.track(StoredRows(state.origin, nodes, lambda: (state.table(nodes), rows)))


class _TrackedSplines:
    """In place of :class:`EdgeSplines` during an update: the edges, and their attributes."""

    def __init__(self, graph: Graph, attributes: EdgeValue) -> None:
        self.graph, self.attributes = graph, attributes


def follow_splines(module: SplineConv, running: Callable[[], Forward | None]) -> None:
    """Make one of our spline convolutions compute affected rows only, and share the splines between layers."""
    edges, convolve = module.edges, module.convolve

    def tracked_edges(source: Any, target: Any, edge_attr: Any, nodes: int, *, check: bool = False) -> Any:
        run = running()
        values = [tensor.value if isinstance(tensor, Tracked) else None for tensor in (source, target, edge_attr)]
        if run is None or not any(values):
            return edges(source, target, edge_attr, nodes, check=check)
        first, second, attributes = values
        if (
            isinstance(first, EdgeEnd)
            and isinstance(second, EdgeEnd)
            and isinstance(attributes, EdgeValue)
            and (first.which, second.which) == ("source", "target")
            and first.graph is second.graph is attributes.graph
        ):
            return _TrackedSplines(first.graph, attributes)
        return run.whole(edges, (source, target, edge_attr, nodes), {"check": check})

    def tracked_convolve(features: Any, own: Any, splines: Any) -> Any:
        run = running()
        if run is not None and isinstance(splines, _TrackedSplines):
            return _convolve_splines(run, module, convolve, features, splines)
        if run is not None and any(isinstance(leaf, Tracked) for leaf in leaves((features, splines))):
            return run.whole(convolve, (features, own, splines), {})
        return convolve(features, own, splines)

    module.edges = tracked_edges  # type: ignore[method-assign]
    module.convolve = tracked_convolve  # type: ignore[method-assign, assignment]


def _convolve_splines(
    run: Forward, module: SplineConv, convolve: Callable[..., Tensor], features: Any, splines: _TrackedSplines
) -> Any:
    graph, nodes, attributes = splines.graph, splines.graph.nodes, splines.attributes
    x = features.value if isinstance(features, Tracked) else None
    if not isinstance(x, RowValue) or x.space is not nodes:
        ends = EdgeIndex(graph)
        source, target, attr = (run.track(v) for v in (ends.end(0), ends.end(1), attributes))
        return run.whole(
            lambda features, source, target, attr: convolve(
                features, features, SplineConv.edges(module, source, target, attr, len(features))
            ),
            (features, source, target, attr),
            {},
        )
    with undispatched():
        state = run.next(convolve, (features,), {"attributes": attributes})

        def update() -> tuple[Tensor, Rows]:
            changed = nodes.union(x.changed, *(node.changed for node in attributes.nodes))
            rows = nodes.all if state.fresh else graph.affected(changed, 1, False, False)
            if len(rows) or state.tail is None:
                result = convolve_rows(run.meter, module, convolve, x, attributes, graph.edges_into(rows), rows)
                store_rows(state, nodes, rows, result)
            return state.table(nodes), rows

        return run.track(StoredRows(state.origin, nodes, update))
