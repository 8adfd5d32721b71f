# SPDX-License-Identifier: Apache-2.0
"""Accuracy over the number of events seen: how early a recogniser is correct, as AEGNN plots it (CVPR 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.progress import track

from aegnn_core.evaluation.evaluate import fit
from aegnn_core.evaluation.model_answers import LiveAnswers
from aegnn_core.evaluation.moments import LabelledRecordings
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_core.nn.model_sensor import MODEL_SENSORS

__all__ = ["SHARES", "SeenAccuracy", "accuracy_over_events"]

#: Parts of a recording's events.
SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


@dataclass(frozen=True)
class SeenAccuracy:
    """Share of correct answers after a part of each recording.

    Attributes:
        share: of the recording's events.
        events: that the live model had seen, on average.
        accuracy: share of right answers.
    """

    share: float
    events: float
    accuracy: float


def accuracy_over_events(
    model: TrainedModel,
    recordings: LabelledRecordings,
    *,
    downsampling: str | None = None,
    model_sensor: str = MODEL_SENSORS[0],
) -> list[SeenAccuracy]:
    """Ask the live recogniser after each of :data:`SHARES` of the events of each recording.

    Events with the time of the last one of a part are part of it.

    Args:
        model, recordings, downsampling, model_sensor: as of :func:`aegnn_core.evaluation.evaluate`.

    Raises:
        ValueError: the model is for another task, other classes or a larger sensor than the recordings, these have
            boxes instead of classes, or it gives nan or infinity.
    """
    fitted = fit(model, recordings, downsampling, model_sensor)
    if model.task != "recognition":
        raise ValueError(f"accuracy over events is for recognition, the model {model.name} is for {model.task}")
    answers = LiveAnswers(fitted.model)
    right, seen = np.zeros((2, len(SHARES)))
    for recording in track(recordings.read(), "Evaluating", total=recordings.count, transient=True):
        t = recording.events["t"]
        moments = [int(t[max(1, round(share * len(t))) - 1]) for share in SHARES]
        events = fitted.events(recording.events)
        seen += np.searchsorted(events["t"], moments, side="right")
        (label,) = recording.truth
        right += [int(output.argmax()) == label for output in answers(events, moments)]
    count = max(1, recordings.count)
    return [
        SeenAccuracy(share, float(events), float(accuracy))
        for share, events, accuracy in zip(SHARES, seen / count, right / count, strict=True)
    ]
