# SPDX-License-Identifier: Apache-2.0
"""Evaluation asks the dense and the live model at the right moments, and compares both with what is true."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from aegnn_core import GraphConfig, build_graph, load_model, make_model_asynchronous, network, save_model
from aegnn_core.cli import main
from aegnn_core.datasets import open_dataset
from aegnn_core.datasets.event_dataset import FORMATS
from aegnn_core.evaluation import average_precision, dataset_moments, evaluate, simulated_moments
from aegnn_core.evaluation.average_precision import RECALLS
from aegnn_core.evaluation.model_answers import DenseAnswers, LiveAnswers
from aegnn_core.evaluation.model_on_camera import ModelOnCamera
from aegnn_core.evaluation.plots import plot_precision_recall
from aegnn_core.evaluation.seen_accuracy import SHARES, accuracy_over_events
from aegnn_core.evaluation.threshold_search import IOU_THRESHOLDS, SCORE_THRESHOLDS, search_thresholds
from aegnn_core.events import DOWNSAMPLING, Downsampler, Letterbox, make_events
from aegnn_core.events.label_topics import Label
from aegnn_core.events.simulation import simulate_recognition, simulate_scene
from aegnn_core.nn import DETECTION_DTYPE
from aegnn_core.nn.checkpoint import TrainedModel, trained_downsampling
from tests.datasets.tiny_datasets import CLOCK_OFFSET, bag_stream, write_bag
from tests.evaluation.constant_models import constant_model
from tests.recordings import REAL

HELD_OUT = 2_000_000


def test_the_packaged_detector_finds_cars_and_pedestrians_live() -> None:
    (found,) = evaluate(load_model("scenes_detector"), simulated_moments("detection", 25, HELD_OUT)).figures.values()
    assert found.ap50 >= 0.85
    assert found.ap >= 0.52


def test_the_packaged_recognizer_tells_classes_live() -> None:
    recordings = simulated_moments("recognition", 120, HELD_OUT)
    (found,) = evaluate(load_model("scenes_recognizer"), recordings).figures.values()
    assert found.confusion.sum() == 120
    assert found.accuracy >= 0.93


@pytest.mark.skipif(not (REAL / "nmnist").is_dir(), reason="no real recordings beside the repository")
def test_the_packaged_digit_recognizer_is_right_on_a_real_camera_live_and_dense() -> None:
    recordings = dataset_moments(open_dataset("nmnist", "validation", task="recognition", root=REAL), "recognition")
    found = evaluate(load_model("nmnist"), recordings, ["dense", "asynchronous"])
    assert found.figures["asynchronous"].accuracy >= 0.94
    assert found.agreement is not None
    assert found.agreement.equal == found.agreement.answers == 100
    assert found.agreement.largest_difference <= 1e-4


def test_the_packaged_digit_recognizer_answers_live_as_it_does_densely(tmp_path: Path) -> None:
    """On events at random, of which it cannot be right."""
    write_nmnist(tmp_path)
    recordings = dataset_moments(open_dataset("nmnist", "test", task="recognition", root=tmp_path), "recognition")
    agreement = evaluate(load_model("nmnist"), recordings, ["dense", "asynchronous"]).agreement
    assert agreement is not None
    assert agreement.equal == agreement.answers == 10
    assert agreement.largest_difference <= 1e-4


@pytest.mark.parametrize(
    ("model", "count", "answers"),
    [("scenes_detector", 2, 16), ("scenes_graph_detector", 2, 16), ("scenes_recognizer", 8, 8)],
)
def test_live_and_dense_agree(model: str, count: int, answers: int) -> None:
    trained = load_model(model)
    found = evaluate(trained, simulated_moments(trained.task, count, HELD_OUT), ["dense", "asynchronous"])
    assert found.agreement is not None
    assert (found.agreement.answers, found.agreement.equal) == (answers, answers)
    assert found.agreement.largest_difference <= 1e-4
    assert json.dumps(found.figures["dense"].to_dict()) == json.dumps(found.figures["asynchronous"].to_dict())


@pytest.mark.parametrize("asked", [DenseAnswers, LiveAnswers])
def test_answers_are_the_network_on_all_events_so_far(asked: type[DenseAnswers] | type[LiveAnswers]) -> None:
    """Although the dense network does not look at events that are too old to matter: here most of them are."""
    torch.manual_seed(0)
    graph = GraphConfig(radius=2.0, max_neighbors=8, time_scale=4e-4, window=10_000)
    module = network("graph_res", dataset="simulated", task="detection").double()
    model = TrainedModel(module, graph, ("car", "pedestrian"), "random", {})
    events = simulate_scene(3).stream.events
    events = events[events["t"] < 150_000]
    moments = [20_000, int(events["t"][len(events) // 2]), 150_001]
    for moment, output in zip(moments, asked(model)(events, moments), strict=True):
        whole = build_graph(events[events["t"] <= moment], graph, time=moment, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(output, module(whole), rtol=1e-9, atol=1e-9)


def test_figures_are_of_what_was_answered() -> None:
    """Counted by hand for a recogniser that answers at random, and with COCO for boxes of the dense network."""
    model = load_model("scenes_recognizer")
    confusion = np.zeros((3, 3), int)
    for seed in range(5, 11):
        sample = simulate_recognition(seed)
        confusion[sample.label, int(model.network(build_graph(sample.stream.events, model.graph)).argmax())] += 1
    (found,) = evaluate(model, simulated_moments("recognition", 6, 5), ["dense"]).figures.values()
    assert_array_equal(found.confusion, confusion)
    assert found.to_dict()["accuracy"] == np.trace(confusion) / 6

    model = load_model("scenes_detector")
    scene = simulate_scene(HELD_OUT)
    truth, predicted = [], []
    for moment in range(100_000, 500_000, 50_000):
        events = scene.stream.events[scene.stream.events["t"] <= moment]
        (boxes,) = model.network.detections(model.network(build_graph(events, model.graph, time=moment)), 0.01)
        predicted.append(boxes)
        truth.append(scene.boxes[scene.boxes["t"] == moment])
    (result,) = evaluate(model, simulated_moments("detection", 1, HELD_OUT), ["dense"]).figures.values()
    assert result.ap == pytest.approx(average_precision(truth, predicted, model.labels).ap, abs=1e-6)


def write_nmnist(root: Path) -> None:
    rng = np.random.default_rng(0)
    for digit in range(10):
        folder = root / "nmnist" / "test" / str(digit)
        folder.mkdir(parents=True)
        t = np.sort(rng.integers(0, 300_000, 400))
        x, y, p = rng.integers(0, 34, (2, 400)).tolist(), None, rng.integers(0, 2, 400)
        x, y = x
        rows = zip(t.tolist(), x, y, p.tolist(), strict=True)
        (folder / "00001.bin").write_bytes(
            b"".join(bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255]) for t, x, y, p in rows)
        )


def nmnist_model(path: Path) -> Path:
    torch.manual_seed(1)
    architecture = {"name": "graph_res", "dataset": "nmnist", "task": "recognition"}
    graph = GraphConfig(max_neighbors=8, time_scale=3e-5)
    model = TrainedModel(network(**architecture), graph, FORMATS["nmnist"].labels, "random", architecture)
    save_model(path, model)
    return path


def test_the_command_evaluates_on_a_data_set_and_writes_both_forms_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nmnist(tmp_path)
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    model, file = nmnist_model(tmp_path / "random.safetensors"), tmp_path / "out.json"
    arguments = ["evaluate", str(model), "--dataset", "nmnist", "--split", "test", "--json", str(file)]
    assert main([*arguments, "--asynchronous"]) == 0
    alone = json.loads(file.read_text())
    assert main([*arguments, "--asynchronous", "--dense"]) == 0
    both = json.loads(file.read_text())
    assert "10 of 10 answers are equal" in capsys.readouterr().out
    assert (both["dataset"], both["part"], both["recordings"]) == ("nmnist", "test", 10)
    assert both["agreement"]["equal"] == 10
    assert both["accuracy"] == both["dense"]["accuracy"] == both["asynchronous"]["accuracy"] == alone["accuracy"]
    assert np.sum(alone["confusion"], axis=1).tolist() == [1] * 10
    assert "agreement" not in alone
    assert "dense" not in alone


def test_the_command_evaluates_on_a_few_recordings_of_a_data_set_from_all_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nmnist(tmp_path)
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    model, file = nmnist_model(tmp_path / "random.safetensors"), tmp_path / "out.json"
    arguments = ["evaluate", str(model), "--dataset", "nmnist", "--json", str(file)]
    assert main([*arguments, "--samples", "4"]) == 0
    few = json.loads(file.read_text())
    assert (few["part"], few["recordings"]) == ("test, evenly spread over all 10", 4)
    assert np.sum(few["confusion"], axis=1).tolist() == [1, 0, 1, 0, 0, 1, 0, 1, 0, 0]
    assert "on nmnist, test, evenly spread over all 10, 4 recordings" in " ".join(capsys.readouterr().out.split())
    assert main([*arguments, "--samples", "11"]) == 0
    every = json.loads(file.read_text())
    assert (every["part"], every["recordings"]) == ("test", 10)


def test_costs_are_those_of_the_live_model() -> None:
    model = load_model("scenes_detector")
    (recording,) = simulated_moments("detection", 1).read()
    costs = evaluate(model, simulated_moments("detection", 1), ["asynchronous"]).costs
    assert costs is not None
    live = make_model_asynchronous(model.network)
    events = recording.events[recording.events["t"] <= recording.moments[-1]]
    in_updates = in_outputs = 0.0
    parts = np.split(events, np.searchsorted(events["t"], recording.moments, "right"))
    for part, moment in zip(parts, recording.moments, strict=False):  # and nothing behind the last
        begun = live.flops().total.total
        live.update(part)
        updated = live.flops().total.total
        live.output(moment)
        in_updates, in_outputs = in_updates + updated - begun, in_outputs + live.flops().total.total - updated
    assert (costs.events, costs.answers) == (len(events), len(recording.moments))
    assert costs.flops_per_event == pytest.approx(in_updates / len(events), rel=1e-6)
    assert costs.flops_per_answer == pytest.approx(in_outputs / len(recording.moments), rel=1e-6)
    assert costs.us_per_event > 0 < costs.us_per_answer
    assert evaluate(model, simulated_moments("detection", 1), ["dense"]).costs is None


def test_the_command_evaluates_on_simulated_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.json"
    assert main(["evaluate", "scenes_recognizer", "--samples", "3", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert figures["part"] == "seeds 1000000 to 1000002"
    assert figures["accuracy"] == figures["dense"]["accuracy"]
    assert f"{figures['accuracy']:.4f}" in capsys.readouterr().out


def test_boxes_of_gen1_are_looked_at_when_they_count(tmp_path: Path) -> None:
    """Not in the first half second, and neither true nor predicted boxes that are small."""
    folder = tmp_path / "gen1" / "test"
    folder.mkdir(parents=True)
    words = np.array([(100_000 * k, 5 | 6 << 14) for k in range(20)], "<u4")
    (folder / "a_td.dat").write_bytes(b"% Data file\n" + bytes([0, 8]) + words.tobytes())
    fields = [("ts", "u8"), *((name, "f4") for name in "xywh"), ("class_id", "u1"), ("track_id", "u4")]
    rows = [
        (500_000, 1, 1, 50, 50, 0, 1),
        (600_000, 1, 1, 50, 9, 0, 1),
        (600_000, 2, 1, 50, 50, 1, 1),
        (700_000, 1, 1, 12, 12, 0, 1),
        (800_000, 1, 1, 30, 30, 0, 1),
    ]
    np.save(folder / "a_bbox.npy", np.array(rows, fields))
    recordings = dataset_moments(open_dataset("gen1", "test", task="detection", root=tmp_path), "detection")
    (recording,) = recordings.read()
    assert list(recording.moments) == [600_000, 800_000]
    assert [boxes[["x", "class_id"]].tolist() for boxes in recording.truth] == [[(2, 1)], [(1, 0)]]

    torch.manual_seed(0)
    module = network("graph_grid", dataset="gen1", task="detection")
    graph = GraphConfig(max_neighbors=4, time_scale=1e-5, window=300_000)
    model = TrainedModel(module, graph, ("car", "pedestrian"), "random", {})
    (found,) = evaluate(model, recordings).figures.values()
    assert 0 <= found.ap <= 1
    assert recordings.counts is not None
    assert recordings.counts(np.array([9.0, 50.0]), np.array([50.0, 50.0])).tolist() == [False, True]


def test_accuracy_over_events_is_that_of_the_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.json"
    arguments = ["evaluate", "scenes_recognizer", "--samples", "5", "--seed", str(HELD_OUT), "--over-events"]
    assert main([*arguments, "--json", str(file)]) == 0
    assert "after a part of the events" in capsys.readouterr().out
    document = json.loads(file.read_text())
    steps = document["over_events"]
    assert [step["share"] for step in steps] == list(SHARES)
    assert steps[-1]["accuracy"] == document["accuracy"]
    model, right, seen = load_model("scenes_recognizer"), 0, 0
    for seed in range(HELD_OUT, HELD_OUT + 5):
        sample = simulate_recognition(seed)
        t = sample.stream.events["t"]
        events = sample.stream.events[t <= t[round(0.1 * len(t)) - 1]]
        seen += len(events)
        right += int(model.network(build_graph(events, model.graph)).argmax()) == sample.label
    assert steps[SHARES.index(0.1)] == {"share": 0.1, "events": seen / 5, "accuracy": right / 5}
    with pytest.raises(ValueError, match="the model scenes_detector is for detection"):
        accuracy_over_events(load_model("scenes_detector"), simulated_moments("detection", 1))


@pytest.mark.parametrize(
    ("model", "options", "pictures"),
    [
        ("scenes_detector", [], {"precision_recall.png"}),
        ("scenes_recognizer", ["--over-events"], {"confusion.png", "over_events.png"}),
    ],
)
def test_the_command_draws_its_figures(tmp_path: Path, model: str, options: list[str], pictures: set[str]) -> None:
    folder = tmp_path / "new" / "plots"
    assert main(["evaluate", model, "--samples", "2", "--asynchronous", "--plots", str(folder), *options]) == 0
    assert {file.name for file in folder.iterdir()} == pictures
    for file in folder.iterdir():
        with Image.open(file) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10  # it is not blank


def test_curves_are_of_the_classes_that_have_true_boxes() -> None:
    truth = np.array([(0, 0, 40, 20, 0, 0)], DETECTION_DTYPE)
    found = np.array([(0, 0, 40, 20, 0.9, 0)], DETECTION_DTYPE)
    (axes,) = plot_precision_recall(average_precision([truth], [found], ("car", "pedestrian")), "title").axes
    (line,) = axes.lines
    assert line.get_label() == "car, AP50 1.000"
    assert_allclose(np.array(line.get_data()), [RECALLS, np.ones(101)])


def test_the_search_tries_all_thresholds_on_the_same_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.json"
    arguments = ["evaluate", "scenes_detector", "--samples", "1", "--asynchronous", "--search"]
    assert main([*arguments, "--json", str(file)]) == 0
    assert "the best of 30 pairs of thresholds" in capsys.readouterr().out
    document = json.loads(file.read_text())
    found = {(one["score_threshold"], one["iou_threshold"]): one["ap"] for one in document["search"]}
    assert set(found) == {(score, iou) for score in SCORE_THRESHOLDS for iou in IOU_THRESHOLDS}
    assert found[0.01, 0.5] == document["ap"]
    assert list(found.values()) == sorted(found.values(), reverse=True)
    with pytest.raises(ValueError, match="thresholds are for detection, the model scenes_recognizer is for recogn"):
        search_thresholds(load_model("scenes_recognizer"), simulated_moments("recognition", 1))


def test_a_model_for_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_nmnist(tmp_path)
    recordings = dataset_moments(open_dataset("nmnist", "test", task="recognition", root=tmp_path), "recognition")
    with pytest.raises(
        ValueError, match="scenes_recognizer is for a sensor of 120 x 100 px, the data set nmnist for a"
    ):
        evaluate(load_model("scenes_recognizer"), recordings)
    with pytest.raises(ValueError, match="scenes_detector is for the task detection, the data set nmnist for the task"):
        evaluate(load_model("scenes_detector"), recordings)


def test_the_same_scenes_by_a_larger_camera_are_told_by_pixels_that_integrate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the camera's pixels; coordinates alone give the network many times the events, and worse boxes."""
    file, documents = tmp_path / "out.json", {}
    arguments = ["evaluate", "scenes_detector", "--samples", "3", "--asynchronous", "--json", str(file)]
    for way in ("integrate", "coordinates"):
        assert main([*arguments, "--camera", "320x240", "--downsampling", way]) == 0
        documents[way] = json.loads(file.read_text())
        assert "k events/s of a camera of 320 x 240 px" in capsys.readouterr().out
    assert main(arguments) == 0
    small = json.loads(file.read_text())
    integrated, divided = documents["integrate"], documents["coordinates"]
    assert integrated["part"] == "seeds 1000000 to 1000002, seen by a camera of 320 x 240 px"
    assert (integrated["camera"], integrated["downsampling"]) == ([320, 240], "integrate")
    assert divided["rates"]["camera_per_s"] == divided["rates"]["network_per_s"] == integrated["rates"]["camera_per_s"]
    assert integrated["rates"]["network_per_s"] < 3 * small["rates"]["network_per_s"]
    assert integrated["rates"]["network_per_s"] < divided["rates"]["network_per_s"] / 3
    assert integrated["ap"] > divided["ap"]
    assert integrated["ap50"] > 0.4


