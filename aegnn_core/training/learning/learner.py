# SPDX-License-Identifier: Apache-2.0
"""The Lightning modules that train a network for either task, or only what lies behind its event layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

from aegnn_core.nn.checkpoint import DESCRIPTION, TrainedModel, describe
from aegnn_core.nn.detection import detection_loss
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.training.learning.pictures import log_validation
from aegnn_core.training.learning.teacher import Teacher
from aegnn_core.training.learning.validation import Validation, logged_figures

__all__ = ["GraphLearner", "HeadLearner"]

#: Share of the steps in which the learning rate rises.
_RISE = 0.1


class GraphLearner(lightning.LightningModule):
    """Trains with AdamW and one cycle of the learning rate (Smith & Topin, 2018).

    Args:
        model: whose network to train; checkpoints describe it, so that they can be exported.
        learning_rate: the highest.
        steps: number of optimiser steps of the cycle.
        label_smoothing: share of the probability that recognition spreads over all classes.
        teacher: gives the probabilities that recognition learns in place of the labels.
        counts: which boxes count in a validation, from their w and h [px]; None for all.
        evaluated_labels: of the classes whose average precision its mean is of; None for all.
    """

    def __init__(
        self,
        model: TrainedModel,
        learning_rate: float,
        steps: int,
        label_smoothing: float = 0.0,
        teacher: Teacher | None = None,
        counts: Callable[[np.ndarray, np.ndarray], NDArray[np.bool_]] | None = None,
        evaluated_labels: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.network = model, model.network
        if isinstance(self.network, GraphNetwork):
            # In which order convolutions are fastest on a CPU; the weights are the same.
            self.network.head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.learning_rate, self.steps, self.label_smoothing = learning_rate, steps, label_smoothing
        self._teacher = teacher
        self._validation = Validation(model, counts, evaluated_labels)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch with ``boxes`` and ``classes`` (detection) or ``y`` (recognition)."""
        output = self.network(batch)
        if self.network.task == "recognition":
            return self.recognition_loss(output, batch.y, None if self._teacher is None else self._teacher(batch))
        parts = self._detection_losses(output, batch)
        self.log_dict({f"loss/{name}": value for name, value in parts.items()}, prog_bar=True, batch_size=len(output))
        loss = torch.stack(list(parts.values())).sum()
        self.log("loss", loss, prog_bar=True, batch_size=len(output))
        return loss

    def recognition_loss(self, output: Tensor, label: Tensor, taught: Tensor | None = None) -> Tensor:
        """Cross entropy of class logits ``[B, classes]``, logged with the accuracy.

        Args:
            output: the logits.
            label: ``[B]``.
            taught: probabilities ``[B, classes]`` to learn in place of the labels.
        """
        if taught is None:
            loss = cross_entropy(output, label, label_smoothing=self.label_smoothing)
        else:
            loss = cross_entropy(output, taught)
        accuracy = (output.argmax(1) == label).float().mean()
        self.log_dict({"loss": loss, "accuracy": accuracy}, prog_bar=True, batch_size=len(label))
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, and a rate that rises for a tenth of the steps, if these are more than one, and falls to zero."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, self.learning_rate, weight_decay=1e-2)
        rise = _RISE if _RISE * self.steps > 1 else 0.0  # a rise of one step has no length: it would be divided by 0
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, self.steps, pct_start=rise)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_validation_epoch_start(self) -> None:
        """Forget the answers of the validation before."""
        self._validation.begin()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Answer a batch with ``number [B]`` besides; equal numbers are the same sample, which counts once."""
        output = self.network(batch).float()
        if self.network.task == "recognition":
            loss = cross_entropy(output, batch.y)
        else:
            loss = torch.stack(list(self._detection_losses(output, batch).values())).sum()
        self.log("validation/loss", loss, batch_size=len(output), sync_dist=True)
        self._validation.take(batch, output)

    def on_validation_epoch_end(self) -> None:
        """Log the figures over all samples of all processes, and pictures."""
        figures = self._validation.figures(self.trainer.world_size)
        self.log_dict(logged_figures(figures), sync_dist=True)
        if self.trainer.is_global_zero and self.trainer.logger is not None:
            log_validation(self.trainer.logger, figures, self._validation.seen, self.model, self.trainer.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Describe the model, with the steps that were done and the figures of the last validation.

        Raises:
            ValueError: the training has diverged; the file of the checkpoint before stays as it is.
        """
        weights = checkpoint["state_dict"].items()
        if broken := [name for name, value in weights if value.is_floating_point() and not value.isfinite().all()]:
            raise ValueError(
                f"the training has diverged: after step {self.trainer.global_step}, weights are not finite, such as"
                f" {broken[0]}; checkpoints before it are kept, expected a learning_rate below {self.learning_rate:g}"
            )
        metrics = self.trainer.callback_metrics
        figures = {name: float(value) for name, value in metrics.items() if name.startswith("validation/")}
        training = {**self.model.training, "steps": self.trainer.global_step, **figures}
        checkpoint[DESCRIPTION] = describe(replace(self.model, training=training))

    def _detection_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        counts = batch.num_boxes.to(output.device)
        sample = torch.repeat_interleave(torch.arange(len(output), device=output.device), counts)
        sensor, stride = self.network.sensor, self.network.stride
        return detection_loss(output.float(), sensor, batch.boxes, batch.classes, sample, stride)


class HeadLearner(GraphLearner):
    """Trains the head of a recogniser on the grids of features before it."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of grids ``[B, C, rows, columns]`` with labels ``[B]``."""
        grid, label = batch
        assert isinstance(self.network, GraphNetwork)
        return self.recognition_loss(self.network.head(grid), label)
