# SPDX-License-Identifier: Apache-2.0
"""All settings of a training, declared once for Python, YAML files, the command line and model files."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from aegnn_core.datasets.bag_folder import ROSBAG
from aegnn_core.datasets.default_graphs import DEFAULT_GRAPHS
from aegnn_core.events.downsampling import DOWNSAMPLING
from aegnn_core.events.letterbox import read_size
from aegnn_core.events.simulation import RECOGNITION_SCENE
from aegnn_core.graph import GraphConfig
from aegnn_core.nn.networks import NETWORKS, check_options, reads_edges
from aegnn_core.nn.pooling import even_ages
from aegnn_core.plain_yaml import load_yaml
from aegnn_core.training.samples.augmentation import Augmentation, default_augmentation

__all__ = [
    "LOGGERS",
    "SIMULATED",
    "TrainSettings",
    "configurations",
    "declared",
    "default_graph",
    "read_settings",
    "read_value",
]

#: The settings that have parts.
_NESTED = ("graph", "augmentation")

#: What the command line calls simulated scenes, alone and with recordings among them.
SIMULATED = ("simulated", "ncars_scenes")

LOGGERS = ("tensorboard", "csv", "wandb")
#: Length of a part of the past where ``ages`` comes alone [µs].
_AGE_US = 100_000.0
#: Whole numbers from here on are none of floating point.
_LARGEST = 2**1023
_PRECISIONS = ("32", "16-mixed", "bf16-mixed")
#: Of a file of settings; so few references cannot unfold to much.
_MOST_BYTES, _MOST_REFERENCES = 100_000, 20
_CONFIGURATIONS = resources.files("aegnn_core.training") / "configurations"


@dataclass(frozen=True)
class _Kind:
    """The values that a setting takes: of one type, and with ``accepts`` in the range that ``expected`` names."""

    type: Callable[[Any], Any]
    expected: str
    accepts: Callable[[Any], bool] = lambda _: True


_TEXT = _Kind(str, "a text")
_SWITCH = _Kind(bool, "true or false")
_NATURAL = _Kind(int, "a whole number of at least 0", lambda value: value >= 0)
#: What NumPy's global generator takes.
_SEED = _Kind(int, "a whole number from 0 to 4294967295", lambda value: 0 <= value < 2**32)
_COUNT = _Kind(int, "a whole number of at least 1", lambda value: value >= 1)
_POSITIVE = _Kind(float, "a positive number", lambda value: 0 < value < math.inf)
_DECAY = _Kind(float, "a number between 0 and 1", lambda value: 0 < value < 1)


def _setting(
    kind: _Kind, meaning: str, default: Any = MISSING, choices: tuple[Any, ...] = (), resumable: bool = False
) -> Any:
    """A field of :class:`TrainSettings`; None is allowed where it is the default.

    Args:
        kind: of its values.
        meaning: for the command line's help.
        default: its value if nobody says.
        choices: its values, if they can be listed.
        resumable: whether a run that is resumed may have another value.
    """
    metadata = {"kind": kind, "meaning": meaning, "choices": choices, "resumable": resumable}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train a network; ``aegnn train --help`` says what each setting means.

    Attributes:
        graph: the rule; if None is given, that of :func:`default_graph`.
        augmentation: of recordings; if None is given, that of
            :func:`aegnn_core.training.samples.augmentation.default_augmentation`. Simulated scenes have none.
        options: of the network, see :func:`aegnn_core.nn.networks.network`.
        ages, age: deprecated, become the option ``least_ages``.

    Raises:
        ValueError: a value of the wrong type or out of its range; the message names setting, value and what is right.
    """

    network: str = _setting(_TEXT, f"{', '.join(NETWORKS)}, or package.module:Name for one of your own")
    task: str = _setting(_TEXT, "what to learn", choices=("recognition", "detection"))
    dataset: str = _setting(
        _TEXT,
        "simulated, ncars_scenes (cars of N-Cars among simulated scenes), or a data set below AEGNN_DATA_DIR",
        "simulated",
    )
    dim: int = _setting(_COUNT, "components of the edge attributes", 3, choices=(2, 3))
    steps: int = _setting(_COUNT, "optimiser steps", 4000)
    batch_size: int = _setting(_COUNT, "samples per step and device", 16)
    learning_rate: float = _setting(_POSITIVE, "highest learning rate", 4e-3)
    seed: int = _setting(_SEED, "of weights and samples", 1)
    event_layers: str | None = _setting(_TEXT, "model whose layers on events are taken over unchanged", None)
    start_from: str | None = _setting(_TEXT, "model of the same network whose weights to start from", None)
    teacher: str | None = _setting(_TEXT, "recogniser whose answers to learn in place of the labels", None)
    scenes: int | None = _setting(
        _COUNT, "number of simulated scenes that are repeated; if not given, always new ones", None
    )
    use_validation: bool = _setting(_SWITCH, "train on the split validation, too, without validating", False)
    recordings: int | None = _setting(_COUNT, "train behind --event-layers on this many, computed once", None)
    ages: int | None = _setting(_COUNT, "deprecated: parts of the past, now --option least_ages=[…]", None)
    age: float | None = _setting(_POSITIVE, "deprecated: length of each of these parts [µs], by default 1e5", None)
    sensor: str | None = _setting(
        _TEXT, "sensor to train for, such as 160x120, where the recordings' camera has more pixels", None
    )
    downsampling: str = _setting(
        _TEXT, "how events of such recordings are downsampled", DOWNSAMPLING[0], choices=DOWNSAMPLING
    )
    topic: str | None = _setting(_TEXT, "event topic of bags that have several, such as /left/events", None)
    preprocessed: bool = _setting(_SWITCH, "read graphs that aegnn preprocess has stored", False)
    ema: float | None = _setting(_DECAY, "keep an average of the weights with this decay, such as 0.999", None)
    validate_every: int = _setting(_NATURAL, "steps between validations, 0 for none", 500, resumable=True)
    validation_samples: int = _setting(
        _COUNT,
        "held-out scenes to validate on, or recordings of the split validation, evenly spread",
        100,
        resumable=True,
    )
    patience: int | None = _setting(
        _COUNT, "stop after so many validations without progress, and keep the best weights", None, resumable=True
    )
    checkpoint_every: int = _setting(_COUNT, "steps between checkpoints", 50, resumable=True)
    precision: str = _setting(_TEXT, "of the arithmetic behind the graph", "32", choices=_PRECISIONS, resumable=True)
    gpu: int | None = _setting(_NATURAL, "number of the first CUDA device, the CPU if not given", None, resumable=True)
    devices: int = _setting(_COUNT, "GPUs, or processes on the CPU, per machine", 1, resumable=True)
    num_nodes: int = _setting(_COUNT, "machines", 1, resumable=True)
    num_workers: int = _setting(_NATURAL, "processes per device that simulate or read", 1, resumable=True)
    in_memory: bool = _setting(
        _SWITCH,
        "keep recordings in memory once they are read, and scenes once they are simulated, in each process",
        False,
        resumable=True,
    )
    logger: str = _setting(_TEXT, "what keeps the curves", "tensorboard", choices=LOGGERS, resumable=True)
    graph: GraphConfig | None = None
    augmentation: Augmentation | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in declared():
            object.__setattr__(self, item.name, _checked(item, getattr(self, item.name)))
        if not isinstance(self.options, dict) or not all(isinstance(name, str) for name in self.options):
            raise ValueError(f"setting options is {repr(self.options)[:300]}, expected a mapping of names to values")
        for name, value in self.options.items():
            if not _is_plain(value):  # neither a checkpoint nor a model file could say it
                raise ValueError(
                    f"setting options: {name[:100]} is {repr(value)[:300]}, expected numbers, texts, true, false, null,"
                    " or lists or mappings of these with texts as keys"
                )
        if self.age is not None and self.ages is None:
            raise ValueError(f"setting age is the length of each of several ages, found {self.age:g} without ages")
        if self.ages is not None:
            object.__setattr__(self, "options", _with_ages(self.options, self.ages, self.age))
            object.__setattr__(self, "ages", None)
            object.__setattr__(self, "age", None)
        if self.options and self.network in NETWORKS:
            try:
                check_options(self.network, self.options)
            except ValueError as error:
                raise ValueError(f"setting options: {error}") from error
        if self.graph is None:
            graph = default_graph(self.dataset, self.task)
            if not reads_edges(self.network):
                graph = replace(graph, radius=0.5, max_neighbors=1)  # the fewest edges there can be
            object.__setattr__(self, "graph", graph)
        self._check_data()
        if self.dataset in SIMULATED:
            if self.augmentation is not None:
                raise ValueError("setting augmentation is for recordings, found it with simulated scenes")
        elif self.augmentation is None:
            object.__setattr__(self, "augmentation", default_augmentation(self.dataset, self.task))
        elif self.task == "detection" and self.augmentation.cut:
            raise ValueError(
                f"setting augmentation: cut is for recognition, found {self.augmentation.cut} for detection"
            )

    def _check_data(self) -> None:
        """Refuse settings that the data set has no use for."""
        if self.size is not None and self.dataset in SIMULATED:
            raise ValueError(f"setting sensor is for recordings, found {str(self.sensor)[:40]} with simulated scenes")
        if self.size is None and self.downsampling != DOWNSAMPLING[0]:
            raise ValueError(f"setting downsampling needs the setting sensor, found {self.downsampling} without it")
        if self.scenes is not None and self.dataset not in SIMULATED:
            raise ValueError(f"setting scenes is for simulated scenes, found {self.scenes} with {self.dataset[:100]}")
        if self.topic is not None and self.dataset != ROSBAG:
            found = f"{self.topic[:100]!r} with {self.dataset}"
            raise ValueError(f"setting topic is for the data set {ROSBAG}, found {found}")

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height [px] of the sensor to learn for; None for the data set's own."""
        return None if self.sensor is None else read_size(self.sensor, "setting sensor")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainSettings:
        """Settings from plain values, as :meth:`to_dict` gives them.

        Parts of the graph and the augmentation that are not there are those of the data set's default.

        Raises:
            ValueError: an unknown name, a setting without a value, or a value that is wrong.
        """
        known = [item.name for item in fields(cls)]
        if unknown := sorted({str(name) for name in values} - set(known)):
            raise ValueError(f"unknown settings {', '.join(unknown)}; known are {', '.join(known)}")
        if missing := [item.name for item in declared() if item.default is MISSING and item.name not in values]:
            raise ValueError(f"no value for the settings {', '.join(missing)}")
        plain = cls(**{name: value for name, value in values.items() if name not in _NESTED})
        for name in _NESTED:
            if values.get(name) is not None and not isinstance(values[name], dict):
                raise ValueError(f"setting {name} is {repr(values[name])[:300]}, expected a mapping")
        graph, augmentation = (values.get(name) or {} for name in _NESTED)
        if graph:
            assert plain.graph is not None
            plain = replace(plain, graph=GraphConfig.from_dict({**plain.graph.to_dict(), **graph}))
        if augmentation:
            defaults = asdict(plain.augmentation or Augmentation())
            plain = replace(plain, augmentation=Augmentation.from_dict({**defaults, **augmentation}))
        return plain

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


