# SPDX-License-Identifier: Apache-2.0
"""What keeps the curves of a run, by name."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from aegnn_core.extras import missing_package

__all__ = ["make_logger"]


def make_logger(kind: str, run: Path) -> Logger:
    """The logger of a run.

    Args:
        kind: ``"tensorboard"``, ``"csv"`` or ``"wandb"``, see :data:`aegnn_core.training.settings.LOGGERS`.
        run: folder to write to; a run that is resumed goes on in it, with WandB under the same name.

    Raises:
        ValueError: the package that the logger needs is not installed.
    """
    number = run.name.removeprefix("version_")
    version = int(number) if number.isdigit() else run.name  # the progress bar shows a number, but the end of a name
    try:
        if kind == "csv":
            _keep_figures(run)
            return CSVLogger(run.parent.parent, name=run.parent.name, version=version)
        if kind == "tensorboard":
            return TensorBoardLogger(run.parent.parent, name=run.parent.name, version=version)
        return _make_wandb_logger(run)
    except ModuleNotFoundError as error:
        raise ValueError(f"logger {kind}: {missing_package(str(error.name))}") from error


@rank_zero_only
def _keep_figures(run: Path) -> None:
    """Rename the figures of the earlier part of a run, which Lightning would delete."""
    figures = run / "metrics.csv"
    if figures.exists():
        figures.rename(run / f"metrics_part_{len(list(run.glob('metrics*.csv')))}.csv")


def _make_wandb_logger(run: Path) -> WandbLogger:
    import wandb

    run.mkdir(parents=True, exist_ok=True)
    # Do not upload what is in a repository around the training.
    settings = wandb.Settings(disable_git=True, disable_code=True)
    name = f"{run.parent.name}-{run.name}"
    return WandbLogger(name=name, id=name, save_dir=run, project="aegnn", resume="allow", settings=settings)
