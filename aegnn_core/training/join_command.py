# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn join``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_join_command"]


def add_join_command(commands: Any, formatter: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "join", help="make one recogniser of several that look at the same counts", formatter_class=formatter
    )
    parser.set_defaults(run=_run)
    parser.add_argument("model", nargs="+", help="histogram networks with crop, alike but for crop_cell and crop_of")
    parser.add_argument("--output", type=Path, required=True, help="model file to write (.safetensors)")
    parser.add_argument("--half", action="store_true", help="weights of 16 bits, for a file of half the size")


def _run(arguments: argparse.Namespace) -> None:
    from aegnn_core.nn import load_model, save_model
    from aegnn_core.nn.checkpoint import check_output
    from aegnn_core.nn.joined_views import join_views

    check_output(arguments.output)
    model = join_views([load_model(each) for each in arguments.model], arguments.output.stem)
    save_model(arguments.output, model, half=arguments.half)
    views = len(model.architecture["crop_cell"])
    print(f"{arguments.output}: the mean over the {views} views of {', '.join(arguments.model)}")
