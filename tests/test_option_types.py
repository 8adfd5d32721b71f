# SPDX-License-Identifier: Apache-2.0
"""Options that make no sense are refused by their name, before anything runs."""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path

import pytest

from aegnn_core.option_types import (
    count,
    existing_file,
    milliseconds,
    moment,
    playing_rate,
    positive,
    seconds,
    seed,
    share,
    shift_milliseconds,
    thread_counts,
)

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (count, "12", 12),
        (seed, "0", 0),
        (shift_milliseconds, "-2.5", -2.5),
        (shift_milliseconds, "1.7e12", 1.7e12),
        (moment, "0", 0),
        (share, "1", 1),
        (playing_rate, "0.5", 0.5),
        (seconds, "2e9", 2e9),
        (milliseconds, "2e12", 2e12),
        (positive, "2.5", 2.5),
        (positive, "1e-3", 1e-3),
        (thread_counts, "1,16", [1, 16]),
    ],
)
def test_values_are_taken(kind: Callable[[str], object], text: str, value: object) -> None:
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (count, ["0", "-1", "1.5", "many", ""]),
        (seed, ["-1", "1.5", "nan", "9" * 30, ""]),
        (shift_milliseconds, ["nan", "inf", "-inf", "1e305", "-1e305", "late", ""]),
        (moment, ["nan", "inf", "-1", "1e305", "late", ""]),
        (playing_rate, ["nan", "inf", "0", "1e-305", "1e305", "fast", ""]),
        (share, ["nan", "-0.1", "1.1", "all", ""]),
        (seconds, ["nan", "inf", "0", "-1", "1e305", "1e308", ""]),
        (milliseconds, ["nan", "inf", "0", "-1", "1e305", "1e308", ""]),
        (positive, ["0", "-2", "nan", "inf", "fast", ""]),
        (thread_counts, ["0", "1,", "65", "two", ""]),
        (existing_file, ["no such file", "/"]),
    ],
)
def test_others_are_refused(kind: Callable[[str], object], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ArgumentTypeError, match=r"expected|there is no file"):
            kind(text)


def test_a_benchmark_names_the_option() -> None:
    ran = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "decoding.py", "--events", "0"], capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert ran.stderr.endswith("argument --events: expected a whole number of at least 1, found '0'\n")
