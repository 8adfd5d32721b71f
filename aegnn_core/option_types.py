# SPDX-License-Identifier: Apache-2.0
"""Types of command-line options: what is senseless is refused in a sentence, before anything runs."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from aegnn_core.asynchronous.threads import MOST_THREADS

__all__ = ["count", "existing_file", "finite", "positive", "thread_counts"]


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def finite(text: str) -> float:
    """A number, neither nan nor infinite."""
    number = _number(text)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}")
    return number


def positive(text: str) -> float:
    """A number above 0."""
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return number


def thread_counts(text: str) -> list[int]:
    """Numbers of threads, such as ``1,2``."""
    parts = text.split(",")
    if not all(part.isdecimal() and 1 <= int(part) <= MOST_THREADS for part in parts):
        raise argparse.ArgumentTypeError(f"expected numbers from 1 to {MOST_THREADS}, such as 1,2, found {text!r}")
    return [int(part) for part in parts]


def existing_file(text: str) -> Path:
    """A file that is there."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def _number(text: str) -> float:
    """The number of a text, nan where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
