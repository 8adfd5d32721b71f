# SPDX-License-Identifier: Apache-2.0
"""Models that do what a live model might not survive: the right answer, or an error that says what is wrong."""

import warnings

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Data

from aegnn_core import GraphConfig, load_model, make_model_asynchronous
from tests.asynchronous.engines import FOR_ANY_MODEL
from tests.asynchronous.foreign import RULES, assert_same, crowd, follow, randomized, reference

EVENTS = crowd(30)
SIZES = [1] * 20 + [10]


class Written(nn.Module):
    """A model made of a function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.conv, self.linear, self.function = pyg.GraphConv(1, 4), nn.Linear(4, 4), function

    def forward(self, data: Data) -> Tensor:
        return self.function(self, data)


def in_place_activations(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    x += 1
    x = functional.elu(x, inplace=True)
    x.mul_(2).clamp_(min=-1)
    return nn.ReLU(inplace=True)(model.linear(x)).sum(0)


def writes_its_input(model: Written, data: Data) -> Tensor:
    data.x = model.conv(data.x, data.edge_index)
    data.x *= 2
    data.extra = data.x
    return data.extra + data.x.mean(1, keepdim=True)


def writes_a_view(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    half = x[:, :2]
    half += 5
    return x


def writes_a_part(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    x[:, 0] = 1
    return x


def writes_into_the_data(model: Written, data: Data) -> Tensor:
    data.x[0] = 7
    return model.conv(data.x, data.edge_index)


def goes_different_ways(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    if data.num_nodes % 3 == 0:
        x = model.linear(x)
    if float(x.sum()) > 0:
        x = x.relu()
    return x / data.num_nodes


def leaves_torch(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    return x + torch.from_numpy(x.numpy().max(0))


def uses_numbers_of_nodes(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    degree = torch.zeros(x.size(0), dtype=x.dtype).scatter_add_(
        0, data.edge_index[1], torch.ones(data.edge_index.size(1), dtype=x.dtype)
    )
    return x * degree.unsqueeze(-1) + torch.arange(len(x), dtype=x.dtype)[:, None]


def uses_all_kinds_of_functions(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    a, b = x.chunk(2, dim=-1)
    best, where = x.max(dim=1)
    y = torch.stack([a, b], dim=1).flatten(1).view(x.size(0), 2, -1).transpose(1, 2).reshape(-1, 4)
    y = torch.where(x > 0, y, 1 - x) @ model.linear.weight + functional.normalize(x, dim=1)
    y = torch.cat([y, best[:, None], where.unsqueeze(-1).double(), x.new_ones(x.shape[0], 1)], dim=-1)
    y = y[..., 1:] ** 2 + (x.size(0) * x.new_full((x.size(0), 1), 0.5)) - torch.ones_like(y)[:, :1]
    low = data.pos[:, :2].sort(dim=1)[0].amin(1)
    return functional.layer_norm(y, (6,)) * functional.softmax(y, -1) + torch.minimum(low, best)[:, None].log1p().abs()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "function",
    [
        in_place_activations,
        writes_its_input,
        writes_a_view,
        writes_a_part,
        writes_into_the_data,
        goes_different_ways,
        leaves_torch,
        uses_numbers_of_nodes,
        uses_all_kinds_of_functions,
    ],
)
def test_whatever_the_forward_does_the_answer_is_right(function, rule: str) -> None:
    follow(randomized(Written(function)), RULES[rule], EVENTS, SIZES, dense_layers=True)


def test_what_works_row_by_row_is_not_run_densely() -> None:
    for function in (in_place_activations, writes_its_input, uses_all_kinds_of_functions):
        follow(randomized(Written(function)), RULES["undirected, deletion"], EVENTS, SIZES)


def test_a_forward_that_cannot_be_followed_is_named() -> None:
    live = make_model_asynchronous(randomized(Written(writes_a_part)), GraphConfig())
    live.update(EVENTS)
    with pytest.warns(UserWarning, match="Written runs on the whole graph at every update: .* writes into a part"):
        live.output()
    assert "dense, the whole graph at every output, because of" in repr(live)


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_what_a_graph_does_not_have_is_named(engine: str) -> None:
    live = make_model_asynchronous(Written(lambda model, data: data.velocity).eval(), engine=engine)
    live.update(EVENTS)
    with pytest.raises(ValueError, match=r"forward of Written needs data\.velocity, but a graph of events has x, pos"):
        live.output()


class Named(nn.Module):
    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_arguments_that_a_graph_does_not_have_are_named(engine: str) -> None:
    live = make_model_asynchronous(Named().eval(), engine=engine)
    live.update(EVENTS)
    with pytest.raises(ValueError, match="forward of Named needs edge_weight, but a graph of events has x, pos"):
        live.output()


def test_a_forward_that_fails_may_be_tried_again() -> None:
    failing = {"now": False}

    def sometimes(model: Written, data: Data) -> Tensor:
        x = model.conv(data.x, data.edge_index)
        if failing["now"]:
            raise RuntimeError("not today")
        return model.linear(x)

    module, graph = randomized(Written(sometimes)), RULES["undirected, deletion"]
    live = make_model_asynchronous(module, graph)
    live.update(EVENTS[:20])
    live.output()
    live.update(EVENTS[20:])
    failing["now"] = True
    with pytest.raises(RuntimeError, match="not today"):
        live.output()
    failing["now"] = False
    assert_same(live.output(), reference(module, EVENTS, graph))


TRAINING = {
    "batch norm": lambda: nn.Sequential(nn.BatchNorm1d(1)),
    "dropout": lambda: nn.Sequential(nn.Dropout(0.5)),
    "attention dropout": lambda: pyg.GATConv(1, 1, dropout=0.5),
}


@pytest.mark.parametrize("kind", TRAINING)
def test_training_mode_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"is in training mode.*call model.eval\(\) first"):
        make_model_asynchronous(TRAINING[kind]().train())


def test_dropout_called_as_a_function_in_training_mode_is_refused() -> None:
    module = Written(lambda model, data: functional.dropout(data.x)).eval()
    for engine in FOR_ANY_MODEL:
        live = make_model_asynchronous(module, engine=engine)
        live.update(EVENTS)
        with pytest.raises(ValueError, match=r"dropout in training mode.*training=self.training"):
            live.output()


def test_what_is_no_model_is_refused() -> None:
    for found, name in ((None, "NoneType"), (lambda data: data.x, "function"), ("ncars", "str")):
        with pytest.raises(ValueError, match=f"model must be a torch.nn.Module, found {name}"):
            make_model_asynchronous(found)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"found TrainedModel: pass its network"):
        make_model_asynchronous(load_model("scenes_recognizer"))  # type: ignore[arg-type]


def test_layers_without_weights_yet_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lin_rel\.weight has no shape yet: run the model once"):
        make_model_asynchronous(pyg.GraphConv(-1, 4).eval())


def test_a_cached_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="keeps the normalisation of the first graph: make it with cached=False"):
        make_model_asynchronous(pyg.GCNConv(1, 4, cached=True).eval())


def test_a_model_elsewhere_is_refused_by_engines_that_cannot_reach_it() -> None:
    module = Written(lambda model, data: model.conv(data.x, data.edge_index)).eval().to("meta")
    with pytest.raises(ValueError, match="works on the CPU or on one CUDA device, the model is on meta"):
        make_model_asynchronous(module, engine="incremental")


def test_the_output_is_the_callers_own() -> None:
    module = randomized(Written(lambda model, data: model.conv(data.x, data.edge_index)))
    live = make_model_asynchronous(module, RULES["directed, insertion"])
    live.update(EVENTS)
    live.output().zero_()
    assert_same(live.output(), reference(module, EVENTS, live.graph))


def test_the_model_is_left_as_it_was() -> None:
    module = randomized(Written(in_place_activations))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    attributes = {name: set(vars(part)) for name, part in module.named_modules()}
    live = make_model_asynchronous(module, RULES["undirected, deletion"])
    live.update(EVENTS)
    live.output()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert attributes == {name: set(vars(part)) for name, part in module.named_modules()}
    assert not module.conv._forward_hooks


def test_an_update_that_changes_nothing_runs_nothing() -> None:
    """A second output without events, and events far from everything in a window that keeps them out of reach."""
    module = randomized(Written(lambda model, data: model.linear(model.conv(data.x, data.edge_index)).amax(0)))
    live = make_model_asynchronous(module, RULES["directed, insertion"])
    live.update(EVENTS)
    live.output()
    before = live.flops().total.total
    live.output()
    assert live.flops().total.total == before


def test_events_may_come_from_a_sensor_of_any_size() -> None:
    module = randomized(Written(lambda model, data: model.conv(data.x, data.edge_index)))
    events = crowd(30)
    events["x"] = events["x"] * 100
    events["y"][::2] += 2_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        follow(module, RULES["undirected, deletion"], events, [1] * 20)
