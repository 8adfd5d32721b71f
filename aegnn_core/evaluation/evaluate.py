"""How good a model is on labelled recordings, and whether its live and its dense form agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.progress import track
from torch import Tensor

from aegnn_core.evaluation.answers import ANSWERS, LiveAnswers, LiveCosts
from aegnn_core.evaluation.average_precision import AveragePrecision, average_precision
from aegnn_core.evaluation.moments import LabelledRecordings
from aegnn_core.nn.checkpoint import TrainedModel

__all__ = ["Accuracy", "Agreement", "Evaluation", "check_fit", "evaluate", "figures_of"]

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
class Evaluation:
    """Figures of one model.

    Attributes:
        figures: by what the answers came from, ``"dense"`` or ``"asynchronous"``.
        agreement: between the two, where both were asked.
        costs: of the live model, where it was asked and there were events.
    """

    figures: dict[str, Accuracy | AveragePrecision]
    agreement: Agreement | None
    costs: LiveCosts | None


@dataclass
class _Answered:
    """What has been answered so far: predictions, each a class or boxes, and scores per moment."""

    predictions: list[Any] = field(default_factory=list)
    scores: list[np.ndarray] = field(default_factory=list)


def evaluate(
    model: TrainedModel, recordings: LabelledRecordings, through: Sequence[str] = ("asynchronous",)
) -> Evaluation:
    """Ask a model at all moments of the recordings, and compare its answers with what is true.

    Args:
        model: of the same task, classes and sensor as the recordings.
        recordings: are read one after the other, once.
        through: ``"dense"``, ``"asynchronous"`` or both: what answers.

    Raises:
        ValueError: the model is for another task, other classes or another sensor than the recordings.
    """
    check_fit(model, recordings)
    answers = {name: ANSWERS[name](model) for name in through}
    answered = {name: _Answered() for name in through}
    truth: list[Any] = []
    for recording in track(recordings.read(), "Evaluating", total=recordings.count, transient=True):
        truth.extend(recording.truth)
        for name, answer in answers.items():
            for output in answer(recording.events, recording.moments):
                prediction, scores = _interpret(model, output)
                if recordings.counts is not None:
                    prediction = prediction[recordings.counts(prediction["w"], prediction["h"])]
                answered[name].predictions.append(prediction)
                answered[name].scores.append(scores)
    figures = {name: figures_of(model, truth, answered[name].predictions) for name in through}
    agreement = _agreement(*answered.values()) if len(through) == 2 else None
    live = answers.get("asynchronous")
    return Evaluation(figures, agreement, live.costs() if isinstance(live, LiveAnswers) else None)


def check_fit(model: TrainedModel, recordings: LabelledRecordings) -> None:
    """Raise a ``ValueError`` unless the model is of the recordings' task, classes and sensor."""
    for what, found, expected in (
        ("for the task", model.task, recordings.task),
        ("for a sensor of", f"{model.width} x {model.height} px", "{} x {} px".format(*recordings.sensor)),
        ("for the classes", ", ".join(model.labels), ", ".join(recordings.labels)),
    ):
        if found != expected:
            raise ValueError(f"model {model.name} is {what} {found}, the data set {recordings.name} {what} {expected}")


def _interpret(model: TrainedModel, output: Tensor) -> tuple[Any, np.ndarray]:
    """The predicted class or boxes, and all scores that it comes from."""
    if model.task == "recognition":
        scores = model.network.class_scores(output)[0].cpu().numpy()
        return int(scores.argmax()), scores
    (boxes,) = model.network.detections(output, score_threshold=_SCORE_THRESHOLD)
    return boxes, model.network.predictions(output).scores()[0].cpu().numpy()


def figures_of(model: TrainedModel, truth: Sequence[Any], predictions: Sequence[Any]) -> Accuracy | AveragePrecision:
    """Accuracy of predicted class numbers, or average precision of predicted boxes, one per true class or boxes."""
    if model.task == "detection":
        return average_precision(truth, predictions, model.labels)
    confusion = np.zeros((len(model.labels), len(model.labels)), np.int64)
    np.add.at(confusion, (truth, predictions), 1)
    return Accuracy(float(np.trace(confusion) / max(1, confusion.sum())), confusion)


def _agreement(one: _Answered, other: _Answered) -> Agreement:
    pairs = list(zip(one.predictions, other.predictions, strict=True))
    equal = sum(np.array_equal(_classes(a), _classes(b)) for a, b in pairs)
    differences = [np.abs(a - b).max() for a, b in zip(one.scores, other.scores, strict=True)]
    return Agreement(len(pairs), equal, float(max(differences, default=0.0)))


def _classes(prediction: int | np.ndarray) -> np.ndarray | int:
    return np.sort(prediction["class_id"]) if isinstance(prediction, np.ndarray) else prediction
