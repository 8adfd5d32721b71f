# SPDX-License-Identifier: Apache-2.0
"""The samples of a training and of its validations, from simulated scenes, recordings or stored graphs."""

from __future__ import annotations

from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import Dataset
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from aegnn_core.asynchronous.cuda.edge_finder import EdgeFinder
from aegnn_core.datasets import EventDataset, MissingFilesError, open_dataset
from aegnn_core.datasets.ncars_scenes import NCarsScenes
from aegnn_core.datasets.samples import EventSamples, GraphMaker, labelled_graph, labelled_nodes
from aegnn_core.datasets.simulated import SimulatedRecordings, SimulatedSamples
from aegnn_core.datasets.stored_graphs import open_graphs
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.training.samples.loader_process import start_loader_process
from aegnn_core.training.samples.pooled_features import PooledFeatures
from aegnn_core.training.samples.recorded_samples import (
    ChangedRecordings,
    ChangedStoredGraphs,
    CountedSamples,
    RecordedSamples,
)
from aegnn_core.training.samples.validation_samples import HeldOutScenes, NumberedGraphs
from aegnn_core.training.settings import SIMULATED, TrainSettings

__all__ = ["TrainingData", "learns_from_counts", "open_training"]

#: By how much pooled features are shifted at most, as a share of the grid's columns.
_LARGEST_SHIFT = 0.05


class TrainingData(lightning.LightningDataModule):
    """Loaders of training and validation samples.

    The same settings give the same samples. Every process draws other ones, and so does a run that goes on.

    Args:
        settings: of the run.
        model: what is trained: its graph rule, and for recordings behind event layers its network.
        training: the split to train on; None for simulated scenes.
        begun_at: the number of steps that an earlier part of the run has done.

    Raises:
        MissingFilesError: the data set has no recordings to validate on, or not all of them.
        ValueError: these have other classes or another sensor than those to train on.
    """

    def __init__(
        self, settings: TrainSettings, model: TrainedModel, training: EventDataset | None, begun_at: int
    ) -> None:
        super().__init__()
        self._settings, self._model, self._training, self._begun_at = settings, model, training, begun_at
        self._find_edges: EdgeFinder | None = None
        self._validation: EventDataset | None = None
        if training is not None and settings.validate_every:
            self._validation = _open_validation(settings, training)

    def setup(self, stage: str) -> None:
        """Give this process and this part of the run random numbers of its own."""
        assert self.trainer is not None
        self._seed = self._settings.seed
        if (rank := self.trainer.global_rank) or self._begun_at:
            sequence = np.random.SeedSequence([self._settings.seed, rank, self._begun_at])
            self._seed = int(sequence.generate_state(1, np.uint64)[0] >> 1)
            torch.manual_seed(self._seed)

    def train_dataloader(self) -> DataLoader:
        """Batches of graphs with their labels, or of the grids of features that a head is trained on."""
        if self._settings.recordings is not None:
            return self._feature_loader(self._settings.recordings)
        samples: Dataset[Data]
        if self._training is None:
            settings, graph = self._settings, self._model.graph
            if settings.dataset == "ncars_scenes":
                samples = NCarsScenes(
                    open_training(settings), graph, self._seed, settings.scenes, self._make(), settings.in_memory
                )
            else:
                samples = SimulatedSamples(
                    settings.task,
                    graph,
                    self._seed,
                    scenes=settings.scenes,
                    make=self._make(),
                    in_memory=settings.in_memory,
                )
            return self._graph_loader(samples)
        recorded = self._recorded_samples(self._training)
        if learns_from_counts(self._settings, self._model):
            assert isinstance(recorded, RecordedSamples)
            assert isinstance(self._model.network, GraphNetwork)
            recorded = CountedSamples(recorded, self._model.network, self._model.graph)
        return self._graph_loader(recorded, shuffle=True)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Batches of the same graphs each time, numbered; nothing if there are no validations."""
        settings, graph = self._settings, self._model.graph
        if not settings.validate_every:
            return []
        samples: Dataset[Data]
        if self._validation is None:
            samples = HeldOutScenes(settings.task, graph, settings.validation_samples)
        elif settings.preprocessed:
            samples = open_graphs(self._validation, graph, settings.task)
        else:
            samples = RecordedSamples(EventSamples(self._validation, graph, settings.task), None)
        _check_samples(samples, "validation", settings.task, "; to train without validation, set validate_every to 0")
        # A generator of its own, so that the training's random numbers are those of a training without validation.
        return self._graph_loader(NumberedGraphs(samples, settings.validation_samples), generator=torch.Generator())

    def _recorded_samples(self, dataset: EventDataset) -> Dataset[Any]:
        augmentation = self._settings.augmentation
        assert augmentation is not None
        if self._settings.preprocessed:
            graphs = open_graphs(dataset, self._model.graph, self._settings.task)
            _check_samples(graphs, dataset.split, self._settings.task)
            return ChangedStoredGraphs(graphs, augmentation, dataset.form.sensor)
        samples = EventSamples(dataset, self._model.graph, self._settings.task, self._settings.in_memory)
        _check_samples(samples, dataset.split, self._settings.task)
        return RecordedSamples(samples, augmentation, self._make())

    def _make(self) -> GraphMaker:
        """What makes graphs of the samples to train with: without edges, where a device finds them."""
        assert self.trainer is not None
        self._find_edges = _edge_finder(self._model, self.trainer.strategy.root_device)
        return labelled_graph if self._find_edges is None else labelled_nodes

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Give graphs that came without edges theirs."""
        if isinstance(batch, Data) and "edge_index" not in batch:
            assert self._find_edges is not None
            return self._find_edges(batch)
        return batch

    def _graph_loader(self, samples: Dataset[Any], **options: Any) -> DataLoader:
        workers = self._settings.num_workers
        return DataLoader(
            samples,
            self._settings.batch_size,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=start_loader_process,
            **options,
        )

    def _feature_loader(self, recordings: int) -> DataLoader:
        settings, model = self._settings, self._model
        changed: SimulatedRecordings | ChangedRecordings
        if self._training is None:
            changed = SimulatedRecordings(model.graph, settings.seed, recordings)
        else:
            assert settings.augmentation is not None
            samples = EventSamples(self._training, model.graph, settings.task, settings.in_memory)
            changed = ChangedRecordings(samples, settings.augmentation, settings.seed, recordings)
        assert isinstance(model.network, GraphNetwork)  # as all have whose layers on events were taken over
        features = PooledFeatures(model.network, changed, settings.num_workers, _LARGEST_SHIFT)
        return DataLoader(features, settings.batch_size, shuffle=True)