def _is_plain(value: Any) -> bool:
    """Whether a value comes back from JSON as it is, but for tuples."""
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(type(name) is str and _is_plain(part) for name, part in value.items())
    return value is None or (type(value) in (bool, int, float, str) and value == value)


def _with_ages(options: dict[str, Any], ages: int, age: float | None) -> dict[str, Any]:
    """Options of the network with the parts of the past that two settings of earlier versions say."""
    if ages == 1:
        return options
    try:
        least_ages = even_ages(ages, _AGE_US if age is None else age)
    except ValueError as error:
        raise ValueError(f"setting {error}") from error
    if "least_ages" in options:
        raise ValueError(f"ages are short for the option least_ages, found {ages} and both")
    warnings.warn(
        f"the settings ages and age are deprecated, expected the network's option least_ages={least_ages}",
        FutureWarning,
        stacklevel=4,
    )
    return {**options, "least_ages": least_ages}


def default_graph(dataset: str, task: str) -> GraphConfig:
    """The rule for a data set unless somebody chooses another."""
    if dataset == "simulated" and task == "recognition":
        # A recording is as long as the sensor's memory of it: no node of it is too old.
        return replace(DEFAULT_GRAPHS["detection"], window=RECOGNITION_SCENE.duration_us)
    return DEFAULT_GRAPHS[task]