def test_boxes_of_a_larger_camera_are_those_of_the_network_behind_the_filter() -> None:
    model, letterbox = load_model("scenes_detector", sensor=(200, 120)), Letterbox((400, 240), (200, 120))
    recordings = simulated_moments("detection", 1, HELD_OUT, camera=(400, 240))
    (recording,) = recordings.read()
    events, predicted = Downsampler(letterbox)(recording.events), []
    for moment in recording.moments:
        with torch.no_grad():
            output = model.network(build_graph(events[events["t"] <= moment], model.graph, time=moment))
        predicted.append(letterbox.to_camera(model.network.detections(output, 0.01)[0]))
    expected = average_precision(recording.truth, predicted, model.labels)
    found = evaluate(load_model("scenes_detector"), recordings, ["dense", "asynchronous"])
    assert found.figures["dense"].ap == pytest.approx(expected.ap, abs=1e-6)
    assert found.agreement is not None
    assert found.agreement.equal == found.agreement.answers == 8
    (best, *_) = search_thresholds(model, recordings, "dense", scores=[0.01], ious=[0.5])
    assert best.precision.ap == pytest.approx(expected.ap, abs=1e-6)


def test_predicted_boxes_that_do_not_count_are_left_out() -> None:
    model = load_model("scenes_detector")
    recordings = replace(simulated_moments("detection", 1, HELD_OUT), counts=lambda w, h: np.zeros(len(w), bool))
    figures = evaluate(model, recordings, ["dense"]).figures["dense"]
    (searched,) = search_thresholds(model, recordings, "dense", scores=[0.01], ious=[0.5])
    assert figures.ap == searched.precision.ap == 0


