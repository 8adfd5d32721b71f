# SPDX-License-Identifier: Apache-2.0
"""A layer is added in one file: engines that do not know it refuse, those that its description is enough for run it."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import elu

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous
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

    rng = np.random.default_rng(1)
    x, y, p = (rng.integers(0, top, 300) for top in (*SENSOR, 2))
    events = make_events(np.sort(rng.integers(0, 50_000, 300)), x, y, p)
    live = make_model_asynchronous(model, GRAPH)
    assert live.engine_name == chosen
    for end in (1, 120, 300):
        live.update(events[len(live) : end])
        with torch.no_grad():
            expected = model(build_graph(events[:end], GRAPH, dtype=torch.float64))
        torch.testing.assert_close(live.output(), expected, rtol=1e-9, atol=1e-12)
    assert sum(cost.total for name, cost in live.flops().layers.items() if name.startswith("event_blocks.1")) > 0
