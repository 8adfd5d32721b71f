# SPDX-License-Identifier: Apache-2.0
"""Models that do what a live model might not survive: the right answer, or an error that says what is wrong."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
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


def a_size_written_into_a_constant(model: Written, data: Data) -> Tensor:
    scale = torch.ones(1, 3, dtype=torch.float64)
    scale[0, 2] = 1 + data.pos[:, 2].max().item()
    return model.conv((data.pos / scale).sum(1, keepdim=True), data.edge_index)


def a_size_written_into_a_view(model: Written, data: Data) -> Tensor:
    scale = torch.zeros(1, 2, dtype=torch.float64)
    part = scale[:, :1]
    part[0, 0] = data.num_nodes
    return model.conv(data.x * scale.sum() + part, data.edge_index)


def a_size_behind_the_back_of_torch(model: Written, data: Data) -> Tensor:
    one, other = torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    one.numpy()[0, 0] = data.num_nodes
    other.data[0, 0] = data.num_nodes
    return model.conv(data.x * one + other, data.edge_index)


def a_number_written_into_a_constant(model: Written, data: Data) -> Tensor:
    gain = torch.ones(4, dtype=torch.float64)
    gain[2] = 3
    return model.conv(data.x, data.edge_index) * gain


def copies_a_mean(model: Written, data: Data) -> Tensor:
    centre = torch.empty(3, dtype=torch.float64)
    centre.copy_(data.pos.mean(0))
    return model.conv((data.pos - centre).sum(1, keepdim=True), data.edge_index)


def copies_rows(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    y = torch.zeros_like(x)
    y.copy_(x)
    return x * 2 + y


def writes_zeros(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    y = x * 1
    y.zero_()
    return x + y


def fills_with_a_number(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    (y := x * 1).fill_(2)
    return x + y


def initialises(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    nn.init.ones_(y := x * 1)
    return x + y


def writes_into(alias: Callable[[Tensor], Any]) -> Callable[[Written, Data], Tensor]:
    """A forward that writes into what a function returns, which is the memory of its argument."""

    def write(model: Written, data: Data) -> Tensor:
        x = model.conv(data.x, data.edge_index)
        alias(x).mul_(2)
        return x

    return write


def assigns_data(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    x.data = x.data.clamp(min=0)
    return x


def divides_an_array(model: Written, data: Data) -> Tensor:
    positions = data.pos.numpy()
    positions[:, :2] /= (12, 9)
    return model.conv(data.x, data.edge_index) + torch.from_numpy(positions).sum(1, keepdim=True) + data.pos[:, :1]


def divides_a_tensor_of_an_array(model: Written, data: Data) -> Tensor:
    torch.from_numpy(np.asarray(data.pos)).div_(2)
    return model.conv(data.x, data.edge_index) + data.pos.sum(1, keepdim=True)


def gives_its_memory_away(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    torch.from_dlpack(x).mul_(2)
    return x


def iterates(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    first, *others = x.mean(0)
    return first + torch.stack(others) + sum(row.abs() for row in x)[1:]


@torch.jit.script
def doubled_in_place(x: Tensor) -> Tensor:
    x.mul_(2)
    return x


def scripted_that_writes(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    return doubled_in_place(x) + x + doubled_in_place(data.x) + data.x


@torch.compile(backend="eager")
def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def compiled_function(model: Written, data: Data) -> Tensor:
    return swish(model.conv(data.x, data.edge_index))


def mapped(model: Written, data: Data) -> Tensor:
    return torch.vmap(lambda row: row.sin() * 2)(model.conv(data.x, data.edge_index))


def numbers_of_nodes_as_values(model: Written, data: Data) -> Tensor:
    return model.conv(data.x, data.edge_index, torch.exp(-0.05 * data.edge_index[0].double()))


def numbers_of_nodes_as_weights(model: Written, data: Data) -> Tensor:
    return model.conv(data.x, data.edge_index, data.edge_index[1])


def numbers_of_voxels_as_values(model: Written, data: Data) -> Tensor:
    cell = torch.floor(data.pos[:, :2] / 4).long()
    pooled = pyg.max_pool(cell[:, 1] * 3 + cell[:, 0], Data(x=data.x, edge_index=data.edge_index, pos=data.pos))
    return model.conv(pooled.x, pooled.edge_index, torch.exp(-0.5 * pooled.edge_index[0].double()))


class Shadowed(nn.Module):
    """An in-place activation behind a dropout that is off, on a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.GraphConv(1, 4)
        self.other, self.before = pyg.SAGEConv(4, 4), nn.Sequential(nn.Dropout(0.5), nn.ReLU(inplace=True))

    def forward(self, data: Data) -> Tensor:
        x = self.conv(data.x, data.edge_index)
        return x + self.other(self.before(x), data.edge_index)


