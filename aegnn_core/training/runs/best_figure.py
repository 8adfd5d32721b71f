# SPDX-License-Identifier: Apache-2.0
"""The checkpoint of the best validation, and the end of a run without better ones, also where a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from aegnn_core.nn.checkpoint import DESCRIPTION
from aegnn_core.training.runs.export import read_checkpoint
from aegnn_core.training.runs.run_folder import BEST

__all__ = ["BestCheckpoint", "Patience"]


class BestCheckpoint(ModelCheckpoint):
    """Writes a checkpoint after each validation that is better than the one whose checkpoint is there.

    What is there says how good it is. The last checkpoint, which Lightning would ask, may be of an earlier step, and it
    only knows the folder where the run has been.

    Args:
        run: folder of the run.
        figure: by which validations are compared, more is better.
    """

    def __init__(self, run: Path, figure: str) -> None:
        super().__init__(run, Path(BEST).stem, monitor=figure, mode="max", enable_version_counter=False)
        self._figure = figure

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing: see :meth:`on_fit_start`."""

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Where a run goes on, take over the best checkpoint with its figure."""
        path = Path(str(self.dirpath)) / BEST
        found = None
        if trainer.is_global_zero and trainer.ckpt_path is not None and path.is_file():
            found = read_checkpoint(path)[DESCRIPTION]["training"].get(self._figure)
        figure: float | None = trainer.strategy.broadcast(found)
        if figure is None:
            return
        self.best_model_path = self.kth_best_model_path = str(path)
        self.best_model_score = self.kth_value = torch.tensor(figure, device=trainer.strategy.root_device)
        self.best_k_models = {str(path): self.best_model_score}


class Patience(EarlyStopping):
    """Ends a run after so many validations without progress; one that is over when it is resumed does no further step.

    Args:
        figure: by which validations are compared, more is better.
        validations: so many.
    """

    def __init__(self, figure: str, validations: int) -> None:
        super().__init__(figure, patience=validations, mode="max", check_on_train_epoch_end=False)
        self._validations = validations

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on, to a number that may be another than before."""
        super().load_state_dict({**state_dict, "patience": self._validations})

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop a run that has been stopped before."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True
