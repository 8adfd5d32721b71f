# SPDX-License-Identifier: Apache-2.0
"""However a model of PyTorch Geometric is written or made: it is followed, or a sentence says why not."""

import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch_geometric.data import Data

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous
from tests.asynchronous.engines import FOR_ANY_MODEL
from tests.asynchronous.foreign import assert_same, crowd, randomized, reference

EVENTS = crowd(60)
GRAPH = GraphConfig(max_neighbors=5)


def follow(
    model: nn.Module, dense: Callable[[Data], Any], engine: str = "auto", dtype: torch.dtype = torch.float64
) -> tuple[str, list[str]]:
    """Compare after packets of one and more events; how the live model prints, and what it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        live = make_model_asynchronous(model, GRAPH, engine=engine)
        stop = 0
        for size in (20, 1, 1, 1, 17, 20):
            live.update(EVENTS[stop : stop + size])
            stop += size
            with torch.no_grad():
                expected = dense(build_graph(EVENTS[:stop], live.graph, dtype=dtype))
            if dtype == torch.float64:
                assert_same(live.output(), expected)
            else:
                torch.testing.assert_close(live.output(), expected, rtol=1e-4, atol=1e-4)
    return repr(live), [str(one.message) for one in caught]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = pyg.GCNConv(1, 8), nn.Linear(8, 2)

    def forward(self, data: Data) -> Tensor:
        return self.answer(data.x, data.edge_index, data.batch)

    def answer(self, x: Tensor, edge_index: Tensor, batch: Tensor | None) -> Tensor:
        return self.linear(pyg.global_mean_pool(self.conv(x, edge_index).relu(), batch))


class Tutorial(Net):
    def forward(self, x, edge_index, batch):  # type: ignore[override]
        return self.answer(x, edge_index, batch)


class CalledX(Net):
    def forward(self, x):  # type: ignore[override]
        return Net.forward(self, x)


class Annotated(Net):
    def forward(self, x: Data) -> Tensor:  # type: ignore[override]
        return Net.forward(self, x)


class RowByRow(Net):
    def forward(self, x):  # type: ignore[override]
        return self.linear(x.expand(-1, 8)).relu().sum(0)


def zeros(data: Data) -> Tensor:
    return torch.zeros(len(data.x), dtype=torch.long)


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
@pytest.mark.parametrize(
    ("kind", "dense"),
    [
        (Tutorial, lambda model: lambda d: model(d.x, d.edge_index, zeros(d))),
        (CalledX, lambda model: model),
        (Annotated, lambda model: model),
        (RowByRow, lambda model: lambda d: model(d.x)),
    ],
)
def test_a_forward_gets_what_its_arguments_say(kind: type[Net], dense: Callable[..., Any], engine: str) -> None:
    model = randomized(kind())
    follow(model, dense(model), engine)


class UsesBatch(Net):
    def __init__(self, use: Callable[[Data], Any]) -> None:
        super().__init__()
        self.use = use

    def forward(self, data: Data) -> Tensor:
        self.use(data)
        return Net.forward(self, data)


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda data: int(data.batch.max()) + 1,
            "'max'.*data.batch is None; .*argument batch gets zeros",
        ),
        (lambda data: data.batch[0], "not subscriptable.*data.batch is None"),
        (lambda data: torch.bincount(data.batch), "data.batch is None"),
        (lambda data: data.num_graphs, "needs data.num_graphs, but a graph of events has x, pos"),
    ],
)
def test_a_batch_that_is_not_there_is_named(use: Callable[[Data], Any], message: str, engine: str) -> None:
    live = make_model_asynchronous(randomized(UsesBatch(use)), GRAPH, engine=engine)
    live.update(EVENTS)
    with pytest.raises(ValueError, match=message):
        live.output()


class CalledBatch(Net):
    def forward(self, batch, return_features=False, edge_attr=None):  # type: ignore[override]
        features = self.conv(batch.x, batch.edge_index)
        return features if return_features else self.linear(features.mean(0))


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_a_graph_may_come_with_options(engine: str) -> None:
    model = randomized(CalledBatch())
    follow(model, model, engine)


class ReadsTimes(Net):
    def forward(self, data: Data) -> Tensor:
        recent = torch.exp((data.t - data.t[-1]).to(data.x.dtype) / 20_000)
        return self.answer(data.x * recent[:, None] + data.t[:, None] % 7, data.edge_index, None)


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
@pytest.mark.parametrize("options", [{}, {"window": 25_000, "expiry": "graph"}])
def test_the_graph_has_its_times(engine: str, options: dict[str, Any]) -> None:
    model = randomized(ReadsTimes())
    live = make_model_asynchronous(model, GraphConfig(max_neighbors=5, **options), engine=engine)
    origin = EVENTS["t"][0]
    for k in range(30):
        live.update(EVENTS[2 * k : 2 * k + 2])
        data = build_graph(EVENTS[: 2 * k + 2], live.graph, dtype=torch.float64)
        assert int(data.t[-1]) == EVENTS["t"][2 * k + 1] - origin
        with torch.no_grad():
            assert_same(live.output(), model(data))


@dataclass(frozen=True)
class Answer:
    scores: Tensor
    parts: dict[str, Any]


class Returns(Net):
    def __init__(self, pack: Callable[[Data, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.pack = pack

    def forward(self, data: Data) -> Any:
        x = self.conv(data.x, data.edge_index)
        return self.pack(data, x, self.linear(x.mean(0)))


def returned_data(data: Data, x: Tensor, scores: Tensor) -> Data:
    data.x, data.found = x, {"scores": scores, "rows": [x[:, 0]]}
    return data


class Holder:
    """A class of which nothing is known."""

    def __init__(self, x: Tensor) -> None:
        self.x = x


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
@pytest.mark.parametrize(
    ("pack", "tensors"),
    [
        (lambda data, x, scores: Answer(scores, {"x": [x]}), lambda out: [out.scores, out.parts["x"][0]]),
        (lambda data, x, scores: OrderedDict(x=x, n=x.size(0), scores=scores), lambda out: [out["x"], out["scores"]]),
        (lambda data, x, scores: defaultdict(list, x=[x, data.pos]), lambda out: [*out["x"], *out["none"]]),
        (returned_data, lambda out: [*(out[k] for k in ("x", "pos", "edge_index", "t")), out.found["rows"][0]]),
        (lambda data, x, scores: Holder(x), lambda out: [out.x]),
    ],
)
def test_an_answer_of_any_kind_is_the_callers_own(pack: Any, tensors: Callable[[Any], Any], engine: str) -> None:
    model = randomized(Returns(pack))
    live = make_model_asynchronous(model, GraphConfig(max_neighbors=5, max_nodes=20, expiry="graph"), engine=engine)
    before: list[tuple[Any, Any]] = []
    for stop in (15, 25, 26, 40):
        live.update(EVENTS[len(live) : stop])
        with torch.no_grad():
            dense = model(build_graph(EVENTS[:stop], live.graph, dtype=torch.float64))
        answer = live.output()
        assert type(answer) is type(dense)
        before.append((answer, dense))
        for one, other in before:
            assert_same(tensors(one), tensors(other))
        if isinstance(dense, OrderedDict):
            assert type(answer["n"]) is int  # type: ignore[index]
    tensors(answer)[0].zero_()
    assert_same(tensors(live.output()), tensors(dense))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_of_another_type_gets_a_graph_of_that_type(dtype: torch.dtype) -> None:
    model = randomized(Net()).to(dtype)
    live = make_model_asynchronous(model, GRAPH, engine="dense")
    for stop in (20, 60):
        live.update(EVENTS[len(live) : stop])
        data = build_graph(EVENTS[:stop], live.graph)
        data = data.apply(lambda part: part.to(dtype), "x", "pos", "edge_attr")
        with torch.no_grad():
            assert torch.equal(live.output(), model(data))


class Named(Net):
    """A layer has the name under which the package's networks keep their graph rule."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = nn.Linear(8, 8)

    def forward(self, data: Data) -> Tensor:
        return self.linear(self.graph(self.conv(data.x, data.edge_index)).mean(0))


