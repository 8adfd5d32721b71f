# SPDX-License-Identifier: Apache-2.0
"""What tests of foreign models share: streams, rules, and the comparison with the dense model after every update."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from aegnn_core import GraphConfig, LiveModel, build_graph, make_model_asynchronous
from aegnn_core.events import make_events

#: Directed and undirected, only insertion, and deletion by age and by number.
RULES: dict[str, GraphConfig] = {
    "directed, insertion": GraphConfig(max_neighbors=5),
    "directed, deletion": GraphConfig(max_neighbors=5, window=25_000, expiry="graph"),
    "undirected, insertion": GraphConfig(max_neighbors=5, directed=False),
    "undirected, deletion": GraphConfig(max_neighbors=5, directed=False, window=40_000, max_nodes=19),
}


def crowd(count: int, seed: int = 0) -> np.ndarray:
    """Events all over a sensor of 12 x 9 px; pauses longer than the windows of :data:`RULES` among them."""
    rng = np.random.default_rng(seed)
    steps = rng.choice([0, 300, 2_000, 60_000], count, p=[0.2, 0.4, 0.37, 0.03])
    return make_events(
        np.cumsum(steps), rng.integers(0, 12, count), rng.integers(0, 9, count), rng.integers(0, 2, count)
    )


def randomized(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64 and evaluation mode, with weights and statistics of the order of 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point() and value.numel():
                drawn = torch.rand(value.shape, generator=generator)
                value.copy_(drawn + 0.5 if name.endswith("running_var") else drawn - 0.5)
    return module.double().eval()


def reference(module: nn.Module, events: np.ndarray, graph: GraphConfig, time: int | None = None) -> Any:
    """The model on the whole graph."""
    with torch.no_grad():
        return module(build_graph(events, graph, time=time, dtype=torch.float64))


def assert_same(live: Any, dense: Any) -> None:
    """Equal to 1e-9 of the largest value, in the same structure."""
    if isinstance(dense, dict):
        live, dense = list(live.values()), list(dense.values())
    if isinstance(dense, (tuple, list)):
        assert len(live) == len(dense)
        for a, b in zip(live, dense, strict=True):
            assert_same(a, b)
        return
    assert live.shape == dense.shape
    assert type(live) is torch.Tensor
    assert torch.equal(live.isnan(), dense.isnan()), "the mean of no nodes is not a number, for both"
    live, dense = live.nan_to_num(), dense.nan_to_num()
    if dense.numel():
        scale = max(1.0, float(dense.abs().max()))
        assert float((live - dense).abs().max()) <= 1e-9 * scale


def follow(
    module: nn.Module, graph: GraphConfig, events: np.ndarray, sizes: list[int], *, dense_layers: bool = False
) -> LiveModel:
    """Feed the events in packets of the given sizes and compare after every one, and a little later, with the model.

    Args:
        dense_layers: some layers are expected to run densely.
    """
    live = make_model_asynchronous(module, graph, engine="incremental")
    graph = live.graph
    stop = 0
    with warnings.catch_warnings():
        if dense_layers:
            warnings.simplefilter("ignore", UserWarning)
        else:
            warnings.filterwarnings("error", message=".*runs on the whole graph")
        for size in sizes:
            live.update(events[stop : stop + size])
            stop = min(stop + size, len(events))
            assert_same(live.output(), reference(module, events[:stop], graph))
        if graph.bounded:
            time = int(events["t"][stop - 1]) + 9_000
            try:
                later = reference(module, events[:stop], graph, time)
            except Exception as error:  # many models cannot do without nodes, each says so in its own way
                with pytest.raises(type(error)):
                    live.output(time)
            else:
                assert_same(live.output(time), later)
            assert_same(live.output(), reference(module, events[:stop], graph))
    return live
