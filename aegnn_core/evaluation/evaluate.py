# SPDX-License-Identifier: Apache-2.0
"""How accurate a model is on labelled recordings, and whether its live and dense answers agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.progress import track
from torch import Tensor

from aegnn_core.evaluation.average_precision import AveragePrecision, average_precision
from aegnn_core.evaluation.model_answers import ANSWERS, LiveAnswers, LiveCosts
from aegnn_core.evaluation.model_on_camera import ModelOnCamera
from aegnn_core.evaluation.moments import LabelledRecordings
from aegnn_core.events.letterbox import Letterbox
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_core.nn.model_sensor import MODEL_SENSORS

__all__ = ["Accuracy", "Agreement", "Evaluation", "EventRates", "evaluate", "figures_of", "fit"]

_SCORE_THRESHOLD = 0.01


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers, and ``confusion[true, answered]`` in recordings."""

    accuracy: float
    confusion: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """The figures by name."""
        return {"accuracy": self.accuracy, "confusion": self.confusion.tolist()}


@dataclass(frozen=True)
class Agreement:
    """How the live model compares with the dense network.

    Attributes:
        answers: number of moments that both answered.
        equal: how many of these with the same class, or with boxes of the same classes.
        largest_difference: of any score in [0, 1].
    """

    answers: int
    equal: int
    largest_difference: float


@dataclass(frozen=True)
class EventRates:
    """Events per second of the recordings.

    Attributes:
        camera_per_s: that the camera sent.
        network_per_s: that came to the model's sensor.
    """

    camera_per_s: float
    network_per_s: float


@dataclass(frozen=True)
class Evaluation:
    """Figures of one model.

    Attributes:
        figures: by what the answers came from, ``"dense"`` or ``"asynchronous"``.
        agreement: between the two, where both were asked.
        costs: of the live model, where it was asked and there were events.
        rates: of the events, where there were any.
    """

    figures: dict[str, Accuracy | AveragePrecision]
    agreement: Agreement | None
    costs: LiveCosts | None
    rates: EventRates | None = None


@dataclass
class _Answered:
    """What has been answered so far: predictions, each a class or boxes, and scores per moment."""

    predictions: list[Any] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)


def evaluate(
    model: TrainedModel,
    recordings: LabelledRecordings,
    through: Sequence[str] = ("asynchronous",),
    *,
    downsampling: str | None = None,
    model_sensor: str = MODEL_SENSORS[0],
) -> Evaluation:
    """Ask a model at all moments of the recordings, and compare its answers with the labels.

    Args:
        model: of the same task and classes as the recordings. Their sensor may be larger; boxes are compared there.
        recordings: are read one after the other, once.
        through: ``"dense"``, ``"asynchronous"`` or both: what answers.
        downsampling: how events of a larger sensor come to the model's, see
            :class:`aegnn_core.events.downsampling.Downsampler`; None for the way that the model was trained with.
        model_sensor: the sensor that the network runs on, one of :data:`aegnn_core.nn.MODEL_SENSORS`.

    Raises:
        ValueError: the model is for another task, other classes or a larger sensor than the recordings, cannot run on
            theirs, or gives nan or infinity.
    """
    fitted = fit(model, recordings, downsampling, model_sensor)
    answers = {name: ANSWERS[name](fitted.model) for name in through}
    answered = {name: _Answered() for name in through}
    truth: list[Any] = []
    sent = given = duration_us = 0
    for recording in track(recordings.read(), "Evaluating", total=recordings.count, transient=True):
        truth.extend(recording.truth)
        events = fitted.events(recording.events)
        if len(recording.events):
            sent, given = sent + len(recording.events), given + len(events)
            duration_us += int(recording.events["t"][-1]) - int(recording.events["t"][0])
        for name, answer in answers.items():
            for output in answer(events, recording.moments):
                prediction, scores = _interpret(fitted, output)
                answered[name].predictions.append(recordings.counting(prediction))
                answered[name].scores.append(scores)
    figures = {
        name: figures_of(model, truth, answered[name].predictions, recordings.evaluated_labels) for name in through
    }
    agreement = _agreement(*answered.values()) if len(through) == 2 else None
    live = answers.get("asynchronous")
    costs = live.costs() if isinstance(live, LiveAnswers) else None
    rates = EventRates(1e6 * sent / duration_us, 1e6 * given / duration_us) if duration_us else None
    return Evaluation(figures, agreement, costs, rates)


def fit(
    model: TrainedModel,
    recordings: LabelledRecordings,
    downsampling: str | None = None,
    model_sensor: str = MODEL_SENSORS[0],
) -> ModelOnCamera:
    """The model on the recordings' camera, see :class:`aegnn_core.evaluation.model_on_camera.ModelOnCamera`.

    Raises:
        ValueError: the model is for another task or other classes than the recordings, its sensor has more pixels in
            some direction while theirs has more in none, or it cannot run on theirs.
    """
    letterbox = Letterbox(recordings.sensor, (model.width, model.height))
    smaller = letterbox.camera != letterbox.model and not letterbox.shrinks
    for what, found, expected, fits in (
        ("for the task", model.task, recordings.task, model.task == recordings.task),
        ("for a sensor of", *("{} x {} px".format(*size) for size in (letterbox.model, letterbox.camera)), not smaller),
        ("for the classes", ", ".join(model.labels), ", ".join(recordings.labels), model.labels == recordings.labels),
    ):
        if not fits and not (what == "for a sensor of" and model_sensor == "camera"):
            raise ValueError(f"model {model.name} is {what} {found}, the data set {recordings.name} {what} {expected}")
    return ModelOnCamera(model, recordings.sensor, downsampling, model_sensor)


def _interpret(fitted: ModelOnCamera, output: Tensor) -> tuple[Any, np.ndarray]:
    """The predicted class or boxes, and all scores that it comes from."""
    network = fitted.model.network
    if network.task == "recognition":
        scores = network.class_scores(output)[0].cpu().numpy()
        return int(scores.argmax()), scores
    return fitted.boxes(output, _SCORE_THRESHOLD), network.predictions(output).scores()[0].cpu().numpy()


def figures_of(
    model: TrainedModel,
    truth: Sequence[Any],
    predictions: Sequence[Any],
    evaluated_labels: Sequence[str] | None = None,
) -> Accuracy | AveragePrecision:
    """Accuracy of predicted class numbers, or average precision of predicted boxes, one per true class or boxes.

    The average precision's mean is of the ``evaluated_labels``, or of all.
    """
    if model.task == "detection":
        return average_precision(truth, predictions, model.labels, evaluated_labels)
    confusion = np.zeros((len(model.labels), len(model.labels)), np.int64)
    np.add.at(confusion, (truth, predictions), 1)
    return Accuracy(float(np.trace(confusion) / max(1, confusion.sum())), confusion)


def _agreement(one: _Answered, other: _Answered) -> Agreement:
    pairs = list(zip(one.predictions, other.predictions, strict=True))
    equal = sum(np.array_equal(_classes(a), _classes(b)) for a, b in pairs)
    differences = [np.abs(a - b).max() for a, b in zip(one.scores, other.scores, strict=True)]
    return Agreement(len(pairs), equal, float(np.max(differences, initial=0.0)))


def _classes(prediction: int | np.ndarray) -> np.ndarray | int:
    return np.sort(prediction["class_id"]) if isinstance(prediction, np.ndarray) else prediction
