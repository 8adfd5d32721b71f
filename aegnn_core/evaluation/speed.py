# SPDX-License-Identifier: Apache-2.0
"""How fast live models process events on this machine: shared by ``aegnn benchmark`` and ``benchmarks/``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter, sleep

import numpy as np
import torch

from aegnn_core.asynchronous import LiveModel, make_model_asynchronous
from aegnn_core.datasets.default_graphs import DEFAULT_GRAPHS
from aegnn_core.events.simulation import SceneConfig, SensorModel, simulate_scene
from aegnn_core.nn import EventNetwork, load_model, network, packaged_models

__all__ = ["Speed", "measure_speeds", "sgemm_gflops", "simulated_events", "time_updates", "wait"]

#: Events of every measurement: those that come first, to fill the window, and those that are timed by packet size.
_FILLED = 10_000
_TIMED = {1_000: 20_000, 1: 2_000}
#: Rows and columns of the matrices whose product is timed.
_MATRIX_SIDE = 1024
#: The network that only counts events, at the size of a data set of the field.
_HISTOGRAM_DATASET = "gen1"


@dataclass(frozen=True)
class Speed:
    """One live model and packet size.

    Attributes:
        model: name of a packaged model, or a network's name and its data set.
        network: name of its architecture.
        sensor: width and height [px].
        device: where it ran.
        packet: events per update.
        us_per_event: time of an update by its events, the median [µs].
        events_per_s: how many events per second that makes.
        answers_per_s: how often an answer can be had per second, each behind a packet; None where none was asked for.
    """

    model: str
    network: str
    sensor: tuple[int, int]
    device: str
    packet: int
    us_per_event: float
    events_per_s: float
    answers_per_s: float | None


def measure_speeds(device: str = "cpu") -> Iterator[Speed]:
    """Time every packaged model, and the network ``histogram`` without training, in packets of 1,000 and of one event.

    The events are those of simulated scenes at the model's sensor size. One row is computed whenever the next is asked
    for.

    Args:
        device: where the networks run.

    Raises:
        ValueError: no such device.
    """
    for name in packaged_models():
        model = load_model(name, device=device)
        yield from _measure(name, model.architecture["name"], model.network, device)
    counting = network("histogram", dataset=_HISTOGRAM_DATASET, task="detection")
    counting.graph = DEFAULT_GRAPHS["detection"]
    yield from _measure(f"histogram for {_HISTOGRAM_DATASET}", "histogram", counting.to(device).eval(), device)


def _measure(name: str, architecture: str, module: EventNetwork, device: str) -> Iterator[Speed]:
    live = make_model_asynchronous(module, threads=1)
    events = simulated_events(module.sensor, _FILLED + max(_TIMED.values()))
    for packet, timed in _TIMED.items():
        live.reset()
        live.update(events[:_FILLED])
        live.output()
        # An answer takes as long as thousands of events, and replaces what they need in the caches.
        asked = packet > 1
        updates, outputs = time_updates(live, events[_FILLED : _FILLED + timed], packet, device, outputs=asked)
        seconds = float(np.median(updates)) / packet
        yield Speed(
            model=name,
            network=architecture,
            sensor=module.sensor,
            device=device,
            packet=packet,
            us_per_event=1e6 * seconds,
            events_per_s=1 / seconds,
            answers_per_s=1 / float(np.median(outputs)) if asked else None,
        )


def simulated_events(sensor: tuple[int, int], count: int) -> np.ndarray:
    """At least ``count`` events of simulated scenes on a sensor of (width, height) px, one scene after the other."""
    config = SceneConfig(sensor=SensorModel(width=sensor[0], height=sensor[1]), duration_us=1_000_000)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < count:
        events = simulate_scene(len(parts), config).stream.events
        events["t"] += config.duration_us * len(parts)
        parts.append(events)
    return np.concatenate(parts)


def time_updates(
    live: LiveModel, events: np.ndarray, packet: int, device: str, *, outputs: bool, pause: float = 0.0
) -> tuple[list[float], list[float]]:
    """Seconds of every update by ``packet`` events ``[N]``, and of every output behind one if ``outputs``.

    ``pause`` [s] comes before every update, as between the packets of a camera.
    """
    updates, readouts = [], []
    for start in range(0, len(events) - packet + 1, packet):
        part = events[start : start + packet]
        if pause:
            sleep(pause)
        begin = perf_counter()
        live.update(part)
        wait(device)
        updates.append(perf_counter() - begin)
        if outputs:
            begin = perf_counter()
            live.output()
            wait(device)
            readouts.append(perf_counter() - begin)
    return updates, readouts


def sgemm_gflops(device: str) -> float:
    """Rate of a large float32 matrix product, the best of several [GFLOP/s]."""
    a, b = (torch.rand(_MATRIX_SIDE, _MATRIX_SIDE, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(9):
        begin = perf_counter()
        torch.mm(a, b)
        wait(device)
        best = min(best, perf_counter() - begin)
    return 2 * _MATRIX_SIDE**3 / best * 1e-9


def wait(device: str) -> None:
    """Let a GPU finish what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
