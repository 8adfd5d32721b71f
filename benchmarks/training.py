# SPDX-License-Identifier: Apache-2.0
"""How fast `graph_res` trains, against a message per edge: `python benchmarks/training.py [--json FILE]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch_geometric.data import Batch

from aegnn_core import GraphConfig, build_graph, network
from aegnn_core.events import make_events
from aegnn_core.nn.spline import EdgeSplines, SplineConv

#: N-MNIST: sensor [px], duration [µs] and a usual number of events.
SIDE, DURATION_US, EVENTS = 34, 300_000, 4200
BATCH = 16
GRAPH = GraphConfig(radius=3.0, max_neighbors=16, time_scale=3e-5)


@dataclass(frozen=True)
class Result:
    """One row of the table; the best of the repeats."""

    convolution: str
    seconds_per_step: float
    recordings_per_second: float


def gather_and_scatter(conv: SplineConv, features: Tensor, own: Tensor, edges: EdgeSplines) -> Tensor:
    """``SplineConv.convolve`` as a message per edge: gather, multiply by each kernel's weights, scatter."""
    gathered = features[edges.source]
    kernels = gathered.new_zeros(len(gathered), len(conv.weight)).scatter_add(1, edges.kernel, edges.basis)
    messages = gathered.new_zeros(len(gathered), conv.out_channels)
    for kernel, weight in enumerate(conv.weight):
        messages = messages + (kernels[:, kernel, None] * gathered) @ weight
    out = own.new_zeros(len(own), conv.out_channels).index_add(0, edges.target, messages)
    return out * edges.scale[:, None]


def make_batch() -> Batch:
    """Sixteen recordings as large as those of N-MNIST, of events anywhere and any time."""
    graphs = []
    for label in range(BATCH):
        rng = np.random.default_rng(label)
        t = np.sort(rng.integers(0, DURATION_US, EVENTS))
        x, y, p = rng.integers(0, SIDE, EVENTS), rng.integers(0, SIDE, EVENTS), rng.integers(0, 2, EVENTS)
        data = build_graph(make_events(t, x, y, p), GRAPH)
        data.y = torch.tensor([label % 10])
        graphs.append(data)
    return Batch.from_data_list(graphs)


def measure(name: str, batch: Batch, convolve: Callable[..., Tensor], repeats: int) -> tuple[Result, Tensor]:
    """Train for some steps; also the output before the first."""
    torch.manual_seed(0)
    model = network("graph_res", dataset="nmnist").train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    ours, SplineConv.convolve = SplineConv.convolve, convolve  # type: ignore[method-assign]
    seconds, first = [], torch.empty(0)
    try:
        for step in range(repeats + 1):  # the first compiles
            start = perf_counter()
            optimizer.zero_grad()
            output = model(batch)
            cross_entropy(output, batch.y).backward()
            optimizer.step()
            seconds.append(perf_counter() - start)
            if step == 0:
                first = output.detach()
    finally:
        SplineConv.convolve = ours  # type: ignore[method-assign]
    best = min(seconds[1:])
    return Result(name, best, BATCH / best), first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    batch = make_batch()
    ours, output = measure("aegnn_core", batch, SplineConv.convolve, 5)
    plain, expected = measure("gather and scatter", batch, gather_and_scatter, 2)
    torch.testing.assert_close(output, expected, rtol=1e-3, atol=1e-4)
    table = Table("convolution", "s per step", "recordings per s", title=f"graph_res, {BATCH} recordings per step")
    for result in (plain, ours):
        table.add_row(result.convolution, f"{result.seconds_per_step:.3f}", f"{result.recordings_per_second:.1f}")
    console = Console()
    console.print(table)
    speedup = plain.seconds_per_step / ours.seconds_per_step
    console.print(f"{batch.num_edges:,} edges, {speedup:.1f} times as fast")
    if arguments.json:
        document = {"training": [asdict(plain), asdict(ours)], "edges": batch.num_edges, "speedup": speedup}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
