# SPDX-License-Identifier: Apache-2.0
"""Training on simulated scenes or on the recordings of a data set, from nothing to a model file."""

from __future__ import annotations

import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from aegnn_core.extras import naming_extras
from aegnn_core.nn.checkpoint import TrainedModel, check_output

with naming_extras("train"):
    import lightning
    from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
    from lightning.pytorch.callbacks.weight_averaging import EMAWeightAveraging
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    from aegnn_core.datasets import EventDataset
    from aegnn_core.training.learning.learner import GraphLearner, HeadLearner
    from aegnn_core.training.learning.new_model import new_model
    from aegnn_core.training.learning.teacher import Teacher
    from aegnn_core.training.learning.validation import FIGURES
    from aegnn_core.training.runs.best_figure import BestCheckpoint, Patience
    from aegnn_core.training.runs.checkpoint_files import WholeCheckpoints
    from aegnn_core.training.runs.export import export_checkpoint, read_checkpoint
    from aegnn_core.training.runs.interruption import StopOnInterrupt
    from aegnn_core.training.runs.loggers import make_logger
    from aegnn_core.training.runs.progress_lines import ProgressLines
    from aegnn_core.training.runs.run_folder import BEST, LAST, is_first_process, kept_from_others, write_settings
    from aegnn_core.training.samples.data_module import TrainingData, learns_from_counts, open_training
    from aegnn_core.training.samples.loader_process import loader_failures_named
    from aegnn_core.training.settings import SIMULATED, TrainSettings

__all__ = ["train"]

#: Label smoothing of a recogniser that is trained on recordings, which are few: it would memorise them.
_RECORDED_LABEL_SMOOTHING = 0.1

#: The exit status after SIGTERM, as shells have it.
_TERMINATED = 128 + signal.SIGTERM

#: Steps between points of the curves.
_LOGGED_EVERY = 50


def train(settings: TrainSettings, run: Path, output: str | Path | None = None) -> TrainedModel:
    """Train a network and write it to a model file.

    The log goes to the folder ``run``, and with it the checkpoints: ``last.ckpt``, written every
    ``settings.checkpoint_every`` steps, on Ctrl-C and on SIGTERM, from which the run goes on if it is there; and
    ``best.ckpt``, that of the best validation. The model has the last weights, or with ``settings.patience`` the best.

    Args:
        settings: what to train, on what and how. The same give the same samples.
        run: folder of the run.
        output: the file to write (``.safetensors``); by default ``model.safetensors`` in ``run``.

    Raises:
        ValueError: an unknown network, data set or task, ``start_from`` or ``event_layers`` of another shape or graph,
            a ``teacher`` of other classes or another sensor or graph, ``recordings`` without event layers that stay as
            they are or for a network whose other layers are more than a head, or settings that contradict each other;
            another process that trains in ``run``; a training that has diverged.
        MissingFilesError: the data set is not there, or not all of it.
        OSError: ``run`` or ``output`` cannot be written to.
        TrainingStopped: somebody pressed Ctrl-C, or asked for the end by SIGTERM; the run can go on.
    """
    output = run / "model.safetensors" if output is None else Path(output)
    _check(settings)
    if is_first_process():
        check_output(output)
    with kept_from_others(run):
        return _train(settings, run, output)


def _train(settings: TrainSettings, run: Path, output: Path) -> TrainedModel:
    lightning.seed_everything(settings.seed, verbose=False)
    simulated = settings.dataset in SIMULATED
    dataset = None if simulated else open_training(settings)
    model = new_model(settings, dataset, output.stem)
    last = run / LAST
    begun_at = read_checkpoint(last)["global_step"] if last.exists() else 0
    data = TrainingData(settings, model, dataset, begun_at)
    learner = _learner(settings, model, dataset)
    logger = make_logger(settings.logger, run)
    trainer = _trainer(settings, run, logger)
    with warnings.catch_warnings():
        # The folder has the settings and what an earlier part of the run has left, of which Lightning would warn.
        warnings.filterwarnings("ignore", ".*exists and is not empty", UserWarning)
        # Of a run that goes on: samples are drawn anew, what may change has changed, and the folder may lie elsewhere.
        warnings.filterwarnings("ignore", "The dirpath has changed", UserWarning)
        warnings.filterwarnings("ignore", ".*your dataloader is not resumable", UserWarning)
        warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint need to be provided", UserWarning)
        # Layers that are taken over, and a teacher, are in evaluation mode; lines are logged by steps of all passes.
        warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode at the start of training", UserWarning)
        warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging", UserWarning)
        # Lightning and torch about each other.
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        logger.log_hyperparams(settings.to_dict())
        if trainer.is_global_zero:
            write_settings(run, settings)
        try:
            with loader_failures_named():
                trainer.fit(learner, datamodule=data, ckpt_path=last if begun_at else None, weights_only=True)
        except SIGTERMException:  # before the first step; Lightning's has the exit status of a success
            raise SystemExit(_TERMINATED) from None
    trainer.save_checkpoint(last, weights_only=False)
    if not trainer.is_global_zero:
        return model
    # A run that goes on with patience may have no validation left.
    best = settings.patience is not None and (run / BEST).exists()
    return export_checkpoint(run / BEST if best else last, output)


