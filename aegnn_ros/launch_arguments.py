# SPDX-License-Identifier: Apache-2.0
"""What the launch files check of their arguments: launch itself takes any text."""

from __future__ import annotations

from pathlib import Path

__all__ = ["existing_file", "is_true"]


def is_true(name: str, text: str) -> bool:
    """Whether an argument says true; ``ValueError`` where it says neither true nor false."""
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{name} is {text!r}, expected true or false")
    return text.lower() == "true"


def existing_file(name: str, text: str) -> str:
    """The path, if a file is there; ``ValueError`` otherwise: the node would start with its defaults instead."""
    if not Path(text).is_file():
        raise ValueError(f"{name} is {text!r}, where no file is, expected a YAML file of parameters")
    return text
