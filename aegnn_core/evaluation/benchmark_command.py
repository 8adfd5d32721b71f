# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn benchmark``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_benchmark_command"]


def add_benchmark_command(commands: Any, formatter: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "benchmark",
        help="measure what this machine can do, in a minute",
        description="Measure the packaged models and the network histogram, live, on one thread: time per event in"
        " packets of 1,000 and one at a time, and answers per second. The first time on a machine, compiling takes a"
        " minute more. For reports: put --json's file, or the table, into it.",
        formatter_class=formatter,
    )
    parser.set_defaults(run=_run)
    parser.add_argument("--device", default="cpu", help="where the networks run, such as cpu or cuda:0")
    parser.add_argument("--json", type=Path, default=None, help="also write figures and machine to this file")


def _run(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    import torch
    from rich.progress import track
    from rich.table import Table

    from aegnn_core.doctor import diagnose, processor
    from aegnn_core.evaluation.command_output import plain_console, write_figures
    from aegnn_core.evaluation.speed import measure_speeds, sgemm_gflops

    torch.set_num_threads(1)  # a packet's tensors are small: threads would only wait for each other
    table = Table("model", "network", "sensor", "packet", title=f"{processor()}, one thread, on {arguments.device}")
    for heading in ("µs/event", "events/s", "answers/s"):
        table.add_column(heading, justify="right")
    speeds = list(track(measure_speeds(arguments.device), "Measuring", transient=True))
    for speed in speeds:
        table.add_row(
            speed.model,
            speed.network,
            "{} x {}".format(*speed.sensor),
            f"{speed.packet:,}",
            f"{speed.us_per_event:.3f}",
            f"{speed.events_per_s:,.0f}",
            "" if speed.answers_per_s is None else f"{speed.answers_per_s:,.0f}",
        )
    rate = sgemm_gflops(arguments.device)
    document = {
        "sgemm_gflops": rate,
        "speeds": [asdict(speed) for speed in speeds],
        "machine": [asdict(finding) for finding in diagnose()],
    }
    write_figures(arguments.json, document)
    plain_console().print(table, f"Large matrix products: {rate:.0f} GFLOP/s", sep="\n")
