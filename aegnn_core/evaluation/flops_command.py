# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn flops``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.table import Table

from aegnn_core.evaluation.command_output import plain_console, write_figures
from aegnn_core.option_types import count, seed

__all__ = ["add_flops_command"]

#: More events than this take days, and more memory than there is.
_MOST_EVENTS = 10_000_000


def add_flops_command(commands: Any, formatter: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "flops", help="count the FLOPs per event, dense and asynchronous", formatter_class=formatter
    )
    parser.set_defaults(run=_run)
    parser.add_argument("--dataset", default="ncars", help="sizes of the network: ncars, ncaltech101, gen1, ...")
    parser.add_argument("--network", default="graph_res", help="graph_res, graph_wen or graph_grid")
    parser.add_argument("--task", default="recognition", choices=("recognition", "detection"), help="what it is for")
    parser.add_argument("--window", type=count, default=10_000, help="live nodes")
    parser.add_argument("--events", type=count, default=100, help="events to count, one at a time")
    parser.add_argument("--seed", type=seed, default=0, help="of the simulated recording and the weights")
    parser.add_argument("--device", default="cpu", help="where the network runs, such as cpu or cuda:0")
    parser.add_argument("--plot", type=Path, default=None, help="draw the cost of every event into this image file")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")


def _run(arguments: argparse.Namespace) -> None:
    import torch

    from aegnn_core.evaluation.event_flops import flops_per_event, plot_flops, simulated_stream, table_rows
    from aegnn_core.nn import network
    from aegnn_core.nn.checkpoint import check_device

    if arguments.window + arguments.events > _MOST_EVENTS:
        raise ValueError(
            f"--window and --events are {arguments.window + arguments.events} together, expected at most {_MOST_EVENTS}"
        )
    device = check_device(arguments.device)
    torch.set_num_threads(1)  # an event's tensors are small: threads would only wait for each other
    torch.manual_seed(arguments.seed)  # which nodes are active, and so the work, depends on the weights
    model = network(arguments.network, dataset=arguments.dataset, task=arguments.task).to(device)
    stream = simulated_stream(model.sensor, arguments.window + arguments.events, arguments.seed)
    costs = [flops_per_event(model, stream, arguments.window, directed=directed) for directed in (True, False)]
    figures = [
        {
            "directed": cost.directed,
            "engine": cost.engine,
            "dense": cost.dense,
            "asynchronous": float(cost.flops.mean()),
            "layers": cost.layers,
        }
        for cost in costs
    ]
    write_figures(arguments.json, {"flops_per_event": figures})
    title = f"{arguments.network} for {arguments.dataset}, {arguments.window:,} nodes, kFLOP per event"
    table = Table("graph", "engine", "dense", "asynchronous", "ratio", title=title)
    for row in table_rows(costs):
        table.add_row(*row)
    plain_console().print(table)
    if arguments.plot:
        plot_flops(costs, arguments.plot)
