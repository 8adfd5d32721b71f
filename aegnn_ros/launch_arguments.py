# SPDX-License-Identifier: Apache-2.0
"""What the launch files check of their arguments: launch itself takes any text."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

__all__ = ["existing_file", "given_options", "in_home", "is_true", "parameters_of_nodes"]


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


def in_home(values: Mapping[str, str], files: Sequence[str]) -> dict[str, str]:
    """The values, with a ``~`` or ``~user`` that a file begins with replaced: behind ``:=``, no shell does that."""
    return {name: os.path.expanduser(text) if name in files else text for name, text in values.items()}


def given_options(values: Mapping[str, str]) -> list[str]:
    """Command-line options of the arguments that are not empty, by their names."""
    return [part for name, text in values.items() if text for part in (f"--{name.replace('_', '-')}", text)]


def parameters_of_nodes(params_file: str, names: Sequence[str], values: Mapping[str, str | bool]) -> str:
    """The path of a new file with parameters of the nodes of these names, in any namespace.

    Behind ``params_file`` on the command line, its values win. ROS applies sections in the order in which their names
    first appear in all the files, so those of the new file (``/**/**/left``) are none of the other's. The sections that
    launch itself writes may be in the other file, before ones that then win, and it puts ``-p`` before files.
    """
    content = Path(params_file).read_text(encoding="utf-8", errors="replace")
    anywhere = "/**"
    while anywhere in content:
        anywhere += "/**"
    sections = {f"{anywhere}/{name}": {"ros__parameters": dict(values)} for name in names}
    with NamedTemporaryFile("w", prefix="launch_params_", suffix=".yaml", encoding="utf-8", delete=False) as file:
        json.dump(sections, file, ensure_ascii=False)  # which is YAML, too
    return file.name
