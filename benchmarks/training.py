# SPDX-License-Identifier: Apache-2.0
"""How fast networks train, by number of threads: `python benchmarks/training.py [--threads 1,2] [--json FILE]`.

Also, how much slower `graph_res` is with a message per edge.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch_geometric.data import Batch, Data

from aegnn_core import GraphConfig
from aegnn_core.datasets.default_graphs import DEFAULT_GRAPHS
from aegnn_core.datasets.samples import EventSample, labelled_graph
from aegnn_core.datasets.simulated import scene_moments
from aegnn_core.events import make_events
from aegnn_core.events.simulation import SceneConfig, simulate_scene
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_core.nn.networks import network
from aegnn_core.nn.spline import EdgeSplines, SplineConv
from aegnn_core.option_types import positive, thread_counts
from aegnn_core.training.learning.learner import GraphLearner

#: N-Cars: sensor [px], duration [µs] and a usual number of events.
SENSOR, DURATION_US, EVENTS = (120, 100), 100_000, 4000
SCENES = 3
DETECTION = replace(DEFAULT_GRAPHS["detection"], window=100_000)
LEAST_AGES = (12_500, 25_000, 50_000)


@dataclass(frozen=True)
class Task:
    """A network and what it learns from."""

    network: str
    task: str
    dataset: str
    graph: GraphConfig
    batch_size: int
    samples: list[EventSample]


@dataclass(frozen=True)
class Result:
    """One row of the table: medians over the steps, in ms, and samples per second."""

    network: str
    task: str
    threads: int
    graphs_ms: float
    forward_ms: float
    backward_ms: float
    optimizer_ms: float
    samples_per_second: float


class _Learner(GraphLearner):
    """Learns without a trainer, which would log."""

    def log(self, *_args, **_options) -> None:  # type: ignore[override]
        pass

    def log_dict(self, *_args, **_options) -> None:  # type: ignore[override]
        pass


def gather_and_scatter(conv: SplineConv, features: Tensor, own: Tensor, edges: EdgeSplines) -> Tensor:
    """``SplineConv.convolve`` as a message per edge: gather, multiply by each kernel's weights, scatter."""
    gathered = features[edges.source]
    kernels = gathered.new_zeros(len(gathered), len(conv.weight)).scatter_add(1, edges.kernel, edges.basis)
    messages = gathered.new_zeros(len(gathered), conv.out_channels)
    for kernel, weight in enumerate(conv.weight):
        messages = messages + (kernels[:, kernel, None] * gathered) @ weight
    out = own.new_zeros(len(own), conv.out_channels).index_add(0, edges.target, messages)
    return out * edges.scale[:, None]


def scene_samples() -> list[EventSample]:
    """Moments of simulated scenes, as a detector learns from them."""
    config, rng = SceneConfig(), np.random.default_rng(0)
    scenes = (simulate_scene(seed, config) for seed in range(SCENES))
    return [sample for scene in scenes for sample in scene_moments(scene, config, DETECTION, rng)]


def object_samples() -> list[EventSample]:
    """Recordings as large as those of N-Cars, of an object that moves from left to right."""
    samples = []
    for label in range(32):
        rng = np.random.default_rng(label)
        t = np.sort(rng.integers(0, DURATION_US, EVENTS))
        place = rng.normal((40 + 40 * t[:, None] / DURATION_US) * [1, 0] + [0, 50], (12, 15))
        x, y = np.clip(np.rint(place), 0, np.array(SENSOR) - 1).astype(int).T
        samples.append(EventSample(make_events(t, x, y, rng.integers(0, 2, EVENTS)), label % 2, None))
    return samples


def measure(task: Task, threads: int, seconds: float) -> Result:
    """Make graphs, and train with them, batch after batch."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    options = {"least_ages": LEAST_AGES} if task.task == "detection" else {}
    net = network(task.network, dataset=task.dataset, task=task.task, **options).train()
    learner = _Learner(TrainedModel(net, task.graph, ("a", "b"), "", {}, {}), 1e-3, 1)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    size, number, spent = task.batch_size, 0, []
    stop = None
    while stop is None or perf_counter() < stop or len(spent) < 4:
        at = number * size % len(task.samples)
        begin = perf_counter()
        batch = Batch.from_data_list([labelled_graph(s, task.graph) for s in task.samples[at : at + size]])
        spent.append((begin, perf_counter(), *_step(learner, optimizer, batch)))
        if stop is None:  # the first step compiles
            spent, stop = [], perf_counter() + seconds
        number += 1
    parts = np.diff(np.array(spent), axis=1) * 1e3
    total = median(parts.sum(1))
    return Result(task.network, task.task, threads, *np.median(parts, 0).tolist(), size / total * 1e3)


def _step(learner: GraphLearner, optimizer: torch.optim.Optimizer, batch: Data) -> tuple[float, float, float]:
    """The times at which the forward pass, the backward pass and the optimiser are done."""
    optimizer.zero_grad()
    loss = learner.training_step(batch, 0)
    forward = perf_counter()
    loss.backward()
    backward = perf_counter()
    optimizer.step()
    return forward, backward, perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--threads", type=thread_counts, default="1", metavar="N,N", help="numbers of threads, such as 1,2"
    )
    parser.add_argument("--seconds", type=positive, default=5.0, help="of each measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    arguments = parser.parse_args()

    scenes, objects = scene_samples(), object_samples()
    counted = replace(DETECTION, radius=0.5, max_neighbors=1)
    tasks = [
        Task("histogram", "detection", "simulated", counted, 8, scenes[:16]),
        Task("graph_histogram", "detection", "simulated", DETECTION, 8, scenes[:16]),
        Task("graph_res", "recognition", "ncars", DEFAULT_GRAPHS["recognition"], 16, objects),
    ]
    results = [measure(task, threads, arguments.seconds) for task in tasks for threads in arguments.threads]
    with patch.object(SplineConv, "convolve", gather_and_scatter):
        plain = measure(tasks[-1], arguments.threads[0], arguments.seconds)

    columns = ("network", "threads", "graphs", "forward", "backward", "optimiser", "samples per s")
    table = Table(*columns, title="Training, ms per step")
    for result in (*results, plain):
        name = result.network + (", a message per edge" if result is plain else "")
        parts = (result.graphs_ms, result.forward_ms, result.backward_ms, result.optimizer_ms)
        table.add_row(name, str(result.threads), *(f"{part:.0f}" for part in parts), f"{result.samples_per_second:.1f}")
    Console().print(table)
    if arguments.json:
        document = {"training": [asdict(result) for result in results], "message_per_edge": asdict(plain)}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
