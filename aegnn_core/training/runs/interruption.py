# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C ends a training after the step it is in, with a checkpoint of that step."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

import lightning

__all__ = ["StopOnInterrupt", "TrainingStopped"]


class TrainingStopped(Exception):
    """The training was stopped by the user; its state is in the last checkpoint.

    Args:
        step: the number of steps that were done.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step


class StopOnInterrupt(lightning.Callback):
    """Raises :class:`TrainingStopped` in all processes after the step in which one of them got SIGINT.

    A second SIGINT interrupts the step itself; then the last checkpoint is an earlier one.

    Args:
        checkpoint: file to write the state to.
    """

    def __init__(self, checkpoint: str) -> None:
        self._checkpoint = checkpoint
        self._asked = False
        self._handler: Any = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take over SIGINT."""
        self._handler = signal.signal(signal.SIGINT, self._ask)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Stop if a process has been asked to, in this step or in the validation before."""
        if trainer.strategy.reduce_boolean_decision(self._asked, all=False):
            trainer.save_checkpoint(self._checkpoint, weights_only=False)
            raise TrainingStopped(trainer.global_step)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Give SIGINT back."""
        signal.signal(signal.SIGINT, self._handler)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Give SIGINT back, if it has been taken over."""
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        print("\naegnn: stopping after this step; Ctrl-C again to stop at once", file=sys.stderr, flush=True)