ALIASES: dict[str, Callable[[Tensor], Any]] = {
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "H": lambda x: x.H,
    "t": lambda x: x.t(),
    "unflatten": lambda x: x.unflatten(1, (2, 2)),
    "swapdims": lambda x: x[:, None].swapdims(1, 2),
    "movedim": lambda x: x.movedim(0, 1),
    "ravel": lambda x: x.ravel(),
    "reshape_as": lambda x: x.reshape_as(x),
    "broadcast_to": lambda x: x.broadcast_to(x.shape),
    "type": lambda x: x.type(torch.float64),
    "to": lambda x: x.to(torch.float64),
    "cpu": lambda x: x.cpu(),
    "requires_grad_": lambda x: x.requires_grad_(False),
    "dropout": lambda x: functional.dropout(x, training=False),
    "dropout1d": lambda x: functional.dropout1d(x, training=False),
    "positive": lambda x: +x,
    "data": lambda x: x.data,
    "as_tensor": torch.as_tensor,
    "unbind": lambda x: x.unbind(1)[0],
    "a loop": lambda x: next(iter(x)),
}


@pytest.mark.parametrize("rule", ["directed, insertion", "undirected, deletion"])
@pytest.mark.parametrize(
    "function",
    [
        a_size_written_into_a_constant,
        a_size_written_into_a_view,
        a_size_behind_the_back_of_torch,
        copies_a_mean,
        copies_rows,
        writes_zeros,
        fills_with_a_number,
        initialises,
        assigns_data,
        divides_an_array,
        divides_a_tensor_of_an_array,
        gives_its_memory_away,
        iterates,
        scripted_that_writes,
        compiled_function,
        mapped,
        numbers_of_nodes_as_values,
        numbers_of_nodes_as_weights,
        numbers_of_voxels_as_values,
        *(pytest.param(writes_into(alias), id=f"writes into {name}") for name, alias in ALIASES.items()),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_nothing_is_written_or_read_unseen(function: Callable[..., Tensor], rule: str) -> None:
    follow(randomized(Written(function)), RULES[rule], EVENTS, SIZES, dense_layers=True)


@pytest.mark.parametrize("rule", RULES)
def test_dropout_that_is_off_returns_its_argument_itself(rule: str) -> None:
    assert "dense" not in repr(follow(randomized(Shadowed()), RULES[rule], EVENTS, SIZES))


@torch.jit.script
def gate(x: Tensor, bias: float = 0.5) -> Tensor:
    return torch.sigmoid(x).sum() + bias


def scripted(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    return model.linear(x) * gate(x, bias=0.25)


def reads_an_array(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    largest = torch.from_numpy(x.numpy().max(0)) + torch.from_numpy(np.sqrt(np.asarray(x.abs())).sum(0))
    return model.linear(x) + largest + torch.as_tensor(np.sqrt(x.abs())).amax(0)


def takes_arrays(model: Written, data: Data) -> Tensor:
    x = model.conv(data.x, data.edge_index)
    y = x[:, np.arange(3)] * np.linspace(0, 1, 3) + x[:, [np.int64(1)]]
    return model.linear(x[np.argsort(data.pos[:, 0].numpy(), kind="stable")]) + y.sum(1, keepdim=True)


def names_its_arguments(model: Written, data: Data) -> Tensor:
    x = torch.relu(input=model.conv(data.x, data.edge_index))
    y = functional.linear(input=x, weight=model.linear.weight, bias=model.linear.bias)
    y = y + functional.linear(x, weight=model.linear.weight) + functional.elu(input=x, inplace=False)
    y = torch.where(condition=y > 0, input=y, other=-y)
    y = torch.cat(tensors=[torch.flatten(input=y[:, None], start_dim=1), torch.squeeze(input=y[:, None], dim=1)], dim=1)
    assert torch.numel(input=y) == 8 * data.num_nodes
    return torch.mean(input=y, dim=0) + torch.sum(input=y, dim=0) + torch.amax(input=y, dim=0)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("function", [scripted, reads_an_array, takes_arrays, names_its_arguments,
                                      a_number_written_into_a_constant])  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*__array_wrap__:DeprecationWarning", "ignore:.*torch.jit")
def test_what_is_not_written_to_is_followed(function: Callable[..., Tensor], rule: str) -> None:
    live = follow(randomized(Written(function)), RULES[rule], EVENTS, SIZES, dense_layers=True)
    assert "because of" not in repr(live)
    if function is scripted:
        assert "gate: dense" in repr(live)
    if function in (names_its_arguments, a_number_written_into_a_constant):
        assert "dense" not in repr(live)


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_arguments_by_name_are_counted(engine: str) -> None:
    def named(model: Written, data: Data) -> Tensor:
        x = functional.linear(input=model.conv(data.x, data.edge_index), weight=model.linear.weight)
        return torch.addmm(input=x, mat1=x, mat2=model.linear.weight)

    def plain(model: Written, data: Data) -> Tensor:
        x = functional.linear(model.conv(data.x, data.edge_index), model.linear.weight)
        return torch.addmm(x, x, model.linear.weight)

    counts = []
    for function in (named, plain):
        live = make_model_asynchronous(randomized(Written(function)), engine=engine)
        live.update(EVENTS)
        live.output()
        counts.append(live.flops().total.total)
    assert counts[0] == counts[1] > 0


def test_dropout_in_training_mode_is_refused_where_the_whole_model_runs() -> None:
    def drops(model: Written, data: Data) -> Tensor:
        x = model.conv(data.x, data.edge_index)
        x[:, 0] = 1
        return functional.dropout(x)

    live = make_model_asynchronous(Written(drops).eval(), engine="incremental")
    live.update(EVENTS)
    with pytest.raises(ValueError, match=r"dropout in training mode.*training=self.training"):
        live.output()


def test_what_only_the_followed_forward_cannot_do_is_run_as_a_whole() -> None:
    def sees_through(model: Written, data: Data) -> Tensor:
        if type(data.x) is not Tensor:
            raise TypeError("not a tensor\nbut something else")
        model.calls = getattr(model, "calls", 0) + 1
        return model.conv(data.x, data.edge_index) * model.calls

    live = make_model_asynchronous(randomized(Written(sees_through)), GraphConfig(), engine="incremental")
    live.update(EVENTS)
    with pytest.warns(UserWarning, match="at every update: TypeError while it was followed: not a tensor$"):
        live.output()
    assert live.flops().total.total > 0
    follow(randomized(Written(mapped)), GraphConfig(), EVENTS, SIZES, dense_layers=True)


def test_what_a_forward_has_set_before_it_could_not_be_followed_is_undone() -> None:
    def counts(model: Written, data: Data) -> Tensor:
        model.calls = getattr(model, "calls", 0) + 1
        x = model.conv(data.x, data.edge_index) * model.calls
        x[:, 0] = 1
        return x

    live = make_model_asynchronous(randomized(Written(counts)), GraphConfig(), engine="incremental")
    live.update(EVENTS)
    with pytest.warns(UserWarning, match="whole graph"):
        assert_same(live.output(), reference(randomized(Written(counts)), EVENTS, live.graph))


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