def _check_samples(samples: Any, split: str, task: str, way_out: str = "") -> None:
    """Raise a ``ValueError`` where the recordings of a split give nothing to learn from or to validate on."""
    if not len(samples):
        what = "box that counts" if task == "detection" else "label"
        raise ValueError(f"the recordings of the split {split} have no {what}, expected at least one{way_out}")


def _edge_finder(model: TrainedModel, device: torch.device) -> EdgeFinder | None:
    """What finds the edges of a model's graphs on a device, None where that is the loaders' work."""
    rule = model.graph, model.network.sensor, device
    return EdgeFinder(*rule) if device.type == "cuda" and EdgeFinder.refusal(*rule) is None else None


def learns_from_counts(settings: TrainSettings, model: TrainedModel) -> bool:
    """Whether a recogniser of recordings only counts their events, so that its head is all there is to train.

    Behind a teacher it learns from graphs, which the teacher sees, too.
    """
    recorded = settings.dataset not in SIMULATED and not settings.preprocessed and settings.teacher is None
    return recorded and settings.task == "recognition" and model.network.only_counts


def open_training(settings: TrainSettings) -> EventDataset:
    """The recordings to learn from; for street scenes all that N-Cars does not test with.

    Raises:
        MissingFilesError: they are not there, or not all of them.
        ValueError: a recogniser would have one class to learn, or the split validation, which is to be learned from
            too, has other classes or another sensor.
    """
    if settings.dataset == "ncars_scenes":
        splits = [open_dataset("ncars", split, task="recognition") for split in ("training", "validation")]
        return splits[0].joined(splits[1])
    training = _open_split(settings, "training")
    if settings.task == "recognition" and len(found := {recording.label for recording in training.recordings}) == 1:
        (only,) = found
        label = training.form.labels[only or 0]
        raise ValueError(f"all recordings of the split training are of the class {label}, expected two classes or more")
    return training.joined(_open_split(settings, "validation")) if settings.use_validation else training


def _open_split(settings: TrainSettings, split: str) -> EventDataset:
    return open_dataset(
        settings.dataset,
        split,
        task=settings.task,
        sensor=settings.size,
        downsampling=settings.downsampling,
        topic=settings.topic,
    )


def _open_validation(settings: TrainSettings, training: EventDataset) -> EventDataset:
    try:
        validation = _open_split(settings, "validation")
    except MissingFilesError as error:
        raise MissingFilesError(f"{error}; to train without validation, set validate_every to 0") from error
    training.check_same_kind(validation)
    return validation
