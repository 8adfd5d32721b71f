# SPDX-License-Identifier: Apache-2.0
"""The figures of a validation, from the answers to its samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch, Data

from aegnn_core.evaluation import Accuracy, AveragePrecision
from aegnn_core.evaluation.evaluate import figures_of
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_core.nn.detection import DETECTION_DTYPE

__all__ = ["FIGURES", "Seen", "Validation", "logged_figures"]

#: Name of the figure by which weights are better or worse, by task.
FIGURES = {"recognition": "validation/accuracy", "detection": "validation/ap"}

#: Boxes of a lower score do not count in average precision; pictures show those of a higher one.
_LEAST_SCORE, _SHOWN_SCORE = 0.01, 0.3
_SHOWN_SAMPLES = 4


class Seen(NamedTuple):
    """A graph, its true boxes and those that were found, both structured arrays with x, y, w, h [px] and class_id."""

    graph: Data
    truth: np.ndarray
    found: np.ndarray


def logged_figures(figures: Accuracy | AveragePrecision) -> dict[str, float]:
    """Figures by the names of :data:`FIGURES` and like these."""
    if isinstance(figures, Accuracy):
        values = {"accuracy": figures.accuracy}
    else:
        values = {"ap": figures.ap, "ap50": figures.ap50, "ap75": figures.ap75}
    # Without a true box there is no average precision, and nothing to tell better from worse weights.
    return {f"validation/{name}": float(np.nan_to_num(value)) for name, value in values.items()}


class Validation:
    """Collects a model's answers to the samples of a validation, batch by batch.

    Args:
        model: that is asked.
        counts: which boxes count, from their w and h [px]; None for all.
        evaluated_labels: of the classes whose average precision its mean is of; None for all.

    Attributes:
        seen: a few samples of a detector, to be shown.
    """

    def __init__(
        self,
        model: TrainedModel,
        counts: Callable[[np.ndarray, np.ndarray], NDArray[np.bool_]] | None = None,
        evaluated_labels: Sequence[str] | None = None,
    ) -> None:
        self._model, self._counts, self._evaluated_labels = model, counts, evaluated_labels
        self.begin()

    def __len__(self) -> int:
        """Samples that have been answered."""
        return len(self._answers)

    def begin(self) -> None:
        """Forget all answers."""
        self._answers: dict[int, tuple[Any, Any]] = {}
        self.seen: list[Seen] = []

    def take(self, batch: Batch, output: Tensor) -> None:
        """Keep the answers to a batch of numbered samples (``number [B]``); equal numbers are the same sample."""
        network = self._model.network
        truths: list[Any]
        predictions: list[Any]
        if network.task == "recognition":
            truths, predictions = batch.y.tolist(), output.argmax(1).tolist()
        else:
            truths = _true_boxes(batch)
            predictions = [self._counting(boxes) for boxes in network.detections(output, _LEAST_SCORE)]
            if not self._answers:
                self.seen = _shown(batch, truths, predictions)
        self._answers |= dict(zip(batch.number.tolist(), zip(truths, predictions, strict=True), strict=True))

    def figures(self, processes: int = 1) -> Accuracy | AveragePrecision:
        """The figures over the samples of all so many processes, each of which has to ask."""
        answers = self._answers
        if processes > 1:
            parts: list[Any] = [None] * processes
            torch.distributed.all_gather_object(parts, answers)
            answers = {number: answer for part in parts for number, answer in part.items()}
        truths, predictions = zip(*(answers[number] for number in sorted(answers)), strict=True)
        return figures_of(self._model, truths, predictions, self._evaluated_labels)

    def _counting(self, boxes: np.ndarray) -> np.ndarray:
        return boxes if self._counts is None else boxes[self._counts(boxes["w"], boxes["h"])]


def _shown(batch: Batch, truths: list[np.ndarray], predictions: list[np.ndarray]) -> list[Seen]:
    samples = zip(batch.to_data_list()[:_SHOWN_SAMPLES], truths, predictions, strict=False)
    return [Seen(graph.cpu(), truth, found[found["score"] >= _SHOWN_SCORE]) for graph, truth, found in samples]


def _true_boxes(batch: Batch) -> list[np.ndarray]:
    """The true boxes of each graph, as structured arrays with x, y, w, h [px] and class_id."""
    x0, y0, x1, y1 = batch.boxes.cpu().numpy().T
    boxes = np.zeros(len(x0), DETECTION_DTYPE)
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = x0, y0, x1 - x0, y1 - y0
    boxes["class_id"] = batch.classes.cpu().numpy()
    boxes["score"] = 1
    return np.split(boxes, np.cumsum(batch.num_boxes.cpu().numpy())[:-1])
