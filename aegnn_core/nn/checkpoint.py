# SPDX-License-Identifier: Apache-2.0
"""Trained models in one safetensors file: weights, and a header with what their use needs. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from aegnn_core.events.downsampling import DOWNSAMPLING
from aegnn_core.graph.config import GraphConfig
from aegnn_core.nn.event_network import EventNetwork
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.networks import DATASETS, NETWORKS, is_own, network, network_options
from aegnn_core.nn.pooling import even_ages
from aegnn_core.registry import Trust, is_path, trusts
from aegnn_core.whole_files import check_writable, whole_file

__all__ = [
    "DESCRIPTION", "MAX_SIDE", "TrainedModel", "check_device", "check_output", "describe", "for_sensor", "load_model",
    "packaged_models", "restore", "save_model", "trained_downsampling",
]  # fmt: skip

#: Name of a model's description beside its weights, in a model file and in a checkpoint of a training.
DESCRIPTION = "aegnn"
_VERSION = 1
#: Columns and rows of the largest sensor.
MAX_SIDE = 4096
_LONGEST_LABEL = 100
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

    network: EventNetwork
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


def trained_downsampling(model: TrainedModel) -> str:
    """How the recordings that a model was trained on came to its sensor, by its file; of others, the default."""
    training = model.training
    if "downsampling" not in training and training.get("joined"):  # a file that only says it of each view
        training = training["joined"][0]
    way: str = training.get("downsampling", DOWNSAMPLING[0])
    return way


def describe(model: TrainedModel) -> dict[str, Any]:
    """Everything about a model but its weights, as plain values; :func:`restore` makes the model again."""
    return {
        "version": _VERSION,
        "architecture": model.architecture,
        "graph": model.graph.to_dict(),
        "labels": list(model.labels),
        "training": model.training,
    }


def restore(
    description: dict[str, Any], weights: dict[str, torch.Tensor], path: Path, trust_code: Trust = False
) -> TrainedModel:
    """The model that :func:`describe` describes.

    Args:
        description: from :func:`describe`.
        weights: of its network.
        path: of the file that they come from, whose stem is the model's name.
        trust_code: whether to import the network, where that is the path of other code; or of which packages.

    Raises:
        ValueError: a description of no model, of another format version, of a model that the weights do not fit, or of
            one whose code is not trusted or cannot be imported.
    """
    version = description.get("version") if isinstance(description, dict) else None
    if version is not None and repr(version) != repr(_VERSION):
        raise ValueError(f"{path} has format version {repr(version)[:50]}, this package reads {_VERSION}")
    _admit_code(description, path, trust_code)
    try:
        if version is None:
            raise KeyError("version")
        trained_for = GraphConfig.from_dict(description["graph"])
        architecture = _with_whole_ages(dict(description["architecture"]), trained_for)
        training = dict(description["training"])
        own = is_own(architecture["name"])
        with torch.device("meta") if own else nullcontext():  # takes no memory, whatever it says
            planned = network(**architecture)
        _check_extent(planned)
        labels = _checked_labels(description["labels"], architecture)
    except _NOT_A_MODEL as error:
        reason = f"{repr(error)[:300]}"
        raise ValueError(f"{path} has an aegnn header that does not describe a model: {reason}") from error
    if misfit := _misfit(planned, weights):
        raise ValueError(f"{path} does not fit its own architecture {str(architecture)[:300]}: {misfit}")
    module = network(**architecture) if own else planned
    module.load_state_dict(weights)
    module.graph = trained_for
    return TrainedModel(module, trained_for, labels, path.stem, architecture, training)


def _admit_code(description: Any, path: Path, trust_code: Trust) -> None:
    """Import the network that a description names by a path, if that is trusted.

    Raises:
        ValueError: it is not, and has not been before, or it cannot be imported.
    """
    architecture = description.get("architecture") if isinstance(description, dict) else None
    name = architecture.get("name") if isinstance(architecture, dict) else None
    if not isinstance(name, str) or not is_path(name) or name in NETWORKS:
        return
    if not trusts(trust_code, name):
        package = name.partition(":")[0].partition(".")[0][:100]
        raise ValueError(
            f"{path} has the network {name[:300]} of another package, whose code is imported only if you trust it: pass"
            f" trust_code={package!r}, --trust-code {package} on a command line, or set the node's parameter trust_code"
        )
    NETWORKS.trust(name)


#: Errors that values of any kind can raise when they are used as an architecture.
_NOT_A_MODEL = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


def _check_extent(module: EventNetwork) -> None:
    """Raise ``ValueError`` if a network is for a sensor, or has a grid, that no memory could hold."""
    width, height = module.sensor
    if max(width, height) > MAX_SIDE:
        raise ValueError(f"sensor is {width} x {height} px, at most {MAX_SIDE} a side")
    if not isinstance(module, GraphNetwork):
        return
    for pooling in (*module.poolings, module.grid, module.counts):
        if pooling is None:
            continue
        columns, rows = pooling.shape
        if columns * rows > MAX_SIDE**2:
            raise ValueError(f"a grid of {columns} x {rows} cells, at most {MAX_SIDE**2} in all")


def _checked_labels(labels: Any, architecture: dict[str, Any]) -> tuple[str, ...]:
    """The names of the classes.

    Raises:
        ValueError: they are not one short text, without control characters, for each class.
    """
    classes = architecture.get("num_classes")
    if classes is None:
        classes = DATASETS[architecture["dataset"]].classes[architecture.get("task", "recognition")]
    if not isinstance(labels, (list, tuple)) or len(labels) != classes:
        found = len(labels) if isinstance(labels, (list, tuple)) else type(labels).__name__
        raise ValueError(f"labels must be a list of one for each of the {classes} classes, found {found}")
    for label in labels:
        if not isinstance(label, str) or not 1 <= len(label) <= _LONGEST_LABEL or not label.isprintable():
            raise ValueError(
                f"a label must be a printable text of 1 to {_LONGEST_LABEL} characters, found {repr(label)[:50]}"
            )
    return tuple(labels)


def _misfit(module: EventNetwork, weights: dict[str, Any]) -> str | None:
    """Why weights are not those of a network, or None if they may be."""
    expected = module.state_dict()
    if missing := sorted(expected.keys() - weights.keys()):
        return f"{len(missing)} parameters are missing, {missing[0]} for one"
    if unknown := sorted(map(str, weights.keys() - expected.keys())):
        return f"{len(unknown)} parameters are unknown, {unknown[0][:100]} for one"
    for name, wanted in expected.items():
        value = weights[name]
        if not isinstance(value, torch.Tensor):
            return f"{name} is {type(value).__name__}, expected a tensor"
        if value.shape != wanted.shape:
            return f"{name} is {list(value.shape)}, expected {list(wanted.shape)}"
        if value.layout != torch.strided or value.is_quantized:
            return f"{name} is {value.layout} {value.dtype}, expected plain numbers"
        if value.is_floating_point() != wanted.is_floating_point() or value.is_complex():
            return f"{name} is {value.dtype}, expected {wanted.dtype}"
        if wanted.is_floating_point() and not bool(torch.isfinite(value).all()):
            return f"{name} holds values that are not finite"
        if name.endswith("running_var") and bool((value < 0).any()):
            return f"{name} is a variance, found {value.min().item():g}"
    return None


def _with_whole_ages(architecture: dict[str, Any], graph: GraphConfig) -> dict[str, Any]:
    """An architecture whose parts of the past begin at whole µs; files once had their length in px of the time axis."""
    if "age" not in architecture:
        return architecture
    rest = {name: value for name, value in architecture.items() if name not in ("ages", "age")}
    return {**rest, "least_ages": even_ages(architecture["ages"], architecture["age"] / graph.time_scale)}


def save_model(path: str | Path, model: TrainedModel, *, half: bool = False) -> None:
    """Write a model to ``path``, through a temporary file, so that a crash or a full disk leaves the old one whole.

    Args:
        path: ends in ``.safetensors``.
        model: is computed with in single precision, whatever the file has.
        half: write weights of 16 bits, for a file of half the size; of 32 where some of a layer's are too large for 16.

    Raises:
        ValueError: :func:`load_model` would not take it: ``path`` does not end in ``.safetensors``, the labels are not
            one for each class, or weights are not finite. What is at ``path`` stays then.
        OSError: it cannot be written.
    """
    path = Path(path)
    _check_suffix(path)
    _checked_labels(model.labels, model.architecture)
    # Copies, since two layers may have the same weights, which a file of this kind cannot say.
    weights = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.network.state_dict().items()
    }
    if misfit := _misfit(model.network, weights):
        raise ValueError(f"model {model.name} cannot be saved to {path}: {misfit}")
    if half:
        weights = {name: _in_16_bits(value) for name, value in weights.items()}
    content = save(weights, metadata={DESCRIPTION: json.dumps(describe(model))})
    with whole_file(path) as file:
        file.write(content)


def check_output(path: str | Path) -> None:
    """See to it, before anything is computed, that :func:`save_model` can write to ``path``, whose folder is made.

    Raises:
        ValueError: ``path`` does not end in ``.safetensors``.
        OSError: nothing can be written there.
    """
    _check_suffix(Path(path))
    check_writable(Path(path))


def _check_suffix(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise ValueError(f"a model file must end in .safetensors, found {path}")


def _in_16_bits(value: torch.Tensor) -> torch.Tensor:
    """The same numbers in 16 bits, or as they are where they are whole or too large, such as variances of counts."""
    half = value.half() if value.is_floating_point() else value
    return half if bool(torch.isfinite(half).all()) else value


def for_sensor(model: TrainedModel, sensor: Sequence[int]) -> TrainedModel:
    """The model with the same weights for a sensor of another size, where its layers are the same in every place.

    Voxels and cells keep their size in pixels, so objects have to look as large there as where it was trained.

    Args:
        model: stays as it is.
        sensor: width and height [px].

    Raises:
        ValueError: a size that no sensor has, or a network with a fully connected head.
    """
    if tuple(sensor) == model.network.sensor:
        return model
    if not model.network.fits_any_sensor:
        raise ValueError(
            f"model {model.name} {model.network.place_bound} px: it cannot run on a sensor of"
            f" {' x '.join(map(str, sensor))} px, only be given events that are downsampled to its own"
        )
    architecture = {**model.architecture, "sensor": list(sensor)}
    if isinstance(model.network, GraphNetwork) and "voxel" in network_options(architecture["name"]):
        architecture["voxel"] = list(model.network.cell)  # which by default depends on the sensor
    module = network(**architecture)
    _check_extent(module)
    module.load_state_dict(model.network.state_dict())
    placed = next(chain(model.network.parameters(), model.network.buffers()), torch.empty(0))
    module.to(placed).train(model.network.training)
    module.graph = model.network.graph
    return replace(model, network=module, architecture=architecture)


def load_model(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    graph: GraphConfig | None = None,
    sensor: Sequence[int] | None = None,
    trust_code: Trust = False,
) -> TrainedModel:
    """Load a packaged model by name, or a ``.safetensors`` file by path.

    Args:
        source: a name from :func:`packaged_models`, or a path.
        device: where the network goes, such as ``"cpu"`` or ``"cuda:0"``.
        graph: if given, the graph configuration that the model has to be for.
        sensor: if given, width and height [px] of the sensor that it is to run on, see :func:`for_sensor`.
        trust_code: the package, or packages, of which the file may name a network by its path
            (``package.module:Name``), to be imported and called with the file's options. With True it chooses from all
            that can be imported: only for files whose origin you trust.

    Raises:
        ValueError: no such model or device, not a model file, a model for another graph configuration, one that cannot
            run on the sensor, or one whose code is not trusted or cannot be imported.
    """
    model = _find(source, device, graph, trust_code)
    return model if sensor is None else for_sensor(model, sensor)


def _find(source: str | Path, device: str | torch.device, graph: GraphConfig | None, trust_code: Trust) -> TrainedModel:
    path = Path(source)
    if path.suffix != ".safetensors":
        if str(source) not in packaged_models():
            raise ValueError(
                f"unknown model {str(source)[:300]!r}: expected a path to a .safetensors file or one of"
                f" {', '.join(packaged_models())}"
            )
        with resources.as_file(_WEIGHTS / f"{source}.safetensors") as packaged:
            return _load(packaged, device, graph, trust_code)
    if not path.is_file():
        raise ValueError(f"no model file at {path}")
    return _load(path, device, graph, trust_code)


def _load(path: Path, device: str | torch.device, graph: GraphConfig | None, trust_code: Trust) -> TrainedModel:
    target = check_device(device)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if DESCRIPTION not in metadata:
        raise ValueError(
            f"{path} has no aegnn header, found {sorted(metadata) or 'none'}: it was not written by save_model"
        )
    try:
        description = json.loads(metadata[DESCRIPTION])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} has an aegnn header that does not describe a model: {repr(error)[:300]}") from error
    model = restore(description, weights, path, trust_code)
    if graph is not None and graph.resolved() != model.graph.resolved():
        difference = _difference(model.graph.resolved(), graph.resolved())
        raise ValueError(f"{path} was trained for another graph configuration: {difference} (model, expected)")
    model.network.to(target)
    return model


def check_device(device: str | torch.device) -> torch.device:
    """The device by its name.

    Raises:
        ValueError: there is no such device, or none that computes.
    """
    try:
        target = torch.device(device)
        torch.empty(1, device=target).item()  # of "meta", there are no numbers
    except (RuntimeError, AssertionError, ImportError) as error:
        available = ["cpu"] + [f"cuda:{n}" for n in range(torch.cuda.device_count())]
        raise ValueError(f"device {str(device)!r} is not available here, there is {', '.join(available)}") from error
    return target


def _difference(a: GraphConfig, b: GraphConfig) -> str:
    """The fields in which two configurations differ, with both values."""
    other = b.to_dict()
    return ", ".join(
        f"{name} {value!r} vs {other[name]!r}" for name, value in a.to_dict().items() if value != other[name]
    )
