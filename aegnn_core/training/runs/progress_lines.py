# SPDX-License-Identifier: Apache-2.0
"""Progress of a training as lines for a pipe or a log file, in place of a bar that redraws itself."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import lightning

__all__ = ["ProgressLines"]

_EVERY_S = 20.0


class ProgressLines(lightning.Callback):
    """Prints a line after the first step, every so often, after each validation and after the last step.

    Args:
        steps: of the whole training.
        samples: per step, over all devices.
    """

    def __init__(self, steps: int, samples: int) -> None:
        self._steps, self._samples = steps, samples
        self._begun_at = self._told_step = 0
        self._begun = self._told = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin to measure."""
        self._begun_at = self._told_step = trainer.global_step
        self._begun = self._told = time.monotonic()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Print a line if it is time for one: samples per second since the line before, time left at the mean rate."""
        now, step = time.monotonic(), trainer.global_step
        due = step in (self._begun_at + 1, self._steps) or now - self._told >= _EVERY_S
        if not due or not trainer.is_global_zero or step == self._told_step:
            return
        rate = self._samples * (step - self._told_step) / max(now - self._told, 1e-9)
        left = timedelta(seconds=round((self._steps - step) * (now - self._begun) / (step - self._begun_at)))
        loss = float(trainer.callback_metrics["loss"])
        _say(f"step {step} of {self._steps}, loss {loss:.4g}, {rate:.3g} samples/s, {left} left")
        self._told, self._told_step = now, step

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the figures."""
        if trainer.is_global_zero:
            figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
            shown = [f"{name} {value:.4g}" for name, value in figures.items() if name.startswith("validation/")]
            _say(f"step {trainer.global_step} of {self._steps}, {', '.join(shown)}")


def _say(line: str) -> None:
    print(line, flush=True)
