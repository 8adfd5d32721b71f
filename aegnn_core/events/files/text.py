# SPDX-License-Identifier: Apache-2.0
"""Text and CSV: one event a line, with or without comments, a line of names, or the sensor's size in front."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.file_kind import check_regular
from aegnn_core.events.files.columns import events_from_columns, fields_by_name, table_columns
from aegnn_core.events.files.recording import ReadOptions, Size, checked_stream, first_known

__all__ = ["EVENTS_TEXT", "read_text"]

#: Name of the events' file in a folder of N-Cars.
EVENTS_TEXT = "events.txt"

_COMMENTS = ("#", "%", "//")
_SEPARATORS = ",;\t"
_LONGEST_LINE = 4096
#: Lines before the events that may be names or a size.
_PREFACE = 2
_NUMBERS = 4
_NCARS_ORDER = "xytp"


def read_text(path: Path, options: ReadOptions) -> EventStream:
    """Read a text file of events, or the one in an N-Cars folder.

    The order of the four columns is that of a line of names, or found from the numbers: ``t x y p`` (Event Camera
    Dataset, v2e, E2VID), ``x y t p`` (N-Cars) or ``x,y,p,t`` (Metavision). Times are microseconds; where any of them
    has a fraction, all are seconds. The sensor's size is that of a line ``width height`` in front, as E2VID has it,
    otherwise it is found from the events.

    Raises:
        EventFormatError: not four numbers a line, an order that is not clear, no events, or events that are not in
            order or not on the sensor.
    """
    if path.is_dir():
        path, options = path / EVENTS_TEXT, replace(options, columns=options.columns or _NCARS_ORDER)
    check_regular(path)
    with path.open(encoding="utf8", errors="replace") as file:
        lines = _lines(file, path)
        first: str | None = next(lines, None)
        names: str | None = None
        stated: Size = (None, None)
        for _ in range(_PREFACE):
            if first is None:
                break
            words = first.split()
            if len(words) == 2 and all(word.isdecimal() for word in words):
                stated = (int(words[0]), int(words[1]))
            elif found := fields_by_name(words):
                names = "".join(next((field for field, name in found.items() if name == word), "?") for word in words)
            else:
                break
            first = next(lines, None)
        table = _table(path, first, lines, options)
    if names is not None and options.columns is None and len(names) == _NUMBERS:
        columns = dict(zip(names, table.T, strict=True))
    else:
        columns = table_columns(path, table, options, default=_NCARS_ORDER)
    for name in "xyp":
        if not np.isfinite(columns[name]).all() or (columns[name] % 1).any():
            raise EventFormatError(
                f"{path}: x, y and p are not whole numbers everywhere, expected pixels and a polarity"
            )
    size = first_known(options.size, stated)
    return checked_stream(path, events_from_columns(path, columns, options), size)


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """Lines that are neither empty nor comments, with spaces between the columns."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE and not line.endswith("\n"):
            raise EventFormatError(f"{path}: a line is longer than {_LONGEST_LINE} characters, expected one event each")
        line = line.strip()
        if line and not line.startswith(_COMMENTS):
            for separator in _SEPARATORS:
                line = line.replace(separator, " ")
            yield line


def _table(path: Path, first: str | None, lines: Iterator[str], options: ReadOptions) -> np.ndarray:
    """The numbers of the lines ``[N, 4]``."""

    def counted() -> Iterator[str]:
        if first is not None:
            yield first
        for number, line in enumerate(lines, start=2):
            options.check_count(path, number)
            yield line

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # NumPy's on an empty file, which is an error later
            table = np.loadtxt(counted(), ndmin=2, comments=None)
    except EventFormatError:
        raise
    except ValueError as error:
        raise EventFormatError(f"{path}: {error}, expected four numbers a line, x y t p or another order") from error
    if table.size and table.shape[1] != _NUMBERS:
        raise EventFormatError(f"{path}: {table.shape[1]} numbers a line, expected four, such as x y t p")
    return table.reshape(-1, _NUMBERS)
