# SPDX-License-Identifier: Apache-2.0
"""The figures of an evaluation as pictures: curves of precision over recall, confusion, accuracy over events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aegnn_core.evaluation.average_precision import RECALLS, AveragePrecision
from aegnn_core.evaluation.seen_accuracy import SeenAccuracy

__all__ = ["plot_confusion", "plot_over_events", "plot_precision_recall"]

#: The counts of more classes would be too small to read.
_COUNTED_CLASSES = 12
#: From this share of the most frequent cell on, a count is written in white.
_DARK_SHARE = 0.5


def plot_precision_recall(precision: AveragePrecision, title: str) -> Figure:
    """Precision over recall of every class that has true boxes, at an IoU of 0.5."""
    figure, axes = _figure(title)
    for label, curve in precision.curves.items():
        if not np.isnan(curve).all():
            axes.plot(RECALLS, curve, label=f"{label}, AP50 {curve.mean():.3f}")
    axes.set(xlabel="recall", ylabel="precision at IoU 0.5", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    return figure


def plot_confusion(confusion: np.ndarray, labels: Sequence[str], title: str) -> Figure:
    """Recordings by true class (row) and answer (column), ``confusion [classes, classes]``."""
    figure, axes = _figure(title)
    axes.imshow(confusion, cmap="Blues")
    places = np.arange(len(labels))
    axes.set(xlabel="answer", ylabel="true class")
    axes.set_xticks(places, labels, rotation=90 if max(map(len, labels)) > 2 else 0)
    axes.set_yticks(places, labels)
    if len(labels) <= _COUNTED_CLASSES:
        for (row, column), count in np.ndenumerate(confusion):
            color = "white" if count > _DARK_SHARE * confusion.max() else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color)
    return figure


def plot_over_events(steps: Sequence[SeenAccuracy], title: str) -> Figure:
    """Accuracy over the number of events seen."""
    figure, axes = _figure(title)
    axes.plot([step.events for step in steps], [step.accuracy for step in steps], marker="o")
    axes.set(xlabel="events seen, on average", ylabel="accuracy", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    return figure


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize="medium", wrap=True)
    return figure, axes