def test_a_network_can_run_on_the_cameras_own_sensor() -> None:
    recordings = simulated_moments("detection", 1, HELD_OUT, camera=(200, 150))
    (recording,) = recordings.read()
    found = evaluate(load_model("scenes_detector"), recordings, model_sensor="camera")
    same = evaluate(load_model("scenes_detector", sensor=(200, 150)), recordings)
    assert found.figures["asynchronous"].to_dict() == same.figures["asynchronous"].to_dict()
    assert found.rates is not None
    assert found.rates.network_per_s == found.rates.camera_per_s
    assert found.costs is not None
    assert found.costs.events == np.count_nonzero(recording.events["t"] <= recording.moments[-1])
    # Smaller than what it was trained for, it is right there all the same.
    smaller = simulated_moments("detection", 1, HELD_OUT, camera=(120, 90))
    assert evaluate(load_model("scenes_detector"), smaller, model_sensor="camera").rates is not None
    with pytest.raises(ValueError, match="for a sensor of 160 x 120 px, the data set simulated for a sensor of 120 x"):
        evaluate(load_model("scenes_detector"), smaller)


def test_accuracy_over_events_counts_what_the_network_has_seen() -> None:
    model, recordings = load_model("scenes_recognizer"), simulated_moments("recognition", 3, 7, camera=(240, 200))
    steps = accuracy_over_events(model, recordings)
    fired = [len(Downsampler(Letterbox((240, 200), (120, 100)))(one.events)) for one in recordings.read()]
    assert steps[-1].events == pytest.approx(np.mean(fired), abs=0.01)
    assert steps[-1].accuracy == evaluate(model, recordings).figures["asynchronous"].to_dict()["accuracy"]


