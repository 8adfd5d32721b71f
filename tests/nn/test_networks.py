# SPDX-License-Identifier: Apache-2.0
"""The networks by name: sizes of the papers, batches, gradients, errors."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from aegnn_core.events import make_events
from aegnn_core.events.simulation import CLASSES, RECOGNITION_CLASSES, SensorModel
from aegnn_core.graph import GraphConfig, build_graph
from aegnn_core.nn import DATASETS, NETWORKS, network
from aegnn_core.nn.blocks import BlockSequence, ConvBlock, Residual
from aegnn_core.nn.networks import check_options
from aegnn_core.nn.spline import SplineConv
from tests.nn.random_networks import randomize


def random_graph(seed: int, sensor: tuple[int, int], count: int = 300, window: int | None = None) -> Data:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 50_000, count))
    x, y = rng.integers(0, min(sensor[0], 30), count), rng.integers(0, min(sensor[1], 20), count)
    graph = GraphConfig(window=window, max_neighbors=8)
    return build_graph(make_events(t, x, y, rng.integers(0, 2, count)), graph, dtype=torch.float64)


CASES = [
    ("graph_res", "ncars", "recognition", (1, 2)),
    ("graph_res", "nmnist", "recognition", (1, 10)),
    ("graph_res", "ncaltech101", "recognition", (1, 101)),
    ("graph_res", "gen1", "detection", (1, 6, 8, 7)),
    ("graph_wen", "ncars", "recognition", (1, 2)),
    ("graph_grid", "simulated", "detection", (1, 15, 20, 7)),
    ("graph_grid", "simulated", "recognition", (1, 3)),
]


def test_networks_for_simulated_scenes_have_the_sensor_and_classes_of_these() -> None:
    size, camera = DATASETS["simulated"], SensorModel()
    assert size.sensor == (camera.width, camera.height)
    assert size.classes == {"recognition": len(RECOGNITION_CLASSES), "detection": len(CLASSES)}


@pytest.mark.parametrize(("name", "dataset", "task", "shape"), CASES)
def test_shapes_and_batches(name: str, dataset: str, task: str, shape: tuple[int, ...]) -> None:
    """A batch gives what its graphs give one by one, graphs without nodes and dead nodes included."""
    module = randomize(network(name, dataset=dataset, task=task).double(), 0)
    sensor = DATASETS[dataset].sensor
    graphs = [
        random_graph(1, sensor, 200, 20_000),
        random_graph(2, sensor, 0, 20_000),
        random_graph(3, sensor, 150, 20_000),
    ]
    with torch.no_grad():
        single = [module(graph) for graph in graphs]
        together = module(Batch.from_data_list(graphs))
    assert single[0].shape == shape
    torch.testing.assert_close(together, torch.cat(single), rtol=1e-9, atol=1e-12)
    assert not torch.allclose(single[0], single[1])


@pytest.mark.parametrize(
    ("name", "dataset", "channels", "kernels"),
    [
        ("graph_res", "ncars", [1, 8, 16, 16, 16, 32, 32, 32], 8),
        ("graph_res", "ncaltech101", [1, 16, 32, 32, 32, 128, 128, 128], 512),
        ("graph_res", "gen1", [1, 16, 32, 32, 32, 128, 128, 128], 512),
        ("graph_wen", "ncaltech101", [1, 64, 128, 256, 512], 64),
    ],
)
def test_layer_sizes_are_the_papers(name: str, dataset: str, channels: list[int], kernels: int) -> None:
    weights = [p for key, p in network(name, dataset=dataset).named_parameters() if key.endswith("conv.weight")]
    assert [tuple(w.shape) for w in weights] == [(kernels, a, b) for a, b in pairwise(channels)]


def test_the_input_is_not_changed() -> None:
    graph = random_graph(0, (120, 100), window=10_000)
    before = graph.clone()
    network("graph_res", dataset="ncars").double()(graph)
    assert graph.keys() == before.keys()
    assert all(torch.equal(graph[key], before[key]) for key in graph.keys())  # noqa: SIM118


def test_dead_nodes_do_not_reach_the_readout() -> None:
    """Features of dead nodes matter only through what they passed on."""
    module = randomize(network("graph_res", dataset="ncars").double(), 1)
    graph = random_graph(5, (120, 100), window=10_000)
    assert 0 < int(graph.live.sum()) < graph.num_nodes
    with torch.no_grad():
        all_alive = graph.clone()
        all_alive.live = torch.ones_like(graph.live)
        assert not torch.allclose(module(graph), module(all_alive))


@pytest.mark.parametrize("task", ["recognition", "detection"])
@pytest.mark.parametrize("name", ["graph_res", "graph_wen", "graph_grid"])
def test_every_parameter_gets_a_gradient(name: str, task: str) -> None:
    module = randomize(network(name, dataset="simulated", task=task), 0).train()
    loader = DataLoader([random_graph(n, (160, 120)) for n in range(4)], batch_size=4)
    for batch in loader:
        batch = batch.apply(lambda value: value.float() if value.is_floating_point() else value)
        module(batch).square().sum().backward()
    missing = [key for key, p in module.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert missing == []


@pytest.mark.parametrize("odd", [0, 1, 2])
@pytest.mark.parametrize("other", [{"kernel_size": 4}, {"dim": 2}, {"aggr": "add"}])
def test_blocks_on_one_graph_have_one_kind_of_splines(other: dict, odd: int) -> None:
    """With the splines of another kind a convolution would be wrong, or write beyond its memory."""
    kinds = [{"dim": 3, "kernel_size": 2, "aggr": "mean"} | (other if n == odd else {}) for n in range(3)]
    blocks = [ConvBlock(inputs, 8, dim=3, kernel_size=2) for inputs in (1, 8, 8)]
    for block, inputs, kind in zip(blocks, (1, 8, 8), kinds, strict=True):
        block.conv = SplineConv(inputs, 8, **kind)
    sequence = BlockSequence([blocks[0], Residual(blocks[1:])]).double().eval()
    data = random_graph(0, (30, 20))
    with pytest.raises(
        ValueError, match=r"must have one kernel size and aggregation, found SplineConv\(.*\) and Spline"
    ):
        sequence(data.x, data.edge_index, data.edge_attr)


def test_blocks_refuse_edges_that_are_none_of_their_nodes() -> None:
    sequence, data = BlockSequence([ConvBlock(1, 8, dim=3, kernel_size=2)]).double().eval(), random_graph(0, (30, 20))
    with pytest.raises(ValueError, match="edge_index must be between 0 and 289, for 290 nodes, found 0 to 29"):
        sequence(data.x[:290], data.edge_index, data.edge_attr)
    with pytest.raises(ValueError, match=r"edge_attr must be \[E, 3\], found"):
        sequence(data.x, data.edge_index, data.edge_attr[:, :2])


def test_a_batch_of_a_single_node_can_be_learned_from() -> None:
    """It has no spread that a norm could learn: it is normed as in evaluation, and the norm stays as it is."""
    block = randomize(ConvBlock(1, 4, dim=3, kernel_size=2, root_weight=True), seed=0)
    node, nothing = torch.ones(1, 1), (torch.empty(2, 0, dtype=torch.long), torch.empty(0, 3))
    before = {name: value.clone() for name, value in block.state_dict().items()}
    learned = BlockSequence([block])(node, *nothing)
    learned.sum().backward()
    assert block.conv.lin.weight.grad.isfinite().all()
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())
    torch.testing.assert_close(learned, BlockSequence([block]).eval()(node, *nothing))


def test_dim_2_ignores_time() -> None:
    module = randomize(network("graph_res", dataset="ncars", dim=2).double(), 0)
    graph = random_graph(0, (120, 100))
    other = graph.clone()
    other.edge_attr[:, 2] = 0.1
    assert torch.equal(module(graph), module(other))


def test_class_scores_and_detections_of_a_detector_agree() -> None:
    module = randomize(network("graph_grid", dataset="simulated", task="detection").double(), 3)
    with torch.no_grad():
        output = module(random_graph(3, (160, 120)))
        scores = module.class_scores(output)
        (found,) = module.detections(output, score_threshold=0.0)
    assert scores.shape == (1, 2)
    assert found["score"].max() == pytest.approx(float(scores.max()))
    with pytest.raises(ValueError, match="this one is for recognition"):
        network("graph_res", dataset="ncars").detections(output)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("graph_rez", {"dataset": "ncars"}, "unknown network 'graph_rez', known are graph_res"),
        ("graph_res", {"dataset": "kitti"}, "unknown data set 'kitti', known are ncars"),
        ("graph_res", {"dataset": "ncars", "task": "segmentation"}, "unknown task 'segmentation'"),
        ("graph_res", {"dataset": "ncars", "task": "detection"}, "ncars has no labels for detection"),
        ("graph_res", {"dataset": "ncars", "dim": 4}, "dim must be 2 or 3, found 4"),
        ("graph_res", {"dataset": "ncars", "sensor": (0, 5)}, "sensor must be"),
        ("graph_res", {"dataset": "ncars", "num_classes": 0}, "num_classes must be"),
        ("graph_res", {"dataset": "ncars", "cells": [4]}, "cells must be columns and rows"),
        ("graph_res", {"dataset": "ncars", "cells": [4, 0]}, "at least 1 of each"),
        ("graph_res", {"dataset": "ncars", "cells": []}, "cells must be columns and rows"),
        ("graph_res", {"dataset": "ncars", "widths": [16, 0]}, "widths must be numbers of features"),
        ("graph_res", {"dataset": "ncars", "cells": [4, 4], "widths": [16]}, "a recogniser without cells"),
        ("graph_res", {"dataset": "simulated", "task": "detection", "widths": [16]}, "a recogniser without cells"),
        ("graph_res", {"dataset": "ncars", "halving": True}, "halving, .* are for a recogniser with widths"),
        ("graph_res", {"dataset": "ncars", "erase": 0.3}, "halving, erase .* are for a recogniser with widths"),
        ("graph_res", {"dataset": "ncars", "dropout": 0.3}, "erase and dropout are for a recogniser with widths"),
        ("graph_res", {"dataset": "gen1", "task": "detection", "dropout": 0.3}, "dropout are for a recogniser with"),
        ("graph_grid", {"dataset": "gen1", "task": "detection", "dropout": 0.3}, "dropout is for a recogniser, found"),
        ("histogram", {"dataset": "gen1", "task": "detection", "dropout": 0.3}, "dropout is for a recogniser, found"),
        ("graph_histogram", {"dataset": "gen1", "task": "detection", "dropout": 0.3}, "found 0.3 for detection"),
        (
            "graph_res",
            {"dataset": "ncars", "widths": [16], "erase": 1.3},
            "erase must be a share from 0 to 1",
        ),
        (
            "graph_res",
            {"dataset": "ncars", "widths": [16], "dropout": float("nan")},
            "option dropout .* nan, expected a number",
        ),
        ("graph_grid", {"dataset": "ncars", "dropout": 2.0}, "dropout must be a share from 0 to 1, found 2.0"),
        ("graph_grid", {"dataset": "ncars", "width": 0}, "a head's convolution must have at least 1 feature, found 0"),
        ("histogram", {"dataset": "ncars", "dropout": -0.1}, "dropout must be a share from 0 to 1, found -0.1"),
        ("histogram", {"dataset": "ncars", "widths": []}, r"2 numbers of features for recognition .*, found \[\]"),
        ("histogram", {"dataset": "ncars", "widths": [0, 8]}, "must have at least 1 feature, found 0"),
        ("histogram", {"dataset": "ncars", "widths": [8]}, r"2 numbers of features for recognition .*, found \[8\]"),
        ("histogram", {"dataset": "ncars", "widths": [8] * 5}, "widths must be 2 numbers of features"),
        ("histogram", {"dataset": "ncars", "depths": [9, 9, 9, 9]}, "depths are for a detector"),
        ("histogram", {"dataset": "gen1", "task": "detection", "widths": [8, 8]}, "widths must be 5 numbers of feat"),
        ("histogram", {"dataset": "gen1", "task": "detection", "depths": [1, 1]}, "depths must be 4 numbers of resid"),
        ("histogram", {"dataset": "gen1", "task": "detection", "depths": [1, 1, 1, -1]}, "depths must be 4 numbers"),
    ],
)
def test_unknown_names_are_refused(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network(name, **arguments)


@pytest.mark.parametrize(("options", "share"), [({}, 0.3), ({"dropout": 0.1}, 0.1), ({"dropout": 0.0}, 0.0)])
def test_graph_res_with_widths_leaves_out_a_share_in_training(options: dict, share: float) -> None:
    assert network("graph_res", dataset="ncars", widths=[16], **options).head.dropout.p == share


def test_graph_res_may_have_a_finer_grid_before_its_head() -> None:
    module = network("graph_res", dataset="simulated", task="detection", cells=[20, 15])
    assert module.grid.shape == (20, 15)
    assert module.head.layers.in_features == 20 * 15 * 32
    assert set(module.head.layers.bias.view(-1, 7)[:, 4].tolist()) == {-4.0}


@pytest.mark.parametrize(
    "options",
    [
        {"voxel": [8, 8], "widths": [16, 24]},
        {"voxel": [2, 2], "widths": [16, 24], "halving": True},
        {"voxel": [2, 2], "widths": [8, 8, 16, 16], "halving": True},
    ],
)
def test_graph_res_may_have_a_head_that_does_not_know_places(options: dict) -> None:
    """What is seen elsewhere, by whole cells of the head's coarsest features, has the same scores."""
    module = randomize(network("graph_res", dataset="ncars", sensor=(640, 640), **options), 0)
    rng = np.random.default_rng(0)
    graph = GraphConfig(window=100_000)
    x, y = rng.integers(304, 336, 500), rng.integers(304, 328, 500)  # so far from the margin that it is not seen
    t, p = np.arange(500) * 100, rng.integers(0, 2, 500)
    scores = [
        module(build_graph(make_events(t, x + dx, y + dy, p), graph))
        for dx, dy in ((0, 0), (16, 0), (-32, 16), (48, 32))
    ]
    for other in scores[1:]:
        torch.testing.assert_close(other, scores[0])
    strides = [layer.stride[0] for layer in module.head.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert np.prod(strides) == 2 ** min(3, len(options["widths"]) if options.get("halving") else 0)


def test_a_share_of_images_loses_a_rectangle_in_training() -> None:
    head = network("graph_res", dataset="ncars", voxel=[2, 2], widths=[8, 8], erase=0.4).head
    image = torch.ones(500, 1, 50, 60)
    assert torch.equal(head.picture(image), image)
    torch.manual_seed(0)
    lost = head.train().picture(image)[:, 0] == 0
    assert 0.3 < lost.flatten(1).any(1).float().mean() < 0.5
    for one in lost[lost.flatten(1).any(1)]:
        rows, columns = one.any(1), one.any(0)
        assert torch.equal(one, rows[:, None] & columns)
        for seen in (rows, columns):
            assert 0.2 - 1 / 50 <= seen.float().mean() <= 0.5 + 1 / 50
            assert seen.nonzero().flatten().diff().eq(1).all()  # in one piece


@pytest.mark.parametrize("name", ["graph_res", "graph_grid", "graph_histogram"])
def test_with_root_weight_an_event_without_neighbours_says_its_polarity(name: str) -> None:
    graph = GraphConfig(window=100_000)
    on, off = (build_graph(make_events([0], [5], [5], [p]), graph) for p in (1, 0))
    for root_weight in (False, True):
        module = randomize(network(name, dataset="ncars", root_weight=root_weight), 0)
        blocks = module.event_blocks
        features = [blocks(data.x, data.edge_index, data.edge_attr) for data in (on, off)]
        assert torch.equal(*features) is not root_weight


def test_graph_grid_sees_single_pixels_of_a_small_sensor_and_leaves_out_features_in_training_only() -> None:
    small = network("graph_grid", dataset="nmnist", dropout=0.5)
    assert small.grid.shape == (34, 34)
    assert network("graph_grid", dataset="ncars").grid.shape == (60, 50)
    grid = torch.rand(1, 32, 34, 34)
    assert torch.equal(small.head(grid), small.head(grid))
    small.head.train()
    for module in small.head.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    assert not torch.equal(small.head(grid), small.head(grid))


@pytest.mark.parametrize(
    ("sensor", "cells", "grid"),
    [
        ((160, 120), (80, 60), (20, 15)),
        ((346, 260), (173, 130), (44, 33)),
        ((161, 119), (81, 60), (21, 15)),
        ((1280, 720), (640, 360), (160, 90)),
        ((1, 1), (1, 1), (1, 1)),
    ],
)
def test_graph_grid_has_cells_of_eight_pixels_on_any_sensor(
    sensor: tuple[int, int], cells: tuple[int, int], grid: tuple[int, int]
) -> None:
    module = network("graph_grid", dataset="simulated", task="detection", sensor=sensor, voxel=(2, 2))
    assert (module.grid.size, module.grid.shape, module.stride) == ((2.0, 2.0), cells, (8.0, 8.0))
    with torch.no_grad():
        output = module(build_graph(make_events([0], [sensor[0] - 1], [sensor[1] - 1], [1]), GraphConfig()))
    assert output.shape == (1, grid[1], grid[0], 7)
    boxes = module.predictions(torch.zeros_like(output)).boxes[0]
    assert boxes[-1].tolist() == [8 * (grid[0] - 1), 8 * (grid[1] - 1), 8 * grid[0], 8 * grid[1]]
    output[..., 4], output[0, -1, -1, 4] = -20.0, 20.0
    output[..., :4] = 0
    (found,) = module.detections(output)
    assert (found["x"] + found["w"]).tolist() == [sensor[0]]  # clipped there
    assert (found["y"] + found["h"]).tolist() == [sensor[1]]


def test_a_flat_head_divides_its_sensor_evenly() -> None:
    module = network("graph_res", dataset="simulated", task="detection", sensor=(100, 90))
    assert module.stride is None
    assert not module.fits_any_sensor
    assert module.predictions(torch.zeros(1, 6, 8, 7)).boxes[0, -1].tolist() == [87.5, 75, 100, 90]


def test_options_cannot_have_the_names_of_what_a_network_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would become what is told: another task, or another number of classes."""

    def anything(num_classes: int, dataset: str = "mine", **options: int) -> nn.Module:
        return nn.Linear(1, num_classes)

    monkeypatch.setitem(NETWORKS._values, "anything", anything)
    check_options("anything", {"colour": 1})
    for name in ("task", "num_classes", "sensor", "dim", "size", "dataset", "name"):
        with pytest.raises(ValueError, match=rf"network anything has no option {name}, known are \*\*$"):
            check_options("anything", {"colour": 1, name: 1})
