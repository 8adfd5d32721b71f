# SPDX-License-Identifier: Apache-2.0
"""A model that changes after it was made asynchronous is followed, or refused; it is never answered for as it was."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch_geometric.data import Data
from torch_geometric.nn import ChebConv, GCNConv, GraphConv, SGConv, TAGConv, global_mean_pool
from torch_geometric.nn.aggr import MaxAggregation
from torch_geometric.nn.conv import MessagePassing

from aegnn_core import GraphConfig, make_model_asynchronous, network
from aegnn_core.asynchronous import ENGINES
from aegnn_core.asynchronous.attributes import Attributes
from aegnn_core.asynchronous.shared_copy import Settings
from aegnn_core.asynchronous.weights import WeightsVersion
from tests.asynchronous.engines import FOR_ANY_MODEL
from tests.asynchronous.foreign import assert_same, crowd, randomized, reference
from tests.asynchronous.interruptions import interrupted_behind
from tests.nn.random_networks import randomize, taken_by

EVENTS = crowd(60)
GRAPH = GraphConfig(max_neighbors=5)


class Net(nn.Module):
    scale: float = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = GCNConv(1, 8), nn.Linear(8, 2)
        self.factor = 1.0
        self.offset = torch.zeros(2, dtype=torch.float64)
        self.options = {"gain": [1.0]}
        self.activation: Callable[[Tensor], Tensor] = torch.relu
        self.unregistered = [nn.Linear(8, 8, bias=False).double()]
        nn.init.eye_(self.unregistered[0].weight)

    def forward(self, data: Data) -> Tensor:
        x = self.activation(self.conv(data.x, data.edge_index))
        out = self.linear(self.unregistered[0](global_mean_pool(x, data.batch)))
        return out * self.factor * self.scale * self.options["gain"][0] + self.offset


def replaced_layer(model: Any) -> None:
    model.linear = nn.Linear(8, 2).double()


def added_layer(model: Any) -> None:
    model.linear = nn.Sequential(model.linear, nn.ReLU())


def written_data(model: Any) -> None:
    model.linear.weight.data.mul_(-2)


def one_element_of_the_data(model: Any) -> None:
    model.conv.bias.data[3] += 1


def other_data(model: Any) -> None:
    model.linear.weight.data = torch.ones(2, 8, dtype=torch.float64)


def other_parameter(model: Any) -> None:
    model.linear.bias = nn.Parameter(torch.ones(2, dtype=torch.float64))


def numpy_view(model: Any) -> None:
    model.linear.weight.detach().numpy()[0, 0] = 9


def a_number(model: Any) -> None:
    model.factor = 3.0


def a_tensor(model: Any) -> None:
    model.offset = torch.ones(2, dtype=torch.float64)


def a_number_of_the_class(model: Any) -> None:
    model.scale = 3.0


def another_dictionary(model: Any) -> None:
    model.options = {"gain": [3.0]}


def a_list_in_a_dictionary(model: Any) -> None:
    model.options["gain"][0] = 3.0


def a_layer_that_is_not_registered(model: Any) -> None:
    model.unregistered[0].weight.data.mul_(2)


def an_element_of_a_tensor(model: Any) -> None:
    model.offset[1] = 3


def hook(model: Any) -> None:
    model.linear.register_forward_hook(lambda module, inputs, output: 3 * output)


def earlier_hook(model: Any) -> None:
    model.register_forward_pre_hook(lambda module, inputs: None)


def forward_of_a_layer(model: Any) -> None:
    model.linear.forward = lambda x: 3 * x[:, :2]


def other_function(model: Any) -> None:
    model.activation = torch.tanh


def other_class(model: Any) -> None:
    model.linear.__class__ = type("Other", (nn.Linear,), {"forward": lambda self, x: 3 * x[:, :2]})


def pruned_weight(model: Any) -> None:
    prune.l1_unstructured(model.linear, "weight", 0.5)


def kept_normalisation(model: Any) -> None:
    model.conv.cached = True


def normalised_weight(model: Any) -> None:
    nn.utils.parametrizations.weight_norm(model.linear)


def other_type(model: Any) -> None:
    model.float()


FOLLOWED = [
    written_data, one_element_of_the_data, other_data, other_parameter, numpy_view, a_number, a_tensor,
    a_number_of_the_class, another_dictionary, a_list_in_a_dictionary, a_layer_that_is_not_registered,
    an_element_of_a_tensor,
]  # fmt: skip
#: What is refused, and what the sentence begins with.
REFUSED = {
    replaced_layer: "layers of Net have been replaced",
    added_layer: "layers of Net have been replaced",
    normalised_weight: "layers of Net have been replaced|classes or hooks",
    hook: "classes or hooks of Net's layers, or the names or types of their weights, have changed",
    earlier_hook: "classes or hooks",
    other_class: "classes or hooks",
    pruned_weight: "classes or hooks",
    other_type: "classes or hooks",
    forward_of_a_layer: "forward of linear has changed",
    kept_normalisation: "cached of conv has changed",
    other_function: "activation of Net has changed",
}


@pytest.mark.parametrize("change", [*FOLLOWED, *REFUSED])
@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_a_change_is_followed_or_refused(engine: str, change: Callable[[Any], None]) -> None:
    module = randomized(Net())
    live = make_model_asynchronous(module, GRAPH, engine=engine)
    live.update(EVENTS[:50])
    live.output()
    change(module)
    if change in REFUSED:
        for refused in (live.output, lambda: live.update(EVENTS[50:]), live.state_dict):
            with pytest.raises(ValueError, match=f"({REFUSED[change]}).* call make_model_asynchronous anew"):
                refused()
        return
    assert_same(live.output(), reference(module, EVENTS[:50], live.graph))
    live.update(EVENTS[50:])
    assert_same(live.output(), reference(module, EVENTS, live.graph))


class Convolved(nn.Module):
    """The features of all nodes behind a convolution of more channels than there are nodes."""

    def __init__(self, conv: MessagePassing) -> None:
        super().__init__()
        self.enter, self.conv = nn.Linear(1, 32), conv

    def forward(self, data: Data) -> Tensor:
        return self.conv(self.enter(data.x), data.edge_index)


#: Settings that decide which nodes a convolution reads, or how it sums them; ``aggr`` is only what it prints.
SETTINGS: dict[str, tuple[Callable[[], MessagePassing], str, Any]] = {
    "flow": (lambda: GraphConv(32, 4), "flow", "target_to_source"),
    "the other flow": (lambda: GraphConv(32, 4, flow="target_to_source"), "flow", "source_to_target"),
    "aggr": (lambda: GraphConv(32, 4), "aggr", "max"),
    "node_dim": (lambda: GraphConv(32, 4), "node_dim", 0),
    "node_dim of the features": (lambda: GraphConv(32, 32), "node_dim", -1),
    "more hops": (lambda: SGConv(32, 4, K=1), "K", 3),
    "fewer hops that are not taken": (lambda: TAGConv(32, 4, K=3), "K", 1),
    "normalization": (lambda: ChebConv(32, 4, K=2), "normalization", None),
}


@pytest.mark.parametrize("events_before", [None, 0, 12], ids=["before it is made", "at once", "later"])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_a_convolution_reads_the_nodes_that_its_settings_say(engine: str, name: str, events_before: int | None) -> None:
    make, setting, value = SETTINGS[name]
    module: Any = randomized(Convolved(make()))
    if events_before is None:
        setattr(module.conv, setting, value)
    live = make_model_asynchronous(module, GraphConfig(max_neighbors=3, window=40_000), engine=engine)
    for stop in range(1, 31):
        if stop - 1 == events_before:
            setattr(module.conv, setting, value)
        live.update(EVENTS[stop - 1 : stop])
        assert_same(live.output(), reference(module, EVENTS[:stop], live.graph))


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_another_aggregation_is_followed_before_and_refused_after(engine: str) -> None:
    module: Any = randomized(Convolved(GraphConv(32, 4)))
    module.conv.aggr_module = MaxAggregation()
    live = make_model_asynchronous(module, GRAPH, engine=engine)
    for stop in (20, 21, 60):
        live.update(EVENTS[len(live) : stop])
        assert_same(live.output(), reference(module, EVENTS[:stop], live.graph))
    module.conv.aggr_module = MaxAggregation()
    with pytest.raises(ValueError, match="layers of Convolved have been replaced"):
        live.output()


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_a_change_is_followed_after_an_interruption(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = randomized(Net())
    live = make_model_asynchronous(module, GRAPH, engine=engine)
    live.update(EVENTS)
    live.output()
    for owner, name in ((Attributes, "put"), (Settings, "follow")):
        module.factor += 1
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupted_behind(getattr(owner, name)))
            with pytest.raises(KeyboardInterrupt):
                live.output()
        assert_same(live.output(), reference(module, EVENTS, live.graph))


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_a_tensor_that_came_later_is_looked_at_too(engine: str) -> None:
    module = randomized(Net())
    live = make_model_asynchronous(module, GRAPH, engine=engine)
    live.update(EVENTS)
    live.output()
    module.offset = torch.ones(2, dtype=torch.float64)
    live.output()
    module.offset.fill_(5)
    assert_same(live.output(), reference(module, EVENTS, live.graph))


@pytest.mark.parametrize("engine", ["compiled", "packet"])
def test_engines_that_keep_features_refuse_weights_written_through_data(engine: str) -> None:
    module = randomize(network("graph_res", dataset="nmnist", sensor=(12, 9)).double(), 0)
    live = make_model_asynchronous(module, GRAPH, engine=engine)
    live.update(EVENTS)
    live.output()
    module.event_blocks[1].conv.weight.data[0, 0, 0] += 1
    with pytest.raises(ValueError, match=r"weights have changed .* reset\(\) first"):
        live.output()
    live.reset()
    live.update(EVENTS)
    assert_same(live.output(), reference(module, EVENTS, GRAPH))
    module.head.layers = nn.Linear(512, 10, bias=False).double()
    with pytest.raises(ValueError, match="layers of GraphNetwork have been replaced"):
        live.output()


def hook_of_the_head(model: Any) -> None:
    model.head.register_forward_hook(lambda module, inputs, output: 3 * output)


def forward_of_the_head(model: Any) -> None:
    model.head.forward = lambda image: image.sum((2, 3))


def readout_of_the_network(model: Any) -> None:
    model.readout = lambda *args, **kwargs: torch.zeros(1, 10)


def other_size_of_voxels(model: Any) -> None:
    (model.grid or model.counts).size = (6.0, 6.0)


@pytest.mark.parametrize("engine", ENGINES)
def test_other_code_and_settings_of_the_packages_networks_are_refused(engine: str) -> None:
    module: Any = randomize(network(taken_by(engine), dataset="nmnist", sensor=(12, 9)).double(), 0)
    live = make_model_asynchronous(module, GRAPH, engine=engine)
    live.update(EVENTS)
    before = live.output()
    for change in (hook_of_the_head, forward_of_the_head, readout_of_the_network, other_size_of_voxels):
        if change is other_size_of_voxels and engine in ("incremental", "dense"):
            continue  # they follow it
        states = {part: dict(vars(part)) for part in module.modules()}
        change(module)
        with pytest.raises(ValueError, match=r"call make_model_asynchronous anew|weights have changed"):
            live.output()
        for part, state in states.items():
            vars(part).clear()
            vars(part).update(state)
            part._forward_hooks.clear()
        if engine != "packet" or change is not other_size_of_voxels:
            assert torch.equal(live.output(), before)


@pytest.mark.parametrize("engine", ["compiled", "packet"])
def test_a_layer_that_sums_otherwise_than_the_first_is_refused(engine: str) -> None:
    """As the network itself does."""
    module: Any = randomize(network("graph_res", dataset="nmnist", sensor=(12, 9)).double(), 0)
    live = make_model_asynchronous(module, GRAPH, engine=engine)
    live.update(EVENTS[:30])
    before = live.output()
    module.event_blocks[0].conv.aggr = "add"
    for refused in (live.output, lambda: live.update(EVENTS[30:])):
        if engine == "compiled" and refused is not live.output:
            continue  # it looks when somebody asks
        with pytest.raises(ValueError, match=r"aggr of event_blocks.0.conv has changed .* anew"):
            refused()
    with pytest.raises(ValueError, match="one kernel size and aggregation"):
        make_model_asynchronous(module, GRAPH, engine=engine)
    module.event_blocks[0].conv.aggr = "mean"
    assert torch.equal(live.output(), before)


def test_weights_that_change_and_change_back_leave_no_features_of_both() -> None:
    module: Any = randomize(network("graph_res", dataset="nmnist", sensor=(12, 9)).double(), 0)
    live = make_model_asynchronous(module, GRAPH, engine="packet")
    live.update(EVENTS[:30])
    weight = module.event_blocks[1].conv.weight.data
    for factor in (2, 0.5):
        weight.mul_(factor)
        live.update(EVENTS[len(live) : len(live) + 15])
    with pytest.raises(ValueError, match=r"weights have changed .* reset\(\) first"):
        live.output()
    live.reset()
    live.update(EVENTS)
    assert_same(live.output(), reference(module, EVENTS, GRAPH))


def test_weights_that_are_said_to_be_frozen_are_not_looked_at() -> None:
    module = randomize(network("histogram", dataset="nmnist", sensor=(12, 9)).double(), 0)
    live = make_model_asynchronous(module, GRAPH, frozen=True)
    assert live.engine_name == "counting"
    live.update(EVENTS[:50])
    before = live.output()
    copied = copy.deepcopy(live)
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(2)
    assert torch.equal(live.output(), before)
    assert torch.equal(copied.output(), before)


def test_the_signs_of_two_weights_turned_round_are_a_change() -> None:
    module = nn.Linear(8, 8).double()
    version = WeightsVersion(module)
    with torch.no_grad():
        for n in range(0, 64, 2):
            module.weight.view(-1)[n : n + 2] *= -1
            assert version.changed()
            version.accept()
            assert not version.changed()


def test_a_change_stays_one_until_it_is_accepted() -> None:
    module = nn.Linear(2, 2)
    version = WeightsVersion(module)
    weight = module.weight.data
    weight.mul_(2)
    assert version.changed()
    weight.div_(2)
    assert version.changed(), "whoever has begun to take the other weights has some of them"
    weight.add_(1)
    version.accept()
    assert version.changed(), "this came after the weights that were accepted"
    version.accept()
    module.weight = nn.Parameter(weight.clone())
    assert version.changed()
    version.accept()
    assert not version.changed()


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_may_change_while_the_model_is_trained(engine: str) -> None:
    """What engines make anew of the model then is in evaluation mode too."""
    name = "histogram" if engine == "counting" else "graph_grid"
    module: Any = network(name, dataset="nmnist", sensor=(12, 9), dropout=0.5).double().eval()
    live = make_model_asynchronous(randomize(module, 0), GRAPH, engine=engine)
    randomize(module, 1).train()
    live.reset()
    live.update(EVENTS)
    answer = live.output()
    assert_same(answer, reference(module.eval(), EVENTS, GRAPH))


class Remembers(Net):
    """Its answer depends on how often it was called."""

    def forward(self, data: Data) -> Tensor:
        out = Net.forward(self, data)
        self.factor += 1
        self.offset = out.detach()
        self.options["gain"].append(self.options["gain"].pop() + 1)
        self.calls = getattr(self, "calls", 0) + 1
        return out * self.calls


@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_no_answer_depends_on_an_earlier_one(engine: str) -> None:
    module, first = randomized(Remembers()), randomized(Remembers())
    live = make_model_asynchronous(module, GRAPH, engine=engine)
    for stop in (20, 21, 50, 60):
        live.update(EVENTS[len(live) : stop])
        live.output()
        again = randomized(Remembers())
        assert_same(live.output(), reference(again, EVENTS[:stop], live.graph))
    assert vars(module).keys() == vars(first).keys()
    assert module.factor == 1


class Counts(Net):
    """Counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1, dtype=torch.float64))

    def forward(self, data: Data) -> Tensor:
        self.calls += 1
        return Net.forward(self, data) * self.calls


