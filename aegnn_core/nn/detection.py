# SPDX-License-Identifier: Apache-2.0
"""Object detection on a grid of cells: decoding, loss and non-maximum suppression (YOLO, Redmon et al., CVPR 2016).

Every cell predicts one box: ``5 + classes`` numbers (x, y, w, h, objectness, class logits). A box centre lies within
half a cell around its cell: ``x = (column + 2 σ(tx) - ½) · cell width``; the size is ``w = exp(tw) · cell width``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from aegnn_core.machine_code import kernel

__all__ = [
    "DETECTION_DTYPE", "GridPrediction", "best_scores", "cell_scores", "decode_grid", "detect", "detection_loss",
    "intersection_over_union", "suppress",
]  # fmt: skip

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
        return cell_scores(self.objectness, self.classes)


def cell_scores(objectness: Tensor, classes: Tensor) -> Tensor:
    """Probability that a cell's box holds an object of each class ``[…, C]``, from logits ``[…]`` and ``[…, C]``."""
    return objectness.sigmoid()[..., None] * classes.softmax(-1)


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
    The target of their objectness is the IoU that they reach; that of all other cells is 0.

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
        owner[int(sample[m]), max(top, 0) : max(top + 2, 0), max(left, 0) : max(left + 2, 0)] = m
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
        above = np.flatnonzero(scores >= score_threshold)
        results.append(_best(boxes[above], scores[above], classes[above], iou_threshold, max_detections))
    return results


def detect(
    output: Tensor,
    sensor: tuple[int, int],
    stride: tuple[float, float] | None = None,
    score_threshold: float = 0.3,
    iou_threshold: float = 0.5,
    max_detections: int = 100,
) -> list[np.ndarray]:
    """What :func:`suppress` makes of :func:`decode_grid`, to rounding; cells below the score are not decoded."""
    _, rows, columns, numbers = output.shape
    width, height = stride or (sensor[0] / columns, sensor[1] / rows)
    found = np.empty(min(max_detections, rows * columns), DETECTION_DTYPE)
    results = []
    for cells in output.detach().double().cpu().numpy():
        count = _detect(
            cells.reshape(-1, numbers), columns, width, height, *sensor, score_threshold, iou_threshold, found
        )
        results.append(found[:count].copy())
    return results


@kernel(error_model="numpy")
def _detect(
    cells: NDArray[np.float64],
    columns: int,
    cell_width: float,
    cell_height: float,
    width: float,
    height: float,
    score_threshold: float,
    iou_threshold: float,
    found: np.ndarray,
) -> int:
    """Write the detections of one output's cells, as many as have room, and count them."""
    boxes, scores = np.empty((len(cells), 4)), np.empty(len(cells))
    classes = np.empty(len(cells), np.int64)
    count = _decode_above(
        cells, columns, cell_width, cell_height, width, height, score_threshold, boxes, scores, classes
    )
    kept = np.empty(len(found), np.int64)
    order = np.argsort(-scores[:count], kind="mergesort")
    count = _suppress(boxes, classes, order, iou_threshold, kept)
    for k in range(count):
        n, detection = kept[k], found[k]
        detection.x, detection.y = boxes[n, 0], boxes[n, 1]
        detection.w, detection.h = boxes[n, 2] - boxes[n, 0], boxes[n, 3] - boxes[n, 1]
        detection.score, detection.class_id = scores[n], classes[n]
    return count


def best_scores(output: Tensor) -> np.ndarray:
    """The score ``[B, C]`` of the best cell of each class in a network's output ``[B, rows, columns, 5 + C]``."""
    cells = output.detach().double().cpu().numpy()
    scores = np.empty((len(cells), cells.shape[-1] - 5))
    for one, best in zip(cells, scores, strict=True):
        _best_scores(one.reshape(-1, one.shape[-1]), best)
    return scores


