"""Training on simulated scenes or on the recordings of a data set, from nothing to a model file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import Dataset
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from aegnn_core.datasets import EventDataset, open_dataset
from aegnn_core.datasets.simulated import SimulatedRecordings, SimulatedSamples
from aegnn_core.events.simulation import CLASSES, RECOGNITION_CLASSES, RECOGNITION_SCENE
from aegnn_core.graph import GraphConfig, check_same_edges
from aegnn_core.nn.checkpoint import TrainedModel, load_model, save_model
from aegnn_core.nn.networks import GraphNetwork, network
from aegnn_core.training.augmentation import Augmentation
from aegnn_core.training.module import GraphLearner, HeadLearner
from aegnn_core.training.pooled_features import PooledFeatures, one_thread
from aegnn_core.training.recorded_samples import ChangedRecordings, RecordedSamples

__all__ = ["RECORDED_GRAPH", "SIMULATED_GRAPH", "train"]

#: The graph for simulated scenes. The time scale makes the radius worth 50 ms: an edge of the scene at 60 px/s covers
#: in that time as many pixels.
SIMULATED_GRAPH = GraphConfig(radius=3.0, max_neighbors=16, time_scale=6e-5, window=50_000)

#: The graph for whole recordings of one object. The time scale makes the radius worth 100 ms.
RECORDED_GRAPH = GraphConfig(radius=3.0, max_neighbors=16, time_scale=3e-5)

#: There are few recordings and the network learns them by heart: it must not be too sure of them.
_RECORDED_LABEL_SMOOTHING = 0.1
_RECORDED_DROPOUT = 0.3

#: By how much pooled features are shifted at most, as a share of the grid's columns.
_LARGEST_SHIFT = 0.05

#: Data sets whose classes a mirror leaves as they are; not so digits and letters.
_MIRRORED = ("ncars", "ncaltech101")


def train(
    name: str,
    *,
    task: str,
    output: str | Path,
    dataset: str = "simulated",
    graph: GraphConfig | None = None,
    dim: int = 3,
    steps: int = 4000,
    batch_size: int = 16,
    learning_rate: float = 4e-3,
    seed: int = 1,
    workers: int = 1,
    device: str = "cpu",
    event_layers: str | Path | None = None,
    recordings: int | None = None,
) -> TrainedModel:
    """Train a network and write it to ``output`` (``.safetensors``).

    Args:
        name: of the network, see :func:`aegnn_core.nn.networks.network`.
        task: ``"recognition"`` or ``"detection"``.
        output: the file to write; the last state is also kept beside the logs every 500 steps.
        dataset: ``"simulated"``, or for recognition one with recordings below ``AEGNN_DATA_DIR``, see
            :func:`aegnn_core.datasets.open_dataset`, whose split ``training`` is used.
        graph: the rule; it travels in the file. By default :data:`SIMULATED_GRAPH` or :data:`RECORDED_GRAPH`.
        dim: components of the edge attributes in use.
        steps: optimiser steps.
        batch_size: samples per step.
        learning_rate: the highest of the cycle.
        seed: of the weights and samples. The same seed, steps, batch size and workers give the same samples.
        workers: processes that simulate or read, and build graphs, 0 for none.
        device: ``"cpu"`` or ``"cuda"``.
        event_layers: a model by name or path whose layers on events are taken over as they are, so that only what lies
            behind them is trained; by default everything is.
        recordings: to learn recognition behind ``event_layers`` from this many recordings, simulated ones or those of
            the data set in turn and changed each time, whose features are computed once and seen again and again. All
            features stay in memory, see :class:`aegnn_core.training.pooled_features.PooledFeatures`. By default every
            sample is new.

    Raises:
        ValueError: an unknown network, data set or task, ``event_layers`` of another shape or graph, or ``recordings``
            without event layers that stay as they are or for a network whose other layers are more than a head.
        MissingFilesError: the data set is not there, or not all of it.
    """
    simulated = dataset == "simulated"
    if not simulated and task != "recognition":
        raise ValueError(f"training on the recordings of {dataset} is for recognition, found {task}")
    if Path(output).suffix != ".safetensors":
        raise ValueError(f"output must end in .safetensors, found {output}")
    if recordings is not None and (task != "recognition" or event_layers is None):
        given = "without" if event_layers is None else "with"
        raise ValueError(f"recordings are for recognition behind event layers, found {task} {given} event layers")
    lightning.seed_everything(seed, verbose=False)
    architecture: dict[str, Any] = {"name": name, "dataset": dataset, "task": task, "dim": dim}
    graph = graph or (SIMULATED_GRAPH if simulated else RECORDED_GRAPH)
    labels: tuple[str, ...] = CLASSES if task == "detection" else RECOGNITION_CLASSES
    if simulated and task == "recognition":
        architecture["sensor"] = [RECOGNITION_SCENE.sensor.width, RECOGNITION_SCENE.sensor.height]
        # A recording is as long as the sensor's memory of it: no node of it is too old.
        graph = replace(graph, window=RECOGNITION_SCENE.duration_us)
    if not simulated and name == "graph_grid":
        architecture["dropout"] = _RECORDED_DROPOUT
    module = network(**architecture)
    module.train()
    if event_layers is not None:
        _take_event_layers(module, graph, load_model(event_layers))
    loading: dict[str, Any] = {"batch_size": batch_size, "workers": workers}
    if simulated:
        loader = _simulated_loader(module, graph, seed, recordings, **loading)
    else:
        recorded = open_dataset(dataset, "training", task=task)
        labels = recorded.form.labels
        loader = _recorded_loader(module, graph, recorded, seed, recordings, **loading)
    learn = GraphLearner if recordings is None else HeadLearner
    learner = learn(module, learning_rate, steps, 0.0 if simulated else _RECORDED_LABEL_SMOOTHING)
    logs = Path(os.environ.get("AEGNN_LOG_DIR", "logs"))
    trainer = lightning.Trainer(
        accelerator="gpu" if device.startswith("cuda") else "cpu",
        devices=1,
        max_steps=steps,
        logger=CSVLogger(logs, name=Path(output).stem),
        enable_model_summary=False,
        log_every_n_steps=50,
        gradient_clip_val=5.0,
        callbacks=[lightning.pytorch.callbacks.ModelCheckpoint(every_n_train_steps=500, save_weights_only=True)],
    )
    trainer.fit(learner, loader)
    training: dict[str, Any] = {
        "steps": trainer.global_step,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "seed": seed,
        "event_layers": None if event_layers is None else str(event_layers),
        "recordings": recordings,
    }
    model = TrainedModel(module.cpu().eval(), graph, labels, Path(output).stem, architecture, training)
    save_model(output, model)
    return model


def _take_event_layers(module: GraphNetwork, graph: GraphConfig, source: TrainedModel) -> None:
    """Copy the layers on events of a model that was trained on the same edges, and keep them from being trained."""
    check_same_edges(source.graph, graph)
    try:
        module.event_blocks.load_state_dict(source.network.event_blocks.state_dict())
    except RuntimeError as error:
        raise ValueError(f"the layers on events of {source.name} have other shapes than the network's") from error
    module.event_blocks.requires_grad_(False).eval()


def _simulated_loader(
    module: GraphNetwork, graph: GraphConfig, seed: int, recordings: int | None, *, batch_size: int, workers: int
) -> DataLoader:
    if recordings is None:
        return _graph_loader(SimulatedSamples(module.task, graph, seed), False, batch_size, workers)
    return _feature_loader(module, SimulatedRecordings(graph, seed, recordings), batch_size, workers)


def _recorded_loader(
    module: GraphNetwork,
    graph: GraphConfig,
    recorded: EventDataset,
    seed: int,
    recordings: int | None,
    *,
    batch_size: int,
    workers: int,
) -> DataLoader:
    augmentation = Augmentation(mirror=recorded.form.name in _MIRRORED)
    if recordings is None:
        return _graph_loader(RecordedSamples(recorded, graph, augmentation), True, batch_size, workers)
    changed = ChangedRecordings(recorded, graph, augmentation, seed, recordings)
    return _feature_loader(module, changed, batch_size, workers)


def _graph_loader(samples: Dataset[Data], shuffle: bool, batch_size: int, workers: int) -> DataLoader:
    return DataLoader(
        samples,
        batch_size,
        shuffle,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=one_thread,
    )


def _feature_loader(
    module: GraphNetwork, recordings: SimulatedRecordings | ChangedRecordings, batch_size: int, workers: int
) -> DataLoader:
    shift = round(_LARGEST_SHIFT * module.grid.shape[0])
    return DataLoader(PooledFeatures(module, recordings, workers, shift), batch_size, shuffle=True)
