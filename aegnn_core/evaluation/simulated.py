"""How good a model is on simulated scenes that it was not trained on, through the live model or the dense network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from rich.progress import track

from aegnn_core.asynchronous import make_model_asynchronous
from aegnn_core.datasets.simulated import HELD_OUT_SEED
from aegnn_core.evaluation.average_precision import AveragePrecision, average_precision
from aegnn_core.events.simulation import SceneConfig, simulate_recognition, simulate_scene
from aegnn_core.graph import build_graph
from aegnn_core.nn.checkpoint import TrainedModel

__all__ = ["Accuracy", "evaluate_detector", "evaluate_recognizer"]

#: The window has to fill before a scene's boxes count [µs], and they are looked at this often [µs].
_FIRST_US, _PERIOD_US = 100_000, 50_000


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers, and ``confusion[true, answered]`` in recordings."""

    accuracy: float
    confusion: np.ndarray


def evaluate_detector(
    model: TrainedModel,
    *,
    scenes: int,
    seed: int = HELD_OUT_SEED,
    asynchronous: bool = True,
    config: SceneConfig | None = None,
) -> AveragePrecision:
    """COCO average precision over scenes with seeds ``seed, seed + 1, …``, looked at every 50 ms.

    Args:
        model: a detector.
        scenes: number of scenes.
        seed: of the first; seeds below :data:`HELD_OUT_SEED` may have been trained on.
        asynchronous: through the live model; otherwise the dense network on the graph of all events so far.
        config: of the scenes.
    """
    config = config or SceneConfig()
    truth, found = [], []
    live = make_model_asynchronous(model.network, model.graph)
    for number in track(range(seed, seed + scenes), "Evaluating scenes", transient=True):
        scene = simulate_scene(number, config)
        events = scene.stream.events
        live.reset()
        seen = 0
        for moment in range(_FIRST_US, config.duration_us, _PERIOD_US):
            until = int(np.searchsorted(events["t"], moment))
            if asynchronous:
                live.update(events[seen:until])
                output = live.output(moment)
            else:
                with torch.no_grad():
                    output = model.network(build_graph(events[:until], model.graph, time=moment))
            seen = until
            truth.append(scene.boxes[scene.boxes["t"] == moment])
            found.append(model.network.detections(output, score_threshold=0.01)[0])
    return average_precision(truth, found, model.labels)


def evaluate_recognizer(
    model: TrainedModel, *, recordings: int, seed: int = HELD_OUT_SEED, asynchronous: bool = True
) -> Accuracy:
    """Accuracy over simulated recordings with seeds ``seed, seed + 1, …``; arguments as :func:`evaluate_detector`."""
    confusion = np.zeros((len(model.labels), len(model.labels)), np.int64)
    live = make_model_asynchronous(model.network, model.graph)
    for number in track(range(seed, seed + recordings), "Evaluating recordings", transient=True):
        sample = simulate_recognition(number)
        if asynchronous:
            live.reset()
            live.update(sample.stream.events)
            output = live.output()
        else:
            with torch.no_grad():
                output = model.network(build_graph(sample.stream.events, model.graph))
        confusion[sample.label, int(output.argmax())] += 1
    return Accuracy(float(np.trace(confusion) / max(1, confusion.sum())), confusion)
