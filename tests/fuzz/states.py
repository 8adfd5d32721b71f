# SPDX-License-Identifier: Apache-2.0
"""Live states, model files, checkpoints, stored graphs and settings that somebody has tampered with."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.numpy import load, save
from torch import nn

from aegnn_core import GraphConfig, LiveModel, load_model
from aegnn_core.asynchronous import ENGINES
from aegnn_core.asynchronous.saved_state import digest_of
from aegnn_core.datasets.dataset_format import BOX_DTYPE
from aegnn_core.datasets.graph_file import read_graph, write_graphs
from aegnn_core.datasets.samples import EventSample
from aegnn_core.nn.checkpoint import DESCRIPTION, TrainedModel, describe, save_model
from aegnn_core.nn.networks import NETWORKS, network
from aegnn_core.training.runs.export import export_checkpoint
from aegnn_core.training.settings import TrainSettings, read_settings
from tests.asynchronous.test_live_states import EVENTS, GRAPH, Foreign, damaged, made, make_network
from tests.fuzz.mutations import mutated, mutated_value
from tests.fuzz.outcomes import check_refusal, require

__all__ = ["LiveStates", "StoredModels"]

#: graph_wen is graph_res with 400 times the weights, which take their time to hash and to write.
_NETWORKS = [name for name in NETWORKS if name != "graph_wen"]
_STATES = 20
_FILES = 20


class LiveStates:
    """Tampered states into live models of every engine and network: a refusal leaves the model as it was."""

    name = "live states"
    named = r"^state"

    def __init__(self, folder: Path) -> None:
        modules: list[nn.Module] = [make_network(name=name) for name in _NETWORKS]
        modules.append(Foreign().double().eval())
        self._pairs = [
            (engine, module)
            for engine, kind in ENGINES.items()
            for module in modules
            if kind.refusal(module, GRAPH) is None
        ]
        self._made: dict[int, tuple[LiveModel, dict[str, Any], dict[str, Any]]] = {}

    def _live(self, number: int) -> tuple[LiveModel, dict[str, Any], dict[str, Any]]:
        """A live model, its state, and another state that it could have."""
        if number not in self._made:
            engine, module = self._pairs[number]
            live = made(engine, 60, module)
            self._made[number] = live, live.state_dict(), made(engine, 120, module).state_dict()
        return self._made[number]

    def attempts(self, rng: np.random.Generator) -> Iterator[Callable[[], None]]:
        """States for one live model, of which one to three parts are something else."""
        live, before, good = self._live(int(rng.integers(len(self._pairs))))
        for _ in range(_STATES):
            state = dict(good)
            for _ in range(int(rng.integers(1, 4))):
                name = list(state)[rng.integers(len(state))]
                state[name] = _other(state[name], rng)
            if rng.random() < 0.05:
                del state[list(state)[rng.integers(len(state))]]
            if rng.random() < 0.8:
                with contextlib.suppress(NotImplementedError, RuntimeError, TypeError):
                    state["digest"] = digest_of({name: value for name, value in state.items() if name != "digest"})
            yield partial(self._load, live, before, state)

        def unchanged() -> None:
            require(len(live) == 60, f"{len(live)} events after states that were refused, expected 60")
            live.update(EVENTS[60:90])
            require(bool(torch.isfinite(live.output()).all()), "the output is not finite")
            live.load_state_dict(before)

        yield unchanged

    @staticmethod
    def _load(live: LiveModel, before: dict[str, Any], state: dict[str, Any]) -> None:
        live.load_state_dict(state)
        try:
            live.output()
            last = max(int(state["last_time"]), int(EVENTS["t"][-1]))
            if last < 2**62:
                late = EVENTS[:3].copy()
                late["t"] = last
                with contextlib.suppress(ValueError):  # too far from the first event
                    live.update(late)
                    live.output()
        finally:
            live.load_state_dict(before)


def _other(value: Any, rng: np.random.Generator) -> Any:
    """Something else in its place: of another kind, or of the same with other numbers."""
    if isinstance(value, torch.Tensor) and (value.layout != torch.strided or value.device.type != "cpu"):
        return damaged(value, rng)
    if isinstance(value, list) and value and rng.random() < 0.5:
        at = int(rng.integers(len(value)))
        return [_other(item, rng) if number == at else item for number, item in enumerate(value)]
    if isinstance(value, torch.Tensor) and value.numel() and rng.random() < 0.6:
        other = value.clone().flatten()
        chosen = rng.integers(0, other.numel(), int(rng.integers(1, 4)))
        if value.is_floating_point():
            other[chosen] = float(rng.choice([0.0, -1.0, 1e30, np.inf, np.nan]))
        else:
            largest = torch.iinfo(value.dtype).max
            other[chosen] += int(rng.choice([-1, 1, 7, 1_000, largest // 2]))
        return other.view(value.shape)
    if isinstance(value, (dict, str, int)) and rng.random() < 0.5:
        return mutated_value(value, rng)
    return damaged(value, rng)


class StoredModels:
    """Tampered files of models, checkpoints, graphs and settings: what they say, or a refusal that names the file."""

    name = "model files"
    named = r"fuzzed|^graph|^augmentation|^setting|^unknown settings|^no value for"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model, self._checkpoint = folder / "fuzzed.safetensors", folder / "fuzzed.ckpt"
        self._graphs, self._settings = folder / "fuzzed-graphs.safetensors", folder / "fuzzed.yaml"
        torch.manual_seed(0)
        self._descriptions, self._arrays, self._checkpoints = [], [], []
        for name in _NETWORKS:
            architecture: dict[str, Any] = {"name": name, "dataset": "nmnist", "task": "recognition", "sensor": [12, 9]}
            labels = tuple(map(str, range(10)))
            model = TrainedModel(network(**architecture), GRAPH, labels, "fuzzed", architecture)
            save_model(self._model, model)
            self._descriptions.append(json.loads(json.dumps(describe(model))))
            self._arrays.append(load(self._model.read_bytes()))
            state = {f"network.{key}": value for key, value in model.network.state_dict().items()}
            self._checkpoints.append({"state_dict": state, DESCRIPTION: describe(model), "epoch": 0})
        self._graph = GraphConfig(max_neighbors=4, window=50_000)
        self._graph_arrays = []
        for boxes in (None, np.ones(3, BOX_DTYPE)):
            samples = [EventSample(part, 3 if boxes is None else None, boxes) for part in (EVENTS, EVENTS[:30])]
            write_graphs(self._graphs, samples, self._graph)
            self._graph_arrays.append(load(self._graphs.read_bytes()))
        settings = TrainSettings(network="graph_grid", task="recognition", dataset="ncars")
        self._values = yaml.safe_load(str(settings))

    def attempts(self, rng: np.random.Generator) -> Iterator[Callable[[], None]]:
        """Some files of each kind."""
        for _ in range(_FILES):
            kind = rng.integers(6)
            if kind <= 1:
                yield partial(self._load_model, self._model_file(rng))
            elif kind == 2:
                yield partial(self._export, self._checkpoint_file(rng))
            elif kind <= 4:
                arrays = self._graph_arrays[rng.integers(len(self._graph_arrays))]
                yield partial(self._read_graph, self._tampered(arrays, {}, rng))
            else:
                values = mutated_value(self._values, rng)
                text = yaml.safe_dump(values).encode()
                yield partial(self._read_settings, mutated(text, rng) if rng.random() < 0.5 else text)

    def _model_file(self, rng: np.random.Generator) -> bytes:
        number = int(rng.integers(len(self._arrays)))
        description = self._descriptions[number]
        if rng.random() < 0.6:
            description = mutated_value(description, rng)
            return save(self._arrays[number], metadata={"aegnn": json.dumps(description)})
        return self._tampered(self._arrays[number], {"aegnn": json.dumps(description)}, rng)

    @staticmethod
    def _tampered(arrays: dict[str, np.ndarray], metadata: dict[str, str], rng: np.random.Generator) -> bytes:
        """A safetensors file in which bytes, or an array, became something else."""
        arrays = dict(arrays)
        name = list(arrays)[rng.integers(len(arrays))]
        values = arrays[name]
        kind = rng.integers(7)
        if kind == 0:
            return mutated(save(arrays, metadata=metadata), rng)
        if kind == 1:
            arrays[name] = values[:-1] if values.ndim else values[None]
        elif kind == 2:
            arrays[name] = values.astype([np.float16, np.float64, np.int8, np.uint64, bool][rng.integers(5)])
        elif kind == 3:
            del arrays[name]
        elif kind == 4:
            arrays[name] = np.frombuffer(rng.bytes(values.nbytes), values.dtype).reshape(values.shape)
        elif values.size:
            arrays[name] = changed = np.array(values)
            largest = np.finfo(values.dtype).max if values.dtype.kind == "f" else np.iinfo(values.dtype).max
            changed.flat[rng.integers(values.size)] = [0, 1, largest][rng.integers(3)]
        if kind == 6:
            arrays["more"] = values
        return save({key: np.ascontiguousarray(value) for key, value in arrays.items()}, metadata=metadata)

    def _checkpoint_file(self, rng: np.random.Generator) -> bytes:
        checkpoint = self._checkpoints[rng.integers(len(self._checkpoints))]
        kind = rng.integers(3)
        if kind == 0:
            checkpoint = {**checkpoint, DESCRIPTION: mutated_value(checkpoint[DESCRIPTION], rng)}
        elif kind == 1:
            checkpoint = mutated_value(checkpoint, rng)
        file = io.BytesIO()
        torch.save(checkpoint, file)
        return mutated(file.getvalue(), rng) if kind == 2 else file.getvalue()

    def _load_model(self, content: bytes) -> None:
        self._model.write_bytes(content)
        model = load_model(self._model)
        require(len(model.labels) > 0 and max(model.width, model.height) <= 4096, f"{model}")

    def _export(self, content: bytes) -> None:
        self._checkpoint.write_bytes(content)
        output = self._folder / "fuzzed-exported.safetensors"
        export_checkpoint(self._checkpoint, output)
        load_model(output)

    def _read_graph(self, content: bytes) -> None:
        self._graphs.write_bytes(content)
        for number in range(2):
            try:
                data = read_graph(self._graphs, number, self._graph)
            except ValueError as error:
                check_refusal(error, self.named)
                continue
            sources, targets = data.edge_index
            require(bool(((sources >= 0) & (sources < targets) & (targets < len(data.x))).all()), "edges of no graph")
            require(bool(((data.edge_attr >= 0) & (data.edge_attr <= 1)).all()), "an edge that is too long")

    def _read_settings(self, content: bytes) -> None:
        self._settings.write_bytes(content)
        settings = TrainSettings.from_dict(read_settings(self._settings))
        require(TrainSettings.from_dict(yaml.safe_load(str(settings))) is not None, f"{settings}")
