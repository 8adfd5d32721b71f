# SPDX-License-Identifier: Apache-2.0
"""A layer is added in one file: engines that do not know it refuse, those that its description is enough for run it."""

import dataclasses

import numpy as np
import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch.nn.functional import elu

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous, network
from aegnn_core.asynchronous.event_layers import LAYER_KINDS, LayerKind
from aegnn_core.asynchronous.live import ENGINES
from aegnn_core.events import make_events
from aegnn_core.nn.blocks import ConvBlock, Residual
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.pooling import GridPooling
from aegnn_core.nn.spline import SplineConv
from tests.nn.random_networks import randomize

SENSOR = (24, 18)
GRAPH = GraphConfig(max_neighbors=8, window=20_000)


class Brightened(nn.Module):
    """A layer that nobody has heard of: ``2 elu(conv(x)) + 1``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = SplineConv(inputs, outputs, 3, 2)

    def forward(self, x: Tensor, edges: object) -> Tensor:
        return self.finish(self.conv.convolve(x, x, edges))

    def finish(self, convolved: Tensor) -> Tensor:
        return 2 * elu(convolved) + 1


def folded(layer: Brightened) -> tuple[np.ndarray, np.ndarray]:
    outputs = layer.conv.out_channels
    return np.full(outputs, 2.0), np.ones(outputs)


def stream(count: int) -> np.ndarray:
    """Events all over the sensor in 50 ms."""
    rng = np.random.default_rng(1)
    x, y, p = (rng.integers(0, top, count) for top in (*SENSOR, 2))
    return make_events(np.sort(rng.integers(0, 50_000, count)), x, y, p)


def dense(model: GraphNetwork, events: np.ndarray, graph: GraphConfig) -> Tensor:
    with torch.no_grad():
        return model(build_graph(events, graph, dtype=torch.float64))


def network_with_it(inside: bool = False) -> GraphNetwork:
    """With the layer on its own, or among those of a residual."""
    size = {"dim": 3, "kernel_size": 2}
    new: nn.Module = Brightened(8, 8)
    if inside:
        new = Residual([ConvBlock(8, 8, **size), new])
    grid = GridPooling(SENSOR, (4, 3))
    head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 12, 3))
    module = GraphNetwork(SENSOR, "recognition", 3, [ConvBlock(1, 8, **size), new], [], grid, head)
    return randomize(module.double().eval(), 0)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("kind", "refused", "chosen"),
    [
        (None, {"counting", "cuda", "compiled", "packet"}, "incremental"),
        (LayerKind(flops_per_value=3), {"counting", "cuda", "compiled"}, "packet"),
        (LayerKind(flops_per_value=3, folded=folded), {"counting"}, "compiled"),
    ],
    ids=["unknown", "described", "folded"],
)
def test_a_layer_is_run_by_the_engines_that_its_description_is_enough_for(
    monkeypatch: pytest.MonkeyPatch, kind: LayerKind | None, refused: set[str], chosen: str, inside: bool
) -> None:
    if kind is not None:
        monkeypatch.setitem(LAYER_KINDS, Brightened, kind)
    model = network_with_it(inside)
    reasons = {name: engine.refusal(model, GRAPH) for name, engine in ENGINES.items() if name != "cuda"}
    assert {name for name, reason in reasons.items() if reason} == refused - {"cuda"}
    for name in refused & {"compiled", "packet"}:
        assert reasons[name] is not None
        assert "found Brightened" in reasons[name]

    events, live = stream(300), make_model_asynchronous(model, GRAPH)
    assert live.engine_name == chosen
    for end in (1, 120, 300):
        live.update(events[len(live) : end])
        torch.testing.assert_close(live.output(), dense(model, events[:end], GRAPH), rtol=1e-9, atol=1e-12)
    assert sum(cost.total for name, cost in live.flops().layers.items() if name.startswith("event_blocks.1")) > 0


class Centered(nn.Module):
    """A norm that nobody has heard of, and that no node can be given without all others."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


@pytest.mark.parametrize(
    ("norm", "chosen"),
    [
        (nn.BatchNorm1d(8, affine=False, eps=0.1), "compiled"),
        (nn.SyncBatchNorm(8), "compiled"),
        (nn.Identity(), "packet"),
        (nn.LayerNorm(8), "packet"),
        (pyg.BatchNorm(8), "packet"),
        (nn.BatchNorm1d(8, track_running_stats=False), "dense"),
        (pyg.GraphNorm(8), "dense"),
        (Centered(), "dense"),
    ],
)
def test_a_norm_is_run_by_the_engines_that_know_it(norm: nn.Module, chosen: str) -> None:
    """Where it depends on nodes that have long left, nothing less than the whole graph is right."""
    size = {"dim": 3, "kernel_size": 2}
    blocks = [ConvBlock(1, 8, **size), Residual([ConvBlock(8, 8, **size), ConvBlock(8, 8, **size)])]
    blocks[1].blocks[0].norm = norm
    head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 12, 3))
    model = GraphNetwork(SENSOR, "recognition", 3, blocks, [], GridPooling(SENSOR, (4, 3)), head).double().eval()
    short = dataclasses.replace(GRAPH, window=1_000)
    events = stream(300)
    takers = [engine for engine in ENGINES if engine != "cuda" and ENGINES[engine].refusal(model, short) is None]
    assert takers == list(ENGINES)[list(ENGINES).index(chosen) :], "the slower ones know more"
    for engine in takers:
        live = make_model_asynchronous(model, short, engine=engine)
        for end in (20, 150, 300):
            live.update(events[len(live) : end])
            torch.testing.assert_close(live.output(), dense(model, events[:end], short), rtol=1e-9, atol=1e-12)
    assert make_model_asynchronous(model, short).engine_name == chosen
    kept = dataclasses.replace(short, expiry="graph")
    live = make_model_asynchronous(model, kept, engine="incremental")
    live.update(events)
    torch.testing.assert_close(live.output(), dense(model, events, kept), rtol=1e-9, atol=1e-12)


def test_layers_on_voxels_may_have_a_norm_over_all_of_them() -> None:
    """They are computed together at every output."""
    model = randomize(network("graph_res", dataset="nmnist", sensor=SENSOR).double(), 0)
    layer = next(layer for layer in model.voxel_blocks.modules() if isinstance(layer, ConvBlock))
    layer.norm = nn.BatchNorm1d(layer.conv.out_channels, track_running_stats=False).double().eval()
    live, events = make_model_asynchronous(model, GRAPH), stream(300)
    assert live.engine_name == "packet"
    live.update(events)
    torch.testing.assert_close(live.output(), dense(model, events, GRAPH), rtol=1e-9, atol=1e-12)


def test_layers_on_one_graph_have_one_kind_of_splines() -> None:
    model = network_with_it()
    model.event_blocks[1] = ConvBlock(8, 8, dim=3, kernel_size=3).double().eval()
    for engine in ("compiled", "packet"):
        with pytest.raises(ValueError, match="convolutions on one graph must have one kernel size and aggregation"):
            make_model_asynchronous(model, GRAPH, engine=engine)
