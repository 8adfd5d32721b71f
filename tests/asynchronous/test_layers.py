# SPDX-License-Identifier: Apache-2.0
"""Every layer of PyTorch Geometric that is said to be supported, on every kind of graph, after every single update."""

import importlib
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch_geometric.nn as pyg
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Data
from torch_geometric.nn.conv import MessagePassing

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous
from aegnn_core.events import make_events
from aegnn_core.nn.spline import SplineConv
from tests.asynchronous.foreign import RULES, crowd, follow, randomized
from tests.graph.reference import graph_configs, streams


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, outputs))


class OneLayer(nn.Module):
    """A layer behind and before element-wise functions, as ``call(layer, x, data)``; returns all nodes."""

    def __init__(self, layer: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.enter, self.layer, self.call = nn.Linear(1, 4), layer, call

    def forward(self, data: Data) -> Tensor:
        return functional.elu(self.call(self.layer, torch.tanh(self.enter(data.x)), data))


def plain(layer: nn.Module, x: Tensor, data: Data) -> Tensor:
    return layer(x, data.edge_index)


def weighted(layer: nn.Module, x: Tensor, data: Data) -> Tensor:
    return layer(x, data.edge_index, 1 + data.edge_attr[:, 0])


def attributed(layer: nn.Module, x: Tensor, data: Data) -> Tensor:
    return layer(x, data.edge_index, data.edge_attr)


def learned(x: Tensor, data: Data) -> Tensor:
    """Weights of edges, from the features at both ends."""
    source, target = data.edge_index
    return (x[source] - x[target]).pow(2).sum(1) + 0.1


def smoothed(layer: nn.Module, x: Tensor, data: Data) -> Tensor:
    """Weights that change with the nodes: they are computed from the neighbours'."""
    return layer(y := layer(x, data.edge_index), data.edge_index, learned(y, data))


def positioned(layer: nn.Module, x: Tensor, data: Data) -> Tensor:
    return layer(x, data.pos, data.edge_index)


class OwnConvolution(MessagePassing):
    """As PyTorch Geometric's documentation teaches to write one; nobody knows its reach."""

    def __init__(self) -> None:
        super().__init__(aggr="max")
        self.inner = nn.Linear(8, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.propagate(edge_index, x=x)

    def message(self, x_i: Tensor, x_j: Tensor) -> Tensor:
        return functional.relu(self.inner(torch.cat([x_i, x_j - x_i], dim=1)))


class UnknownNetwork(nn.Module):
    """A network inside a convolution of which nothing is known."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).sigmoid() * 2


def tiles(data: Data) -> Tensor:
    """Clusters with a fixed origin, as ``voxel_grid`` makes them: tiles of 4 x 4 px."""
    cell = torch.floor(data.pos[:, :2] / 4).long()
    return cell[:, 1] * 3 + cell[:, 0]


def pool_into_tiles(layer: nn.Module, x: Tensor, data: Data) -> Tensor:
    pooled = pyg.max_pool(tiles(data), Data(x=x, edge_index=data.edge_index, pos=data.pos))
    return torch.cat([layer(pooled.x, pooled.edge_index), pooled.pos], 1)


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[..., Tensor]]] = {
    "SplineConv": (lambda: SplineConv(4, 3, 3, 2), attributed),
    "SplineConv, added": (lambda: SplineConv(4, 3, 3, [2, 3, 2], aggr="add"), attributed),
    "GCNConv": (lambda: pyg.GCNConv(4, 3), plain),
    "GCNConv, weighted": (lambda: pyg.GCNConv(4, 3, improved=True), weighted),
    "GCNConv, weights of its own": (lambda: pyg.GCNConv(4, 4), smoothed),
    "LGConv, weights of its own": (pyg.LGConv, smoothed),
    "TAGConv, weights of its own": (lambda: pyg.TAGConv(4, 4, K=2), smoothed),
    "GCNConv, not normalised": (lambda: pyg.GCNConv(4, 3, normalize=False), plain),
    "GraphConv": (lambda: pyg.GraphConv(4, 3), plain),
    "GraphConv, weighted max": (lambda: pyg.GraphConv(4, 3, aggr="max"), weighted),
    "SAGEConv": (lambda: pyg.SAGEConv(4, 3), plain),
    "SAGEConv, normalised": (lambda: pyg.SAGEConv(4, 3, normalize=True, project=True), plain),
    "SAGEConv, several aggregations": (lambda: pyg.SAGEConv(4, 3, aggr=["min", "std", "softmax"]), plain),
    "GINConv": (lambda: pyg.GINConv(mlp(4, 3), train_eps=True), plain),
    "GINConv, unknown network": (lambda: pyg.GINConv(UnknownNetwork(4, 3)), plain),
    "GINEConv": (lambda: pyg.GINEConv(mlp(4, 3), edge_dim=3), attributed),
    "GATConv": (lambda: pyg.GATConv(4, 3, heads=2), plain),
    "GATConv, edges": (lambda: pyg.GATConv(4, 3, heads=2, concat=False, edge_dim=3), attributed),
    "GATv2Conv": (lambda: pyg.GATv2Conv(4, 3, heads=2, edge_dim=3), attributed),
    "EdgeConv": (lambda: pyg.EdgeConv(mlp(8, 3)), plain),
    "EdgeConv, unknown network": (lambda: pyg.EdgeConv(UnknownNetwork(8, 3)), plain),
    "PointNetConv": (lambda: pyg.PointNetConv(mlp(7, 3), mlp(3, 3)), positioned),
    "NNConv": (lambda: pyg.NNConv(4, 3, mlp(3, 12), aggr="mean"), attributed),
    "CGConv": (lambda: pyg.CGConv(4, dim=3), attributed),
    "TransformerConv": (lambda: pyg.TransformerConv(4, 3, heads=2, edge_dim=3, beta=True), attributed),
    "GENConv": (lambda: pyg.GENConv(4, 3, edge_dim=3, norm="layer"), attributed),
    "TAGConv": (lambda: pyg.TAGConv(4, 3, K=2), plain),
    "ChebConv": (lambda: pyg.ChebConv(4, 3, K=3), plain),
    "SGConv": (lambda: pyg.SGConv(4, 3, K=2), plain),
    "APPNP": (lambda: pyg.APPNP(K=2, alpha=0.2), plain),
    "ResGatedGraphConv": (lambda: pyg.ResGatedGraphConv(4, 3), plain),
    "GMMConv": (lambda: pyg.GMMConv(4, 3, dim=3, kernel_size=2), attributed),
    "LEConv": (lambda: pyg.LEConv(4, 3), plain),
    "MFConv": (lambda: pyg.MFConv(4, 3, max_degree=4), plain),
    "FeaStConv": (lambda: pyg.FeaStConv(4, 3, heads=2), plain),
    "PointTransformerConv": (lambda: pyg.PointTransformerConv(4, 3), positioned),
    "a convolution of one's own": (OwnConvolution, plain),
    "max_pool": (lambda: pyg.GCNConv(4, 3), lambda layer, x, data: pool_into_tiles(layer, x, data)),
    "max_pool_x": (
        lambda: nn.Linear(4, 3),
        lambda layer, x, data: layer(pyg.max_pool_x(tiles(data), x, torch.zeros(len(x), dtype=torch.long))[0]),
    ),
}


def test_torch_geometric_is_changed_only_while_a_forward_runs() -> None:
    pooling = importlib.import_module("torch_geometric.nn.pool.max_pool")
    before = dict(vars(pooling))
    changed: list[set[str]] = []

    def pool(layer: nn.Module, x: Tensor, data: Data) -> Tensor:
        if type(x) is not Tensor:
            changed.append({name for name, value in vars(pooling).items() if value is not before[name]})
        if other is not None:  # a forward of another model that begins and ends meanwhile
            other.update(crowd(20))
            other.output()
            changed.append({name for name, value in vars(pooling).items() if value is not before[name]})
        if failing:
            raise RuntimeError("of the model's own")
        return pool_into_tiles(layer, x, data)

    other, failing = None, False
    first, second = (
        make_model_asynchronous(randomized(OneLayer(pyg.GCNConv(4, 3), pool)), engine="incremental") for _ in range(2)
    )
    assert dict(vars(pooling)) == before
    first.update(crowd(20))
    first.output()
    assert dict(vars(pooling)) == before
    first.update(crowd(21)[20:])
    failing = True
    with pytest.raises(RuntimeError, match="of the model's own"):
        first.output()
    assert dict(vars(pooling)) == before
    failing, other = (
        False,
        make_model_asynchronous(randomized(OneLayer(pyg.GCNConv(4, 3), pool_into_tiles)), engine="incremental"),
    )
    second.update(crowd(20))
    second.output()
    assert dict(vars(pooling)) == before
    assert len(changed) == 4
    assert all("_max_pool_x" in names for names in changed)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_equals_itself_on_the_whole_graph(name: str, rule: str) -> None:
    make, call = LAYERS[name]
    module = randomized(OneLayer(make(), call))
    live = follow(module, RULES[rule], crowd(36), [1] * 24 + [0, 5, 1, 1, 5])
    assert "dense" not in repr(live)


@example(  # a graph of no nodes at all, in which nothing is done on the whole of it
    "max_pool", make_events(*np.array([[0], [0], [0], [1]])), GraphConfig(directed=False, window=1), [], 0
)
@settings(max_examples=40)
@given(
    name=st.sampled_from(list(LAYERS)),
    events=streams(max_events=60),
    graph=graph_configs(),
    sizes=st.lists(st.sampled_from([1, 1, 1, 7, 20]), max_size=12),
    seed=st.integers(0, 5),
)
def test_any_layer_on_any_graph(name: str, events: np.ndarray, graph: GraphConfig, sizes: list[int], seed: int) -> None:
    if graph.bounded and graph.resolved_expiry == "readout":
        graph = GraphConfig(**{**graph.to_dict(), "expiry": "graph"})
    if not len(events):
        return
    make, call = LAYERS[name]
    follow(randomized(OneLayer(make(), call), seed), graph, events, [1, *sizes])


DENSE: dict[str, tuple[Callable[[], nn.Module], Callable[..., Tensor], str]] = {
    "GraphNorm": (lambda: pyg.GraphNorm(4), lambda layer, x, data: layer(x), "layer: dense"),
    "a mean over all nodes": (nn.Identity, lambda layer, x, data: x - x.mean(), "mean: dense"),
    "attention over all nodes": (
        nn.Identity,
        lambda layer, x, data: torch.softmax(x @ x.t(), -1) @ x,
        "matmul: dense",
    ),
    "ChebConv with weights of both signs": (
        lambda: pyg.ChebConv(4, 3, K=2),
        lambda layer, x, data: layer(x, data.edge_index, data.edge_attr[:, 0]),
        "layer: dense",
    ),
    "max_pool with edge attributes": (
        nn.Identity,
        lambda layer, x, data: pyg.max_pool(tiles(data), Data(x, data.edge_index, data.edge_attr)).x,
        "dense",
    ),
    "avg_pool": (
        nn.Identity,
        lambda layer, x, data: pyg.avg_pool(tiles(data), Data(x=x, edge_index=data.edge_index, pos=data.pos)).x,
        "dense",
    ),
    "weights that are ones": (
        lambda: pyg.GCNConv(4, 3),
        lambda layer, x, data: layer(x, data.edge_index, torch.ones(data.edge_index.size(1), dtype=x.dtype)),
        "layer: dense",
    ),
    "new weights that are ones": (
        lambda: pyg.GraphConv(4, 3),
        lambda layer, x, data: layer(x, data.edge_index, x.new_ones(data.edge_index.size(1)).mul(0.5)),
        "layer: dense",
    ),
    "types of edges that are zeros": (
        lambda: pyg.FiLMConv(4, 3, num_relations=2),
        lambda layer, x, data: layer(x, data.edge_index, torch.zeros(data.num_edges, dtype=torch.long)),
        "layer: dense",
    ),
    "the graph's size": (
        lambda: pyg.GraphConv(4, 3),
        lambda layer, x, data: layer(x, data.edge_index, size=(len(x), data.num_nodes)),
        "layer: dense",
    ),
    "Softmax over all edges": (lambda: pyg.EdgeConv(nn.Sequential(nn.Linear(8, 3), nn.Softmax(dim=0))), plain, "dense"),
    "LogSoftmax over all nodes": (
        lambda: pyg.GINConv(nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(dim=0))),
        plain,
        "dense",
    ),
    "Softmin over all nodes": (
        lambda: pyg.GINConv(nn.Sequential(nn.Linear(4, 3), nn.Softmin(dim=-2))),
        plain,
        "dense",
    ),
    "an activation over all nodes": (
        lambda: pyg.GINConv(pyg.MLP([4, 4, 3], norm=None, act=lambda x: x.softmax(0))),
        plain,
        "dense",
    ),
    "target_to_source": (lambda: pyg.GraphConv(4, 3, flow="target_to_source"), plain, "dense"),
}


@pytest.mark.parametrize("rule", ["directed, deletion", "undirected, deletion"])
@pytest.mark.parametrize("name", DENSE)
def test_what_is_not_local_runs_densely_and_is_named(name: str, rule: str) -> None:
    make, call, shown = DENSE[name]
    module = randomized(OneLayer(make(), call))
    live = follow(module, RULES[rule], crowd(30), [1] * 20 + [10], dense_layers=True)
    assert shown in repr(live)


@pytest.mark.parametrize(
    "activation", [lambda: nn.Softmax(dim=-1), lambda: nn.Softmax(dim=1), lambda: nn.GLU(), lambda: nn.PReLU()]
)
def test_activations_along_features_work_row_by_row(activation: Callable[[], nn.Module]) -> None:
    module = randomized(OneLayer(pyg.GINConv(nn.Sequential(nn.Linear(4, 4), activation())), plain))
    live = follow(module, RULES["undirected, deletion"], crowd(20), [1] * 20)
    assert "affected nodes with their incoming edges" in repr(live)


@pytest.mark.parametrize("conv", [lambda: pyg.GraphConv(4, 3), lambda: pyg.FiLMConv(4, 3, num_relations=2)])
def test_as_many_edges_as_nodes_are_not_taken_for_nodes(conv: Callable[[], nn.Module]) -> None:
    def call(layer: nn.Module, x: Tensor, data: Data) -> Tensor:
        dtype = torch.long if isinstance(layer, pyg.FiLMConv) else x.dtype
        return layer(x, data.edge_index, x.new_ones(data.edge_index.size(1), dtype=dtype))

    events = crowd(300, seed=1)
    graph = GraphConfig(radius=3.0, max_neighbors=2, max_nodes=8, expiry="graph")
    live = follow(randomized(OneLayer(conv(), call)), graph, events, [1] * 300, dense_layers=True)
    counts = [build_graph(events[:k], live.graph).edge_index.size(1) for k in range(1, 301)]
    assert any(count == min(k, 8) for k, count in enumerate(counts, 1))


def test_dense_layers_are_warned_of_once() -> None:
    events = crowd(10)
    live = make_model_asynchronous(randomized(OneLayer(pyg.GraphNorm(4), lambda layer, x, data: layer(x))))
    live.update(events[:5])
    with pytest.warns(UserWarning, match="layer is not local, or not known to be: it runs on the whole graph"):
        live.output()
    live.update(events[5:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        live.output()


def test_norms_and_dropout_in_evaluation_mode_work_row_by_row() -> None:
    layers = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5), nn.LayerNorm(4), pyg.BatchNorm(4), nn.PReLU(4))
    module = randomized(OneLayer(layers, lambda layer, x, data: layer(x)))
    follow(module, RULES["undirected, deletion"], crowd(20), [1] * 20)
