# SPDX-License-Identifier: Apache-2.0
"""Where the commands' figures go: on the console, and into a JSON file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console

__all__ = ["plain_console", "write_figures"]

#: Columns in a file or a pipe, where the 80 that rich takes would cut names and numbers short.
_COLUMNS_WITHOUT_TERMINAL = 200


def plain_console(*, stderr: bool = False) -> Console:
    """A console that shows names from files as they are, though rich would take ``[front]`` for a style.

    Without a terminal it is wide enough for every table, unless ``COLUMNS`` says how wide it is.
    """
    console = Console(markup=False, emoji=False, stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _COLUMNS_WITHOUT_TERMINAL
    return console


def write_figures(path: Path | None, figures: dict[str, Any]) -> None:
    """Write figures to a file, whose folder is made if it is missing; nothing if no file is asked for.

    Raises:
        ValueError: nan or infinity among them, which JSON does not have.
        OSError: the file cannot be written.
    """
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")
