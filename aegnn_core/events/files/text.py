# SPDX-License-Identifier: Apache-2.0
"""Text and CSV: one event a line, with or without comments, a line of names, or the sensor's size in front."""

from __future__ import annotations

import codecs
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.file_kind import check_regular
from aegnn_core.events.files.columns import events_from_columns, fields_by_name, table_columns
from aegnn_core.events.files.header import parse_geometry
from aegnn_core.events.files.stream_checks import ReadOptions, Size, checked_stream, first_known

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
#: What polarities are called where they are no numbers.
_POLARITIES = {"true": "1", "false": "0", "on": "1", "off": "0"}
#: The name of a column of times with its unit: ``t_us``, ``timestamp [ns]``, ``time(s)``.
_UNIT = re.compile(r"(.*?)[\s_\[(]+(s|sec|ms|us|µs|ns)[\])]?", re.IGNORECASE)
_UNITS = {"sec": "s", "µs": "us"}
#: A comment that states the size, as ``geometry 640x480``, or ``width`` or ``height``.
_SIZE = re.compile(r"[#%/\s]*(geometry|width|height)\s*[:=]?\s*(.+)", re.IGNORECASE)


@dataclass
class _Preface:
    """What stands before the events.

    Attributes:
        size: of the sensor.
        places: the column of each of t, x, y and p, where their names stand there.
        time_unit: of the times, where the name of their column has one.
        first: the first line that is none of it.
        whole: whether the line that was read last has its end.
    """

    size: Size = (None, None)
    places: dict[str, int] | None = None
    time_unit: str | None = None
    first: str | None = None
    whole: bool = True


def read_text(path: Path, options: ReadOptions) -> EventStream:
    """Read a text file of events, or the one in an N-Cars folder.

    The order of the columns is that of a line of names, or found from the numbers of four: ``t x y p`` (Event Camera
    Dataset, v2e, E2VID), ``x y t p`` (N-Cars), ``x,y,p,t`` (Metavision), or another with x before y. Times are
    microseconds; where any of them has a fraction, all are seconds; the name of their column may say it, as ``t_ns``.
    The sensor's size is that of a line ``width height`` in front, as E2VID has it, or of a comment such as
    ``%geometry:640,480``, otherwise it is found from the events. A last line that is cut off is left out.

    Raises:
        EventFormatError: not four numbers a line, an order that is not clear, no events, or events that are not in
            order or not on the sensor.
    """
    if path.is_dir():
        path, options = path / EVENTS_TEXT, replace(options, columns=options.columns or _NCARS_ORDER)
    check_regular(path)
    flaws: list[str] = []
    with path.open(encoding=_encoding(path), errors="replace") as file:
        preface = _Preface()
        lines = _lines(file, path, preface)
        _read_preface(lines, preface)
        table = _table(path, preface, lines, options, flaws)
    if preface.places is not None and options.columns is None:
        columns = dict(zip(preface.places, table.T, strict=True))
        options = replace(options, time_unit=options.time_unit or preface.time_unit)
    else:
        columns = table_columns(path, table, options, default=_NCARS_ORDER)
    events = events_from_columns(path, columns, options)
    return checked_stream(path, events, first_known(options.size, preface.size), flaws)


def _encoding(path: Path) -> str:
    """UTF-8, with or without its mark, or UTF-16, which needs one."""
    with path.open("rb") as file:
        mark = file.read(2)
    return "utf16" if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _lines(file: TextIO, path: Path, preface: _Preface) -> Iterator[str]:
    """Lines that are neither empty nor comments; comments may state the sensor's size."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE and not line.endswith("\n"):
            raise EventFormatError(f"{path}: a line is longer than {_LONGEST_LINE} characters, expected one event each")
        preface.whole = line.endswith("\n")
        line = line.strip(" \r\n")
        if line.startswith(_COMMENTS):
            preface.size = first_known(preface.size, _stated_size(line))
        elif line:
            yield line


def _stated_size(comment: str) -> Size:
    found = _SIZE.fullmatch(comment)
    if found is None:
        return None, None
    what, value = found[1].lower(), found[2].strip()
    if what == "geometry":
        return parse_geometry(value) or (None, None)
    side = int(value) if value.isdecimal() else None
    return (side, None) if what == "width" else (None, side)


def _read_preface(lines: Iterator[str], preface: _Preface) -> None:
    """Read what stands before the events, up to the first of them."""
    for _ in range(_PREFACE + 1):
        preface.first = next(lines, None)
        if preface.first is None:
            return
        words = _words(preface.first)
        if len(words) == 2 and all(word.isdecimal() for word in words):
            preface.size = first_known((int(words[0]), int(words[1])), preface.size)
        elif not _read_names(words, preface):
            return


def _read_names(words: list[str], preface: _Preface) -> bool:
    """Whether a line names the columns."""
    units = [_UNIT.fullmatch(word) for word in words]
    names = [unit[1] if unit else word for word, unit in zip(words, units, strict=True)]
    fields = fields_by_name(names)
    if fields is None:
        return False
    preface.places = {field: names.index(name) for field, name in fields.items()}
    if unit := units[preface.places["t"]]:
        preface.time_unit = _UNITS.get(unit[2].lower(), unit[2].lower())
    return True


def _words(line: str) -> list[str]:
    """The words of a line, empty ones between separators too."""
    separator = next((separator for separator in _SEPARATORS if separator in line), None)
    return [word.strip().strip("\"'") for word in line.split(separator)]


def _table(path: Path, preface: _Preface, lines: Iterator[str], options: ReadOptions, flaws: list[str]) -> np.ndarray:
    """The numbers of the lines ``[N, 4]``: all, or those of the columns that are named, in the order t, x, y, p."""
    first = preface.first
    named = any(word.lower() in _POLARITIES for word in _words(first or ""))
    width = len(_spaced(first or "").split())
    places = list(preface.places.values()) if preface.places else None
    if places is not None and width == _NUMBERS and max(places) >= _NUMBERS:
        places = None

    def counted() -> Iterator[str]:
        waiting = None  # the last line is looked at, since it may be cut off
        for number, line in enumerate(chain([first], lines) if first is not None else (), start=1):
            options.check_count(path, number)
            if waiting is not None:
                yield waiting
            waiting = _spaced(line)
            if named:
                waiting = " ".join(_POLARITIES.get(word.lower(), word) for word in waiting.split())
        if waiting is not None and number > 1 and not preface.whole and len(waiting.split()) < width:
            flaws.append(f"cut off, its last line {waiting!r} is left out")
        elif waiting is not None:
            yield waiting

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # NumPy's on an empty file, which is an error later
            table = np.loadtxt(counted(), ndmin=2, comments=None, usecols=places)
    except EventFormatError:
        raise
    except ValueError as error:
        raise EventFormatError(
            f"{path}: {str(error)[:300]}, expected four numbers a line, x y t p or another order"
        ) from error
    if table.size and table.shape[1] != _NUMBERS:
        raise EventFormatError(f"{path}: {table.shape[1]} numbers a line, expected four, such as x y t p")
    return table.reshape(-1, _NUMBERS)


def _spaced(line: str) -> str:
    """The line with spaces between the columns."""
    for separator in _SEPARATORS:
        line = line.replace(separator, " ")
    return line
