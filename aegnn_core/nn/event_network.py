# SPDX-License-Identifier: Apache-2.0
"""What every network for events is to those that train, evaluate and serve it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from aegnn_core.graph.config import GraphConfig
from aegnn_core.nn.detection import GridPrediction, best_scores, decode_grid, detect

__all__ = ["EventNetwork"]


class EventNetwork(nn.Module):
    """A network from a graph of events to class logits, or to the boxes of :mod:`aegnn_core.nn.detection`.

    Its forward takes a graph or a batch of graphs and gives class logits ``[B, classes]`` (recognition) or
    ``[B, rows, columns, 5 + classes]`` (detection).

    Args:
        sensor: width and height [px].
        task: ``"recognition"`` or ``"detection"``.

    Attributes:
        graph: the graph rule that it was trained with, None where nobody said.
    """

    graph: GraphConfig | None = None

    def __init__(self, sensor: tuple[int, int], task: str) -> None:
        super().__init__()
        self.sensor, self.task = sensor, task

    @property
    def stride(self) -> tuple[float, float] | None:
        """Width and height [px] of the cells of a detector's output; None where they divide the sensor evenly."""
        return None

    @property
    def only_counts(self) -> bool:
        """Whether all that it sees are the numbers of events."""
        return False

    @property
    def fits_any_sensor(self) -> bool:
        """Whether the same weights are right for a sensor of another size."""
        return False

    @property
    def place_bound(self) -> str:
        """What binds a network that does not fit any sensor to its own, for messages."""
        size = " x ".join(map(str, self.sensor))
        return f"does not say (fits_any_sensor) that its weights are right for another sensor than its {size}"

    def class_scores(self, output: Tensor) -> Tensor:
        """Probability of every class ``[B, classes]``; for a detector, of its most certain box of that class."""
        if self.task == "recognition":
            return output.softmax(-1)
        return torch.from_numpy(best_scores(output)).to(output)

    def predictions(self, output: Tensor) -> GridPrediction:
        """The boxes [px] and scores of all cells of a detector's output."""
        return decode_grid(output, self.sensor, self.stride)

    def detections(
        self, output: Tensor, score_threshold: float = 0.3, iou_threshold: float = 0.5, max_detections: int = 100
    ) -> list[np.ndarray]:
        """Boxes from a detector's output, see :func:`aegnn_core.nn.detection.detect`."""
        if self.task != "detection":
            raise ValueError(f"detections need a network for the task detection, this one is for {self.task}")
        return detect(output, self.sensor, self.stride, score_threshold, iou_threshold, max_detections)

    def extra_repr(self) -> str:
        return f"{self.sensor[0]} x {self.sensor[1]} px, {self.task}"