def test_a_layer_may_be_called_graph() -> None:
    model = randomized(Named())
    follow(model, model)


def test_edge_attributes_that_the_model_was_not_made_for_are_left_out() -> None:
    degrees = torch.tensor([0, 5, 10, 5, 3, 2])
    for options in ({}, {"edge_dim": 3}):
        model = randomized(
            pyg.PNA(1, 8, 2, out_channels=2, aggregators=["mean", "max"], scalers=["identity"], deg=degrees, **options)
        )
        attributes = (lambda d: {"edge_attr": d.edge_attr}) if options else (lambda d: {})
        follow(model, lambda d, model=model, attributes=attributes: model(d.x, d.edge_index, **attributes(d)))


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).relu()


class WithPart(Net):
    def __init__(self, make: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.part = make(Part())

    def forward(self, data: Data) -> Tensor:
        return self.linear(self.part(self.conv(data.x, data.edge_index)).mean(0))


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="eager")


def compiled_in_place(module: nn.Module) -> nn.Module:
    module.compile(backend="eager")
    return module


@pytest.mark.parametrize("compile_it", [compiled, compiled_in_place])
def test_compiled_models_and_parts_are_followed(compile_it: Callable[[nn.Module], Any]) -> None:
    plain = randomized(Net())
    shown, caught = follow(compile_it(plain), plain)
    assert "engine=incremental" in shown
    model = randomized(WithPart(compile_it))
    shown, more = follow(model, lambda d: model.linear(Part.forward(model.part, model.conv(d.x, d.edge_index)).mean(0)))
    assert "engine=incremental" in shown
    assert not [message for message in (*caught, *more) if "whole" in message]


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_scripted_parts_run_densely_and_say_so() -> None:
    model = randomized(WithPart(torch.jit.script))
    shown, caught = follow(model, model)
    assert "engine=dense" in shown
    assert any("the whole model runs at every output, because" in message for message in caught)
    with pytest.raises(ValueError, match=r"incremental: it cannot look into what torch\.jit has made"):
        make_model_asynchronous(model, GRAPH, engine="incremental")
    model.part.linear.weight.data.mul_(2)
    follow(model, model)