class CountsInATensor(Net):
    """Counts its calls in place, in a tensor that is not registered."""

    def forward(self, data: Data) -> Tensor:
        self.offset += 1
        return Net.forward(self, data)


class CountsInAnArray(Net):
    """Counts its calls in place, in an array in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = [np.zeros(3)]

    def forward(self, data: Data) -> Tensor:
        self.counts[0] += 1
        return Net.forward(self, data) * float(self.counts[0][0])


@pytest.mark.parametrize("kind", [Counts, CountsInATensor, CountsInAnArray])
@pytest.mark.parametrize("engine", FOR_ANY_MODEL)
def test_a_forward_that_writes_what_it_computes_with_is_refused(engine: str, kind: type[Net]) -> None:
    live = make_model_asynchronous(randomized(kind()), GRAPH, engine=engine)
    live.update(EVENTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=f"forward of {kind.__name__} writes into its own parameters, buffers"):
            live.output()


@pytest.mark.parametrize("engine", ENGINES)
def test_training_mode_afterwards_changes_neither_answers_nor_statistics(engine: str) -> None:
    module = randomize(network(taken_by(engine), dataset="nmnist", sensor=(12, 9)).double(), 0)
    live = make_model_asynchronous(module, GRAPH, engine=engine)
    live.update(EVENTS[:50])
    live.output()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.train()
    live.update(EVENTS[50:])
    answer = live.output()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert_same(answer, reference(module.eval(), EVENTS, GRAPH))


class Doubled(type(network("graph_res", dataset="nmnist"))):  # type: ignore[misc]
    """One of the package's networks with a forward of its own."""

    def forward(self, data: Data) -> Tensor:
        return 2 * super().forward(data)