def declared() -> list[Field[Any]]:
    """The settings that are a single value, with kind, meaning, choices and whether resumable as metadata."""
    return [item for item in fields(TrainSettings) if item.metadata]


def configurations() -> list[str]:
    """Names of the configurations that come with the package."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _CONFIGURATIONS.iterdir())


def read_settings(source: str | Path) -> dict[str, Any]:
    """The plain values of a YAML file, or of a packaged configuration by name.

    Raises:
        ValueError: no such file or configuration, not YAML, not a mapping, or a setting that does not exist.
    """
    packaged = configurations()
    file = _CONFIGURATIONS / f"{source}.yaml" if str(source) in packaged else Path(source)
    if not file.is_file():
        raise ValueError(
            f"no configuration {str(source)[:300]!r}: expected a YAML file or one of {', '.join(packaged)}"
        )
    with file.open("rb") as opened:
        content = opened.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{source} has more than {_MOST_BYTES} bytes, expected the settings of a training")
    try:
        values = load_yaml(content.decode("utf8"), _Loader, _MOST_REFERENCES)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ValueError(f"{source} is not a YAML file: {' '.join(str(error).split())[:500]}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{source} holds {type(values).__name__}, expected a mapping of settings to values")
    known = [item.name for item in fields(TrainSettings)]
    if unknown := sorted({str(name) for name in values} - set(known)):
        raise ValueError(f"{source} has unknown settings {', '.join(unknown)}; known are {', '.join(known)}")
    return values


def read_value(text: str) -> Any:
    """A value as files of settings have it.

    Raises:
        ValueError: it is none.
    """
    try:
        return load_yaml(text, _Loader, 0)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{text[:300]!r} is no value in YAML") from error


class _Loader(yaml.SafeLoader):
    """Refuses a setting that is there twice, and takes for numbers what everybody does.

    In YAML 1.1, ``1e-3`` is a text, ``012`` is ten, ``1:30`` is ninety and ``2026-01-02`` is a date. Here the first is
    a number and the others are texts, which no setting for a number takes.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        there = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value in there:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value[:100]} is there twice", key.start_mark)
            there.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        constructed: dict[Any, Any] = super().construct_mapping(node, deep)
        return constructed


_TAG = "tag:yaml.org,2002:"
_Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] not in (f"{_TAG}int", f"{_TAG}float", f"{_TAG}timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    f"{_TAG}int", re.compile(r"^[-+]?(0|[1-9][\d_]*|0x[\da-fA-F_]+|0b[01_]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(
        r"^([-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*|\d[\d_]*(?=[eE]))([eE][-+]?\d+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


def _checked(item: Field[Any], value: Any) -> Any:
    """The value in the setting's type."""
    kind, choices = item.metadata["kind"], item.metadata["choices"]
    if value is None and item.default is None:
        return None
    whole = kind.type is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST
    if item.name == "precision" and value in (16, 32):
        value = str(value)  # YAML takes it for a number
    fits = whole or (isinstance(value, kind.type) and isinstance(value, bool) == (kind.type is bool))
    if not fits or not kind.accepts(value) or (choices and value not in choices):
        expected = f"one of {', '.join(map(str, choices))}" if choices else kind.expected
        raise ValueError(f"setting {item.name} is {repr(value)[:300]}, expected {expected}")
    return kind.type(value)
