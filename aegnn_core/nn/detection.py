# SPDX-License-Identifier: Apache-2.0
"""Object detection on a grid of cells: decoding, loss and non-maximum suppression (YOLO, Redmon et al., CVPR 2016).

Every cell predicts one box: ``5 + classes`` numbers (x, y, w, h, objectness, class logits). A box centre lies within
half a cell around its cell: ``x = (column + 2 σ(tx) - ½) · cell width``; the size is ``w = exp(tw) · cell width``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

__all__ = ["DETECTION_DTYPE", "GridPrediction", "decode_grid", "detection_loss", "intersection_over_union", "suppress"]

#: One detection: x, y (upper-left corner), w, h [px], score in [0, 1], class number.
DETECTION_DTYPE = np.dtype(
    [
        ("x", np.float32),
        ("y", np.float32),
        ("w", np.float32),
        ("h", np.float32),
        ("score", np.float32),
        ("class_id", np.int32),
    ]
)

_MAX_LOG_SIZE = 4.0


class GridPrediction(NamedTuple):
    """Cells: ``boxes [B, G, 4]`` (x0, y0, x1, y1 px), logits ``objectness [B, G]`` and ``classes [B, G, C]``."""

    boxes: Tensor
    objectness: Tensor
    classes: Tensor

    def scores(self) -> Tensor:
        """Probability that the cell's box holds an object of each class, ``[B, G, C]``."""
        return self.objectness.sigmoid()[..., None] * self.classes.softmax(-1)


def decode_grid(output: Tensor, sensor: tuple[int, int], stride: tuple[float, float] | None = None) -> GridPrediction:
    """Boxes and logits from a network's output.

    Args:
        output: ``[B, rows, columns, 5 + C]``.
        sensor: width and height [px].
        stride: width and height of a cell [px], the first of them at the origin; by default, cells divide the sensor
            evenly.
    """
    _, rows, columns, _ = output.shape
    cell = output.new_tensor(stride or (sensor[0] / columns, sensor[1] / rows))
    row, column = torch.meshgrid(
        torch.arange(rows, device=output.device), torch.arange(columns, device=output.device), indexing="ij"
    )
    corner = torch.stack([column, row], -1).to(output.dtype)
    center = (corner + 2 * output[..., 0:2].sigmoid() - 0.5) * cell
    half = output[..., 2:4].clamp(-_MAX_LOG_SIZE, _MAX_LOG_SIZE).exp() * cell / 2
    boxes = torch.cat([center - half, center + half], -1).flatten(1, 2)
    return GridPrediction(boxes, output[..., 4].flatten(1), output[..., 5:].flatten(1, 2))


def intersection_over_union(a: Tensor, b: Tensor, generalized: bool = False) -> Tensor:
    """IoU of boxes ``[..., 4]`` (x0, y0, x1, y1), pair by pair; or generalised (Rezatofighi et al., CVPR 2019)."""
    area_a = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(-1)
    area_b = (b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1)
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = area_a + area_b - shared
    iou = shared / union.clamp(min=1e-9)
    if not generalized:
        return iou
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return iou - (hull - union) / hull.clamp(min=1e-9)


def detection_loss(
    output: Tensor,
    sensor: tuple[int, int],
    boxes: Tensor,
    classes: Tensor,
    sample: Tensor,
    stride: tuple[float, float] | None = None,
) -> dict[str, Tensor]:
    """Training loss of a grid, in parts that are to be added up.

    The cells whose centres lie within one cell of a box's centre predict it; where boxes compete, the smaller one wins.
    Their objectness is to be the IoU that they reach, everyone else's 0.

    Args:
        output: network output ``[B, rows, columns, 5 + C]``.
        sensor: width and height [px].
        boxes: all true boxes ``[M, 4]`` (x0, y0, x1, y1 px).
        classes: their classes ``[M]``.
        sample: the row of the batch that each belongs to ``[M]``.
        stride: width and height of a cell [px], as in :func:`decode_grid`.
    """
    batch_size, rows, columns, _ = output.shape
    prediction = decode_grid(output, sensor, stride)
    width, height = stride or (sensor[0] / columns, sensor[1] / rows)
    owner = torch.full((batch_size, rows, columns), -1, dtype=torch.long)
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    column = (center[:, 0] / width).cpu()
    row = (center[:, 1] / height).cpu()
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    for m in torch.argsort(area, descending=True).tolist():
        left, top = round(float(column[m])) - 1, round(float(row[m])) - 1
        owner[int(sample[m]), max(top, 0) : top + 2, max(left, 0) : left + 2] = m
    owner = owner.flatten(1).to(output.device)
    positive = owner >= 0
    matched = owner[positive]
    count = max(1, len(matched))

    predicted = prediction.boxes[positive]
    target = torch.zeros_like(prediction.objectness)
    target[positive] = intersection_over_union(predicted.detach(), boxes[matched])
    objectness = binary_cross_entropy_with_logits(prediction.objectness, target, reduction="sum") / count
    giou = intersection_over_union(predicted, boxes[matched], generalized=True)
    box = (1 - giou).sum() / count
    label = cross_entropy(prediction.classes[positive], classes[matched], reduction="sum") / count
    return {"box": 4 * box, "objectness": objectness, "class": 0.5 * label}


def suppress(
    prediction: GridPrediction,
    sensor: tuple[int, int],
    score_threshold: float = 0.3,
    iou_threshold: float = 0.5,
    max_detections: int = 100,
) -> list[np.ndarray]:
    """Detections above a score, the best first, with greedy non-maximum suppression within each class.

    Returns:
        One structured array of :data:`DETECTION_DTYPE` per row of the batch, boxes clipped to the sensor.
    """
    limit = torch.tensor([sensor[0], sensor[1]] * 2, dtype=prediction.boxes.dtype)
    all_boxes = torch.minimum(prediction.boxes.detach().cpu().clamp(min=0), limit).double().numpy()
    all_scores, all_classes = prediction.scores().detach().cpu().max(-1)
    results = []
    for boxes, scores, classes in zip(all_boxes, all_scores.double().numpy(), all_classes.numpy(), strict=True):
        left = np.flatnonzero(scores >= score_threshold)
        left = left[np.argsort(-scores[left], kind="stable")]
        kept: list[int] = []
        while len(left) and len(kept) < max_detections:
            best, left = left[0], left[1:]
            kept.append(best)
            shared = np.minimum(boxes[best, 2:], boxes[left, 2:]) - np.maximum(boxes[best, :2], boxes[left, :2])
            shared = np.maximum(shared, 0).prod(-1)
            areas = (boxes[left, 2:] - boxes[left, :2]).prod(-1)
            union = (boxes[best, 2:] - boxes[best, :2]).prod() + areas - shared
            overlap = shared > iou_threshold * union
            left = left[~(overlap & (classes[left] == classes[best]))]
        found = np.zeros(len(kept), DETECTION_DTYPE)
        if kept:
            found["x"], found["y"] = boxes[kept, 0], boxes[kept, 1]
            found["w"], found["h"] = (boxes[kept, 2:] - boxes[kept, :2]).T
            found["score"], found["class_id"] = scores[kept], classes[kept]
        results.append(found)
    return results
