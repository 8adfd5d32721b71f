"""The Lightning modules that train a graph network for either task, or only what lies behind its event layers."""

from __future__ import annotations

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch_geometric.data import Batch

from aegnn_core.nn.detection import detection_loss
from aegnn_core.nn.networks import GraphNetwork

__all__ = ["GraphLearner", "HeadLearner"]


class GraphLearner(lightning.LightningModule):
    """Trains with AdamW and one cycle of the learning rate (Smith & Topin, 2018).

    Args:
        network: what to train.
        learning_rate: the highest.
        steps: number of optimiser steps of the cycle.
        label_smoothing: share of the probability that recognition spreads over all classes.
    """

    def __init__(self, network: GraphNetwork, learning_rate: float, steps: int, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.network = network
        self.learning_rate, self.steps, self.label_smoothing = learning_rate, steps, label_smoothing

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch with ``boxes`` and ``classes`` (detection) or ``y`` (recognition)."""
        output = self.network(batch)
        if self.network.task == "recognition":
            return self.recognition_loss(output, batch.y)
        size = batch.num_graphs
        counts = batch.num_boxes.to(output.device)
        sample = torch.repeat_interleave(torch.arange(size, device=output.device), counts)
        parts = detection_loss(output, self.network.sensor, batch.boxes, batch.classes, sample)
        self.log_dict({f"loss/{name}": value for name, value in parts.items()}, prog_bar=True, batch_size=size)
        loss = torch.stack(list(parts.values())).sum()
        self.log("loss", loss, prog_bar=True, batch_size=size)
        return loss

    def recognition_loss(self, output: Tensor, label: Tensor) -> Tensor:
        """Cross entropy of class logits ``[B, classes]``, logged with the accuracy."""
        loss = cross_entropy(output, label, label_smoothing=self.label_smoothing)
        accuracy = (output.argmax(1) == label).float().mean()
        self.log_dict({"loss": loss, "accuracy": accuracy}, prog_bar=True, batch_size=len(label))
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, and a rate that rises for a tenth of the steps and falls to zero."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, self.learning_rate, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, self.steps, pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class HeadLearner(GraphLearner):
    """Trains the head of a recogniser on the grids of features before it."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of grids ``[B, C, rows, columns]`` with labels ``[B]``."""
        grid, label = batch
        return self.recognition_loss(self.network.head(grid), label)
