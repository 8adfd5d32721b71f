# SPDX-License-Identifier: Apache-2.0
"""The engine for any model keeps rows where the model is: on a pretended device, with which CPU tensors do not mix."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn

from aegnn_core import GraphConfig, make_model_asynchronous
from aegnn_core.asynchronous.incremental import incremental_engine
from tests.asynchronous.foreign import assert_same, crowd, randomized, reference
from tests.asynchronous.pretended_device import DEVICE, PretendedDevice
from tests.asynchronous.test_contract import make_network
from tests.asynchronous.test_models import Attention, EdgeNetwork, JumpingKnowledge, PointNet

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
