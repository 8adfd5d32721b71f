"""Model files carry all that their use needs, and say what is wrong with them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aegnn_core import GraphConfig, load_model, make_model_asynchronous, network, save_model
from aegnn_core.nn import TrainedModel, packaged_models
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
    save_model(path, TrainedModel(network("graph_res", dataset="nmnist"), GRAPH, ("a",), "x", ARCHITECTURE))
    with pytest.raises(ValueError, match="does not fit its own architecture"):
        load_model(path)


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
