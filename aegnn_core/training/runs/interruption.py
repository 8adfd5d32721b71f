# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, or a request to end, stops a training after the step it is in, with a checkpoint of that step."""

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
    """Raises :class:`TrainingStopped` in all processes after the step in which one of them got SIGINT or SIGTERM.

    SIGTERM comes from ``kill``, from service managers, containers and clusters. A second signal interrupts the step
    itself; then the last checkpoint is an earlier one.

    Args:
        checkpoint: file to write the state to.
    """

    def __init__(self, checkpoint: str) -> None:
        self._checkpoint = checkpoint
        self._asked = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take over the signals."""
        self._handlers = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Stop if a process has been asked to, in this step or in the validation before."""
        if trainer.strategy.reduce_boolean_decision(self._asked, all=False):
            trainer.save_checkpoint(self._checkpoint, weights_only=False)
            raise TrainingStopped(trainer.global_step)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Give the signals back."""
        self._give_back()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back, if they have been taken over."""
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        print("\naegnn: stopping after this step; Ctrl-C again to stop at once", file=sys.stderr, flush=True)
