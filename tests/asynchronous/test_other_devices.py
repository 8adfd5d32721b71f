# SPDX-License-Identifier: Apache-2.0
"""Engines keep rows where the model is, and in its type: on a pretended device, with which CPU tensors do not mix."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous, network
from aegnn_core.asynchronous.incremental import incremental_engine
from aegnn_core.events import make_events
from tests.asynchronous.foreign import assert_same, crowd, randomized, reference
from tests.asynchronous.pretended_device import DEVICE, PretendedDevice
from tests.asynchronous.test_contract import assert_equal, make_network
from tests.asynchronous.test_models import Attention, EdgeNetwork, JumpingKnowledge, PointNet
from tests.nn.random_networks import randomize

MODELS: dict[str, Callable[[], nn.Module]] = {
    "PointNet++": PointNet,
    "attention": Attention,
    "jumping knowledge": JumpingKnowledge,
    "values on edges": EdgeNetwork,
    "graph_res": lambda: make_network("graph_res", 0),
    "graph_grid": lambda: make_network("graph_grid", 0),
}


@pytest.mark.filterwarnings("ignore:.*runs on the whole graph")  # such as poolings, which are compiled for the CPU
@pytest.mark.parametrize("name", MODELS)
def test_rows_are_where_the_model_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incremental_engine, "_DEVICES", ("cpu", DEVICE.type))
    module, events = randomized(MODELS[name]()), crowd(24)
    graph = GraphConfig(max_neighbors=5, directed=name == "graph_grid", window=40_000)
    with PretendedDevice():
        live = make_model_asynchronous(deepcopy(module).to(DEVICE), graph, engine="incremental")
        for start, stop in ((0, 18), (18, 19), (19, 24)):
            live.update(events[start:stop])
            output = live.output()
            tensors = output if isinstance(output, tuple) else (output,)
            assert {tensor.device for tensor in tensors} == {DEVICE}
            with torch.no_grad():
                found = tuple(tensor.cpu() for tensor in tensors)
            assert_same(found if isinstance(output, tuple) else found[0], reference(module, events[:stop], graph))


@pytest.mark.parametrize("device", [torch.device("cpu"), DEVICE], ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "engine"), [("graph_grid", "packet"), ("graph_grid", "dense"), ("histogram", "dense")]
)
def test_networks_of_16_bits_see_events_in_their_pixels(
    kind: str, engine: str, dtype: torch.dtype, device: torch.device
) -> None:
    """Of the columns from 256 on, bfloat16 knows every other one."""
    module = randomize(network(kind, sensor=(304, 8), num_classes=2, voxel=[1.0, 4.0]), 0).to(dtype)
    column, rng = np.arange(256, 304), np.random.default_rng(0)
    events = make_events(1_000 * column, column, rng.integers(0, 8, 48), rng.integers(0, 2, 48))
    graph = GraphConfig(max_neighbors=4)
    data = build_graph(events, graph)
    data.x = data.x.to(dtype)
    with torch.no_grad():
        expected = module(data)
    with PretendedDevice():
        live = make_model_asynchronous(deepcopy(module).to(device), graph, engine=engine)
        for start in (0, 30):
            live.update(events[start : start + 30])
        moved = make_model_asynchronous(deepcopy(module).to(device), graph, engine=engine)
        moved.load_state_dict(live.state_dict())
        with torch.no_grad():
            answers = live.output().cpu(), moved.output().cpu()
    for found in answers:
        assert found.dtype == dtype
        assert_equal(found, expected, 1e-3)
