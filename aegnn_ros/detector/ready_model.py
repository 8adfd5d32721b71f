# SPDX-License-Identifier: Apache-2.0
"""A trained model made ready to follow a camera: loaded, compiled, and its cost measured."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch

from aegnn_core.asynchronous import LiveModel, make_model_asynchronous
from aegnn_core.asynchronous.device_choice import choose_device
from aegnn_core.asynchronous.threads import chosen_threads, spare_cores
from aegnn_core.events.array import make_events
from aegnn_core.events.decoders import PACKET_DECODERS, make_decoder
from aegnn_core.events.downsampling import DOWNSAMPLING, Downsampler
from aegnn_core.events.filters import PixelRateLimit, background_activity, refractory_period
from aegnn_core.events.letterbox import Letterbox
from aegnn_core.graph import GraphConfig
from aegnn_core.nn.checkpoint import TrainedModel, for_sensor, load_model, trained_downsampling
from aegnn_core.nn.model_sensor import MODEL_SENSORS, sensor_behind
from aegnn_ros.detector.thinning import UpdateCost

__all__ = ["DOWNSAMPLING_CHOICES", "MAX_NODES", "Bound", "ReadyModel", "on_sensor", "prepare_model", "wait_for_device"]

#: Events in the graph of a model without a bound of its own, unless asked otherwise: about two recordings of N-MNIST.
MAX_NODES = 10_000

#: How events of a camera with more pixels come to the model's sensor: first, as those of its training did.
DOWNSAMPLING_CHOICES = ("trained", *DOWNSAMPLING)

#: Sizes of the updates from which their cost is found, and how often each is measured.
_FEW, _MANY, _REPEATS = 64, 2048, 5
#: Of the events in these updates: mean time between two [µs], and side of the square that they lie in [px].
_PERIOD_US, _PATCH_PX = 2, 32


@dataclass(frozen=True)
class Bound:
    """What bounds the graph of a model that was trained on whole recordings; a camera's stream has no end.

    Attributes:
        max_nodes: this many last events are live, where there is no window.
        window: an event is live while it is younger than this [µs].
    """

    max_nodes: int = MAX_NODES
    window: int | None = None

    def rule(self, graph: GraphConfig) -> GraphConfig:
        """The graph rule with this bound."""
        return replace(graph, window=self.window, max_nodes=None if self.window else self.max_nodes)

    def warning(self, name: str) -> str:
        """What to say of the model ``name``."""
        kept = f"of the last {1e-3 * self.window:g} ms" if self.window else f"that came last, {self.max_nodes} of them"
        return (
            f"model {name} was trained without a window or max_nodes, on whole recordings: its graph has the events"
            f" {kept}; the parameters window_ms and max_nodes change that"
        )


@dataclass(frozen=True)
class ReadyModel:
    """A model that has seen no event of a camera yet.

    Attributes:
        trained: the network and what it was trained for.
        live: follows the stream.
        cost: of an update.
        device: where it runs.
        model_sensor: the sensor that it runs on behind a camera, one of :data:`aegnn_core.nn.MODEL_SENSORS`.
        trained_sensor: width and height [px] of the sensor that it was trained for.
        warning: what its user has to know; empty for nothing.
        device_choice: why it runs there; empty where that was told.
    """

    trained: TrainedModel
    live: LiveModel
    cost: UpdateCost
    device: str
    model_sensor: str
    trained_sensor: tuple[int, int]
    warning: str = ""
    device_choice: str = ""

    @property
    def sensor(self) -> tuple[int, int]:
        """Width and height [px] of the sensor that the network runs on."""
        return self.trained.width, self.trained.height

    @property
    def native(self) -> bool:
        """Whether it runs on the camera's own sensor."""
        return self.model_sensor == "camera"

    def downsampling(self, chosen: str) -> str:
        """One of :data:`aegnn_core.events.DOWNSAMPLING`, by what is chosen of :data:`DOWNSAMPLING_CHOICES`."""
        return trained_downsampling(self.trained) if chosen == DOWNSAMPLING_CHOICES[0] else chosen

    def sensor_behind(self, camera: tuple[int, int]) -> tuple[int, int]:
        """Width and height [px] of the sensor that it has to run on behind a camera of a width and a height [px]."""
        return sensor_behind(self.trained, self.trained_sensor, camera, self.model_sensor)


def on_sensor(model: ReadyModel, sensor: tuple[int, int]) -> ReadyModel:
    """The model on a sensor of another width and height [px]; all that it runs has been compiled for the first one.

    Raises:
        ValueError: the network cannot run on another sensor.
    """
    trained = for_sensor(model.trained, sensor)
    live = make_model_asynchronous(trained.network, graph=trained.graph, threads=model.live.threads, frozen=True)
    live.output()
    live.reset()
    return replace(model, trained=trained, live=live)