@kernel(error_model="numpy")
def _best_scores(cells: NDArray[np.float64], best: NDArray[np.float64]) -> None:
    """Write the score of the best cell for every class; not a number if any is."""
    best[:] = 0
    least = 0.0
    for n in range(len(cells)):
        logits = cells[n]
        inverse = 1 + math.exp(-logits[4])
        # Up to rounding, no score of the cell is larger than 1 / inverse.
        if inverse * least > 1.001 and math.isfinite(logits[5:].sum()):
            continue
        largest = logits[5:].max()
        shared = inverse * _exponentials(logits, largest)
        for c in range(len(best)):
            score = math.exp(logits[5 + c] - largest) / shared
            if score > best[c] or math.isnan(score):
                best[c] = score
        least = best.min()


@kernel(error_model="numpy")
def _exponentials(logits: NDArray[np.float64], largest: float) -> float:
    """Sum of the exponentials of a cell's class logits, of the largest of them 1."""
    total = 0.0
    for c in range(5, len(logits)):
        total += math.exp(logits[c] - largest)
    return total


@kernel(error_model="numpy")
def _decode_above(
    cells: NDArray[np.float64],
    columns: int,
    cell_width: float,
    cell_height: float,
    width: float,
    height: float,
    threshold: float,
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    classes: NDArray[np.int64],
) -> int:
    """Write boxes clipped to the sensor, scores and classes of the cells with at least that score, and count them."""
    count = 0
    for n in range(len(cells)):
        logits = cells[n]
        score = 1 / (1 + math.exp(-logits[4]))
        if not score >= threshold:  # a probability of the class is at most 1
            continue
        best = np.argmax(logits[5:])
        score /= _exponentials(logits, logits[5 + best])
        if not score >= threshold:
            continue
        x = (n % columns + 2 / (1 + math.exp(-logits[0])) - 0.5) * cell_width
        y = (n // columns + 2 / (1 + math.exp(-logits[1])) - 0.5) * cell_height
        half_width = math.exp(min(max(logits[2], -_MAX_LOG_SIZE), _MAX_LOG_SIZE)) * cell_width / 2
        half_height = math.exp(min(max(logits[3], -_MAX_LOG_SIZE), _MAX_LOG_SIZE)) * cell_height / 2
        boxes[count, 0] = min(max(x - half_width, 0.0), width)
        boxes[count, 1] = min(max(y - half_height, 0.0), height)
        boxes[count, 2] = min(max(x + half_width, 0.0), width)
        boxes[count, 3] = min(max(y + half_height, 0.0), height)
        scores[count], classes[count] = score, best
        count += 1
    return count


@kernel(error_model="numpy")
def _suppress(
    boxes: NDArray[np.float64],
    classes: NDArray[np.int64],
    order: NDArray[np.int64],
    iou_threshold: float,
    kept: NDArray[np.int64],
) -> int:
    """Write the numbers of the boxes that no better one of their class covers, as many as have room, and count them."""
    count = 0
    for n in order:
        if count == len(kept):
            break
        is_covered = False
        area = (boxes[n, 2] - boxes[n, 0]) * (boxes[n, 3] - boxes[n, 1])
        for other in kept[:count]:
            if classes[other] != classes[n]:
                continue
            width = min(boxes[n, 2], boxes[other, 2]) - max(boxes[n, 0], boxes[other, 0])
            height = min(boxes[n, 3], boxes[other, 3]) - max(boxes[n, 1], boxes[other, 1])
            shared = max(width, 0.0) * max(height, 0.0)
            union = area + (boxes[other, 2] - boxes[other, 0]) * (boxes[other, 3] - boxes[other, 1]) - shared
            is_covered |= shared > iou_threshold * union
        if not is_covered:
            kept[count] = n
            count += 1
    return count


def _best(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, iou_threshold: float, max_detections: int
) -> np.ndarray:
    """Detections of boxes ``[N, 4]``, the best first, after suppression within each class."""
    kept: np.ndarray = np.empty(min(max_detections, len(scores)), np.int64)
    kept = kept[: _suppress(boxes, classes, np.argsort(-scores, kind="stable"), iou_threshold, kept)]
    found = np.zeros(len(kept), DETECTION_DTYPE)
    found["x"], found["y"] = boxes[kept, 0], boxes[kept, 1]
    found["w"], found["h"] = (boxes[kept, 2:] - boxes[kept, :2]).T
    found["score"], found["class_id"] = scores[kept], classes[kept]
    return found
