# SPDX-License-Identifier: Apache-2.0
"""Training learns, gives a model file that is ready for use, and refuses what it cannot do."""

import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")

import numpy as np
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from aegnn_core import GraphConfig, build_graph, load_model, make_model_asynchronous, network
from aegnn_core.asynchronous.cuda.edge_finder import EdgeFinder
from aegnn_core.cli import main
from aegnn_core.datasets import EventDataset, MissingFilesError, open_dataset
from aegnn_core.datasets.one_megapixel import ONE_MEGAPIXEL
from aegnn_core.datasets.samples import EventSample, EventSamples
from aegnn_core.datasets.simulated import HELD_OUT_SEED, SimulatedRecordings, SimulatedSamples, mixed
from aegnn_core.events.simulation import simulate_scene
from aegnn_core.nn.checkpoint import TrainedModel, save_model
from aegnn_core.nn.detection import DETECTION_DTYPE
from aegnn_core.training.learning.learner import GraphLearner
from aegnn_core.training.samples import data_module
from aegnn_core.training.samples.augmentation import Augmentation
from aegnn_core.training.samples.data_module import open_training
from aegnn_core.training.samples.pooled_features import PooledFeatures
from aegnn_core.training.samples.recorded_samples import ChangedRecordings, CountedSamples, RecordedSamples
from aegnn_core.training.settings import TrainSettings, default_graph
from aegnn_core.training.train import _learner, train
from aegnn_core.triton_support import interpreted
from tests.datasets.tiny_datasets import aer_bytes, random_rows, write, write_ncars
from tests.nn.user_package import forget_user_package, install_user_package

#: The rule for detection, which has a window.
GRAPH = default_graph("simulated", "detection")


def train_(output: Path, **values: Any) -> TrainedModel:
    """Train without validation to the file ``output``."""
    settings = {"network": "graph_grid", "task": "recognition", "validate_every": 0, "num_workers": 0, "batch_size": 2}
    return train(TrainSettings(**{**settings, **values}), output.parent / "run" / "version_0", output)


@pytest.mark.parametrize(("task", "labels"), [("detection", 2), ("recognition", 3)])
def test_a_few_steps_give_a_model_that_runs_live(tmp_path: Path, task: str, labels: int) -> None:
    path = tmp_path / "tiny.safetensors"
    trained = train_(path, task=task, steps=2, seed=5)
    loaded = load_model(path)
    assert (loaded.task, len(loaded.labels), loaded.graph) == (task, labels, trained.graph)
    settings = TrainSettings.from_dict(loaded.training)
    assert (settings.task, settings.steps, settings.seed, settings.graph) == (task, 2, 5, loaded.graph)
    live = make_model_asynchronous(loaded.network)
    events = simulate_scene(0).stream.events[:500]
    live.update(events[(events["x"] < loaded.width) & (events["y"] < loaded.height)])
    assert loaded.network.class_scores(live.output()).shape == (1, labels)


@pytest.mark.parametrize("task", ["detection", "recognition"])
@pytest.mark.parametrize("name", ["histogram", "graph_histogram"])
def test_networks_that_count_are_trained_like_others(tmp_path: Path, name: str, task: str) -> None:
    options = {"least_ages": [10_000, 30_000]}
    trained = train_(tmp_path / "tiny.safetensors", network=name, task=task, steps=2, scenes=1, options=options)
    assert trained.network.counts.least_ages == (10_000, 30_000)
    events = simulate_scene(0).stream.events[:4000]
    events = events[(events["x"] < trained.width) & (events["y"] < trained.height)]
    live = make_model_asynchronous(trained.network)
    live.update(events)
    with torch.no_grad():
        difference = live.output() - trained.network(build_graph(events, trained.graph))
    assert float(difference.abs().max()) < 1e-4
    # What only counts has the fewest edges that there can be.
    assert (trained.graph.max_neighbors == 1) == (name == "histogram")