def prepare_model(
    source: str,
    device: str,
    model_sensor: str = MODEL_SENSORS[0],
    bound: Bound | None = None,
    threads: int = 0,
    trust_code: bool = False,
) -> ReadyModel:
    """Load a model and run everything a few times, so that the first packets need not wait for compilation.

    Args:
        source: name of a packaged model, or path of a .safetensors file, which may begin with ``~`` or ``~user``: no
            shell replaces these in a file of parameters.
        device: such as ``cpu`` or ``cuda:0``; ``auto`` for what :func:`choose_device` says.
        model_sensor: the sensor that it is to run on behind a camera, one of :data:`aegnn_core.nn.MODEL_SENSORS`.
        bound: of its graph, where the model has neither a window nor max_nodes.
        threads: that work on a packet; 0: what ``AEGNN_THREADS`` says, or all cores but one.
        trust_code: import the network, where the file names one of another package.

    Raises:
        ValueError: no such model, device or number of threads, not a model file, a network that cannot run on any
            sensor, or one whose code is not trusted.
        RuntimeError: the device cannot run it, for want of memory for one.
    """
    source = os.path.expanduser(source)
    trained = load_model(source, device="cpu" if device == "auto" else device, trust_code=trust_code)
    if model_sensor == "camera" and not trained.network.fits_any_sensor:
        raise ValueError(
            f"model {trained.name} {trained.network.place_bound} px: it cannot run on the camera's sensor, expected"
            " model_sensor trained or filled"
        )
    warning = ""
    if not trained.graph.bounded:
        bound = bound or Bound()
        trained, warning = replace(trained, graph=bound.rule(trained.graph)), bound.warning(trained.name)
    device_choice = ""
    if device == "auto":
        device, device_choice = choose_device(trained.network, trained.graph)
        trained.network.to(device)
    threads = chosen_threads(threads or None, default=spare_cores())
    live = make_model_asynchronous(trained.network, graph=trained.graph, threads=threads, frozen=True)
    cost = _measured_cost(trained, live, device)
    _run_once(trained, live)
    sensor = (trained.width, trained.height)
    return ReadyModel(trained, live, cost, device, model_sensor, sensor, warning, device_choice)


def _measured_cost(trained: TrainedModel, live: LiveModel, device: str) -> UpdateCost:
    """What an update costs: the fixed part and the part per event, from the best times of a small and a large one."""
    seconds = {}
    for count in (_FEW, _MANY):
        events = _busy_events(trained, count)
        live.reset()
        times = []
        for _ in range(_REPEATS):
            begin = perf_counter()
            live.update(events)
            wait_for_device(device)
            times.append(perf_counter() - begin)
            events["t"] += count * _PERIOD_US  # after a reset, an update costs more
        seconds[count] = min(times)
    per_event = max(seconds[_MANY] - seconds[_FEW], 1e-9) / (_MANY - _FEW)
    return UpdateCost(max(0.0, seconds[_FEW] - _FEW * per_event), per_event)


def _run_once(trained: TrainedModel, live: LiveModel) -> None:
    """Run all that packets and results need besides updates, so that it is compiled; the graph is empty afterwards."""
    output = live.output()
    trained.network.class_scores(output)
    if trained.task == "detection":
        trained.network.detections(output)
    live.reset()
    events = _busy_events(trained, _FEW)
    refractory_period(events, 1, trained.width, trained.height)
    background_activity(events, 1, trained.width, trained.height)
    PixelRateLimit(1, trained.width, trained.height)(events)
    letterbox = Letterbox((2 * trained.width, 2 * trained.height), (trained.width, trained.height))
    for way in DOWNSAMPLING:
        Downsampler(letterbox, way)(events)
    for encoding in PACKET_DECODERS:
        make_decoder(encoding, trained.width, trained.height).decode(bytes(8))


def wait_for_device(device: str) -> None:
    """Wait until a GPU has finished this thread's work, so that clocks measure it."""
    if device.startswith("cuda"):
        # Not for the whole device: that fails while a model in another thread captures its launches.
        torch.cuda.current_stream(device).synchronize()


def _busy_events(trained: TrainedModel, count: int) -> np.ndarray:
    """A small part of the sensor full of events, so that most have as many neighbours as they may have."""
    rng = np.random.default_rng(0)
    return make_events(
        np.sort(rng.integers(0, count * _PERIOD_US, count)),
        rng.integers(0, min(_PATCH_PX, trained.width), count),
        rng.integers(0, min(_PATCH_PX, trained.height), count),
        rng.integers(0, 2, count),
    )
