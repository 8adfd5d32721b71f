# SPDX-License-Identifier: Apache-2.0
"""Whole models of other people's making: kinds of networks that PyTorch Geometric's examples show, rebuilt."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch_geometric.nn as pyg
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Data

from aegnn_core import GraphConfig
from aegnn_core.nn.pooling import VoxelPooling
from aegnn_core.nn.spline import SplineConv
from tests.asynchronous.foreign import RULES, crowd, follow, randomized
from tests.graph.reference import graph_configs, streams


class PointNet(nn.Module):
    """PointNet++ on a given graph: two point convolutions, the maximum over all points, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = pyg.PointNetConv(pyg.MLP([1 + 3, 8, 8]), add_self_loops=False)
        self.conv2 = pyg.PointNetConv(pyg.MLP([8 + 3, 8]))
        self.classifier = pyg.MLP([8, 6, 3], dropout=0.5)

    def forward(self, data: Data) -> Tensor:
        x = self.conv1(data.x, data.pos, data.edge_index).relu()
        x = self.conv2(x, data.pos, data.edge_index).relu()
        return self.classifier(pyg.global_max_pool(x, data.batch)).log_softmax(dim=-1)


class DynamicGraphNetwork(nn.Module):
    """DGCNN's edge convolutions on a given graph, all their outputs side by side, and a part per point."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = pyg.EdgeConv(pyg.MLP([2 * 4, 6, 6]), aggr="max")
        self.conv2 = pyg.EdgeConv(pyg.MLP([2 * 6, 6]), aggr="mean")
        self.merge = nn.Linear(12, 10)
        self.segment = pyg.MLP([10 + 10, 5, 2], norm=None)

    def forward(self, x: Tensor, pos: Tensor, edge_index: Tensor) -> Tensor:
        x0 = torch.cat([x, pos / 10], dim=-1)
        x1 = self.conv1(x0, edge_index)
        x2 = self.conv2(x1, edge_index)
        x = self.merge(torch.cat((x1, x2), dim=1))
        everywhere = pyg.global_max_pool(x, torch.zeros(x.size(0), dtype=torch.long))
        return self.segment(torch.cat([x, everywhere.expand(x.size(0), -1)], 1))


class Attention(nn.Module):
    """A graph attention network with skips, per node and for the whole graph."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(1, 8)
        self.convs = nn.ModuleList([pyg.GATv2Conv(8, 4, heads=2, edge_dim=3, dropout=0.6) for _ in range(2)])
        self.norms = nn.ModuleList([pyg.LayerNorm(8, mode="node") for _ in range(2)])
        self.leave = pyg.GCNConv(8, 3)

    def forward(self, data: Data) -> tuple[Tensor, Tensor]:
        x = self.enter(data.x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = x + functional.dropout(
                functional.elu(norm(conv(x, data.edge_index, data.edge_attr))), 0.5, self.training
            )
        x = functional.leaky_relu_(self.leave(x, data.edge_index))
        return functional.log_softmax(x, dim=1), pyg.global_mean_pool(x, data.batch)


class JumpingKnowledge(nn.Module):
    """A graph isomorphism network whose classifier sees the sums of all layers, with every pooling there is."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [1, 6, 6, 6]
        self.convs = nn.ModuleList(
            [pyg.GINConv(pyg.MLP([sizes[n], 6, 6]), train_eps=True) for n in range(len(sizes) - 1)]
        )
        self.jump = pyg.JumpingKnowledge("cat")
        self.head = nn.Sequential(nn.Linear(3 * 18, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))

    def forward(self, data: Data) -> Tensor:
        x, layers = data.x, []
        batch = x.new_zeros(data.num_nodes, dtype=torch.long)
        for conv in self.convs:
            x = conv(x, data.edge_index)
            layers.append(x)
        x = self.jump(layers)
        pooled = [pool(x, batch, 1) for pool in (pyg.global_add_pool, pyg.global_mean_pool, pyg.global_max_pool)]
        return self.head(torch.cat(pooled, dim=1))


class Splines(nn.Module):
    """A spline network that pools twice, with the positions of pooled nodes moving, and returns what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = SplineConv(1, 6, 3, 2), SplineConv(6, 6, 2, 3)
        self.pool1 = VoxelPooling((12, 9), (3, 3), position="mean")
        self.pool2 = VoxelPooling((12, 9), (5, 4))
        self.conv3, self.conv4 = SplineConv(6, 6, 3, 2), pyg.GCNConv(6, 4)

    def forward(self, data: Data) -> tuple[Tensor, Tensor]:
        x = functional.elu(self.conv1(data.x, data.edge_index, data.edge_attr))
        x = x + functional.elu(self.conv2(x, data.edge_index, data.edge_attr[:, :2]))
        batch = torch.zeros(len(x), dtype=torch.long)
        x, pos, edge_index, edge_attr, batch = self.pool1(x, data.pos, data.edge_index, batch, 1)
        x = functional.elu(self.conv3(x, edge_index, edge_attr))
        x, pos, edge_index, edge_attr, batch = self.pool2(x, pos, edge_index, batch, 1)
        x = self.conv4(x, edge_index)
        return x, torch.cat([pos, x], 1)


class EdgeNetwork(nn.Module):
    """Values on edges, computed in the forward itself from both ends, as weights of a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(2 * 4 + 3, 1)
        self.enter, self.conv = nn.Linear(1, 4), pyg.GraphConv(4, 3)

    def forward(self, data: Data) -> Tensor:
        x = self.enter(data.x).tanh()
        row, col = data.edge_index
        ends = torch.cat([x[row], x[col], data.edge_attr], dim=-1)
        weight = torch.sigmoid(self.score(ends)).squeeze(-1)
        return self.conv(x, data.edge_index, weight).amax(dim=0)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "PointNet++": PointNet,
    "DGCNN": DynamicGraphNetwork,
    "attention": Attention,
    "jumping knowledge": JumpingKnowledge,
    "splines and poolings": Splines,
    "values on edges": EdgeNetwork,
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_equals_itself_on_the_whole_graph(name: str, rule: str) -> None:
    module = randomized(MODELS[name]())
    if name == "DGCNN":
        module = AsData(module)
    live = follow(module, RULES[rule], crowd(40), [1] * 28 + [0, 5, 1, 1, 5], dense_layers=name == "DGCNN")
    assert name == "DGCNN" or "dense" not in repr(live)


class AsData(nn.Module):
    """Calls a model that takes the parts of a graph, for the reference; the engines do that on their own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, data: Data) -> Tensor:
        return self.model(data.x, data.pos, data.edge_index)


@settings(max_examples=25)
@given(
    name=st.sampled_from([name for name in MODELS if name != "DGCNN"]),
    events=streams(max_events=60),
    graph=graph_configs(),
    sizes=st.lists(st.sampled_from([1, 1, 1, 7, 20]), max_size=12),
)
def test_any_model_on_any_graph(name: str, events: np.ndarray, graph: GraphConfig, sizes: list[int]) -> None:
    if graph.bounded and graph.resolved_expiry == "readout":
        graph = GraphConfig(**{**graph.to_dict(), "expiry": "graph"})
    if len(events):
        follow(randomized(MODELS[name]()), graph, events, [1, *sizes])
