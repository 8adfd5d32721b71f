# SPDX-License-Identifier: Apache-2.0
"""The Lightning modules that train a graph network for either task, or only what lies behind its event layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch_geometric.data import Batch

from aegnn_core.evaluation import Accuracy
from aegnn_core.evaluation.evaluate import figures_of
from aegnn_core.nn.checkpoint import TrainedModel, describe
from aegnn_core.nn.detection import DETECTION_DTYPE, detection_loss
from aegnn_core.nn.networks import GraphNetwork
from aegnn_core.training.export import DESCRIPTION
from aegnn_core.training.pictures import Seen, draw_confusion, draw_detections, log_picture

__all__ = ["FIGURES", "GraphLearner", "HeadLearner"]

#: Name of the figure by which weights are better or worse, by task.
FIGURES = {"recognition": "validation/accuracy", "detection": "validation/ap"}

#: Boxes of a lower score do not count in average precision; pictures show those of a higher one.
_LEAST_SCORE, _SHOWN_SCORE = 0.01, 0.3
_SHOWN_SAMPLES = 4


class GraphLearner(lightning.LightningModule):
    """Trains with AdamW and one cycle of the learning rate (Smith & Topin, 2018).

    Args:
        model: whose network to train; checkpoints describe it, so that they can be exported.
        learning_rate: the highest.
        steps: number of optimiser steps of the cycle.
        label_smoothing: share of the probability that recognition spreads over all classes.
        counts: which boxes count in a validation, from their w and h [px]; None for all.
    """

    def __init__(
        self,
        model: TrainedModel,
        learning_rate: float,
        steps: int,
        label_smoothing: float = 0.0,
        counts: Callable[[np.ndarray, np.ndarray], NDArray[np.bool_]] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.network = model, model.network
        if isinstance(self.network, GraphNetwork):
            # In which order convolutions are fastest on a CPU; the weights are the same.
            self.network.head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.learning_rate, self.steps, self.label_smoothing = learning_rate, steps, label_smoothing
        self.counts = counts
        self._answers: dict[int, tuple[Any, Any]] = {}
        self._seen: list[Seen] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch with ``boxes`` and ``classes`` (detection) or ``y`` (recognition)."""
        output = self.network(batch)
        if self.network.task == "recognition":
            return self.recognition_loss(output, batch.y)
        parts = self._detection_losses(output, batch)
        self.log_dict({f"loss/{name}": value for name, value in parts.items()}, prog_bar=True, batch_size=len(output))
        loss = torch.stack(list(parts.values())).sum()
        self.log("loss", loss, prog_bar=True, batch_size=len(output))
        return loss

    def recognition_loss(self, output: Tensor, label: Tensor) -> Tensor:
        """Cross entropy of class logits ``[B, classes]``, logged with the accuracy."""
        loss = cross_entropy(output, label, label_smoothing=self.label_smoothing)
        accuracy = (output.argmax(1) == label).float().mean()
        self.log_dict({"loss": loss, "accuracy": accuracy}, prog_bar=True, batch_size=len(label))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the answers of the validation before."""
        self._answers, self._seen = {}, []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Answer a batch with ``number [B]`` besides; equal numbers are the same sample, which counts once."""
        output = self.network(batch).float()
        if self.network.task == "recognition":
            loss = cross_entropy(output, batch.y)
            truths, predictions = batch.y.tolist(), output.argmax(1).tolist()
        else:
            loss = torch.stack(list(self._detection_losses(output, batch).values())).sum()
            truths = _true_boxes(batch)
            predictions = [self._counting(boxes) for boxes in self.network.detections(output, _LEAST_SCORE)]
        self.log("validation/loss", loss, batch_size=len(output), sync_dist=True)
        self._answers |= dict(zip(batch.number.tolist(), zip(truths, predictions, strict=True), strict=True))
        if batch_idx == 0 and self.network.task == "detection":
            shown = zip(batch.to_data_list()[:_SHOWN_SAMPLES], truths, predictions, strict=False)
            self._seen = [
                Seen(graph.cpu(), truth, found[found["score"] >= _SHOWN_SCORE]) for graph, truth, found in shown
            ]

    def on_validation_epoch_end(self) -> None:
        """Log the figures over all samples of all processes, and pictures."""
        answers = self._answers
        if self.trainer.world_size > 1:
            parts: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(parts, answers)
            answers = {number: answer for part in parts for number, answer in part.items()}
        truths, predictions = zip(*(answers[number] for number in sorted(answers)), strict=True)
        figures = figures_of(self.model, truths, predictions)
        if isinstance(figures, Accuracy):
            values = {"accuracy": figures.accuracy}
        else:
            values = {"ap": figures.ap, "ap50": figures.ap50, "ap75": figures.ap75}
        # Without a true box there is no average precision, and nothing to tell better from worse weights.
        logged = {f"validation/{name}": float(np.nan_to_num(value)) for name, value in values.items()}
        self.log_dict(logged, sync_dist=True)
        if self.trainer.is_global_zero:
            self._log_pictures(figures)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the model, with the steps that were done and the figures of the last validation."""
        metrics = self.trainer.callback_metrics
        figures = {name: float(value) for name, value in metrics.items() if name.startswith("validation/")}
        training = {**self.model.training, "steps": self.trainer.global_step, **figures}
        checkpoint[DESCRIPTION] = describe(replace(self.model, training=training))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, and a rate that rises for a tenth of the steps and falls to zero."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, self.learning_rate, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, self.steps, pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _detection_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        counts = batch.num_boxes.to(output.device)
        sample = torch.repeat_interleave(torch.arange(len(output), device=output.device), counts)
        sensor, stride = self.network.sensor, self.network.stride
        return detection_loss(output.float(), sensor, batch.boxes, batch.classes, sample, stride)

    def _counting(self, boxes: np.ndarray) -> np.ndarray:
        return boxes if self.counts is None else boxes[self.counts(boxes["w"], boxes["h"])]

    def _log_pictures(self, figures: Any) -> None:
        logger, step = self.trainer.logger, self.trainer.global_step
        if logger is None:
            return
        if isinstance(figures, Accuracy):
            log_picture(logger, "validation/confusion", draw_confusion(figures.confusion, self.model.labels), step)
        elif self._seen:
            picture = draw_detections(self._seen, self.model)
            log_picture(logger, "validation/detections", picture, step)


class HeadLearner(GraphLearner):
    """Trains the head of a recogniser on the grids of features before it."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of grids ``[B, C, rows, columns]`` with labels ``[B]``."""
        grid, label = batch
        assert isinstance(self.network, GraphNetwork)
        return self.recognition_loss(self.network.head(grid), label)


def _true_boxes(batch: Batch) -> list[np.ndarray]:
    """The true boxes of each graph, as structured arrays with x, y, w, h [px] and class_id."""
    x0, y0, x1, y1 = batch.boxes.cpu().numpy().T
    boxes = np.zeros(len(x0), DETECTION_DTYPE)
    boxes["x"], boxes["y"], boxes["w"], boxes["h"] = x0, y0, x1 - x0, y1 - y0
    boxes["class_id"] = batch.classes.cpu().numpy()
    boxes["score"] = 1
    return np.split(boxes, np.cumsum(batch.num_boxes.cpu().numpy())[:-1])