def test_the_command_says_in_one_sentence_what_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["evaluate", "nothing"]) == 2
    assert capsys.readouterr().err.startswith("aegnn: unknown model 'nothing'")
    for camera in ("640", "0x480", "640x480x3", "wide", "-1x5"):
        assert main(["evaluate", "scenes_detector", f"--camera={camera}"]) == 2
        assert capsys.readouterr().err.startswith(f"aegnn: --camera is {camera!r}, expected a width and a height")
    assert main(["evaluate", "nmnist", "--dataset", "nmnist", "--camera", "640x480"]) == 2
    assert "--camera is for simulated scenes, the recordings of nmnist have their own" in capsys.readouterr().err
    assert main(["evaluate", "nmnist", "--dataset", "nmnist", "--noise", "3", "--still-camera"]) == 2
    assert "--noise, --still-camera are for simulated scenes" in capsys.readouterr().err
    for scale in ("0", "nan", "1e305"):
        assert main(["evaluate", "scenes_detector", "--object-scale", scale]) == 2
        assert "the scale of a scene is" in capsys.readouterr().err
    assert main(["evaluate", "nmnist", "--dataset", "nmnist", "--seed", "5"]) == 2
    assert "--seed has no effect on the data set nmnist" in capsys.readouterr().err
    assert main(["evaluate", "scenes_detector", "--split", "training", "--topic", "/events"]) == 2
    assert "--split, --topic have no effect on simulated recordings" in capsys.readouterr().err
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    assert main(["evaluate", "scenes_recognizer", "--dataset", "nmnist"]) == 2
    assert "classes have no .bin files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--samples", "0"], "argument --samples: expected a whole number of at least 1, found '0'"),
        (["--seed", "-1"], "argument --seed: expected a whole number from 0 to"),
        (["--seed", "9" * 30], "argument --seed: expected a whole number from 0 to"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "scenes_detector", *options])
    assert sentence in capsys.readouterr().err