def _check(settings: TrainSettings) -> None:
    if settings.recordings is not None and (settings.task != "recognition" or settings.event_layers is None):
        given = "without" if settings.event_layers is None else "with"
        raise ValueError(
            f"recordings are for recognition behind event layers, found {settings.task} {given} event layers"
        )
    if settings.use_validation and (settings.validate_every or settings.dataset == "simulated"):
        raise ValueError("use_validation is for recordings and leaves none to validate on, expected validate_every 0")
    if settings.dataset == "ncars_scenes" and settings.task != "detection":
        raise ValueError(f"ncars_scenes are for detection, found {settings.task}")
    if settings.preprocessed and (settings.dataset in SIMULATED or settings.recordings is not None):
        raise ValueError("preprocessed graphs are those of a data set, and not for recordings behind event layers")
    if settings.teacher is not None and settings.task != "recognition":
        raise ValueError(f"a teacher is for recognition, found {settings.task}")
    if settings.teacher is not None and settings.recordings is not None:
        raise ValueError("a teacher is for samples that change, not for recordings behind event layers")
    if settings.patience is not None and not settings.validate_every:
        raise ValueError("patience is counted in validations, but validate_every is 0")
    if settings.precision == "16-mixed" and settings.gpu is None:
        raise ValueError("precision 16-mixed is for GPUs, expected 32 or bf16-mixed on the CPU")
    if settings.gpu is not None and settings.gpu + settings.devices > (found := torch.cuda.device_count()):
        raise ValueError(f"gpu {settings.gpu} and {settings.devices} devices from there on: found {found} CUDA devices")


def _learner(settings: TrainSettings, model: TrainedModel, dataset: EventDataset | None) -> GraphLearner:
    head_only = settings.recordings is not None or learns_from_counts(settings, model)
    learn = HeadLearner if head_only else GraphLearner
    teacher = None if settings.teacher is None else Teacher(settings.teacher, model)
    if teacher is not None:
        model.training["teacher"] = teacher.name  # not where it lay on this machine
    if dataset is None:
        return learn(model, settings.learning_rate, settings.steps, teacher=teacher)
    counting = dataset.form.counts, dataset.form.evaluated_labels
    return learn(model, settings.learning_rate, settings.steps, _RECORDED_LABEL_SMOOTHING, teacher, *counting)


def _trainer(settings: TrainSettings, run: Path, logger: Logger) -> lightning.Trainer:
    validated = settings.validate_every > 0
    return lightning.Trainer(
        accelerator="cpu" if settings.gpu is None else "gpu",
        devices=(
            settings.devices if settings.gpu is None else list(range(settings.gpu, settings.gpu + settings.devices))
        ),
        num_nodes=settings.num_nodes,
        strategy="ddp" if settings.devices * settings.num_nodes > 1 else "auto",
        precision=settings.precision,  # type: ignore[arg-type]  # the names are checked by the settings
        max_steps=settings.steps,
        val_check_interval=min(settings.validate_every, settings.steps) if validated else None,
        check_val_every_n_epoch=None,
        limit_val_batches=None if validated else 0,
        num_sanity_val_steps=0,
        logger=logger,
        plugins=[WholeCheckpoints()],
        enable_model_summary=False,
        enable_progress_bar=_can_draw_bars(),
        log_every_n_steps=min(_LOGGED_EVERY, settings.steps),
        gradient_clip_val=5.0,
        callbacks=_callbacks(settings, run),
    )


def _can_draw_bars() -> bool:
    """Whether standard output is a terminal or a notebook."""
    return sys.stdout.isatty() or "ipykernel" in sys.modules


def _callbacks(settings: TrainSettings, run: Path) -> list[Callback]:
    callbacks: list[Callback] = [LearningRateMonitor("step")]
    if not _can_draw_bars():
        samples = settings.batch_size * settings.devices * settings.num_nodes
        callbacks.append(ProgressLines(settings.steps, samples))
    if settings.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=settings.ema))
    if settings.validate_every:
        figure = FIGURES[settings.task]
        callbacks.append(BestCheckpoint(run, figure))
        if settings.patience is not None:
            callbacks.append(Patience(figure, settings.patience))
    every: dict[str, Any] = {"every_n_train_steps": settings.checkpoint_every, "enable_version_counter": False}
    callbacks.append(ModelCheckpoint(run, Path(LAST).stem, **every))
    # After the average of the weights has been updated.
    callbacks.append(StopOnInterrupt(str(run / LAST)))
    return callbacks
