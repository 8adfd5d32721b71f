# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn export``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from aegnn_core.nn.trust_option import add_trust_option

__all__ = ["add_export_command"]


def add_export_command(commands: Any, formatter: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "export", help="make a model file from a checkpoint of a training", formatter_class=formatter
    )
    parser.set_defaults(run=_run)
    parser.add_argument("checkpoint", type=Path, help="best.ckpt or last.ckpt in the folder of a run")
    parser.add_argument("--output", type=Path, required=True, help="model file to write (.safetensors)")
    add_trust_option(parser, "the checkpoint")
    parser.add_argument("--half", action="store_true", help="weights of 16 bits, for a file of half the size")


def _run(arguments: argparse.Namespace) -> None:
    from aegnn_core.training.runs.export import export_checkpoint

    model = export_checkpoint(
        arguments.checkpoint, arguments.output, half=arguments.half, trust_code=arguments.trust_code
    )
    print(f"{arguments.output}: {model.architecture['name']} for {model.task} after {model.training['steps']} steps")
