# SPDX-License-Identifier: Apache-2.0
"""FLOPs against independent counts: torch's own, by hand, and dense against asynchronous."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pack_sequence
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric.data import Data

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous
from aegnn_core.asynchronous.metering import forward_flops
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


class Called(nn.Module):
    """A function of six channels of every event, and of a layer."""

    def __init__(self, call: Callable[[Any, Tensor], Tensor], layer: nn.Module) -> None:
        super().__init__()
        self.call, self.layer = call, layer
        self.enter = nn.Linear(1, 6, bias=False)

    def forward(self, data: Data) -> Tensor:
        return self.call(self.layer, self.enter(data.x))


EVENTS, LINEAR = 30, nn.Linear(6, 4)
SCORES = EVENTS**2


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
@pytest.mark.parametrize(
    ("layer", "call", "beside_products"),
    [
        pytest.param(layer, call, beside, id=name)
        for name, layer, call, beside in (
            ("gru", nn.GRU(6, 4, 2), lambda layer, x: layer(x)[0], EVENTS * 2 * (2 * 12 + 11 * 4)),
            ("both ways", nn.GRU(6, 4, bidirectional=True, bias=False), lambda layer, x: layer(x)[0], EVENTS * 88),
            ("gru cell", nn.GRUCell(6, 4), lambda layer, x: layer(x), EVENTS * (2 * 12 + 11 * 4)),
            ("lstm", nn.LSTM(6, 4), lambda layer, x: layer(x)[0], EVENTS * (2 * 16 + 13 * 4)),
            ("packed", nn.LSTM(6, 4), lambda layer, x: layer(pack_sequence([x]))[0].data, EVENTS * (2 * 16 + 13 * 4)),
            ("projected", nn.LSTM(6, 4, proj_size=3), lambda layer, x: layer(x)[0], EVENTS * (2 * 16 + 13 * 4)),
            ("lstm cell", nn.LSTMCell(6, 4), lambda layer, x: layer(x)[0], EVENTS * (2 * 16 + 13 * 4)),
            ("rnn", nn.RNN(6, 4), lambda layer, x: layer(x)[0], EVENTS * (2 * 4 + 2 * 4)),
            ("rnn cell", nn.RNNCell(6, 4), lambda layer, x: layer(x), EVENTS * (2 * 4 + 2 * 4)),
            (
                "attention of several heads",
                nn.MultiheadAttention(6, 2),
                lambda layer, x: layer(x, x, x)[0],
                EVENTS * 4 * 6 + 2 * SCORES * 3,  # biases; of two heads scale, softmax and mean over the heads
            ),
            (
                "attention of several heads, their weights not asked for",
                nn.MultiheadAttention(6, 2, bias=False),
                lambda layer, x: layer(x, x, x, need_weights=False)[0],
                2 * SCORES * 2,
            ),
            (
                "attention",
                LINEAR,
                lambda layer, x: functional.scaled_dot_product_attention(x[None], x[None], layer(x)[None]),
                EVENTS * 4 + SCORES * 2,  # bias of the layer; scale and softmax
            ),
            (
                "masked attention",
                LINEAR,
                lambda _, x: functional.scaled_dot_product_attention(x, x, x, torch.zeros(EVENTS, EVENTS).double()),
                SCORES * 3,
            ),
            (
                "transposed convolution",
                nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2),
                lambda layer, x: layer(x.t().reshape(1, 6, 5, 6)),
                4 * 11 * 13,
            ),
            ("einsum", LINEAR, lambda layer, x: torch.einsum("nc, oc -> no", x, layer.weight), 0),
            ("einsum of batches", LINEAR, lambda _, x: torch.einsum("...ij,...kj", x[:, None], x[:, None]), 0),
            (
                "einsum of three",
                LINEAR,
                lambda layer, x: torch.einsum("nc,oc,no->n", x, layer.weight, layer(x)),
                4 * 30,
            ),
            ("einsum of nothing in common", LINEAR, lambda _, x: torch.einsum("nc,kd->nd", x, x), 3 * EVENTS * 6),
            ("tensordot", LINEAR, lambda layer, x: torch.tensordot(x, layer.weight, dims=([1], [1])), 0),
            ("inner", LINEAR, lambda layer, x: torch.inner(x, layer.weight), 0),
            ("linalg.matmul", LINEAR, lambda layer, x: torch.linalg.matmul(x, layer.weight.t()), 0),
            (
                "multi_dot",
                LINEAR,
                lambda layer, x: torch.linalg.multi_dot([x, layer.weight.t(), layer.weight, x.t()]),
                0,
            ),
        )
    ],
)
def test_functions_of_products_as_torch_counts_them(
    layer: nn.Module, call: Callable[[Any, Tensor], Tensor], beside_products: int, engine: str
) -> None:
    """Beside the products, which are all that torch counts: biases, activations, and what else docs/flops.md names."""
    module, events = randomized(Called(call, layer)), crowd(EVENTS)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module(build_graph(events, GraphConfig(), dtype=torch.float64))
    expected = counter.get_total_flops() + beside_products
    assert sum(flops(module, events, GraphConfig(), engine).values()) == expected


class Function(nn.Module):
    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, *self.layers)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: torch.dot(x[0, 0], x[0, 1]), 2 * 5),
        (lambda x: torch.mv(x[0], x[0, 0]), 2 * 4 * 5),
        (lambda x: torch.addmv(x[0, :, 0], x[0], x[0, 0]), 2 * 4 * 5 + 4),
        (lambda x: torch.addbmm(x[0] @ x[0].mT, x, x.mT), 2 * 4 * 4 * 5 + 2 * 2 * 4 * 4 * 5 + 4 * 4),
        (lambda x: x[0].__rmatmul__(torch.ones(3, 4)), 2 * 3 * 4 * 5),
        (lambda x: torch.linalg.vecdot(x, x, dim=1), 2 * 2 * 4 * 5),
        (lambda x: functional.bilinear(x, x[..., :3], torch.ones(7, 5, 3)), 2 * 2 * 4 * 7 * (5 * 3 + 3)),
        (lambda x: torch.einsum("bnc->bn", x), 2 * 4 * 5),
        (lambda x: torch.einsum("bnc,bnc->bnc", x, x), 2 * 4 * 5),
        (lambda x: torch.einsum("bnc->cbn", x), 0),
        (lambda x: torch.cdist(x, x), 3 * 2 * 4 * 4 * 5),
        (lambda x: functional.embedding_bag(torch.tensor([[0, 1], [2, 3], [3, 3]]), x[0]), 3 * 2 * 5),
    ],
)
def test_other_functions_by_hand(function: Callable[[Tensor], Tensor], expected: int) -> None:
    assert forward_flops(Function(function), torch.ones(2, 4, 5)) == expected


@pytest.mark.parametrize(
    "reduction",
    [
        torch.aminmax,
        torch.count_nonzero,
        torch.linalg.norm,
        torch.nanmean,
        torch.std_mean,
        torch.var_mean,
        lambda x: torch.linalg.vector_norm(x, dim=1),
        lambda x: functional.adaptive_max_pool1d(x, 2),
        lambda x: functional.adaptive_max_pool2d(x, 2, return_indices=True),
        lambda x: functional.adaptive_avg_pool3d(x[None], 1),
        lambda x: functional.max_pool3d(x[None], 1),
    ],
)
def test_a_reduction_is_one_for_every_value_that_goes_in(reduction: Callable[[Tensor], Any]) -> None:
    assert forward_flops(Function(reduction), torch.rand(2, 4, 4)) == 2 * 4 * 4


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.movedim(0, 1).swapdims(0, 1).unflatten(1, (2, 2)).ravel(),
        lambda x: torch.hstack([x.tile(2), x.repeat_interleave(2, 2)]),
        lambda x: x.unfold(2, 3, 1).diagonal(),
        lambda x: functional.unfold(x[None], 3),
        lambda x: x[:1].broadcast_to(x.shape),
        lambda x: torch.broadcast_tensors(x[:1], x),
        lambda x: x.take_along_dim(torch.zeros(1, 4, 4, dtype=torch.long), 0),
        lambda x: x.index_put((torch.tensor([0]),), x[1]).index_fill(0, torch.tensor([0]), 1.0),
        lambda x: functional.channel_shuffle(functional.pixel_shuffle(x.view(1, 4, 4, 2), 2), 1),
        lambda x: torch.rand_like(x.bfloat16()).triu(),
        lambda x: x.topk(2).values,
        lambda x: functional.dropout2d(x[None], training=False),
        nn.AlphaDropout().eval(),
    ],
)
def test_moving_data_is_free(function: Callable[[Tensor], Any]) -> None:
    assert forward_flops(Function(function), torch.rand(2, 4, 4)) == 0
