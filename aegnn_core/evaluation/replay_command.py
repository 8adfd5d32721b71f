# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn replay``."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from aegnn_core.evaluation.camera_options import add_camera_options
from aegnn_core.evaluation.command_output import plain_console, write_figures
from aegnn_core.events.reading_options import add_reading_options, reading_options
from aegnn_core.nn.trust_option import add_trust_option
from aegnn_core.option_types import milliseconds, refuse_unused, share

__all__ = ["add_replay_command"]


def add_replay_command(commands: Any, formatter: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "replay", help="run a recording through the live model at full speed", formatter_class=formatter
    )
    parser.set_defaults(run=partial(_run, parser))
    parser.add_argument("recording", type=Path, help="rosbag2, with labels or without, or any recording of events")
    parser.add_argument("--model", default="scenes_detector", help="name of a packaged model, or a .safetensors file")
    parser.add_argument("--output", type=Path, default=None, help="rosbag2 to write with the answers (mcap)")
    parser.add_argument("--period-ms", type=milliseconds, default=20.0, help="sensor time between answers")
    parser.add_argument("--score-threshold", type=share, default=0.3, help="least score of boxes in the rosbag2")
    add_camera_options(parser)
    add_trust_option(parser)
    add_reading_options(parser, "event topic of a recording that is a bag with several")
    parser.add_argument("--device", default="cpu", help="where the network runs, such as cpu or cuda:0")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    import torch

    from aegnn_core.evaluation.recording_replay import replay
    from aegnn_core.nn import load_model

    if arguments.output is None:
        refuse_unused(parser, arguments, ["score_threshold"], "without --output")
    torch.set_num_threads(1)  # a packet's tensors are small: threads would only wait for each other
    model = load_model(arguments.model, device=arguments.device, trust_code=arguments.trust_code)
    if model.task == "recognition":
        refuse_unused(parser, arguments, ["score_threshold"], f"with {model.name}, which is for {model.task}")
    result = replay(
        arguments.recording,
        model,
        arguments.output,
        period_us=round(1000 * arguments.period_ms),
        score_threshold=arguments.score_threshold,
        downsampling=arguments.downsampling,
        model_sensor=arguments.model_sensor,
        **reading_options(arguments),
    )
    figures: dict[str, Any] = {"events": result.events, "events_downsampled": result.events_downsampled}
    figures |= {"answers": result.answers, "seconds": result.seconds}
    figures["us_per_event"] = 1e6 * result.seconds / result.events
    figures["labelled"] = result.labelled
    figures |= result.figures.to_dict() if result.figures else {}
    write_figures(arguments.json, figures)
    table = Table("figure", "value", title=f"{arguments.model} on {arguments.recording}")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    plain_console().print(table)
