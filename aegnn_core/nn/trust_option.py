# SPDX-License-Identifier: Apache-2.0
"""On a command line: whether a model file may name code to import."""

from __future__ import annotations

import argparse

__all__ = ["add_trust_option"]


def add_trust_option(parser: argparse.ArgumentParser, what: str = "the model file") -> None:
    """Add ``--trust-code``; without it, a network that ``what`` names by the path of its code is refused."""
    parser.add_argument(
        "--trust-code",
        action="store_true",
        help=f"import the code of the network where {what} names one of another package, package.module:Name",
    )