def test_street_scenes_are_learned_from_all_that_ncars_does_not_test_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path / "data"))
    settings: dict[str, Any] = {"network": "histogram", "task": "detection", "dataset": "ncars_scenes", "scenes": 1}
    with pytest.raises(MissingFilesError, match="data set ncars"):
        train_(tmp_path / "none" / "x.safetensors", steps=1, **settings)
    for split in ("training", "validation"):
        write_ncars(tmp_path / "data", split)
    trained = train_(tmp_path / "street.safetensors", steps=2, **settings)
    assert (trained.labels, trained.width, trained.height) == (("car", "pedestrian"), 160, 120)
    with pytest.raises(ValueError, match="ncars_scenes are for detection, found recognition"):
        train_(tmp_path / "other" / "x.safetensors", steps=1, **{**settings, "task": "recognition"})


def test_the_split_validation_can_be_learned_from(nmnist: Path) -> None:
    settings = TrainSettings(
        network="histogram", task="recognition", dataset="nmnist", use_validation=True, validate_every=0
    )
    assert len(open_training(settings)) == 20
    with pytest.raises(ValueError, match="use_validation is for recordings and leaves none to validate on"):
        train(replace(settings, validate_every=5), nmnist / "run", nmnist / "x.safetensors")


@pytest.mark.skipif(find_spec("triton") is None or not interpreted(), reason="needs Triton, and TRITON_INTERPRET=1")
def test_edges_found_on_the_device_teach_the_same(nmnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: loaders give nodes, and edges are found where the network runs."""
    settings = {"dataset": "nmnist", "network": "graph_grid", "steps": 1, "batch_size": 1, "seed": 3}
    expected = train_(nmnist / "cpu" / "x.safetensors", **settings)
    found: list[int] = []

    class Finder(EdgeFinder):
        def _edges_on_device(self, nodes: Data) -> tuple[torch.Tensor, torch.Tensor]:
            edges = super()._edges_on_device(nodes)
            found.append(edges[0].shape[1])
            return edges

    monkeypatch.setattr(
        data_module, "_edge_finder", lambda model, device: Finder(model.graph, model.network.sensor, device)
    )
    trained = train_(nmnist / "device" / "x.safetensors", **settings)
    assert min(found) > 0
    assert len(found) == 2  # once for the comparison with the CPU
    for one, other in zip(trained.network.parameters(), expected.network.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_options_of_the_network_are_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--steps", "1", "--batch-size", "1", "--num-workers", "0", "--validate-every", "0", "--scenes", "1"]
    common = ["train", "graph_grid", "--task", "detection", *size, "--output", str(tmp_path / "tiny.safetensors")]
    assert main([*common, "--option", "voxel=[4, 4]", "--option", "width=16"]) == 0
    assert load_model(tmp_path / "tiny.safetensors").network.grid.size == (4.0, 4.0)
    for option, message in (
        ("voxel", "--option is 'voxel', expected NAME=VALUE"),
        ("voxel=[4", "expected a value as in YAML"),
        ("colour=3", "network graph_grid has no option colour, known are voxel, width"),
    ):
        assert main([*common, "--option", option]) == 2
        assert message in capsys.readouterr().err


def test_the_command_trains(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    size = ["--steps", "1", "--batch-size", "1", "--num-workers", "0", "--validation-samples", "1"]
    assert main(["train", "graph_res", "--task", "recognition", "--output", str(path), *size, "--seed", "7"]) == 0
    assert load_model(path).training["seed"] == 7


@pytest.mark.parametrize("task", ["detection", "recognition"])
def test_the_loss_falls_on_samples_seen_again_and_again(task: str) -> None:
    torch.manual_seed(0)
    sensor = (160, 120) if task == "detection" else (120, 100)
    samples = iter(SimulatedSamples(task, GRAPH, seed=3))
    (batch,) = DataLoader([next(samples) for _ in range(3)], batch_size=3)
    module = network("graph_grid", dataset="simulated", task=task, sensor=sensor).train()
    learner = GraphLearner(TrainedModel(module, GRAPH, (), "tiny", {}), 3e-3, 30)
    learner.log = learner.log_dict = lambda *_, **__: None  # type: ignore[method-assign]  # no trainer is attached
    optimizer = torch.optim.AdamW(learner.parameters(), 5e-3)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = learner.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_samples_are_fixed_by_the_seed_and_mirrored_boxes_follow_their_events() -> None:
    first, again, other = (iter(SimulatedSamples("detection", GRAPH, seed)) for seed in (1, 1, 2))
    a, b, c = next(first), next(again), next(other)
    assert torch.equal(a.pos, b.pos)
    assert torch.equal(a.boxes, b.boxes)
    assert a.pos.shape != c.pos.shape or not torch.equal(a.pos, c.pos)
    denser = 0
    for _ in range(12):
        sample = next(first)
        assert bool((sample.boxes[:, 2:] > sample.boxes[:, :2]).all())
        live = sample.pos[sample.live]
        for x0, y0, x1, y1 in sample.boxes.tolist():
            inside = (live[:, 0] >= x0) & (live[:, 0] < x1) & (live[:, 1] >= y0) & (live[:, 1] < y1)
            share = (x1 - x0) * (y1 - y0) / (160 * 120)
            denser += 1 if float(inside.float().mean()) > share else -1
    assert denser > 0


def test_training_can_take_over_the_event_layers_of_a_model(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    taken = load_model("scenes_graph_detector").network.event_blocks.state_dict()
    common: dict[str, Any] = {"event_layers": "scenes_graph_detector", "options": {"root_weight": True}}
    trained = train_(path, steps=2, **common)
    for name, value in trained.network.event_blocks.state_dict().items():
        assert torch.equal(value, taken[name]), name
    assert trained.training["event_layers"] == "scenes_graph_detector"
    untrained = network("graph_grid", dataset="simulated", sensor=(120, 100)).head.state_dict()
    assert not torch.equal(trained.network.head.state_dict()["linear.weight"], untrained["linear.weight"])
    with pytest.raises(ValueError, match="other shapes than the network's"):
        train_(tmp_path / "other" / "x.safetensors", steps=1, **{**common, "options": {}})
    with pytest.raises(ValueError, match=r"trained with graph radius = 3.0, found radius = 2.0"):
        train_(tmp_path / "other" / "x.safetensors", steps=1, graph=GraphConfig(radius=2.0), **common)


def test_training_can_begin_with_the_weights_of_a_model(tmp_path: Path) -> None:
    options = {"least_ages": [20_000], "widths": [4, 4, 4, 4, 4]}
    common: dict[str, Any] = {"network": "histogram", "task": "detection", "scenes": 1, "options": options}
    first = train_(tmp_path / "first" / "model.safetensors", **common, steps=2)
    start = str(tmp_path / "first" / "model.safetensors")
    second = train_(tmp_path / "second" / "model.safetensors", **common, steps=2, start_from=start, learning_rate=1e-7)
    assert second.training["start_from"] == "model"
    trained = dict(second.network.named_parameters())
    for name, value in first.network.named_parameters():
        torch.testing.assert_close(trained[name], value, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="start_from: the weights of model are of another network"):
        train_(tmp_path / "third" / "model.safetensors", **{**common, "options": {}}, steps=2, start_from=start)

    other = tmp_path / "other.safetensors"
    save_model(other, replace(first, labels=("pedestrian", "car")))
    with pytest.warns(UserWarning, match="other tells pedestrian, car; .* of these will be said of car, pedestrian"):
        train_(tmp_path / "fourth" / "model.safetensors", **common, steps=1, start_from=str(other))


def test_a_recogniser_learns_the_answers_of_a_teacher_in_place_of_the_labels(nmnist: Path) -> None:
    common: dict[str, Any] = {"dataset": "nmnist", "batch_size": 10}
    counts = {"network": "histogram", "options": {"crop": [8, 8], "widths": [4, 4, 4, 4]}}
    taught_by = train_(nmnist / "counts" / "tiny.safetensors", steps=2, **common, **counts)
    teacher = str(nmnist / "counts" / "tiny.safetensors")
    first = train_(nmnist / "first" / "x.safetensors", steps=3, teacher=teacher, **common)
    assert first.training["teacher"] == "tiny"

    # The teacher sees what the pupil sees, without dropout, and stays as it is.
    settings = TrainSettings(network="graph_grid", task="recognition", teacher=teacher, **common)
    learner = _learner(settings, first, open_training(settings))
    learner.log_dict = lambda *_, **__: None  # type: ignore[method-assign]  # no trainer is attached
    samples = EventSamples(open_training(settings), first.graph, "recognition")
    batch = Batch.from_data_list([RecordedSamples(samples, None)[number] for number in range(4)])
    learner.training_step(batch, 0).backward()
    with torch.no_grad():
        answers = load_model(teacher).network(batch).log_softmax(1)
    first.network.train()
    torch.manual_seed(0)
    own = first.network(batch).log_softmax(1)
    torch.manual_seed(0)
    torch.testing.assert_close(learner.training_step(batch, 0), -(answers.exp() * own).sum(1).mean())
    names = [name for name, _ in learner.named_parameters()]
    assert all(name.startswith("network.") for name in names)
    assert not any("teacher" in name for name in learner.state_dict())
    for name, value in load_model(teacher).network.state_dict().items():
        assert torch.equal(value, taught_by.network.state_dict()[name]), name

    # So labels make no difference to what is learned.
    batch.y = 9 - batch.y
    torch.manual_seed(0)
    torch.testing.assert_close(learner.training_step(batch, 0), -(answers.exp() * own).sum(1).mean())


def test_a_teacher_has_the_classes_the_sensor_and_the_edges_of_its_pupil(nmnist: Path) -> None:
    common: dict[str, Any] = {"dataset": "nmnist", "steps": 1}
    graph = train_(nmnist / "graph" / "edges.safetensors", **common)
    teacher = str(nmnist / "graph" / "edges.safetensors")
    for values, message in (
        ({"teacher": "ncars"}, r"teacher: ncars has the labels \('car', 'background'\), expected \('0', '1',"),
        ({"teacher": "scenes_detector"}, "teacher: scenes_detector has the task detection, expected recognition"),
        ({"teacher": "nobody"}, "nobody"),
        ({"teacher": teacher, "dim": 2}, "teacher: edges has dim = 3, expected 2"),
        ({"teacher": teacher, "graph": replace(graph.graph, radius=2.0)}, "teacher: edges sees the same graphs: the"),
        ({"teacher": teacher, "dataset": "simulated"}, "teacher: edges has the labels"),
    ):
        with pytest.raises(ValueError, match=message):
            train_(nmnist / "other" / "x.safetensors", **{**common, **values})
    with pytest.raises(ValueError, match="a teacher is for recognition, found detection"):
        train_(nmnist / "other" / "x.safetensors", task="detection", steps=1, teacher=teacher)
    behind = {"recordings": 2, "event_layers": "scenes_graph_detector", "teacher": teacher}
    with pytest.raises(ValueError, match="a teacher is for samples that change, not for recordings behind"):
        train_(nmnist / "other" / "x.safetensors", steps=1, **behind)


def test_a_head_learns_from_features_that_are_computed_once(tmp_path: Path) -> None:
    """The figures would be those of new samples: features are the network's own, but for a shift and half precision."""
    path = tmp_path / "tiny.safetensors"
    source: dict[str, Any] = {"event_layers": "scenes_graph_detector", "options": {"root_weight": True}}
    model = train_(path, steps=5, num_workers=1, batch_size=3, recordings=4, **source)
    assert (model.training["recordings"], model.training["steps"]) == (4, 5)  # eight images: two passes
    taken = load_model("scenes_graph_detector").network.event_blocks.state_dict()
    assert all(torch.equal(value, taken[name]) for name, value in model.network.event_blocks.state_dict().items())
    recordings = SimulatedRecordings(model.graph, seed=1, recordings=4)
    features = PooledFeatures(model.network, recordings, workers=0, shift=0)
    graphs = [graph for number in range(4) for graph in recordings[number]]
    assert len(features) == len(graphs) == 8
    for (grid, label), graph in zip((features[n] for n in range(8)), graphs, strict=True):
        assert label == graph.y
        torch.testing.assert_close(model.network.head(grid[None]), model.network(graph), atol=2e-2, rtol=0)


def test_pooled_features_are_shifted_by_whole_cells() -> None:
    network_ = load_model("scenes_recognizer").network
    recordings = SimulatedRecordings(load_model("scenes_recognizer").graph, seed=2, recordings=1)
    (whole, _) = PooledFeatures(network_, recordings, workers=0, shift=0)[0]
    features = PooledFeatures(network_, recordings, workers=0, shift=2 / whole.shape[2])
    padded = torch.nn.functional.pad(whole, (2, 2, 2, 2))
    rows, columns = whole.shape[1:]
    places = {
        (down, right): padded[:, 2 - down : 2 - down + rows, 2 - right : 2 - right + columns]
        for down in range(-2, 3)
        for right in range(-2, 3)
    }
    torch.manual_seed(0)
    seen = set()
    for _ in range(40):
        grid, _ = features[0]
        (place,) = [where for where, shifted in places.items() if torch.equal(grid, shifted)]
        seen.add(place)
    assert len(seen) > 12


def test_recordings_are_fixed_by_the_seed_and_none_is_held_out() -> None:
    few, more, other = (SimulatedRecordings(GRAPH, seed, count) for seed, count in ((1, 2), (1, 9), (2, 2)))
    assert (len(few), len(more)) == (2, 9)
    image, opposite = few[1]
    assert torch.equal(image.pos, more[1][0].pos)
    assert other[1][0].pos.shape != image.pos.shape or not torch.equal(other[1][0].pos, image.pos)
    # The same recording, one image of it in the mirror, with opposite polarity.
    assert torch.equal(image.pos[:, 0], 119 - opposite.pos[:, 0])
    assert torch.equal(image.pos[:, 1:], opposite.pos[:, 1:])
    assert torch.equal(image.x, -opposite.x)
    with pytest.raises(ValueError, match=f"recordings must be from 1 to {HELD_OUT_SEED}, found 0"):
        SimulatedRecordings(GRAPH, 1, 0)


def test_the_command_trains_on_recordings(nmnist: Path) -> None:
    path = nmnist / "tiny.safetensors"
    size = ["--steps", "3", "--batch-size", "4", "--num-workers", "1", "--dim", "2", "--ages", "2", "--age", "5e4"]
    arguments = ["graph_grid", "--task", "recognition", "--dataset", "nmnist", "--output", str(path), *size]
    with pytest.warns(FutureWarning, match=r"deprecated, expected the network's option least_ages=\[50000\]"):
        assert main(["train", *arguments]) == 0
    loaded = load_model(path)
    assert (loaded.labels, loaded.width, loaded.height) == (tuple("0123456789"), 34, 34)
    assert (loaded.graph, loaded.network.dim) == (default_graph("nmnist", "recognition"), 2)
    assert loaded.network.grid.least_ages == (50_000,)
    first = {name: value.clone() for name, value in loaded.network.state_dict().items()}
    same = [*arguments[:-4], "--option", "least_ages=[50000]"]
    assert main(["train", *same]) == 0
    for name, value in load_model(path).network.state_dict().items():
        assert torch.equal(value, first[name]), name


def test_a_network_of_another_package_is_trained_by_its_path_and_exported_where_its_code_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_user_package(tmp_path / "site", monkeypatch)
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("AEGNN_LOG_DIR", str(tmp_path / "logs"))
    for number, letter in enumerate("aabb"):
        for split in ("training", "validation"):
            rows = random_rows(number, 60, 90_000, 34, 34)
            write(tmp_path / "letters" / split / letter / f"{number}.bin", aer_bytes(*rows))
    size = ["--steps", "2", "--batch-size", "2", "--num-workers", "0", "--validate-every", "2", "--option", "hidden=4"]
    path, dataset = "their_package.models:Classifier", "their_package.models:LETTERS"
    assert main(["train", path, "--task", "recognition", "--dataset", dataset, "--ema", "0.5", *size]) == 0
    run = tmp_path / "logs" / "Classifier_LETTERS_recognition" / "version_0"
    forget_user_package()
    model = load_model(run / "model.safetensors", trust_code=True)
    assert (model.labels, model.width, model.graph.expiry) == (("a", "b"), 34, "graph")
    assert model.architecture["hidden"] == model.network.module.head.in_features == 4
    assert "validation/accuracy" in model.training
    assert model.training["augmentation"]["mirror"]  # as the data set says
    forget_user_package()
    capsys.readouterr()
    exported = ["export", str(run / "best.ckpt"), "--output", str(tmp_path / "best.safetensors")]
    for command in (exported, ["train", "--config", str(run / "settings.yaml")], ["train", "--resume", str(run)]):
        assert main(command) == 2
        assert f"the network {path} of another package, whose code is imported only if" in capsys.readouterr().err
    assert "their_package.models" not in sys.modules
    with pytest.raises(SystemExit):
        main(["export", "--trust-code", *exported[1:]])
    assert "best.ckpt' is no name of a package; without one, --trust-code has to be the last" in capsys.readouterr().err
    assert main([*exported, "--trust-code", "others", "--trust-code", "their_package"]) == 0
    assert main(["train", "--resume", str(run), "--trust-code"]) == 0
    with pytest.raises(ValueError, match="does not know which nodes are live: expected the graph's expiry to be graph"):
        train_(
            run / "x.safetensors",
            network="their_package.models:Detector",
            task="detection",
            graph=replace(GRAPH, expiry="readout"),
        )


def test_recorded_samples_change_each_time(nmnist: Path) -> None:
    dataset, graph = open_dataset("nmnist", "training", task="recognition"), default_graph("nmnist", "recognition")
    samples = RecordedSamples(EventSamples(dataset, graph, "recognition"), Augmentation())
    torch.manual_seed(1)
    one, other = samples[7], samples[7]
    assert int(one.y) == int(other.y) == 7
    assert one.pos.shape != other.pos.shape or not torch.equal(one.pos, other.pos)
    torch.manual_seed(1)
    assert torch.equal(samples[7].pos, one.pos)
    (same,) = [RecordedSamples(EventSamples(dataset, graph, "recognition"), None)[7]]
    assert torch.equal(same.pos, build_graph(dataset[7].stream.events, graph).pos)


@pytest.mark.parametrize("window", [None, 100_000])
def test_counted_samples_are_what_the_head_sees_of_their_graphs(nmnist: Path, window: int | None) -> None:
    dataset = open_dataset("nmnist", "training", task="recognition")
    graph = replace(default_graph("nmnist", "recognition"), window=window)
    samples = RecordedSamples(EventSamples(dataset, graph, "recognition"), Augmentation())
    module = network("histogram", dataset="nmnist", least_ages=[20_000, 80_000])
    counted = CountedSamples(samples, module, graph)
    module.head = torch.nn.Identity()
    for number in (0, 7):
        torch.manual_seed(number)
        expected = module(samples[number])[0]
        torch.manual_seed(number)
        image, label = counted[number]
        assert torch.equal(image, expected)
        assert (int(label), len(counted)) == (int(samples[number].y), len(samples))
    with pytest.raises(ValueError, match="only counts events"):
        CountedSamples(samples, network("graph_grid", dataset="nmnist"), graph)


def test_a_recogniser_that_counts_is_trained_without_graphs(nmnist: Path) -> None:
    path = nmnist / "tiny.safetensors"
    options = {"crop": [16, 16], "widths": [4, 4, 4]}
    common: dict[str, Any] = {"network": "histogram", "dataset": "nmnist", "options": options}
    more = {"steps": 3, "validate_every": 2, "validation_samples": 5, "precision": "bf16-mixed"}
    trained = train_(path, **common, **more).network
    torch.manual_seed(1)
    untrained = network("histogram", dataset="nmnist", **options)
    assert not torch.allclose(trained.head.linear.weight, untrained.head.linear.weight, atol=1e-3)
    assert 0 <= load_model(path).training["validation/accuracy"] <= 1  # validated on graphs


def test_a_head_learns_from_recordings_that_were_changed_once(nmnist: Path) -> None:
    path, layers = nmnist / "tiny.safetensors", nmnist / "layers.safetensors"
    common = ["graph_grid", "--task", "recognition", "--dataset", "nmnist", "--num-workers", "0", "--steps", "2"]
    assert main(["train", *common, "--output", str(layers)]) == 0
    more = ["--event-layers", str(layers), "--recordings", "25", "--batch-size", "20"]
    assert main(["train", *common, "--output", str(path), *more]) == 0
    taken, loaded = load_model(layers).network.event_blocks.state_dict(), load_model(path)
    assert all(torch.equal(value, taken[name]) for name, value in loaded.network.event_blocks.state_dict().items())
    dataset = open_dataset("nmnist", "training", task="recognition")
    samples = EventSamples(dataset, loaded.graph, "recognition")
    changed = ChangedRecordings(samples, Augmentation(), seed=1, recordings=25)
    assert [int(changed[n][0].y) for n in range(25)] == [n % 10 for n in range(25)]
    assert torch.equal(changed[13][0].pos, changed[13][0].pos)
    assert changed[3][0].pos.shape != changed[13][0].pos.shape
    with pytest.raises(ValueError, match="recordings must be at least 1, found 0"):
        ChangedRecordings(samples, Augmentation(), 1, 0)


@pytest.mark.filterwarnings("ignore:the settings ages and age are deprecated:FutureWarning")
def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        train_(tmp_path / "x.pt")
    with pytest.raises(ValueError, match="unknown network 'graph_rez'"):
        train_(path, network="graph_rez")
    with pytest.raises(
        ValueError, match="recordings are for recognition behind event layers, found recognition without"
    ):
        train_(path, recordings=5)
    with pytest.raises(ValueError, match="preprocessed graphs are those of a data set"):
        train_(path, preprocessed=True)
    with pytest.raises(ValueError, match="patience is counted in validations, but validate_every is 0"):
        train_(path, patience=3)
    with pytest.raises(ValueError, match="network graph_res has no option least_ages, known are voxel, position"):
        train_(path, network="graph_res", ages=2)
    with pytest.raises(ValueError, match="precision 16-mixed is for GPUs, expected 32 or bf16-mixed"):
        train_(path, precision="16-mixed")
    with pytest.raises(ValueError, match="gpu 97 and 2 devices from there on: found"):
        train_(path, gpu=97, devices=2)
    with pytest.raises(ValueError, match="in graph_grid; found a network that pools graphs"):
        PooledFeatures(network("graph_res", dataset="ncars"), SimulatedRecordings(GRAPH, 1, 1), 0, 3)
    with pytest.raises(ValueError, match="needs a graph with a window"):
        SimulatedSamples("detection", GraphConfig(), 0)


def test_missing_validation_recordings_are_named_with_the_way_out(nmnist: Path) -> None:
    shutil.rmtree(nmnist / "data" / "nmnist" / "validation")
    with pytest.raises(
        MissingFilesError, match=r"split validation.*to train without validation, set validate_every to 0"
    ):
        train_(nmnist / "x.safetensors", dataset="nmnist", validate_every=1)


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 20, 100])
def test_the_learning_rate_falls_to_zero_in_any_number_of_steps(steps: int) -> None:
    module = network("histogram", dataset="nmnist")
    learner = GraphLearner(TrainedModel(module, GRAPH, (), "tiny", {}), 1.0, steps)
    schedule = learner.configure_optimizers()["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    assert max(rates) <= 1
    assert rates[-1] < 1e-5
    assert steps < 10 or max(rates) > 0.9


def test_samples_are_mixed_by_any_number_of_processes() -> None:
    """However many there are, one sample waits in each, and is yielded for the next."""
    samples = [EventSample(np.empty(0), number, None) for number in range(5)]
    order = [sample.label for sample in mixed(iter(samples), 64 // 65, np.random.default_rng(0))]
    assert order == [0, 1, 2, 3]


def test_nodes_of_scenes_are_live_at_the_moment_of_their_boxes() -> None:
    samples = SimulatedSamples("detection", GRAPH, 3, scenes=1).samples(0, 1)
    for sample in islice(samples, 3):
        assert sample.boxes is not None
        assert set(sample.boxes["t"].tolist()) == {sample.time}
        assert int(sample.events["t"][-1]) < sample.moment


def test_the_best_weights_on_1_mpx_are_chosen_by_what_is_evaluated() -> None:
    """The mean is of three of the seven classes: here the car is found, and the traffic sign is not."""
    labels = ONE_MEGAPIXEL.labels
    module = network("histogram", task="detection", sensor=(320, 180), num_classes=len(labels))
    model = TrainedModel(module, GRAPH, labels, "tiny", {})
    found = np.zeros(1, DETECTION_DTYPE)
    found["x"], found["y"], found["w"], found["h"], found["score"], found["class_id"] = 20, 20, 90, 80, 1, 2
    module.detections = lambda *_: [found]
    boxes, classes = torch.tensor([[20.0, 20, 110, 100], [150, 20, 240, 100]]), torch.tensor([2, 5])
    sample = Data(x=torch.zeros(1, 1), boxes=boxes, classes=classes, num_boxes=torch.tensor([2]))
    sample.number = torch.tensor([0])
    dataset = EventDataset(ONE_MEGAPIXEL, "training", [], Path())
    settings = TrainSettings(network="histogram", task="detection", dataset="1mpx")
    validation = _learner(settings, model, dataset)._validation
    validation.take(Batch.from_data_list([sample]), torch.zeros(1))
    assert validation.figures().ap == pytest.approx(1)
