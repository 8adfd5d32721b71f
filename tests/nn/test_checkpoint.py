"""Model files carry all that their use needs, and say what is wrong with them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from aegnn_core import GraphConfig, load_model, make_model_asynchronous, network, save_model
from aegnn_core.nn import TrainedModel, packaged_models
from aegnn_core.nn.checkpoint import describe
from tests.nn.networks import randomize

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
    with pytest.raises(ValueError, match="device 'warp' is not available here, there is cpu"):
        load_model(path, device="warp")


@pytest.mark.parametrize("name", ["scenes_detector", "scenes_recognizer", "nmnist", "nmnist_anytime"])
def test_packaged_models_load_and_are_small(name: str) -> None:
    assert name in packaged_models()
    model = load_model(name)
    assert model.training["seed"] >= 0
    path = Path(__file__).parents[2] / "aegnn_core" / "weights" / f"{name}.safetensors"
    assert path.stat().st_size < 2_000_000
