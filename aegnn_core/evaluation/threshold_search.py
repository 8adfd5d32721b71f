# SPDX-License-Identifier: Apache-2.0
"""Which score and overlap thresholds give a detector its best average precision (AEGNN's `map_search`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.progress import track
from torch import Tensor

from aegnn_core.evaluation.average_precision import AveragePrecision, average_precision
from aegnn_core.evaluation.evaluate import fit
from aegnn_core.evaluation.model_answers import ANSWERS
from aegnn_core.evaluation.model_on_camera import ModelOnCamera
from aegnn_core.evaluation.moments import LabelledRecordings
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_core.nn.model_sensor import MODEL_SENSORS

__all__ = ["IOU_THRESHOLDS", "SCORE_THRESHOLDS", "ThresholdResult", "search_thresholds"]

SCORE_THRESHOLDS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
IOU_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)


@dataclass(frozen=True)
class ThresholdResult:
    """Average precision with one pair of thresholds.

    Attributes:
        score_threshold: least score of a box.
        iou_threshold: overlap from which the lesser of two boxes of a class is suppressed.
        precision: COCO's figures.
    """

    score_threshold: float
    iou_threshold: float
    precision: AveragePrecision


def search_thresholds(
    model: TrainedModel,
    recordings: LabelledRecordings,
    through: str = "asynchronous",
    scores: Sequence[float] = SCORE_THRESHOLDS,
    ious: Sequence[float] = IOU_THRESHOLDS,
    *,
    downsampling: str | None = None,
    model_sensor: str = MODEL_SENSORS[0],
) -> list[ThresholdResult]:
    """Average precision for all pairs of thresholds, the best first; the model answers only once.

    Args:
        model, recordings, downsampling, model_sensor: as of :func:`aegnn_core.evaluation.evaluate`.
        through: ``"dense"`` or ``"asynchronous"``.
        scores: least scores of a box.
        ious: overlaps from which the lesser of two boxes of a class is suppressed.

    Raises:
        ValueError: the model is no detector, for other classes or a larger sensor than the recordings, or gives nan or
            infinity.
    """
    fitted = fit(model, recordings, downsampling, model_sensor)
    if model.task != "detection":
        raise ValueError(f"thresholds are for detection, the model {model.name} is for {model.task}")
    answer = ANSWERS[through](fitted.model)
    truth: list[Any] = []
    outputs: list[Tensor] = []
    for recording in track(recordings.read(), "Evaluating", total=recordings.count, transient=True):
        truth.extend(recording.truth)
        outputs.extend(answer(fitted.events(recording.events), recording.moments))
    pairs = [(score, iou) for score in scores for iou in ious]
    results = [
        ThresholdResult(
            score,
            iou,
            average_precision(
                truth,
                _boxes(fitted, recordings, outputs, score, iou),
                model.labels,
                recordings.evaluated_labels,
            ),
        )
        for score, iou in track(pairs, "Searching", transient=True)
    ]
    return sorted(results, key=lambda result: -result.precision.ap)


def _boxes(
    fitted: ModelOnCamera, recordings: LabelledRecordings, outputs: Sequence[Tensor], score: float, iou: float
) -> list[np.ndarray]:
    return [recordings.counting(fitted.boxes(output, score, iou)) for output in outputs]