def test_an_answer_at_the_last_event_has_seen_it() -> None:
    graph = GraphConfig(max_neighbors=4)
    torch.manual_seed(0)
    module = network("graph_res", dataset="nmnist")
    model = TrainedModel(module, graph, FORMATS["nmnist"].labels, "random", {})
    events = make_events(np.array([10, 20, 20]), np.array([1, 2, 3]), np.array([1, 1, 1]), np.array([0, 1, 1]))
    for asked in (DenseAnswers(model), LiveAnswers(model)):
        (output,) = asked(events, [20])
        with torch.no_grad():
            torch.testing.assert_close(output, module(build_graph(events, graph)))


@pytest.mark.parametrize(
    ("model", "option", "message"),
    [
        ("scenes_detector", "--over-events", "--over-events is for recognition, the model scenes_detector is for det"),
        ("scenes_recognizer", "--search", "--search is for detection, the model scenes_recognizer is for recognition"),
    ],
)
def test_figures_of_the_other_task_are_refused_before_anything_is_evaluated(
    model: str, option: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated: list[str] = []
    monkeypatch.setattr("aegnn_core.evaluation.evaluate", lambda model, *_, **__: evaluated.append(model.name))
    assert main(["evaluate", model, "--samples", "1", option]) == 2
    assert message in capsys.readouterr().err
    assert evaluated == []


def test_boxes_of_a_larger_camera_are_found_in_the_way_that_the_model_was_trained_with() -> None:
    """Unless somebody says another."""
    model = replace(load_model("scenes_detector"), training={"downsampling": "coordinates"})
    events = simulate_scene(0).stream.events
    counts = {way: len(ModelOnCamera(model, (320, 240), way).events(events)) for way in (None, *DOWNSAMPLING)}
    assert counts[None] == counts["coordinates"] > counts["integrate"]
    assert trained_downsampling(replace(model, training={})) == "integrate"


@pytest.mark.parametrize("through", ["dense", "asynchronous"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_answer_that_is_no_number_is_refused_instead_of_counted(through: str, value: float) -> None:
    for task in ("recognition", "detection"):
        with pytest.raises(
            ValueError, match=rf"model constant gives {value} at \d+ µs of a recording, expected finite"
        ):
            evaluate(constant_model(task, value), simulated_moments(task, 1), [through])


def test_early_answers_and_those_of_a_search_have_to_be_numbers_too() -> None:
    with pytest.raises(ValueError, match="model constant gives nan at"):
        accuracy_over_events(constant_model("recognition", float("nan")), simulated_moments("recognition", 1))
    with pytest.raises(ValueError, match="model constant gives nan at"):
        search_thresholds(constant_model("detection", float("nan")), simulated_moments("detection", 1))


def test_a_class_may_be_impossible() -> None:
    model, recordings = constant_model("recognition", -float("inf")), simulated_moments("recognition", 2)
    (found,) = evaluate(model, recordings).figures.values()
    assert found.confusion.sum(0).tolist() == [0, 2, 0]


def test_names_are_printed_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though in rich's own language they would be styles and pictures; and the file is written before."""
    names, file = ("car [front]", "car[/b]", ":car:"), tmp_path / "new" / "out.json"
    for number in range(3):
        label = Label(CLOCK_OFFSET, class_id=number)
        write_bag(tmp_path / "rosbag" / "test" / f"{number}", bag_stream(number), [label], names)
    architecture = {"name": "histogram", "sensor": [40, 30], "num_classes": 3}
    model = TrainedModel(network(**architecture), GraphConfig(window=100_000), names, "named", architecture)
    save_model(tmp_path / "named.safetensors", model)
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("COLUMNS", raising=False)  # as in a pipe, where nothing is cut short
    arguments = ["evaluate", str(tmp_path / "named.safetensors"), "--dataset", "rosbag"]
    assert main([*arguments, "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert all(f" {name} " in printed for name in names)
    assert json.loads(file.read_text())["recordings"] == 3
