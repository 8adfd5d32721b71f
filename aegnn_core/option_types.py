# SPDX-License-Identifier: Apache-2.0
"""Types of command-line options: what is senseless is refused in a sentence, before anything runs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path

from aegnn_core.asynchronous.threads import MOST_THREADS

__all__ = [
    "LONGEST_S",
    "count",
    "existing_file",
    "milliseconds",
    "moment",
    "playing_rate",
    "positive",
    "refuse_unused",
    "seconds",
    "seed",
    "share",
    "shift_milliseconds",
    "thread_counts",
]

#: No recording lasts longer [s]: as far as the clock of ROS goes, 68 years.
LONGEST_S = 2**31

#: Seeds of torch have 64 bits, and those of recordings are counted on from the first.
_LARGEST_SEED = 2**62


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def seed(text: str) -> int:
    """A whole number that every source of randomness takes."""
    if not text.isdecimal() or int(text) > _LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {_LARGEST_SEED}, found {text!r}")
    return int(text)


def positive(text: str) -> float:
    """A number above 0."""
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text!r}")
    return number


def share(text: str) -> float:
    """A number from 0 to 1."""
    return _between(text, 0, 1)


def playing_rate(text: str) -> float:
    """How many times as fast as it was recorded something is played."""
    return _between(text, 0.001, 1000)


def seconds(text: str) -> float:
    """A time that something lasts, at most :data:`LONGEST_S` [s]."""
    return _lasting(text, LONGEST_S)


def milliseconds(text: str) -> float:
    """A time that something lasts, at most :data:`LONGEST_S` [ms]."""
    return _lasting(text, 1000 * LONGEST_S)


def moment(text: str) -> float:
    """A time since the beginning of a recording [s]."""
    return _between(text, 0, LONGEST_S)


def shift_milliseconds(text: str) -> float:
    """A time that is added to others [ms]."""
    return _between(text, -1000 * LONGEST_S, 1000 * LONGEST_S)


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


def refuse_unused(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, names: Iterable[str], why: str
) -> None:
    """Raise a ``ValueError`` where options that would have no effect have another value than by default.

    Args:
        parser: of the command.
        arguments: what it has parsed.
        names: of the options, as they are in ``arguments``.
        why: they would have none, to end the sentence.
    """
    unused = [f"--{name.replace('_', '-')}" for name in names if getattr(arguments, name) != parser.get_default(name)]
    if unused:
        raise ValueError(f"{', '.join(unused)} {'has' if len(unused) == 1 else 'have'} no effect {why}")


def _lasting(text: str, longest: float) -> float:
    number = _number(text)
    if not 0 < number <= longest:
        raise argparse.ArgumentTypeError(f"expected a number above 0, at most {longest}, found {text!r}")
    return number


def _between(text: str, least: float, most: float) -> float:
    number = _number(text)
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"expected a number from {least} to {most}, found {text!r}")
    return number


def _number(text: str) -> float:
    """The number of a text, nan where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
