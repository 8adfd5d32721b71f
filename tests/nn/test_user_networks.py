# SPDX-License-Identifier: Apache-2.0
"""Networks and data sets of other packages: found by name or path, imported only if somebody says so, run live."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from aegnn_core import GraphConfig, build_graph, load_model, make_model_asynchronous, network, save_model
from aegnn_core.datasets import open_dataset
from aegnn_core.datasets.event_dataset import FORMATS
from aegnn_core.datasets.labelled_recording import read_labelled_recording
from aegnn_core.evaluation.model_answers import DenseAnswers
from aegnn_core.events import make_events
from aegnn_core.nn import DATASETS, NETWORKS, TrainedModel
from aegnn_core.nn.checkpoint import for_sensor, restore
from aegnn_core.registry import Registry
from tests.datasets.tiny_datasets import aer_bytes, random_rows, write
from tests.nn.user_package import forget_user_package, install_user_package

GRAPH = GraphConfig(max_neighbors=8, window=20_000, expiry="graph")
PATH = "their_package.models:"


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is installed, and all that this process knows of it is forgotten afterwards."""
    install_user_package(tmp_path / "site", monkeypatch)


def test_an_installed_package_adds_networks_and_data_sets_that_are_imported_when_they_are_asked_for(
    tmp_path: Path,
) -> None:
    assert "their_classifier" in NETWORKS
    assert "letters" in FORMATS
    assert "their_package.models" not in sys.modules
    module = network("their_classifier", sensor=(34, 34), num_classes=2, hidden=4)
    assert module.module.head.weight.shape == (2, 4)
    for letter in "ab":
        write(tmp_path / "letters" / "test" / letter / "1.bin", aer_bytes(*random_rows(1, 50, 9_000, 34, 34)))
    dataset = open_dataset("letters", "test", task="recognition", root=tmp_path)
    assert [(item.label, len(item.stream.events)) for item in (dataset[0], dataset[1])] == [(0, 50), (1, 50)]
    with pytest.raises(ValueError, match=r"network their_package\.lost:Network cannot be imported, ModuleNotFound"):
        network("their_lost", dataset="ncars")


def test_a_package_that_is_broken_does_not_stand_in_the_way_of_a_recording(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 2 3 1\n2 3 4 0\n")
    with pytest.warns(
        UserWarning, match=r"data set their_package\.lost:LETTERS cannot be imported.* are not looked for"
    ):
        recording = read_labelled_recording(tmp_path / "a.txt", columns="txyp")
    assert len(recording.stream.events) == 2
    with pytest.raises(ValueError, match="topic='/events' is not for this format"):
        read_labelled_recording(tmp_path / "a.txt", "/events")


def test_a_decorator_adds_what_it_stands_before_unless_the_name_is_taken() -> None:
    registry: Registry[object] = Registry("network", "nobody.s_group", {"own": 1})

    @registry.register("mine")
    def mine() -> None: ...

    assert list(registry) == ["own", "mine"]
    assert registry["mine"] is mine
    with pytest.raises(ValueError, match="there is a network own already, expected another name"):
        registry.register("own")(2)

    def again() -> None: ...

    again.__qualname__ = mine.__qualname__  # as where a cell of a notebook is run once more
    assert registry.register("mine")(again) is registry["mine"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("their_package.models:Nothing", "cannot be imported, AttributeError: .*Nothing"),
        ("their_packages.models:Classifier", "expected their_packages.models to be installed, or in .* PYTHONPATH"),
        ("their_package.models:NUMBER", "their_package.models:NUMBER .*int.*, expected a call that makes"),
        ("their_package.models:broken", r"broken\(num_classes=2\) cannot be made: RuntimeError: no such weights"),
        ("their_package.models:misshapen", r"Classifier gives \(1, 3\) for 1 graph and 2 classes, expected \[B, class"),
    ],
)
def test_what_is_no_network_is_refused_in_a_sentence(tmp_path: Path, name: str, message: str) -> None:
    architecture = {"name": name, "dataset": "ncars"}
    description = {"version": 1, "architecture": architecture, "graph": {}, "labels": ["a", "b"], "training": {}}
    with pytest.raises(ValueError, match=message):
        restore(description, {}, tmp_path / "theirs.safetensors", trust_code=True)


@pytest.mark.parametrize(("kind", "task"), [("Classifier", "recognition"), ("Detector", "detection")])
def test_a_file_names_the_code_which_is_imported_only_if_trusted_and_its_network_runs_live(
    tmp_path: Path, kind: str, task: str
) -> None:
    file = tmp_path / "theirs.safetensors"
    NETWORKS.trust(PATH + kind)
    architecture = {"name": PATH + kind, "dataset": "gen1", "task": task, "sensor": [64, 48]}
    trained = TrainedModel(network(**architecture), GRAPH, ("car", "pedestrian"), "theirs", architecture)
    save_model(file, trained)
    forget_user_package()
    with pytest.raises(ValueError, match=f"theirs.safetensors has the network {PATH}{kind} of another package, whose"):
        load_model(file)
    with pytest.raises(
        ValueError, match=f"{PATH}{kind} .* pass trust_code='their_package', --trust-code their_package"
    ):
        load_model(file, trust_code=["their_pack", "their_package.models.more"])
    assert "their_package.models" not in sys.modules
    model = load_model(file, trust_code="their_package")
    with pytest.raises(ValueError, match=r"model theirs does not say .* than its 64 x 48 px"):
        load_model(file, sensor=(80, 60))

    rng = np.random.default_rng(0)
    x, y, p = (rng.integers(0, top, 600) for top in (64, 48, 2))
    events = make_events(np.sort(rng.integers(0, 60_000, 600)), x, y, p)
    live = make_model_asynchronous(model.network, model.graph)
    assert (live.engine_name, live.graph) == ("incremental", GRAPH)
    for end in (0, 1, 250, 600):
        live.update(events[len(live) : end])
        with torch.no_grad():
            expected = trained.network(build_graph(events[:end], GRAPH))
        torch.testing.assert_close(live.output(), expected, rtol=1e-4, atol=1e-5)
    scores = model.network.class_scores(live.output(10**6))  # all events have left
    assert float(scores.max()) <= (0.5 if task == "recognition" else 1e-6)
    with pytest.raises(ValueError, match="x must be below the sensor's 64 px"):
        live.update(make_events([10**6], [64], [0], [1]))


def test_a_network_without_weights_answers_on_any_sensor() -> None:
    NETWORKS.trust(PATH + "Fixed")
    architecture = {"name": PATH + "Fixed", "dataset": "ncars", "sensor": [64, 48]}
    fixed = TrainedModel(network(**architecture), GRAPH, ("car", "background"), "fixed", architecture)
    model = for_sensor(fixed, (80, 60))
    assert (model.width, model.height) == (80, 60)
    (output,) = DenseAnswers(model)(make_events([10, 20], [1, 2], [3, 3], [0, 1]), [20])
    assert output.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("name", sorted(DATASETS.keys() & FORMATS.keys()))
def test_there_are_networks_for_all_tasks_that_a_data_set_has_labels_for(name: str) -> None:
    assert set(FORMATS[name].tasks) <= DATASETS[name].classes.keys()
