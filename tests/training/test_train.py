"""Training learns, gives a model file that is ready for use, and refuses what it cannot do."""

from pathlib import Path

import pytest
import torch
from torch_geometric.loader import DataLoader

from aegnn_core import GraphConfig, load_model, make_model_asynchronous, network
from aegnn_core.cli import main
from aegnn_core.datasets.simulated import HELD_OUT_SEED, SimulatedRecordings, SimulatedSamples
from aegnn_core.events.simulation import simulate_scene
from aegnn_core.training.module import GraphLearner
from aegnn_core.training.pooled_features import PooledFeatures
from aegnn_core.training.train import SIMULATED_GRAPH, train

pytest.importorskip("lightning")


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGNN_LOG_DIR", str(tmp_path / "logs"))


@pytest.mark.parametrize(("task", "labels"), [("detection", 2), ("recognition", 3)])
def test_a_few_steps_give_a_model_that_runs_live(tmp_path: Path, task: str, labels: int) -> None:
    path = tmp_path / "tiny.safetensors"
    trained = train("graph_grid", task=task, output=path, steps=2, batch_size=2, workers=0, seed=5)
    loaded = load_model(path)
    assert (loaded.task, len(loaded.labels), loaded.graph) == (task, labels, trained.graph)
    assert loaded.training == {
        "steps": 2,
        "batch_size": 2,
        "learning_rate": 4e-3,
        "seed": 5,
        "event_layers": None,
        "recordings": None,
    }
    live = make_model_asynchronous(loaded.network)
    events = simulate_scene(0).stream.events[:500]
    live.update(events[(events["x"] < loaded.width) & (events["y"] < loaded.height)])
    assert loaded.network.class_scores(live.output()).shape == (1, labels)


def test_the_command_trains(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    size = ["--steps", "1", "--batch-size", "1", "--num-workers", "0"]
    assert main(["train", "graph_res", "--task", "recognition", "--output", str(path), *size, "--seed", "7"]) == 0
    assert load_model(path).training["seed"] == 7


@pytest.mark.parametrize("task", ["detection", "recognition"])
def test_the_loss_falls_on_samples_seen_again_and_again(task: str) -> None:
    torch.manual_seed(0)
    sensor = (160, 120) if task == "detection" else (120, 100)
    samples = iter(SimulatedSamples(task, SIMULATED_GRAPH, seed=3))
    (batch,) = DataLoader([next(samples) for _ in range(3)], batch_size=3)
    learner = GraphLearner(network("graph_grid", dataset="simulated", task=task, sensor=sensor).train(), 3e-3, 30)
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
    first, again, other = (iter(SimulatedSamples("detection", SIMULATED_GRAPH, seed)) for seed in (1, 1, 2))
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
    taken = load_model("scenes_detector").network.event_blocks.state_dict()
    common = {"task": "recognition", "output": path, "batch_size": 2, "workers": 0, "event_layers": "scenes_detector"}
    trained = train("graph_grid", steps=2, **common)
    for name, value in trained.network.event_blocks.state_dict().items():
        assert torch.equal(value, taken[name]), name
    assert trained.training["event_layers"] == "scenes_detector"
    untrained = network("graph_grid", dataset="simulated", sensor=(120, 100)).head.state_dict()
    assert not torch.equal(trained.network.head.state_dict()["linear.weight"], untrained["linear.weight"])
    with pytest.raises(ValueError, match="other shapes than the network's"):
        train("graph_wen", steps=1, **common)
    with pytest.raises(ValueError, match=r"trained with graph radius = 3.0, found radius = 2.0"):
        train("graph_grid", steps=1, graph=GraphConfig(radius=2.0), **common)


def test_a_head_learns_from_features_that_are_computed_once(tmp_path: Path) -> None:
    """The figures would be those of new samples: features are the network's own, but for a shift and half precision."""
    path = tmp_path / "tiny.safetensors"
    common = {
        "task": "recognition",
        "output": path,
        "batch_size": 3,
        "event_layers": "scenes_detector",
        "recordings": 4,
    }
    model = train("graph_grid", steps=5, workers=1, **common)
    assert (model.training["recordings"], model.training["steps"]) == (4, 5)  # eight images: two passes
    taken = load_model("scenes_detector").network.event_blocks.state_dict()
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
    features = PooledFeatures(network_, recordings, workers=0, shift=2)
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
    few, more, other = (SimulatedRecordings(SIMULATED_GRAPH, seed, count) for seed, count in ((1, 2), (1, 9), (2, 2)))
    assert (len(few), len(more)) == (2, 9)
    image, opposite = few[1]
    assert torch.equal(image.pos, more[1][0].pos)
    assert other[1][0].pos.shape != image.pos.shape or not torch.equal(other[1][0].pos, image.pos)
    # The same recording, one image of it in the mirror, with opposite polarity.
    assert torch.equal(image.pos[:, 0], 119 - opposite.pos[:, 0])
    assert torch.equal(image.pos[:, 1:], opposite.pos[:, 1:])
    assert torch.equal(image.x, -opposite.x)
    with pytest.raises(ValueError, match=f"recordings must be from 1 to {HELD_OUT_SEED}, found 0"):
        SimulatedRecordings(SIMULATED_GRAPH, 1, 0)


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="training reads the data set simulated, found 'ncars'"):
        train("graph_res", task="recognition", dataset="ncars", output=tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        train("graph_res", task="recognition", output=tmp_path / "x.pt")
    with pytest.raises(ValueError, match="unknown network 'graph_rez'"):
        train("graph_rez", task="recognition", output=tmp_path / "x.safetensors")
    with pytest.raises(
        ValueError, match="recordings are for recognition behind event layers, found recognition without"
    ):
        train("graph_grid", task="recognition", output=tmp_path / "x.safetensors", recordings=5)
    with pytest.raises(ValueError, match="in graph_grid; found a network that pools graphs"):
        PooledFeatures(network("graph_res", dataset="ncars"), SimulatedRecordings(SIMULATED_GRAPH, 1, 1), workers=0)
    with pytest.raises(ValueError, match="needs a graph with a window"):
        SimulatedSamples("detection", GraphConfig(), 0)
