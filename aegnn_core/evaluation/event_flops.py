# SPDX-License-Identifier: Apache-2.0
"""FLOPs per event of a network, run densely and asynchronously, on directed and undirected graphs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from aegnn_core.asynchronous import make_model_asynchronous
from aegnn_core.events import EventStream, rescale
from aegnn_core.events.simulation import RECOGNITION_SCENE, simulate_recognition
from aegnn_core.graph import GraphConfig
from aegnn_core.nn import EventNetwork

__all__ = ["EventCosts", "flops_per_event", "plot_flops", "simulated_stream"]


@dataclass(frozen=True)
class EventCosts:
    """The cost of events in a full window.

    Attributes:
        directed: kind of the graph.
        dense: FLOPs of the network on the whole window, which is what an event costs without an asynchronous engine.
        engine: the asynchronous one.
        flops: FLOPs of every event ``[N]``.
        seconds: of every event ``[N]``, update and output.
        layers: mean FLOPs per event by layer.
    """

    directed: bool
    dense: float
    engine: str
    flops: np.ndarray
    seconds: np.ndarray
    layers: dict[str, float]


def simulated_stream(sensor: tuple[int, int], events: int, seed: int = 0) -> EventStream:
    """A simulated recording of one object of at least so many events, scaled to a sensor of (width, height) px."""
    duration = RECOGNITION_SCENE.duration_us
    while len(stream := simulate_recognition(seed, replace(RECOGNITION_SCENE, duration_us=duration)).stream) < events:
        duration *= 2
    return EventStream(rescale(stream.events[:events], (stream.width, stream.height), sensor), *sensor)


def flops_per_event(network: EventNetwork, stream: EventStream, window: int, *, directed: bool = True) -> EventCosts:
    """Measure every event behind the first ``window`` ones of a stream, in a graph of the last ``window`` nodes.

    Raises:
        ValueError: the stream is not longer than the window.
    """
    if len(stream) <= window:
        raise ValueError(f"the stream must have more than the window's {window} events, found {len(stream)}")
    graph = GraphConfig(directed=directed, max_nodes=window)
    events = stream.events
    dense = make_model_asynchronous(network, graph, engine="dense")
    dense.update(events[-window:])  # a dense graph may have all nodes since the reset
    dense.output()
    whole = dense.flops().total.last

    live = make_model_asynchronous(network, graph)
    live.update(events[:window])
    live.output()
    flops, seconds = [], []
    layers: dict[str, float] = {}
    for k in range(window, len(events)):
        live.update(events[k : k + 1])
        live.output()
        costs = live.flops()
        flops.append(costs.total.last)
        seconds.append(live.runtime().total.last)
        for name, cost in costs.layers.items():
            layers[name] = layers.get(name, 0) + cost.last / (len(events) - window)
    return EventCosts(directed, whole, live.engine_name, np.array(flops), np.array(seconds), layers)


def table_rows(costs: list[EventCosts]) -> Iterator[tuple[str, ...]]:
    """Rows of a table: graph, engine, dense and asynchronous kFLOP per event, their ratio."""
    for cost in costs:
        mean = float(cost.flops.mean())
        kind = "directed" if cost.directed else "undirected"
        yield kind, cost.engine, f"{cost.dense / 1e3:,.0f}", f"{mean / 1e3:,.1f}", f"{cost.dense / max(mean, 1):,.0f}"


def plot_flops(costs: list[EventCosts], path: str | Path) -> None:
    """Draw the cost of every event over the stream into an image file."""
    from matplotlib.figure import Figure  # heavy, and only needed here

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for cost in costs:
        kind = "directed" if cost.directed else "undirected"
        (line,) = axes.plot(cost.flops, label=f"{kind}, {cost.engine}", linewidth=1)
        axes.axhline(cost.dense, color=line.get_color(), linestyle="--", label=f"{kind}, dense")
    axes.set(yscale="log", xlabel="event", ylabel="FLOP per event")
    axes.legend()
    figure.savefig(str(path))
