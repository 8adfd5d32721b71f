# SPDX-License-Identifier: Apache-2.0
"""Engines keep rows where the model is, and in its type: on a pretended device, with which CPU tensors do not mix."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous, network
from aegnn_core.asynchronous import ENGINES
from aegnn_core.asynchronous.incremental import incremental_engine
from aegnn_core.events import make_events
from tests.asynchronous.engines import FOR_ANY_MODEL
from tests.asynchronous.foreign import assert_same, crowd, randomized, reference
from tests.asynchronous.pretended_device import DEVICE, PretendedDevice
from tests.asynchronous.test_contract import assert_equal, make_network
from tests.asynchronous.test_models import Attention, EdgeNetwork, JumpingKnowledge, PointNet
from tests.nn.random_networks import randomize, taken_by

MODELS: dict[str, Callable[[], nn.Module]] = {
    "PointNet++": PointNet,
    "attention": Attention,
    "jumping knowledge": JumpingKnowledge,
    "values on edges": EdgeNetwork,
    "graph_res": lambda: make_network("graph_res", 0),
    "graph_grid": lambda: make_network("graph_grid", 0),
}


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


@contextmanager
def defaults(device: str | None = None, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """While this lasts, tensors of which nobody says more are made on that device, in that type."""
    torch.set_default_device(device)
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


DEFAULTS = [{"device": "meta"}, {"device": "cpu"}, {"dtype": torch.float64}, {"dtype": torch.float16}]


class Bare(nn.Module):
    """A model without parameters."""

    def forward(self, data: Data) -> Tensor:
        return data.x.sum(0) + data.pos.mean(0)[:1] / 3


@pytest.mark.parametrize("given", DEFAULTS, ids=str)
@pytest.mark.parametrize(
    ("engine", "name"), [*((e, taken_by(e)) for e in ENGINES if e != "cuda"), *((e, None) for e in FOR_ANY_MODEL)]
)
def test_what_torch_makes_by_default_in_a_process_changes_no_answer(engine: str, name: str | None, given: dict) -> None:
    """Neither where it is set before the live model is made, nor after."""
    module = Bare() if name is None else randomize(network(name, dataset="nmnist", sensor=(12, 9)), 0)
    events = crowd(40)
    graph = GraphConfig(max_neighbors=5, window=40_000)

    def answers() -> list[Tensor]:
        live.update(events[:20])
        answers = [live.output()]
        live.load_state_dict(live.state_dict())
        live.update(events[20:])
        answers += [live.output(), deepcopy(live).output()]
        live.reset()
        live.update(events)
        return [*answers, live.output()]

    live = make_model_asynchronous(module, graph, engine=engine)
    expected = answers()
    live.reset()
    with defaults(**given):
        after = answers()
        live = make_model_asynchronous(module, graph, engine=engine)
        before = answers()
    for found in (after, before):
        assert [(one.dtype, one.device) for one in found] == [(one.dtype, one.device) for one in expected]
        assert all(map(torch.equal, found, expected))


class MakesTensors(nn.Module):
    """Its own tensors are what torch makes by default."""

    def forward(self, data: Data) -> tuple[Tensor, Tensor]:
        return torch.zeros(data.num_nodes, 1).sum(0) + 0.1, torch.full((2,), 0.1) * 3


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_tensors_that_a_forward_makes_are_of_the_type_that_torch_makes_now(engine: str) -> None:
    live = make_model_asynchronous(MakesTensors(), engine=engine)
    live.update(crowd(10))
    for dtype in (torch.float32, torch.float64, torch.float32):
        with defaults(dtype=dtype):
            assert_same(live.output(), MakesTensors()(build_graph(crowd(10), live.graph)))
            assert {one.dtype for one in live.output()} == {dtype}
