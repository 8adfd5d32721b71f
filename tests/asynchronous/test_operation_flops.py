# SPDX-License-Identifier: Apache-2.0
"""FLOPs against independent counts: torch's own, by hand, and dense against asynchronous."""

import numpy as np
import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric.data import Data

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous
from aegnn_core.events import make_events
from aegnn_core.nn.spline import SplineConv
from tests.asynchronous.engines import FOR_ANY_MODEL
from tests.asynchronous.foreign import RULES, crowd, randomized

#: Three events at neighbouring pixels: with the default rule the edges 0 → 1, 0 → 2 and 1 → 2.
THREE = make_events(np.array([0, 10, 20]), np.array([3, 4, 5]), np.array([3, 3, 3]), np.array([1, 0, 1]))


class Products(nn.Module):
    """Nothing but matrix products and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(1, 7, bias=False), nn.Linear(7, 5, bias=False)
        self.image = nn.Conv1d(5, 3, 2, bias=False)

    def forward(self, data: Data) -> Tensor:
        return self.image(
            (self.two(self.one(data.x)) @ self.two.weight @ self.two.weight.t())[:, :, None].expand(-1, -1, 4)
        )


def flops(module: nn.Module, events: np.ndarray, graph: GraphConfig, engine: str) -> dict[str, float]:
    live = make_model_asynchronous(module, graph, engine=engine)
    live.update(events)
    live.output()
    return {name: cost.last for name, cost in live.flops().layers.items() if cost.last}


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_products_as_torch_counts_them(engine: str) -> None:
    module, events = randomized(Products()), crowd(30)
    with FlopCounterMode(display=False) as counter:
        module(build_graph(events, GraphConfig(), dtype=torch.float64))
    # The product of the two weights is a constant, but is made anew every time.
    assert sum(flops(module, events, GraphConfig(), engine).values()) == counter.get_total_flops()


class OneConvolution(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, data: Data) -> Tensor:
        return self.conv(data.x, data.edge_index, data.edge_attr)


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_a_spline_convolution_by_hand(engine: str) -> None:
    module = randomized(OneConvolution(SplineConv(1, 4, 3, 2)))
    splines = 3 * (3 + 3 + 3 * (1 + 2 + 4))  # 3 edges: position and fraction per component, 3 per kernel made
    sums = 3 * 8 + 2 * 3 * 8 * 1  # 3 edges, 8 kernels around each, 1 channel; and the kernels scaled for the mean
    product = 2 * 3 * 8 * 1 * 4  # 3 nodes, 8 kernels, 1 channel in, 4 out
    root, bias = 2 * 3 * 1 * 4 + 3 * 4, 3 * 4
    assert flops(module, THREE, GraphConfig(), engine) == {"conv": splines + sums + product + root + bias}


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_a_graph_convolution_by_hand(engine: str) -> None:
    module = randomized(PlainConvolution())
    aggregated = 3 * 2  # 3 edges of 2 channels are added up
    products = 2 * (2 * 3 * 2 * 5) + 3 * 5  # of neighbours and of the node itself, 3 nodes, with one bias
    added = 3 * 5
    assert flops(module, THREE, GraphConfig(), engine) == {
        "enter": 2 * 3 * 1 * 2,
        "conv": aggregated + products + added,
    }


class PlainConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.conv = nn.Linear(1, 2, bias=False), pyg.GraphConv(2, 5)

    def forward(self, data: Data) -> Tensor:
        return self.conv(self.enter(data.x), data.edge_index)


@pytest.mark.parametrize("rule", ["directed, insertion", "undirected, insertion"])
def test_one_update_that_changes_everything_costs_what_the_dense_model_does(rule: str) -> None:
    module = randomized(PlainConvolution())
    assert flops(module, crowd(30), RULES[rule], "incremental") == flops(module, crowd(30), RULES[rule], "dense")


def test_an_event_costs_its_own_rows_only() -> None:
    """The fourth event, next to the third: one node, three edges into it, and no more."""
    module = randomized(PlainConvolution())
    live = make_model_asynchronous(module, GraphConfig(), engine="incremental")
    live.update(THREE)
    live.output()
    live.update(make_events(np.array([30]), np.array([4]), np.array([4]), np.array([1])))
    live.output()
    assert {name: cost.last for name, cost in live.flops().layers.items()} == {
        "enter": 2 * 1 * 1 * 2,
        "conv": 3 * 2 + 2 * (2 * 4 * 2 * 5) + 4 * 5 + 4 * 5,
    }