class WritesAPart(nn.Module):
    """Cannot be followed."""

    def forward(self, x: Tensor) -> Tensor:
        x[:, 0] = 1
        return x


@pytest.mark.parametrize("name", ["graph_res", "histogram"])
def test_nodes_that_are_not_live_are_not_read_where_the_whole_network_runs(name: str) -> None:
    graph = GraphConfig(max_neighbors=5, window=25_000)
    module: Any = randomize(network(name, dataset="nmnist", sensor=(12, 9)).double(), 0)
    module.head = nn.Sequential(module.head, WritesAPart())
    live = make_model_asynchronous(module, graph, engine="incremental")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in range(len(EVENTS)):
            live.update(EVENTS[k : k + 1])
            assert_same(live.output(), reference(module, EVENTS[: k + 1], graph))
    assert "because of" in repr(live)
    module = randomize(network("graph_res", dataset="nmnist", sensor=(12, 9)).double(), 0)
    module.__class__ = Doubled
    with pytest.raises(ValueError, match="the forward may read nodes that are not live any more"):
        make_model_asynchronous(module, graph, engine="incremental")


def test_a_network_with_a_forward_of_its_own_is_not_taken_for_the_packages() -> None:
    module = randomize(network("graph_res", dataset="nmnist", sensor=(12, 9)).double(), 0)
    module.__class__ = Doubled
    hooked = randomize(network("graph_res", dataset="nmnist", sensor=(12, 9)).double(), 0)
    hooked.head.register_forward_hook(lambda module, inputs, output: 3 * output)
    for changed, reason in ((module, "found Doubled with its own"), (hooked, "found one on head")):
        for engine in ("compiled", "packet"):
            with pytest.raises(ValueError, match=reason):
                make_model_asynchronous(changed, GRAPH, engine=engine)
        live = make_model_asynchronous(changed, GRAPH)
        live.update(EVENTS)
        assert_same(live.output(), reference(changed, EVENTS, live.graph))
