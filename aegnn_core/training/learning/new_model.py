# SPDX-License-Identifier: Apache-2.0
"""The network of a training before its first step, with all that its file will say."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from typing import Any

from aegnn_core.datasets import EventDataset
from aegnn_core.events.simulation import CLASSES, RECOGNITION_CLASSES, RECOGNITION_SCENE
from aegnn_core.graph import GraphConfig, check_same_edges
from aegnn_core.nn.checkpoint import TrainedModel, load_model
from aegnn_core.nn.event_network import EventNetwork
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.networks import DATASETS, NETWORKS, network, network_options
from aegnn_core.registry import is_path
from aegnn_core.training.settings import TrainSettings

__all__ = ["new_model"]

#: There are few recordings and a network memorises them: this is its option ``dropout`` as a recogniser, if it has one
#: that is otherwise 0.
_RECORDED_DROPOUT = 0.3


def new_model(settings: TrainSettings, dataset: EventDataset | None, name: str) -> TrainedModel:
    """The network that is to be trained, in training mode.

    Args:
        settings: what to train. A network that is a path is imported.
        dataset: to train on, None for simulated scenes.
        name: of the model.

    Raises:
        ValueError: an unknown network or option, a network that cannot be imported or made, or ``start_from`` or
            ``event_layers`` of another shape or graph.
    """
    if is_path(settings.network):
        NETWORKS.trust(settings.network)
    architecture, labels = _architecture(settings, dataset)
    module = network(**architecture)
    module.train()
    graph = settings.graph
    assert graph is not None
    if not isinstance(module, GraphNetwork):
        graph = _without_dead_nodes(graph, settings.network)
    training = settings.to_dict()
    for setting, take in (("start_from", partial(_take_weights, labels)), ("event_layers", _take_event_layers)):
        if training[setting] is not None:
            source = load_model(training[setting])
            take(module, graph, source)
            training[setting] = source.name  # not where it lay on this machine: model files are passed on
    return TrainedModel(module, graph, labels, name, architecture, training)


def _architecture(settings: TrainSettings, dataset: EventDataset | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The arguments of :func:`network`, and the names of the classes."""
    task = settings.task
    architecture: dict[str, Any] = {"name": settings.network, "task": task, "dim": settings.dim}
    if dataset is None:
        architecture["dataset"] = "simulated"
        labels: tuple[str, ...] = CLASSES if task == "detection" else RECOGNITION_CLASSES
        if task == "recognition":
            architecture["sensor"] = [RECOGNITION_SCENE.sensor.width, RECOGNITION_SCENE.sensor.height]
    else:
        labels = dataset.form.labels
        known = settings.dataset in DATASETS
        if known:
            architecture["dataset"] = settings.dataset
        else:
            architecture["num_classes"] = len(labels)
        if not known or dataset.downsampler is not None:
            architecture["sensor"] = list(dataset.form.sensor)
        dropout = network_options(settings.network).get("dropout") if settings.network in NETWORKS else None
        if task == "recognition" and dropout is not None and dropout.default == 0:
            architecture["dropout"] = _RECORDED_DROPOUT
    return architecture | settings.options, labels


def _without_dead_nodes(graph: GraphConfig, name: str) -> GraphConfig:
    """The rule for a network that does not know which nodes are live: dead ones leave the graph."""
    if graph.bounded and graph.expiry == "readout":
        raise ValueError(
            f"network {name} is not made of this package's layers and does not know which nodes are live: expected"
            " the graph's expiry to be graph, found readout"
        )
    return replace(graph, expiry="graph")


def _take_weights(labels: tuple[str, ...], module: EventNetwork, graph: GraphConfig, source: TrainedModel) -> None:
    """Begin with all weights of a model of the same layers; warn if it was not for classes of the same ``labels``."""
    if not isinstance(module, GraphNetwork) or len(module.event_blocks):
        check_same_edges(source.graph, graph)
    try:
        module.load_state_dict(source.network.state_dict())
    except RuntimeError as error:
        raise ValueError(
            f"start_from: the weights of {source.name} are of another network, expected one with the same network,"
            f" options and number of classes: {' '.join(str(error).split())[:300]}"
        ) from error
    if source.labels != labels:
        before, now = (", ".join(names) for names in (source.labels, labels))
        warnings.warn(
            f"start_from: {source.name} tells {before}; what its weights say of these will be said of {now}",
            stacklevel=3,
        )


def _take_event_layers(module: EventNetwork, graph: GraphConfig, source: TrainedModel) -> None:
    """Copy the layers on events of a model that was trained on the same edges, and keep them from being trained."""
    for one in (module, source.network):
        if not isinstance(one, GraphNetwork):
            raise ValueError(f"event_layers are those of this package's networks, found {type(one).__name__}")
    assert isinstance(module, GraphNetwork)
    assert isinstance(source.network, GraphNetwork)
    check_same_edges(source.graph, graph)
    try:
        module.event_blocks.load_state_dict(source.network.event_blocks.state_dict())
    except RuntimeError as error:
        raise ValueError(f"the layers on events of {source.name} have other shapes than the network's") from error
    module.event_blocks.requires_grad_(False).eval()
