# SPDX-License-Identifier: Apache-2.0
"""Model files carry all that their use needs, and say what is wrong with them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from aegnn_core import GraphConfig, build_graph, load_model, make_model_asynchronous, network, save_model
from aegnn_core.events import make_events
from aegnn_core.nn import TrainedModel, packaged_models
from aegnn_core.nn.checkpoint import describe
from tests.nn.random_networks import randomize

ARCHITECTURE = {"name": "graph_res", "dataset": "ncars", "task": "recognition", "dim": 2, "sensor": [64, 48]}
GRAPH = GraphConfig(radius=2.0, window=30_000)


@pytest.fixture
def trained() -> TrainedModel:
    return TrainedModel(
        randomize(network(**ARCHITECTURE), 0), GRAPH, ("car", "other"), "mine", ARCHITECTURE, {"seed": 3}
    )


def test_a_saved_model_comes_back_whole(tmp_path: Path, trained: TrainedModel) -> None:
    save_model(tmp_path / "new" / "mine.safetensors", trained)
    loaded = load_model(tmp_path / "new" / "mine.safetensors")
    assert (loaded.graph, loaded.labels, loaded.name, loaded.training) == (GRAPH, ("car", "other"), "mine", {"seed": 3})
    assert (loaded.task, loaded.width, loaded.height) == ("recognition", 64, 48)
    for (name, a), b in zip(loaded.network.state_dict().items(), trained.network.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert not loaded.network.training


def test_a_model_for_another_graph_is_refused(tmp_path: Path, trained: TrainedModel) -> None:
    path = tmp_path / "mine.safetensors"
    save_model(path, trained)
    with pytest.raises(ValueError, match=r"another graph configuration: radius 2.0 vs 3.0 \(model, expected\)"):
        load_model(path, graph=GraphConfig(radius=3.0, window=30_000))
    model = load_model(path, graph=GRAPH)
    with pytest.raises(ValueError, match=r"trained with graph radius = 2.0, found radius = 3.0"):
        make_model_asynchronous(model.network, GraphConfig(radius=3.0))
    assert make_model_asynchronous(model.network).graph == GRAPH


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x80\x04\x95pickle", bytes(4096)])
def test_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.safetensors is not a readable safetensors file"):
        load_model(path)


def test_a_truncated_file_is_refused(tmp_path: Path, trained: TrainedModel) -> None:
    path = tmp_path / "mine.safetensors"
    save_model(path, trained)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_model(path)


def test_other_safetensors_and_other_versions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="has no aegnn header"):
        load_model(path)
    save_file({"w": torch.zeros(1)}, path, metadata={"aegnn": json.dumps({"version": 99})})
    with pytest.raises(ValueError, match="format version 99, this package reads 1"):
        load_model(path)


@pytest.mark.parametrize(
    "header",
    [
        "{",
        "[]",
        "{}",
        '{"version": 1}',
        '{"version": 1, "graph": {"radios": 3}}',
        '{"version": 1, "graph": {}, "architecture": {"name": 5}}',
    ],
)
def test_damaged_headers_are_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "bad.safetensors"
    save_file({"w": torch.zeros(1)}, path, metadata={"aegnn": header})
    with pytest.raises(ValueError, match=r"bad\.safetensors has an aegnn header that does not describe a model"):
        load_model(path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, trained: TrainedModel) -> None:
    path = tmp_path / "mine.safetensors"
    save_model(path, TrainedModel(network("graph_res", dataset="nmnist"), GRAPH, ("a", "b"), "x", ARCHITECTURE))
    with pytest.raises(ValueError, match="does not fit its own architecture"):
        load_model(path)


def hostile(path: Path, trained: TrainedModel, change: dict[str, Any], weights: dict[str, Any] | None = None) -> None:
    """Write a model file with other parts."""
    description = {**describe(trained), **change}
    state = {**trained.network.state_dict(), **(weights or {})}
    save_file(state, path, metadata={"aegnn": json.dumps(description)})


@pytest.mark.parametrize(
    "labels",
    [[], ["car"], ["a", "b", "c"], [1, 2], [None, None], ["a", ""], ["a", "a\nb"], ["a", "x" * 10**6], "ab", {}, 7],
)
def test_labels_that_do_not_fit_the_classes_are_refused(tmp_path: Path, trained: TrainedModel, labels: Any) -> None:
    hostile(tmp_path / "bad.safetensors", trained, {"labels": labels})
    with pytest.raises(ValueError, match=r"bad\.safetensors has an aegnn header .*label.*found") as caught:
        load_model(tmp_path / "bad.safetensors")
    assert len(str(caught.value)) < 1_000
    with pytest.raises(ValueError, match=r"label.*found"):
        save_model(tmp_path / "mine.safetensors", replace(trained, labels=labels))
    assert not (tmp_path / "mine.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": {**ARCHITECTURE, "num_classes": 10**12}}, "labels must be a list of one for each"),
        ({"architecture": {**ARCHITECTURE, "sensor": [10**9, 10**9]}}, "at most 4096 a side"),
        ({"architecture": {**ARCHITECTURE, "voxel": [1e-6, 1e-6]}}, "cells, at most"),
        ({"architecture": {**ARCHITECTURE, "name": "graph_grid", "width": 10**6}}, "parameters are|expected"),
        ({"architecture": {**ARCHITECTURE, "sensor": [None, {}]}}, "does not describe a model"),
        ({"architecture": {**ARCHITECTURE, "dim": [[]]}}, "does not describe a model"),
        ({"architecture": 5}, "does not describe a model"),
        ({"graph": {"radius": 3_000.0}}, "radius must be at most 100, found 3000"),
        ({"graph": {"max_neighbors": 10**6}}, "max_neighbors must be at most 1024"),
        ({"graph": {"window": 2**63}}, "window must be at most"),
        ({"graph": {"max_nodes": 1e400}}, "max_nodes must be a whole number"),
        ({"version": [1]}, "format version"),
    ],
)
def test_what_no_model_can_be_is_refused_before_it_takes_memory(
    tmp_path: Path, trained: TrainedModel, change: dict[str, Any], message: str
) -> None:
    hostile(tmp_path / "bad.safetensors", trained, change)
    with pytest.raises(ValueError, match=rf"bad\.safetensors .*({message})"):
        load_model(tmp_path / "bad.safetensors")


NORM, WEIGHT = "event_blocks.0.norm.running_var", "event_blocks.0.conv.weight"


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        (WEIGHT, lambda value: value.to(torch.complex64), "is torch.complex64, expected torch.float32"),
        (WEIGHT, lambda value: value.to(torch.int8), "is torch.int8, expected torch.float32"),
        (WEIGHT, lambda value: value * float("inf"), "not finite"),
        (WEIGHT, lambda value: value[:-1].clone(), r"expected \[4, 1, 8\]"),
        (NORM, lambda value: -value, "is a variance, found -"),
        ("extra", lambda value: torch.zeros(1), "1 parameters are unknown, extra for one"),
    ],
)
def test_weights_that_no_network_has_are_refused(
    tmp_path: Path, trained: TrainedModel, name: str, make: Callable[[Any], Any], message: str
) -> None:
    weights = {name: make(trained.network.state_dict().get(name))}
    hostile(tmp_path / "bad.safetensors", trained, {}, weights)
    with pytest.raises(ValueError, match=rf"bad\.safetensors does not fit its own architecture .*: .*{message}"):
        load_model(tmp_path / "bad.safetensors")


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(1)}, tmp_path / "bad.safetensors", metadata={"aegnn": "[" * 10**5})
    with pytest.raises(ValueError, match=r"bad\.safetensors has an aegnn header that does not describe a model"):
        load_model(tmp_path / "bad.safetensors")


def test_a_name_that_could_not_be_loaded_is_not_saved_to(tmp_path: Path, trained: TrainedModel) -> None:
    with pytest.raises(ValueError, match=r"a model file must end in \.safetensors, found .*m\.bin"):
        save_model(tmp_path / "m.bin", trained)
    assert not list(tmp_path.iterdir())


def test_unknown_names_paths_and_devices_are_refused(tmp_path: Path, trained: TrainedModel) -> None:
    with pytest.raises(ValueError, match=r"unknown model 'nothing'.*scenes_detector"):
        load_model("nothing")
    with pytest.raises(ValueError, match=r"no model file at .*nothing\.safetensors"):
        load_model(tmp_path / "nothing.safetensors")
    path = tmp_path / "mine.safetensors"
    save_model(path, trained)
    for device in ("warp", "", "meta", "hpu"):
        with pytest.raises(ValueError, match=f"device '{device}' is not available here, there is cpu"):
            load_model(path, device=device)


@pytest.mark.parametrize(
    "name",
    [
        "scenes_detector",
        "scenes_graph_detector",
        "scenes_recognizer",
        "ncars",
        "ncars_graph",
        "nmnist",
        "nmnist_anytime",
    ],
)
def test_packaged_models_load_and_are_small(name: str) -> None:
    assert name in packaged_models()
    model = load_model(name)
    assert all(made["seed"] >= 0 for made in model.training.get("joined", [model.training]))
    path = Path(__file__).parents[2] / "aegnn_core" / "weights" / f"{name}.safetensors"
    assert path.stat().st_size < 10_000_000


def test_files_with_ages_in_pixels_of_the_time_axis_have_them_in_microseconds() -> None:
    model = load_model("nmnist")
    assert model.network.grid.least_ages == (105_000, 210_000)
    assert "age" not in model.architecture


def test_weights_of_16_bits_take_half_the_room_and_are_nearly_the_same(trained: TrainedModel, tmp_path: Path) -> None:
    save_model(tmp_path / "whole.safetensors", trained)
    save_model(tmp_path / "half.safetensors", trained, half=True)
    whole, half = (load_model(tmp_path / f"{name}.safetensors").network.state_dict() for name in ("whole", "half"))
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "whole.safetensors").stat().st_size
    for name, value in whole.items():
        assert half[name].dtype == value.dtype
        torch.testing.assert_close(half[name], value, rtol=1e-3, atol=1e-6)


def test_numbers_that_16_bits_cannot_hold_are_written_in_32(trained: TrainedModel, tmp_path: Path) -> None:
    """As the variances of counts in a long window."""
    path = tmp_path / "half.safetensors"
    trained.network.state_dict()[NORM].fill_(1e5)
    save_model(path, trained, half=True)
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor(NORM).dtype == torch.float32
        assert file.get_tensor(WEIGHT).dtype == torch.float16
    assert load_model(path).network.state_dict()[NORM].unique().tolist() == [1e5]


@pytest.mark.parametrize("half", [False, True])
def test_weights_that_could_not_be_loaded_are_not_saved(trained: TrainedModel, tmp_path: Path, half: bool) -> None:
    path = tmp_path / "mine.safetensors"
    save_model(path, trained, half=half)
    before = path.read_bytes()
    trained.network.state_dict()[WEIGHT].view(-1)[1] = float("nan")
    with pytest.raises(ValueError, match=rf"model mine cannot be saved to .*: {WEIGHT} holds values that are not fin"):
        save_model(path, trained, half=half)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def patch_of_events(seed: int, at: tuple[int, int]) -> np.ndarray:
    """3000 events in 40 ms on 64 x 48 px at a place."""
    rng = np.random.default_rng(seed)
    x, y, p = (rng.integers(0, top, 3000) for top in (64, 48, 2))
    return make_events(np.sort(rng.integers(0, 40_000, 3000)), x + at[0], y + at[1], p)


@pytest.mark.parametrize("engine", ["compiled", "packet", "dense"])
def test_a_detector_finds_the_same_on_sensors_of_any_size(engine: str) -> None:
    """Away from the rims, and moved by whole strides; neither size is a multiple of them."""
    found = []
    for sensor, at in (((301, 262), (112, 96)), ((346, 303), (144, 128))):
        model = load_model("scenes_graph_detector", sensor=sensor)
        assert (model.width, model.height) == sensor
        live = make_model_asynchronous(model.network, engine=engine)
        live.update(patch_of_events(0, at))
        with torch.no_grad():
            output = live.output()
            torch.testing.assert_close(
                output, model.network(build_graph(patch_of_events(0, at), model.graph)), rtol=1e-4, atol=1e-4
            )
        boxes = model.network.predictions(output).boxes[0].view(*output.shape[1:3], 4)
        column, row = at[0] // 8, at[1] // 8
        middle = boxes[row : row + 6, column : column + 8] - torch.tensor([*at, *at])
        scores = model.network.predictions(output).scores()[0].view(*output.shape[1:3], 2)
        found.append((middle, scores[row : row + 6, column : column + 8]))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)


def test_a_model_for_another_sensor_is_saved_and_comes_back_as_that(tmp_path: Path) -> None:
    model = load_model("scenes_detector", sensor=(346, 260))
    save_model(tmp_path / "street.safetensors", model)
    loaded = load_model(tmp_path / "street.safetensors")
    assert (loaded.width, loaded.height, loaded.network.stride) == (346, 260, (8.0, 8.0))
    assert loaded.graph == load_model("scenes_detector").graph == model.network.graph
    back = load_model(tmp_path / "street.safetensors", sensor=(160, 120)).network
    original = load_model("scenes_detector").network
    events = patch_of_events(1, (40, 30))
    with torch.no_grad():
        graph = build_graph(events, model.graph)
        assert torch.equal(back(graph), original(graph))
    assert load_model("scenes_detector", sensor=(160, 120)).architecture == load_model("scenes_detector").architecture


def test_a_recogniser_keeps_its_voxels_on_another_sensor() -> None:
    """Of 1 px, although a network for so many pixels would have had 2 px."""
    model = load_model("nmnist", sensor=(101, 77))
    assert (model.network.grid.size, model.network.grid.shape) == ((1.0, 1.0), (101, 77))
    with torch.no_grad():
        assert model.network(build_graph(patch_of_events(2, (30, 20)), model.graph)).shape == (1, 10)


@pytest.mark.parametrize("task", ["recognition", "detection"])
def test_a_network_with_weights_for_places_stays_on_its_sensor(tmp_path: Path, task: str) -> None:
    architecture = {"name": "graph_res", "dataset": "simulated", "task": task}
    labels = ("a", "b", "c")[: 3 if task == "recognition" else 2]
    save_model(tmp_path / "flat.safetensors", TrainedModel(network(**architecture), GRAPH, labels, "x", architecture))
    assert load_model(tmp_path / "flat.safetensors", sensor=(160, 120)).width == 160
    with pytest.raises(ValueError, match=r"model flat has a fully connected head.* a sensor of 320 x 240 px"):
        load_model(tmp_path / "flat.safetensors", sensor=(320, 240))


@pytest.mark.parametrize("sensor", [(0, 120), (-5, 3), (160,), (1.5, 2), ("a", "b"), (True, 9), (4097, 10), (10**9, 1)])
def test_a_sensor_that_is_none_is_refused(sensor: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"sensor must be a width and a height of at least 1 px|sensor is .* at most"):
        load_model("scenes_detector", sensor=sensor)


def test_a_live_state_belongs_to_one_sensor() -> None:
    """Though the grids have the same cells, 80 x 60."""
    one, other = (
        make_model_asynchronous(load_model("scenes_detector", sensor=sensor).network)
        for sensor in ((160, 120), (159, 119))
    )
    one.update(patch_of_events(3, (20, 20)))
    with pytest.raises(ValueError, match="state: it is for another model"):
        other.load_state_dict(one.state_dict())
