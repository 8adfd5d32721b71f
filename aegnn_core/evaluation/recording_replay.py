# SPDX-License-Identifier: Apache-2.0
"""Runs a recording through the live model at full speed, and writes its answers as a rosbag2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from rich.progress import track
from rosbags.rosbag2 import StoragePlugin, Writer

from aegnn_core.datasets.dataset_format import boxes_in_picture
from aegnn_core.evaluation.average_precision import AveragePrecision
from aegnn_core.evaluation.evaluate import Accuracy, figures_of
from aegnn_core.evaluation.model_answers import LiveAnswers
from aegnn_core.evaluation.model_on_camera import ModelOnCamera
from aegnn_core.events.files import read_events
from aegnn_core.events.files.bag_clock import BagClock, read_bag_clock
from aegnn_core.events.label_topics import (
    BOXES_TYPE,
    CLASS_TYPE,
    INFO_TYPE,
    Label,
    label_typestore,
    serialize_boxes,
    serialize_classes,
    serialize_label_info,
)
from aegnn_core.events.rosbag import LATCHED_QOS, check_ros_time, is_bag_recording, read_labels, removed_on_failure
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_core.nn.model_sensor import MODEL_SENSORS

__all__ = ["Replay", "replay"]

#: Where the node publishes the same.
_PREFIX = "/event_detector"
#: The average precision takes all boxes from this score on.
_LEAST_SCORE = 0.01


@dataclass(frozen=True)
class Replay:
    """The result of replaying a recording.

    Attributes:
        events: their number.
        events_downsampled: how many of them, or made of them, came to the model's sensor.
        answers: number of times that the model was asked.
        seconds: that the model took for all.
        labelled: number of answers at times with a label.
        figures: accuracy or average precision at these; None without labels.
    """

    events: int
    events_downsampled: int
    answers: int
    seconds: float
    labelled: int
    figures: Accuracy | AveragePrecision | None


def replay(
    recording: str | Path,
    model: TrainedModel,
    output: str | Path | None = None,
    *,
    period_us: int = 20_000,
    score_threshold: float = 0.3,
    downsampling: str | None = None,
    model_sensor: str = MODEL_SENSORS[0],
    topic: str | None = None,
    **reading: Any,
) -> Replay:
    """Ask the live model every ``period_us`` of a recording, and whenever the recording has a label.

    Events of another sensor come to the model's as :class:`aegnn_core.evaluation.ModelOnCamera` says, its boxes back.

    Args:
        recording: whatever :func:`aegnn_core.events.read_events` reads; labels are those of a bag's topic ``/labels``.
        model: what answers.
        output: folder of a new bag (mcap) for the answers, on the topics of the node: ``/event_detector/detections`` or
            ``/event_detector/classification``, and ``/event_detector/label_info``. Stamps are those of the recording's
            packets; of other recordings than bags, the sensor's time.
        period_us: time between answers [µs].
        score_threshold: least score of the boxes in the bag, from 0 to 1.
        downsampling: how events of a larger sensor come to the model's: ``"integrate"`` or ``"coordinates"``; None for
            the way that the model was trained with.
        model_sensor: the sensor that the network runs on, one of :data:`aegnn_core.nn.MODEL_SENSORS`.
        topic: the event topic of a recording that is a bag with several.
        reading: other options of :func:`aegnn_core.events.read_events`, such as ``time_unit``.

    Raises:
        FileNotFoundError: there is no such recording.
        FileExistsError: something is at ``output`` already.
        ValueError: the recording or its labels cannot be read, the labels are for another task, the period is not
            positive, the threshold is no score, the network does not run on the recording's sensor, or it gives nan or
            infinity. Nothing is left at ``output`` then.
    """
    recording = Path(recording)
    if period_us < 1:
        raise ValueError(f"the period is {period_us} µs, expected a positive number")
    if not 0 <= score_threshold <= 1:
        raise ValueError(f"the least score of boxes is {score_threshold}, expected a number from 0 to 1")
    if output is not None and Path(output).exists():
        raise FileExistsError(f"{output}: exists already, expected the name of a new bag")
    stream = read_events(recording, topic=topic, **reading)
    clock, labels = _bag_clock_and_labels(recording, model, topic, stamped=output is not None)
    start, stop = int(stream.events["t"][0]), int(stream.events["t"][-1])
    labelled = [label.stamp // 1000 for label in labels]
    moments = sorted({*range(start + period_us, stop, period_us), stop, *labelled})
    sensor = (stream.width, stream.height)
    fitted = ModelOnCamera(model, sensor, downsampling, model_sensor)
    events = fitted.events(stream.events)
    outputs = LiveAnswers(fitted.model)(events, moments)
    predictions: dict[int, Any] = {}
    seconds = 0.0
    stamp_of = (lambda moment: 1000 * moment) if clock is None else clock.stamp
    with _open_bag(output, model, score_threshold, stamp_of(start), stamp_of(moments[-1])) as bag:
        for moment in track(moments, "Replaying", transient=True):
            begin = perf_counter()
            answer = next(outputs)
            seconds += perf_counter() - begin
            stamp = stamp_of(moment)
            if model.task == "recognition":
                scores = model.network.class_scores(answer)[0].cpu().numpy()
                predictions[moment] = int(scores.argmax())
                bag.write_scores(stamp, scores)
            else:
                predictions[moment] = fitted.boxes(answer, _LEAST_SCORE)
                bag.write_boxes(stamp, predictions[moment])
    truth = [label.class_id if label.boxes is None else boxes_in_picture(label.boxes, sensor) for label in labels]
    figures = figures_of(model, truth, [predictions[moment] for moment in labelled]) if labels else None
    return Replay(len(stream), len(events), len(moments), seconds, len(labels), figures)


@contextmanager
def _open_bag(
    path: str | Path | None, model: TrainedModel, score_threshold: float, start: int, end: int
) -> Iterator[_AnswerBag | _NoBag]:
    """The bag for answers from ``start``, as its label info is stamped, to ``end`` [ns]; nowhere without a path."""
    if path is None:
        yield _NoBag()
        return
    for time in (start, end):
        check_ros_time(Path(path), time)
    with removed_on_failure(Path(path)), Writer(Path(path), version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        yield _AnswerBag(writer, model, score_threshold, start)


class _NoBag:
    """Takes answers that nobody wants to keep."""

    def write_scores(self, stamp: int, scores: np.ndarray) -> None:
        """Nothing."""

    def write_boxes(self, stamp: int, boxes: np.ndarray) -> None:
        """Nothing."""


class _AnswerBag:
    """Topics with a model's answers in a bag, and what its class numbers mean."""

    def __init__(self, writer: Writer, model: TrainedModel, score_threshold: float, start: int) -> None:
        self._writer, self._score_threshold, self._store = writer, score_threshold, label_typestore()
        info = writer.add_connection(
            f"{_PREFIX}/label_info", INFO_TYPE, typestore=self._store, offered_qos_profiles=[LATCHED_QOS]
        )
        writer.write(info, start, serialize_label_info(start, model.labels, score_threshold, self._store))
        name, kind = ("classification", CLASS_TYPE) if model.task == "recognition" else ("detections", BOXES_TYPE)
        self._topic = writer.add_connection(f"{_PREFIX}/{name}", kind, typestore=self._store)

    def write_scores(self, stamp: int, scores: np.ndarray) -> None:
        by_class = {number: float(score) for number, score in enumerate(scores)}
        self._writer.write(self._topic, stamp, serialize_classes(stamp, by_class, self._store))

    def write_boxes(self, stamp: int, boxes: np.ndarray) -> None:
        shown = boxes[boxes["score"] >= self._score_threshold]
        self._writer.write(self._topic, stamp, serialize_boxes(stamp, shown, self._store))


def _bag_clock_and_labels(
    recording: Path, model: TrainedModel, topic: str | None, stamped: bool
) -> tuple[BagClock | None, list[Label]]:
    """A bag's clock, and its labels, stamped with the sensor's time, that are for the model's task.

    A recording that is not a bag has neither. The clock, for which all packets are read, is for labels, and where
    answers are to be stamped.
    """
    if not is_bag_recording(recording):
        return None, []
    labels = read_labels(recording, model.labels)
    if not labels and not stamped:
        return None, []
    clock = read_bag_clock(recording, topic)
    labels = clock.in_sensor_time(labels)
    clock.check(recording, labels)
    if labels and (labels[0].boxes is None) != (model.task == "recognition"):
        kind = "classes" if labels[0].boxes is None else "boxes"
        raise ValueError(f"{recording}: the labels are {kind}, the model {model.name} is for {model.task}")
    largest = max(map(_largest_class, labels), default=0)
    if largest >= len(model.labels):
        raise ValueError(f"{recording}: a label is of class {largest}, the model has {', '.join(model.labels)}")
    return clock, labels


def _largest_class(label: Label) -> int:
    return int(label.boxes["class_id"].max(initial=0)) if label.boxes is not None else label.class_id or 0
