"""Average precision of detections after COCO, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

__all__ = ["AveragePrecision", "average_precision"]


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's figures in [0, 1]; nan where there is no true box to find.

    Attributes:
        ap: mean over IoU 0.5:0.05:0.95 and over classes.
        ap50: at IoU 0.5.
        ap75: at IoU 0.75.
        per_class: ``ap`` of each class by its label.
    """

    ap: float
    ap50: float
    ap75: float
    per_class: dict[str, float]

    def to_dict(self) -> dict[str, float | None]:
        """The figures by name, None for nan."""
        figures = {"ap": self.ap, "ap50": self.ap50, "ap75": self.ap75}
        figures |= {f"ap {label}": value for label, value in self.per_class.items()}
        return {name: None if np.isnan(value) else value for name, value in figures.items()}


def average_precision(
    ground_truth: Sequence[np.ndarray], predictions: Sequence[np.ndarray], labels: Sequence[str]
) -> AveragePrecision:
    """COCO average precision over a set of images.

    Args:
        ground_truth: one structured array per image with fields x, y, w, h [px] and class_id.
        predictions: one per image, with a field score besides.
        labels: names of the classes, by class_id.

    Raises:
        ValueError: unequal numbers of images, or a class_id without a label.
    """
    if len(ground_truth) != len(predictions):
        raise ValueError(f"found {len(ground_truth)} images with true boxes and {len(predictions)} with predictions")
    nothing = AveragePrecision(np.nan, np.nan, np.nan, dict.fromkeys(labels, np.nan))
    truth = [
        {**box, "id": n + 1, "area": box["bbox"][2] * box["bbox"][3], "iscrowd": 0}
        for n, box in enumerate(_boxes(ground_truth, labels))
    ]
    if not truth:
        return nothing
    found = list(_boxes(predictions, labels))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": n} for n in range(len(ground_truth))],
            "categories": [{"id": n} for n in range(len(labels))],
            "annotations": truth,
        }
        coco.createIndex()
        if not found:
            present = {box["category_id"] for box in truth}
            return AveragePrecision(0, 0, 0, {label: 0.0 if n in present else np.nan for n, label in enumerate(labels)})
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.params.maxDets = [1, 10, 100]
        evaluation.evaluate()
        evaluation.accumulate()
    # precision: [IoU threshold, recall, class, area range, maximum detections], -1 where a class has no true box
    precision = np.where(evaluation.eval["precision"] < 0, np.nan, evaluation.eval["precision"])[:, :, :, 0, -1]

    def mean(values: np.ndarray) -> float:
        return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")

    per_class = {label: mean(precision[:, :, n]) for n, label in enumerate(labels)}
    return AveragePrecision(mean(precision), mean(precision[0]), mean(precision[5]), per_class)


def _boxes(images: Sequence[np.ndarray], labels: Sequence[str]):
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
