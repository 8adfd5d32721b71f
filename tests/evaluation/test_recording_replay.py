# SPDX-License-Identifier: Apache-2.0
"""A replayed bag gives the live model's answers at the recording's times, in the camera's pixels, and its figures."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rosbags.rosbag2 import Reader, Writer

from aegnn_core import build_graph, load_model
from aegnn_core.cli import main
from aegnn_core.evaluation import evaluate, simulated_moments
from aegnn_core.evaluation.recording_replay import replay
from aegnn_core.events import Downsampler, EventStream, Letterbox, event_packets, write_event_bag
from aegnn_core.events.label_topics import LABEL_DTYPE, Label, label_typestore
from aegnn_core.events.rosbag import read_labels
from aegnn_core.events.simulation import SceneConfig, simulate_recognition, simulate_scene
from tests.datasets.tiny_datasets import write_ros1_bag
from tests.evaluation.constant_models import constant_model

SEED = 2_000_000
OFFSET = 1_700_000_000_000_000_000


def write_scene(path: Path) -> EventStream:
    """A simulated scene with its boxes every 50 ms, recorded at some time of day."""
    scene = simulate_scene(SEED)
    labels = []
    for moment in range(100_000, 500_000, 50_000):
        true = scene.boxes[scene.boxes["t"] == moment]
        boxes = np.empty(len(true), LABEL_DTYPE)
        for name in LABEL_DTYPE.names or ():
            boxes[name] = true[name]
        labels.append(Label(OFFSET + 1000 * moment, boxes=boxes))
    write_event_bag(path, list(event_packets(scene.stream, stamp_offset=OFFSET)), labels=labels)
    return scene.stream


def test_a_labelled_bag_gives_the_figures_of_an_evaluation(tmp_path: Path) -> None:
    stream = write_scene(tmp_path / "scene")
    model = load_model("scenes_detector")
    result = replay(tmp_path / "scene", model, tmp_path / "answers")
    assert (result.events, result.labelled) == (len(stream), 8)
    (figures,) = evaluate(model, simulated_moments("detection", 1, SEED)).figures.values()
    assert result.figures is not None
    assert result.figures.to_dict() == figures.to_dict()

    answers = read_labels(tmp_path / "answers", topic="/event_detector/detections")
    stamps = [answer.stamp - OFFSET for answer in answers]
    assert len(answers) == result.answers
    assert set(range(100_000_000, 500_000_000, 50_000_000)) <= set(stamps)
    assert max(np.diff(stamps)) <= 20_000_000
    moment = stamps[len(stamps) // 2] // 1000
    with torch.no_grad():
        output = model.network(build_graph(stream.events[stream.events["t"] <= moment], model.graph, time=moment))
    (boxes,) = model.network.detections(output, score_threshold=0.3)
    found = answers[len(stamps) // 2].boxes
    assert len(boxes) == len(found) > 0
    for name in ("x", "y", "w", "h", "class_id"):
        np.testing.assert_allclose(found[name], boxes[name], atol=1e-2)


def test_messages_of_one_time_are_one_truth(tmp_path: Path) -> None:
    """As an annotation tool sends them that has a message per object."""
    stream = write_scene(tmp_path / "scene")
    labels = read_labels(tmp_path / "scene")
    each = [Label(label.stamp, boxes=label.boxes[n : n + 1]) for label in labels for n in range(len(label.boxes))]
    assert len(each) > len(labels)
    write_event_bag(tmp_path / "each", event_packets(stream, stamp_offset=OFFSET), labels=each)
    model = load_model("scenes_detector")
    one, other = (replay(tmp_path / name, model, period_us=10**6) for name in ("scene", "each"))
    assert one.labelled == other.labelled == len(labels)
    assert one.figures.to_dict() == other.figures.to_dict()


def test_two_classes_at_one_time_are_refused_and_one_twice_counts_once(tmp_path: Path) -> None:
    stream, model = simulate_recognition(SEED).stream, load_model("scenes_recognizer")
    for name, classes in (("same", (1, 1)), ("other", (1, 0))):
        write_event_bag(tmp_path / name, stream, labels=[Label(10**8, class_id=number) for number in classes])
    assert replay(tmp_path / "same", model, period_us=10**6).labelled == 1
    with pytest.raises(ValueError, match=r"other: labels at 0.100 s are of the classes 1 and 0, expected one"):
        replay(tmp_path / "other", model)


def test_a_replay_that_fails_leaves_the_name_free(tmp_path: Path) -> None:
    write_event_bag(tmp_path / "bag", simulate_recognition(SEED).stream)
    with pytest.raises(ValueError, match=r"model constant gives nan at \d+ µs of a recording, expected finite"):
        replay(tmp_path / "bag", constant_model("recognition", float("nan")), tmp_path / "answers")
    assert not (tmp_path / "answers").exists()


def test_the_bag_tells_what_class_numbers_mean_to_whom_comes_late(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene")
    replay(tmp_path / "scene", load_model("scenes_detector"), tmp_path / "answers", period_us=200_000)
    assert [file.suffix for file in (tmp_path / "answers").glob("answers*")] == [".mcap"]
    store = label_typestore()
    with Reader(tmp_path / "answers") as reader:
        (connection, _, data), *_ = reader.messages()
        assert connection.topic == "/event_detector/label_info"
        assert connection.ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"
        info = store.deserialize_cdr(data, connection.msgtype)
        assert [(item.class_id, item.class_name) for item in info.class_map] == [(0, "car"), (1, "pedestrian")]
        assert info.threshold == pytest.approx(0.3)


def test_classes_and_a_camera_with_more_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Doubling every coordinate changes no answer of the recogniser."""
    sample = simulate_recognition(SEED)
    events = sample.stream.events.copy()
    events["x"] *= 2
    events["y"] *= 2
    label = [Label(1000 * int(events["t"][-1]), class_id=sample.label)]
    write_event_bag(tmp_path / "large", EventStream(events, 240, 200), labels=label)
    file, answers = tmp_path / "out.json", tmp_path / "answers"
    arguments = ["replay", str(tmp_path / "large"), "--model", "scenes_recognizer", "--output", str(answers)]
    arguments += ["--downsampling", "coordinates"]
    assert main([*arguments, "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert (figures["events"], figures["labelled"]) == (len(events), 1)
    assert "us_per_event" in capsys.readouterr().out
    model = load_model("scenes_recognizer")
    with torch.no_grad():
        scores = model.network.class_scores(model.network(build_graph(sample.stream.events, model.graph)))[0]
    assert figures["accuracy"] == float(int(scores.argmax()) == sample.label)
    store = label_typestore()
    with Reader(answers) as reader:
        *_, (connection, _, data) = reader.messages()
        results = store.deserialize_cdr(data, connection.msgtype).results
    for result in results:
        assert result.score == pytest.approx(float(scores[int(result.class_id)]), abs=1e-4)
    assert [result.score for result in results] == sorted((result.score for result in results), reverse=True)


def boxes_of(recording: Path, **options: str) -> tuple[int, np.ndarray]:
    """How many events the network got, and the last boxes."""
    answers = recording.with_name(f"{recording.name}_{len(list(recording.parent.iterdir()))}")
    result = replay(recording, load_model("scenes_detector"), answers, period_us=250_000, **options)
    boxes = read_labels(answers, topic="/event_detector/detections")[-1].boxes
    assert boxes is not None
    return result.events_downsampled, boxes


def test_boxes_are_in_the_cameras_pixels(tmp_path: Path) -> None:
    """A camera of twice the pixels."""
    scene = simulate_scene(SEED).stream
    larger = scene.events.copy()
    larger["x"] *= 2
    larger["y"] *= 2
    write_event_bag(tmp_path / "plain", scene)
    write_event_bag(tmp_path / "larger", EventStream(larger, 320, 240))
    count, plain = boxes_of(tmp_path / "plain")
    assert count == len(scene)
    assert len(plain) > 0
    count, found = boxes_of(tmp_path / "larger", downsampling="coordinates")
    assert count == len(scene)
    for name in "xywh":
        np.testing.assert_allclose(found[name], 2 * plain[name], rtol=1e-4)


def test_a_larger_camera_is_integrated_or_the_network_runs_at_its_size(tmp_path: Path) -> None:
    config = replace(SceneConfig(), duration_us=200_000).for_camera((320, 240))
    scene = simulate_scene(SEED, config).stream
    write_event_bag(tmp_path / "large", scene)
    model = load_model("scenes_detector")
    letterbox = Letterbox((320, 240), (160, 120))
    fired = Downsampler(letterbox)(scene.events)
    count, found = boxes_of(tmp_path / "large")
    assert count == len(fired) < len(scene) / 3
    with torch.no_grad():
        (expected,) = model.network.detections(model.network(build_graph(fired, model.graph, time=last(scene))), 0.3)
    for name in "xywh":
        np.testing.assert_allclose(found[name], letterbox.to_camera(expected)[name], atol=2e-2)
    count, found = boxes_of(tmp_path / "large", model_sensor="camera")
    assert count == len(scene)
    native = load_model("scenes_detector", sensor=(320, 240)).network
    with torch.no_grad():
        (expected,) = native.detections(native(build_graph(scene.events, model.graph, time=last(scene))), 0.3)
    for name in "xywh":
        np.testing.assert_allclose(found[name], expected[name], atol=2e-2)


def last(stream: EventStream) -> int:
    return int(stream.events["t"][-1])


def test_what_cannot_be_replayed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = simulate_recognition(SEED)
    write_event_bag(tmp_path / "bag", sample.stream, labels=[Label(0, class_id=7)])
    model = load_model("scenes_recognizer")
    with pytest.raises(ValueError, match="a label is of class 7, the model has car, pedestrian, clutter"):
        replay(tmp_path / "bag", model)
    with pytest.raises(ValueError, match="the labels are classes, the model scenes_detector is for detection"):
        replay(tmp_path / "bag", load_model("scenes_detector"))
    with pytest.raises(ValueError, match="the period is 0 µs, expected a positive number"):
        replay(tmp_path / "bag", model, period_us=0)
    for score in (float("nan"), 5.0, -0.1):
        with pytest.raises(ValueError, match=f"the least score of boxes is {score}, expected a number from 0 to 1"):
            replay(tmp_path / "bag", model, score_threshold=score)
    with pytest.raises(ValueError, match="unknown downsampling 'mean', known are integrate, coordinates"):
        replay(tmp_path / "bag", load_model("nmnist"), downsampling="mean")
    with pytest.raises(
        ValueError, match="unknown sensor for the model, 'mine', known are filled, trained, double, camera"
    ):
        replay(tmp_path / "bag", load_model("nmnist"), model_sensor="mine")
    with pytest.raises(FileExistsError, match="exists already"):
        replay(tmp_path / "bag", model, tmp_path / "bag")
    assert main(["replay", str(tmp_path / "nothing")]) == 2
    assert "no such file" in capsys.readouterr().err
    for period in ("nan", "inf", "-1", "1e308"):
        with pytest.raises(SystemExit):
            main(["replay", str(tmp_path / "bag"), f"--period-ms={period}"])
        assert "argument --period-ms: expected a number above 0, at most" in capsys.readouterr().err
    assert main(["replay", str(tmp_path / "bag"), "--score-threshold", "0.5"]) == 2
    assert "--score-threshold has no effect without --output" in capsys.readouterr().err
    options = ["--output", str(tmp_path / "out"), "--model", "scenes_recognizer", "--score-threshold", "0.5"]
    assert main(["replay", str(tmp_path / "bag"), *options]) == 2
    assert "--score-threshold has no effect with scenes_recognizer, which is for recogn" in capsys.readouterr().err


def test_labels_of_a_bag_are_those_of_its_own_names(tmp_path: Path) -> None:
    """Numbered in another order than the model's, and stamped on another clock."""
    scene = simulate_scene(SEED)
    moments = [int(time) for time in np.unique(scene.boxes["t"]) if time >= 200_000][:3]
    model = load_model("scenes_detector")

    def figures(bag: str, names: tuple[str, ...], numbers: list[int], late: int = 0) -> Any:
        labels = []
        for moment in moments:
            boxes = np.zeros(int((scene.boxes["t"] == moment).sum()), LABEL_DTYPE)
            for name in ("x", "y", "w", "h"):
                boxes[name] = scene.boxes[scene.boxes["t"] == moment][name]
            boxes["class_id"] = np.array(numbers)[scene.boxes[scene.boxes["t"] == moment]["class_id"]]
            labels.append(Label(1000 * moment + late, boxes=boxes))
        write_event_bag(tmp_path / bag, scene.stream, labels=labels, class_names=names)
        return replay(tmp_path / bag, model, period_us=1_000_000).figures

    same = figures("same", ("car", "pedestrian"), [0, 1])
    assert same.ap50 > 0.5
    assert figures("swapped", ("pedestrian", "car"), [1, 0]) == same
    with pytest.raises(ValueError, match=r"late: events are stamped from 0.* labels from .*, on one clock"):
        figures("late", ("car", "pedestrian"), [0, 1], 10**13)


@pytest.mark.parametrize("start", [-500_000, 2**31 * 10**6 - 50_000])
def test_times_that_a_bag_cannot_hold_are_refused_before_anything_is_written(start: int, tmp_path: Path) -> None:
    """Neither those before 0, nor those that ROS cannot count, of the last answer too."""
    shifted = simulate_recognition(SEED).stream.events.copy()
    shifted["t"] += start
    np.savez(tmp_path / "shifted.npz", **{name: shifted[name] for name in "txyp"})
    with pytest.raises(
        ValueError, match=r"answers: a time is .* s, but a bag's begin at 0 and end before 2147483648 s"
    ):
        replay(tmp_path / "shifted.npz", load_model("scenes_recognizer"), tmp_path / "answers")
    assert not (tmp_path / "answers").exists()
    assert replay(tmp_path / "shifted.npz", load_model("scenes_recognizer")).answers > 0


def test_labels_of_ros_1_bags_count(tmp_path: Path) -> None:
    sample = simulate_recognition(SEED)
    stamp = 1000 * int(sample.stream.events["t"][-1])
    write_ros1_bag(tmp_path / "a.bag", sample.stream, [Label(stamp, class_id=sample.label)])
    result = replay(tmp_path / "a.bag", load_model("scenes_recognizer"), period_us=1_000_000)
    assert result.labelled == 1
    assert result.figures is not None


def test_of_two_cameras_the_one_asked_for_is_replayed(tmp_path: Path) -> None:
    sample = simulate_recognition(SEED)
    write_event_bag(tmp_path / "left", sample.stream, topic="/left/events")
    with Reader(tmp_path / "left") as reader, Writer(tmp_path / "both", version=9) as writer:
        (own,) = reader.connections
        topics = [
            writer.add_connection(name, own.msgtype, msgdef=own.msgdef.data, rihs01=own.digest)
            for name in ("/left/events", "/right/events")
        ]
        for number, (_, received, data) in enumerate(reader.messages()):
            for topic in topics[: 1 if number else 2]:
                writer.write(topic, received, data)
    model = load_model("scenes_recognizer")
    with pytest.raises(ValueError, match=r"/left/events, /right/events, .* choice of one with topic="):
        replay(tmp_path / "both", model)
    assert replay(tmp_path / "both", model, topic="/left/events", period_us=1_000_000).events == len(sample.stream)
