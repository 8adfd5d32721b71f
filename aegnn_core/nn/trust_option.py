# SPDX-License-Identifier: Apache-2.0
"""On a command line: whose code a model file may name, to be imported."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["add_trust_option"]


def add_trust_option(parser: argparse.ArgumentParser, what: str = "the model file") -> None:
    """Add ``--trust-code``; without it, a network that ``what`` names by the path of its code is refused.

    The value is a :data:`aegnn_core.registry.Trust`.
    """
    parser.add_argument(
        "--trust-code",
        nargs="?",
        default=False,
        type=_package,
        action=_Trust,
        metavar="PACKAGE",
        help=f"import the code of the network where {what} names one of this package by its path, package.module:Name;"
        " may be repeated; without a name, and then as the last option, of whatever can be imported",
    )


class _Trust(argparse.Action):
    """Collects packages; the option alone stands for all."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        trusted = True if values is None or before is True else (*(before or ()), values)
        setattr(namespace, self.dest, trusted)


def _package(text: str) -> str:
    if Path(text).is_file() or not all(part.isidentifier() for part in text.split(".")):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name of a package; without one, --trust-code has to be the last option"
        )
    return text
