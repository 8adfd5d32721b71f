"""A trained model made ready to follow a camera: loaded, compiled, and its costs known."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch

from aegnn_core.asynchronous import LiveModel, make_model_asynchronous
from aegnn_core.events.array import make_events
from aegnn_core.events.decoders import PACKET_DECODERS, make_decoder
from aegnn_core.events.filters import refractory_period
from aegnn_core.nn.checkpoint import TrainedModel, load_model
from aegnn_ros.thinning import UpdateCost

__all__ = ["ReadyModel", "prepare_model", "wait_for_device"]

#: Sizes of the updates from which their cost is found, and how often each is measured.
_FEW, _MANY, _REPEATS = 64, 2048, 5
#: Of the events in these updates: mean time between two [µs], and side of the square that they lie in [px].
_PERIOD_US, _PATCH_PX = 2, 32


@dataclass(frozen=True)
class ReadyModel:
    """A model that has seen no event of a camera yet.

    Attributes:
        trained: the network and what it was trained for.
        live: follows the stream.
        cost: of an update.
        device: where it runs.
    """

    trained: TrainedModel
    live: LiveModel
    cost: UpdateCost
    device: str


def prepare_model(source: str, device: str) -> ReadyModel:
    """Load a model and run everything a few times, so that no compilation and first-time cost meets the first packets.

    Args:
        source: name of a packaged model, or path of a .safetensors file.
        device: such as ``cpu`` or ``cuda:0``.

    Raises:
        ValueError: no such model or device, or not a model file.
        RuntimeError: the device cannot run it, for want of memory for one.
    """
    trained = load_model(source, device=device)
    live = make_model_asynchronous(trained.network, graph=trained.graph)
    few, many = (_busy_events(trained, count) for count in (_FEW, _MANY))
    seconds = {}
    for events in (few, many):
        times = []
        for _ in range(_REPEATS):
            live.reset()
            begin = perf_counter()
            live.update(events)
            wait_for_device(device)
            times.append(perf_counter() - begin)
        seconds[len(events)] = min(times)
    output = live.output()
    trained.network.class_scores(output)
    if trained.task == "detection":
        trained.network.detections(output)
    live.reset()
    refractory_period(few, 1, trained.width, trained.height)
    for encoding in PACKET_DECODERS:
        make_decoder(encoding, trained.width, trained.height).decode(bytes(8))
    per_event = max(seconds[_MANY] - seconds[_FEW], 1e-9) / (_MANY - _FEW)
    return ReadyModel(trained, live, UpdateCost(max(0.0, seconds[_FEW] - _FEW * per_event), per_event), device)


def wait_for_device(device: str) -> None:
    """Return once a GPU has done what it was given, so that a clock read then has measured it."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _busy_events(trained: TrainedModel, count: int) -> np.ndarray:
    """A small part of the sensor full of events, so that most have as many neighbours as they may have."""
    rng = np.random.default_rng(0)
    return make_events(
        np.sort(rng.integers(0, count * _PERIOD_US, count)),
        rng.integers(0, min(_PATCH_PX, trained.width), count),
        rng.integers(0, min(_PATCH_PX, trained.height), count),
        rng.integers(0, 2, count),
    )
