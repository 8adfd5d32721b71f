# SPDX-License-Identifier: Apache-2.0
"""The labels of a bag that is played to a node, and how good its answers are by them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aegnn_core.datasets.dataset_format import boxes_in_picture
from aegnn_core.evaluation import average_precision
from aegnn_core.events.array import EventFormatError
from aegnn_core.events.files.bag_clock import BagClock
from aegnn_core.events.label_topics import LABEL_TOPIC, Label
from aegnn_core.events.recorded_packet import RecordedPacket
from aegnn_core.events.rosbag import read_labels, topic_types
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_ros.playback.bag_run import BagRun
from aegnn_ros.playback.timed_answers import Answer

__all__ = ["judged_answers", "labels_at_answers", "precision_of_boxes", "read_true_labels", "why_not_judged"]

#: The window has to fill before an answer counts [ns], as in ``aegnn evaluate``.
_FIRST_NS = 100_000_000
#: Objects move, so boxes are true no further away from their stamp than this [ns].
_NEAR_NS = 20_000_000


def read_true_labels(
    bag: Path, packets: Sequence[RecordedPacket], model: TrainedModel, topic: str | None = None
) -> list[Label]:
    """The labels of a bag by time that are for a model's task, boxes clipped to the sensor.

    Args:
        bag: rosbag2 recording.
        packets: its event packets, at least one.
        model: whose classes the labels' numbers are.
        topic: of the labels; None for ``/labels`` where the bag has it.

    Raises:
        EventFormatError: there is no such topic, its labels cannot be read or have a class that the model does not, or
            none is within a second of the packets; a single class may be stamped with any time.
    """
    if topic is not None and topic not in (known := topic_types(bag)):
        raise EventFormatError(f"{bag}: has no topic {topic}, expected one of {', '.join(sorted(known))}")
    labels = read_labels(bag, model.labels, topic or LABEL_TOPIC)
    if not _hold_throughout(labels):
        # Answers are compared with labels in ROS time, so that takes the place of the sensor's.
        stamps = [packet.stamp_or_receipt for packet in packets]
        BagClock((stamp // 1000, stamp // 1000, stamp) for stamp in stamps).check(bag, labels)
    labels = [label for label in labels if (label.boxes is None) == (model.task == "recognition")]
    largest = max((_largest_class(label) for label in labels), default=0)
    if largest >= len(model.labels):
        raise EventFormatError(f"{bag}: a label is of class {largest}, the model has {', '.join(model.labels)}")
    sensor = (packets[0].width, packets[0].height)
    return [
        label if label.boxes is None else replace(label, boxes=boxes_in_picture(label.boxes, sensor))
        for label in labels
    ]


def labels_at_answers(answers: Sequence[Answer], labels: Sequence[Label]) -> list[Label | None]:
    """The nearest label of each answer; None where it is too far away to be true of it.

    Boxes are true within 20 ms. A class holds on until half the time to the next label, and a single one throughout.
    """
    if not labels:
        return [None] * len(answers)
    stamps = np.array([label.stamp for label in labels])
    near: float = _NEAR_NS
    if _hold_throughout(labels):
        near = math.inf
    elif labels[0].boxes is None:
        near = max(near, float(np.median(np.diff(stamps))) / 2)
    nearest = [labels[int(np.abs(stamps - answer.stamp).argmin())] for answer in answers]
    return [
        label if abs(label.stamp - answer.stamp) <= near else None
        for answer, label in zip(answers, nearest, strict=True)
    ]


def judged_answers(run: BagRun, answers: Sequence[Answer], labels: Sequence[Label]) -> list[tuple[Answer, Label]]:
    """The answers that labels say something of, each with its label; none of before the window has filled."""
    begin = run.sent[0].packet.stamp_or_receipt + _FIRST_NS if run.sent else 0
    found = zip(answers, labels_at_answers(answers, labels), strict=True)
    return [(answer, label) for answer, label in found if label is not None and answer.stamp >= begin]


def precision_of_boxes(
    judged: Sequence[tuple[Answer, Label]], class_names: Sequence[str]
) -> tuple[float | None, float | None]:
    """COCO average precision, and that at IoU 0.5; None where no true box is to be found."""
    truth = [label.boxes for _, label in judged if label.boxes is not None]
    result = average_precision(truth, [answer.boxes for answer, _ in judged], class_names)
    return (None, None) if math.isnan(result.ap) else (result.ap, result.ap50)


def why_not_judged(task: str, labels: Sequence[Label], judged: int) -> str:
    """What a table says instead of a figure of a model for this task, where so many answers have been judged."""
    if not labels:
        return "no labels of boxes" if task == "detection" else "no labels of classes"
    return "no true boxes" if judged else "no answer near a label"


def _hold_throughout(labels: Sequence[Label]) -> bool:
    """Whether these are the one class of the whole recording."""
    return len(labels) == 1 and labels[0].boxes is None


def _largest_class(label: Label) -> int:
    return int(label.boxes["class_id"].max(initial=0)) if label.boxes is not None else label.class_id or 0
