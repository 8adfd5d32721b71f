# SPDX-License-Identifier: Apache-2.0
"""Answers are judged by the labels that are true of them, and by no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aegnn_core.events.label_topics import LABEL_DTYPE, Label
from aegnn_core.events.rosbag import RecordedPacket, write_event_bag
from aegnn_core.nn.checkpoint import TrainedModel, load_model
from aegnn_core.nn.detection import DETECTION_DTYPE
from aegnn_ros.playback.bag_run import BagRun
from aegnn_ros.playback.packet_replay import PublishedPacket
from aegnn_ros.playback.timed_answers import Answer
from aegnn_ros.playback.true_labels import (
    judged_answers,
    labels_at_answers,
    precision_of_boxes,
    read_true_labels,
    why_not_judged,
)

CAR = np.array([(10, 20, 30, 40, 0)], LABEL_DTYPE)
NOTHING = np.empty(0, LABEL_DTYPE)
FOUND = np.array([(10, 20, 30, 40, 0.9, 0)], DETECTION_DTYPE)
S, MS = 10**9, 10**6


@pytest.fixture(scope="module")
def detector(models: dict[str, Path]) -> TrainedModel:
    return load_model(models["detection"])


@pytest.fixture(scope="module")
def recogniser(models: dict[str, Path]) -> TrainedModel:
    return load_model(models["recognition"])


def answers_at(*stamps: int) -> list[Answer]:
    return [Answer(stamp // 1000, stamp, 0, 1.0, FOUND, np.empty(0)) for stamp in stamps]


def times_of(labels: Sequence[Label | None]) -> list[int | None]:
    return [None if label is None else label.stamp for label in labels]


def test_boxes_are_true_for_20_ms_however_rarely_there_are_some() -> None:
    every_second = [Label(second * S, boxes=CAR) for second in range(5)]
    answers = answers_at(S - 21 * MS, S - 20 * MS, S, S + 20 * MS, S + 21 * MS, 2 * S)
    assert times_of(labels_at_answers(answers, every_second)) == [None, S, S, S, None, 2 * S]


def test_a_class_holds_on_until_the_next_one_is_nearer() -> None:
    every_second = [Label(second * S, class_id=second) for second in range(3)]
    answers = answers_at(400 * MS, 600 * MS, 2400 * MS, 2600 * MS)
    assert times_of(labels_at_answers(answers, every_second)) == [0, S, 2 * S, None]


def test_a_single_class_holds_throughout_and_single_boxes_do_not() -> None:
    answers = answers_at(0, 3600 * S)
    assert times_of(labels_at_answers(answers, [Label(5, class_id=1)])) == [5, 5]
    assert times_of(labels_at_answers(answers, [Label(5, boxes=CAR)])) == [5, None]
    assert times_of(labels_at_answers(answers, [])) == [None, None]


def test_boxes_that_are_found_where_nothing_is_lower_the_precision() -> None:
    """Though there were objects some seconds before."""
    labels = [Label(S, boxes=CAR), *(Label(S + k * 10 * MS, boxes=NOTHING) for k in range(1, 300))]
    answers = [*answers_at(S), replace(answers_at(3 * S)[0], boxes=FOUND.copy())]
    answers[1].boxes["score"] = 0.95
    run = BagRun()
    assert precision_of_boxes(judged_answers(run, answers[:1], labels), ["car"]) == pytest.approx((1.0, 1.0))
    assert precision_of_boxes(judged_answers(run, answers, labels), ["car"]) == pytest.approx((0.5, 0.5))


def test_answers_count_once_the_window_has_filled(packets: list[RecordedPacket]) -> None:
    labels = [Label(stamp, boxes=CAR) for stamp in range(0, S, 10 * MS)]
    answers = answers_at(*range(0, S, 50 * MS))
    for first, begin in ((replace(packets[0], stamp=S // 2), S // 2), (replace(packets[0], stamp=0), 10 * MS)):
        run = BagRun([PublishedPacket(first, 7 * S, 0)])
        judged = judged_answers(run, answers, labels)
        assert [answer.stamp for answer, _ in judged] == [a.stamp for a in answers if a.stamp >= begin + 100 * MS]


def test_a_table_says_why_there_is_no_figure() -> None:
    labels = [Label(0, boxes=NOTHING)]
    assert precision_of_boxes([(answers_at(0)[0], labels[0])], ["car"]) == (None, None)
    assert why_not_judged("detection", labels, judged=1) == "no true boxes"
    assert why_not_judged("detection", labels, judged=0) == "no answer near a label"
    assert why_not_judged("detection", [], judged=0) == "no labels of boxes"
    assert why_not_judged("recognition", [], judged=0) == "no labels of classes"


def test_labels_are_those_for_the_models_task_with_boxes_in_the_picture(
    detector: TrainedModel, recogniser: TrainedModel, packets: list[RecordedPacket], tmp_path: Path
) -> None:
    boxes = np.array([(-10, 20, 30, 40, 0), (160, 20, 30, 40, 1)], LABEL_DTYPE)
    write_event_bag(tmp_path / "boxes", packets, labels=[Label(S // 2, boxes=boxes)])
    (label,) = read_true_labels(tmp_path / "boxes", packets, detector)
    assert label.boxes is not None
    assert label.boxes.tolist() == [(0, 20, 20, 40, 0)]
    assert read_true_labels(tmp_path / "boxes", packets, recogniser) == []
    write_event_bag(tmp_path / "class", packets, labels=[Label(S // 2, class_id=2)])
    assert [label.class_id for label in read_true_labels(tmp_path / "class", packets, recogniser)] == [2]
    assert read_true_labels(tmp_path / "class", packets, detector) == []


def test_labels_of_packets_without_a_stamp_are_on_the_clock_of_their_receipt(
    detector: TrainedModel, packets: list[RecordedPacket], tmp_path: Path
) -> None:
    now = 1_700_000_000 * S
    unstamped = [replace(packet, stamp=0, received=packet.received + now) for packet in packets]
    write_event_bag(tmp_path / "bag", unstamped, labels=[Label(now + S // 2, boxes=CAR)])
    assert times_of(read_true_labels(tmp_path / "bag", unstamped, detector)) == [now + S // 2]


def test_labels_on_another_clock_than_the_events_are_refused(
    detector: TrainedModel, packets: list[RecordedPacket], tmp_path: Path
) -> None:
    write_event_bag(tmp_path / "bag", packets, labels=[Label(1_700_000_000 * S, boxes=CAR)])
    with pytest.raises(
        ValueError, match=r"labels from 1700000000\.000 .* expected some at the same time, on one clock"
    ):
        read_true_labels(tmp_path / "bag", packets, detector)


def test_the_one_class_of_a_recording_may_have_any_stamp(
    recogniser: TrainedModel, packets: list[RecordedPacket], tmp_path: Path
) -> None:
    write_event_bag(tmp_path / "bag", packets, labels=[Label(1_700_000_000 * S, class_id=1)])
    assert [label.class_id for label in read_true_labels(tmp_path / "bag", packets, recogniser)] == [1]


def test_a_topic_that_is_not_there_is_refused_only_where_it_was_asked_for(
    detector: TrainedModel, packets: list[RecordedPacket], tmp_path: Path
) -> None:
    write_event_bag(tmp_path / "bag", packets)
    assert read_true_labels(tmp_path / "bag", packets, detector) == []
    with pytest.raises(ValueError, match="bag: has no topic /lables, expected one of /event_camera/events"):
        read_true_labels(tmp_path / "bag", packets, detector, "/lables")


def test_a_class_that_the_model_does_not_have_is_refused(
    detector: TrainedModel, packets: list[RecordedPacket], tmp_path: Path
) -> None:
    car = CAR.copy()
    car["class_id"] = 2
    write_event_bag(tmp_path / "bag", packets, labels=[Label(S // 2, boxes=car)])
    with pytest.raises(ValueError, match="a label is of class 2, the model has car, pedestrian"):
        read_true_labels(tmp_path / "bag", packets, detector)