class Dropping(nn.Module):
    """A scripted part that drops at random while it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.GraphConv(1, 8)
        self.part = torch.jit.script(nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(8)))

    def forward(self, data: Data) -> Tensor:
        return self.part(self.conv(data.x, data.edge_index)).sum(0)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_scripted_parts_stay_in_the_mode_in_which_the_live_model_was_made() -> None:
    model = randomized(Dropping())
    live = make_model_asynchronous(model, GRAPH)
    live.update(EVENTS)
    before = live.output()
    model.train()
    assert torch.equal(live.output(), before)
    assert model.part.training
    assert_same(before, reference(model.eval(), EVENTS, live.graph))


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 3)

    def forward(self, x: Tensor, edge_index: Tensor, scale: float = 1.0) -> Tensor:
        return self.linear(x)[edge_index[0]].sum(0) * scale


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_scripted_model_is_called_by_its_arguments() -> None:
    model = torch.jit.script(randomized(Scripted()))
    shown, _ = follow(model, lambda d: model(d.x, d.edge_index))
    assert "engine=dense" in shown


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantised_layers_are_run() -> None:
    torch.manual_seed(0)
    model = torch.ao.quantization.quantize_dynamic(Net().eval(), {nn.Linear}, dtype=torch.qint8)
    for engine in FOR_ANY_MODEL:
        follow(model, model, engine, torch.float32)
        live = make_model_asynchronous(model, GRAPH, engine=engine)
        live.update(EVENTS)
        other = make_model_asynchronous(model, GRAPH, engine=engine)
        other.load_state_dict(live.state_dict())
        torch.testing.assert_close(other.output(), live.output())


class Condition(Net):
    def forward(self, data: Data) -> Tensor:
        x = self.conv(data.x, data.edge_index)
        (where,) = torch.where(x[:, 0] > 0)
        return self.linear(x[where].sum(0)) + torch.where(x > 0, x, -x).amax()


def test_where_with_a_condition_alone_says_which_rows() -> None:
    model = randomized(Condition())
    follow(model, model)


class NoOperations(Net):
    def forward(self, data: Data) -> Tensor:
        data = data.to("cpu").contiguous()
        index = data.edge_index.long().contiguous().clone().to(torch.long).to("cpu").type(torch.long).detach()
        x = data.x.to(data.pos.dtype).to("cpu").clone()
        return self.answer(x.contiguous(), index.type_as(data.edge_index), None)


def test_what_changes_nothing_does_not_make_a_layer_dense() -> None:
    model = randomized(NoOperations())
    shown, caught = follow(model, model, "incremental")
    assert "dense" not in shown
    assert not [message for message in caught if "whole graph" in message]


def test_a_change_of_type_is_not_taken_for_none() -> None:
    class Other(Net):
        def forward(self, data: Data) -> Tensor:
            return (data.edge_index.int().double() * 0.5).sum() + data.x.sum()

    model = randomized(Other())
    follow(model, model, "incremental")


def test_an_lstm_over_neighbours_sees_the_longest_list_of_all() -> None:
    """PyG pads every node's messages to the longest list, and lets the LSTM run over the padding too."""
    model = randomized(WithLstm())
    events = crowd(60, 3)
    live = make_model_asynchronous(model, GRAPH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        live.update(events[:20])
        for k in range(20, 60):
            assert_same(live.output(), reference(model, events[:k], live.graph))
            live.update(events[k : k + 1])
    assert "conv: dense" in repr(live)


class WithLstm(Net):
    def __init__(self) -> None:
        super().__init__()
        self.conv = pyg.SAGEConv(1, 8, aggr="lstm")


def test_auto_says_why_it_ended_at_dense() -> None:
    model = Net().eval().half()
    with pytest.warns(
        UserWarning, match=r"the whole model runs at every output, because .*in torch\.float16"
    ) as caught:
        live = make_model_asynchronous(model, GRAPH)
    assert live.engine_name == "dense"
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_model_asynchronous(model, GRAPH, engine="dense")
