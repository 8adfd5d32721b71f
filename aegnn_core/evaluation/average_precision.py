# SPDX-License-Identifier: Apache-2.0
"""Average precision of detections after COCO, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

__all__ = ["RECALLS", "AveragePrecision", "average_precision"]

#: Where COCO looks at the precision.
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's figures in [0, 1]; nan where there is no true box to find.

    Attributes:
        ap: mean over IoU 0.5:0.05:0.95 and over classes.
        ap50: at IoU 0.5.
        ap75: at IoU 0.75.
        per_class: ``ap`` of each class by its label.
        curves: precision at :data:`RECALLS` and IoU 0.5 of each class by its label, ``[101]``; not part of the figures.
    """

    ap: float
    ap50: float
    ap75: float
    per_class: dict[str, float]
    curves: dict[str, np.ndarray] = field(compare=False)

    def to_dict(self) -> dict[str, float | None]:
        """The figures by name, None for nan."""
        figures = {"ap": self.ap, "ap50": self.ap50, "ap75": self.ap75}
        figures |= {f"ap {label}": value for label, value in self.per_class.items()}
        return {name: None if np.isnan(value) else value for name, value in figures.items()}


def average_precision(
    ground_truth: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    labels: Sequence[str],
    evaluated_labels: Sequence[str] | None = None,
) -> AveragePrecision:
    """COCO average precision over a set of images.

    Args:
        ground_truth: one structured array per image with fields x, y, w, h [px] and class_id.
        predictions: one per image, with a field score besides.
        labels: names of the classes, by class_id.
        evaluated_labels: those that the means are of; None for all.

    Raises:
        ValueError: unequal numbers of images, or a class_id without a label.
    """
    if len(ground_truth) != len(predictions):
        raise ValueError(f"found {len(ground_truth)} images with true boxes and {len(predictions)} with predictions")
    truth = [
        {**box, "id": n + 1, "area": box["bbox"][2] * box["bbox"][3], "iscrowd": 0}
        for n, box in enumerate(_boxes(ground_truth, labels))
    ]
    found = list(_boxes(predictions, labels))
    # precision: [IoU threshold, recall, class], nan where a class has no true box
    if truth and found:
        precision = _precision(truth, found, len(ground_truth), len(labels))
    else:
        present = {box["category_id"] for box in truth}
        precision = np.array([0.0 if n in present else np.nan for n in range(len(labels))])
        precision = np.broadcast_to(precision, (10, len(RECALLS), len(labels)))
    per_class = {label: _mean(precision[:, :, n]) for n, label in enumerate(labels)}
    curves = {label: precision[0, :, n] for n, label in enumerate(labels)}
    if evaluated_labels is not None:
        precision = precision[:, :, [labels.index(label) for label in evaluated_labels]]
    return AveragePrecision(_mean(precision), _mean(precision[0]), _mean(precision[5]), per_class, curves)


def _precision(truth: list[dict[str, Any]], found: list[dict[str, Any]], images: int, categories: int) -> np.ndarray:
    """COCO's precision ``[IoU thresholds, recalls, classes]``, nan for classes without true boxes."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": n} for n in range(images)],
            "categories": [{"id": n} for n in range(categories)],
            "annotations": truth,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.params.maxDets = [1, 10, 100]
        evaluation.evaluate()
        evaluation.accumulate()
    # As COCO has it, there are also area ranges, the first of which is all, and three maximum numbers of detections.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return np.where(precision < 0, np.nan, precision)


def _mean(values: np.ndarray) -> float:
    """The mean of all numbers that are not nan, nan if there are none."""
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def _boxes(images: Sequence[np.ndarray], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The boxes of all images in COCO's form."""
    for image, boxes in enumerate(images):
        for box in boxes:
            category = int(box["class_id"])
            if not 0 <= category < len(labels):
                raise ValueError(f"image {image}: class_id is {category}, there are labels for 0 to {len(labels) - 1}")
            coco = {
                "image_id": image,
                "category_id": category,
                "bbox": [float(box["x"]), float(box["y"]), float(box["w"]), float(box["h"])],
            }
            if "score" in (boxes.dtype.names or ()):
                coco["score"] = float(box["score"])
            yield coco
