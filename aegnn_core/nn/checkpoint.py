"""Trained models in one safetensors file: weights, and in its header what their use needs. Nothing is unpickled."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from aegnn_core.graph.config import GraphConfig
from aegnn_core.nn.networks import GraphNetwork, network

__all__ = ["TrainedModel", "describe", "load_model", "packaged_models", "restore", "save_model"]

_KEY = "aegnn"
_VERSION = 1
_WEIGHTS = resources.files("aegnn_core") / "weights"


@dataclass(frozen=True)
class TrainedModel:
    """A network together with what it was trained for.

    Attributes:
        network: the module, in evaluation mode.
        graph: the graph rule that it was trained with.
        labels: names of its classes.
        name: of the packaged model, or the file's stem.
        architecture: the arguments of :func:`aegnn_core.nn.networks.network` that make it.
        training: how it was made (command, seed, figures), for the reader.
    """

    network: GraphNetwork
    graph: GraphConfig
    labels: tuple[str, ...]
    name: str
    architecture: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """``"recognition"`` or ``"detection"``."""
        return self.network.task

    @property
    def width(self) -> int:
        """Sensor width [px]."""
        return self.network.sensor[0]

    @property
    def height(self) -> int:
        """Sensor height [px]."""
        return self.network.sensor[1]


def packaged_models() -> list[str]:
    """Names of the models that come with the package."""
    if not _WEIGHTS.is_dir():
        return []
    return sorted(Path(entry.name).stem for entry in _WEIGHTS.iterdir() if entry.name.endswith(".safetensors"))


def describe(model: TrainedModel) -> dict[str, Any]:
    """Everything about a model but its weights, as plain values; :func:`restore` makes the model again."""
    return {
        "version": _VERSION,
        "architecture": model.architecture,
        "graph": model.graph.to_dict(),
        "labels": list(model.labels),
        "training": model.training,
    }


def restore(description: dict[str, Any], weights: dict[str, torch.Tensor], path: Path) -> TrainedModel:
    """The model that :func:`describe` describes.

    Args:
        description: from :func:`describe`.
        weights: of its network.
        path: of the file that they come from, whose stem is the model's name.

    Raises:
        ValueError: a description of no model, of another format version, or of a model that the weights do not fit.
    """
    try:
        if (version := description["version"]) == _VERSION:
            trained_for = GraphConfig.from_dict(description["graph"])
            module = network(**description["architecture"])
            labels, training = tuple(description["labels"]), dict(description["training"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has an aegnn header that does not describe a model: {error!r}") from error
    if version != _VERSION:
        raise ValueError(f"{path} has format version {version!r}, this package reads {_VERSION}")
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        # torch says every parameter on a line of its own; the first one tells enough.
        reason = "; ".join(str(error).split("\n")[1:2]).strip()
        raise ValueError(f"{path} does not fit its own architecture {description['architecture']}: {reason}") from error
    module.graph = trained_for
    return TrainedModel(module, trained_for, labels, path.stem, description["architecture"], training)


def save_model(path: str | Path, model: TrainedModel) -> None:
    """Write a model to ``path``, through a temporary file, so that a crash leaves the old one whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    weights = {name: value.detach().cpu().contiguous() for name, value in model.network.state_dict().items()}
    part.write_bytes(save(weights, metadata={_KEY: json.dumps(describe(model))}))
    part.replace(path)


def load_model(
    source: str | Path, *, device: str | torch.device = "cpu", graph: GraphConfig | None = None
) -> TrainedModel:
    """Load a packaged model by name, or a ``.safetensors`` file by path.

    Args:
        source: a name from :func:`packaged_models`, or a path.
        device: where the network goes, such as ``"cpu"`` or ``"cuda:0"``.
        graph: if given, the graph configuration that the model has to be for.

    Raises:
        ValueError: no such model or device, not a model file, or a model for another graph configuration.
    """
    path = Path(source)
    if path.suffix != ".safetensors":
        if str(source) not in packaged_models():
            raise ValueError(
                f"unknown model {str(source)!r}: expected a path to a .safetensors file or one of"
                f" {', '.join(packaged_models())}"
            )
        with resources.as_file(_WEIGHTS / f"{source}.safetensors") as packaged:
            return _load(packaged, device, graph)
    if not path.is_file():
        raise ValueError(f"no model file at {path}")
    return _load(path, device, graph)


def _load(path: Path, device: str | torch.device, graph: GraphConfig | None) -> TrainedModel:
    target = _check_device(device)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if _KEY not in metadata:
        raise ValueError(
            f"{path} has no aegnn header, found {sorted(metadata) or 'none'}: it was not written by save_model"
        )
    try:
        description = json.loads(metadata[_KEY])
    except ValueError as error:
        raise ValueError(f"{path} has an aegnn header that does not describe a model: {error!r}") from error
    model = restore(description, weights, path)
    if graph is not None and graph.resolved() != model.graph.resolved():
        difference = _difference(model.graph.resolved(), graph.resolved())
        raise ValueError(f"{path} was trained for another graph configuration: {difference} (model, expected)")
    model.network.to(target)
    return model


def _check_device(device: str | torch.device) -> torch.device:
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        available = ["cpu"] + [f"cuda:{n}" for n in range(torch.cuda.device_count())]
        raise ValueError(f"device {str(device)!r} is not available here, there is {', '.join(available)}") from error
    return target


def _difference(a: GraphConfig, b: GraphConfig) -> str:
    """The fields in which two configurations differ, with both values."""
    other = b.to_dict()
    return ", ".join(
        f"{name} {value!r} vs {other[name]!r}" for name, value in a.to_dict().items() if value != other[name]
    )
