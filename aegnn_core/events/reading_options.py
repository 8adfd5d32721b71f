# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that read a recording: what the recording does not say by itself."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_reading_options", "reading_options"]

#: The options of :func:`aegnn_core.events.read_events` that ``--read`` takes, and of what kind they are.
_KINDS: dict[str, type] = {
    "columns": str,
    "height": int,
    "max_events": int,
    "rows": str,
    "stream": str,
    "time_unit": str,
    "width": int,
}


def add_reading_options(parser: argparse.ArgumentParser, topic_help: str) -> None:
    """Add ``--topic`` and ``--read``."""
    parser.add_argument("--topic", default=None, help=topic_help)
    parser.add_argument(
        "--read",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"what a recording does not say, one of {', '.join(_KINDS)}, such as time_unit=ns, columns=txyp or"
        " stream=davis/right; may be repeated",
    )


def reading_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What ``--topic`` and ``--read`` say, as keyword arguments of :func:`aegnn_core.events.read_events`.

    Raises:
        ValueError: not NAME=VALUE, another name, or no number where one is needed.
    """
    options: dict[str, Any] = {"topic": arguments.topic}
    for text in arguments.read:
        name, equals, value = text.partition("=")
        if not equals or name not in _KINDS:
            raise ValueError(f"--read is {text!r}, expected NAME=VALUE with one of {', '.join(_KINDS)}")
        if _KINDS[name] is int and not value.isdecimal():
            raise ValueError(f"--read is {text!r}, expected a whole number")
        options[name] = _KINDS[name](value)
    return options
