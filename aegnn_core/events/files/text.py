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
from aegnn_core.events.files.columns import events_from_columns, fields_by_name, table_columns, unit_in
from aegnn_core.events.files.header import parse_geometry
from aegnn_core.events.files.stream_checks import ReadOptions, Size, checked_stream, first_known

__all__ = ["EVENTS_TEXT", "read_text"]

#: Name of the events' file in a folder of N-Cars.
EVENTS_TEXT = "events.txt"

_COMMENTS = ("#", "%", "//")
#: Between columns, besides spaces; where the first event's line has more of another kind, commas are those of decimals.
_SEPARATORS = ",;\t|"
_QUOTES = "\"'"
_LONGEST_LINE = 4096
#: Lines before the events that may be names or a size.
_PREFACE = 2
_NUMBERS = 4
_NCARS_ORDER = "xytp"
#: What polarities are called where they are no numbers.
_POLARITIES = {
    **dict.fromkeys(("true", "on", "positive", "pos", "+"), "1"),
    **dict.fromkeys(("false", "off", "negative", "neg", "-"), "0"),
}
#: What may stand before the names of columns in a comment: ``# columns: t x y p``.
_BEFORE_NAMES = re.compile(r"[#%/!\s]*(?:[\w ]+:)?\s*")
#: A comment that states the size, as ``geometry 640x480``, or ``width`` or ``height``.
_SIZE = re.compile(r"[#%/\s]*(geometry|width|height)\s*[:=]?\s*(.+)", re.IGNORECASE)


@dataclass
class _Preface:
    """What stands before the events.

    Attributes:
        size: of the sensor.
        names: of the columns, where they stand there, in a line of their own or in a comment.
        first: the first line that is none of it.
        whole: whether the line that was read last has its end.
    """

    size: Size = (None, None)
    names: list[str] | None = None
    first: str | None = None
    whole: bool = True

    def places(self) -> dict[str, int] | None:
        """The column of each of t, x, y and p; None where no names say it, or are not as many as the columns."""
        names, first = self.names, self.first or ""
        fields = fields_by_name(names) if names else None
        with_empty_ones = len(first.split(_separator(first)))
        if names is None or fields is None or len(names) not in (len(_words(first)), with_empty_ones):
            return None
        return {field: names.index(name) for field, name in fields.items()}

    def time_unit(self) -> str | None:
        """The unit that stands with the name of the times."""
        fields = fields_by_name(self.names) if self.names else None
        return unit_in(fields["t"]) if fields else None


def read_text(path: Path, options: ReadOptions) -> EventStream:
    """Read a text file of events, or the one in an N-Cars folder.

    The order of the columns is that of a line of names, or found from the numbers of four: ``t x y p`` (Event Camera
    Dataset, v2e, E2VID), ``x y t p`` (N-Cars), ``x,y,p,t`` (Metavision), or another with x before y. A comment may hold
    the names. Times are microseconds; where any of them has a fraction, all are seconds; the name of their column may
    say it, as ``t_ns``. Two such columns, ``ts_sec`` and ``ts_nsec``, are one time.

    The sensor's size is that of a line ``width height`` in front, as E2VID has it, or of a comment such as
    ``%geometry:640,480``, otherwise it is found from the events. A last line that is cut off is left out.
    Polarities may be words, ``ON`` or ``false`` among them, and ``#`` begins a comment behind an event too.

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
        _read_preface(path, lines, preface, options)
        places = preface.places() if options.columns is None else None
        unit = preface.time_unit()
        table = _table(path, preface, lines, places, options, flaws)
    if places is not None:
        columns = dict(zip(places, table.T, strict=True))
    else:
        columns = table_columns(path, table, options, default=_NCARS_ORDER)
    events = events_from_columns(path, columns, options, unit)
    if not preface.whole and len(events) > 1 and events["t"][-1] < events["t"][-2]:
        flaws.append("cut off in the last event's time, the event is left out")
        events = events[:-1]
    return checked_stream(path, events, first_known(options.size, preface.size), flaws)


def _encoding(path: Path) -> str:
    """UTF-8, with or without its mark, UTF-16, which needs one, or Latin-1, which is neither."""
    with path.open("rb") as file:
        beginning = file.read(_LONGEST_LINE)
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf16"
    try:
        codecs.getincrementaldecoder("utf8")().decode(beginning)
    except UnicodeDecodeError:
        return "latin1"
    return "utf-8-sig"


def _lines(file: TextIO, path: Path, preface: _Preface) -> Iterator[str]:
    """Lines that are neither empty nor comments; comments may state the sensor's size, and the first ones the names."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE and not line.endswith("\n"):
            raise EventFormatError(f"{path}: a line is longer than {_LONGEST_LINE} characters, expected one event each")
        preface.whole = line.endswith("\n")
        line = line.strip(" \r\n")
        if line.startswith(_COMMENTS):
            preface.size = first_known(preface.size, _stated_size(line))
            names = _words(_BEFORE_NAMES.sub("", line, count=1))
            if preface.first is None and fields_by_name(names):
                preface.names = names
        elif line := line.partition("#")[0].rstrip():
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


def _read_preface(path: Path, lines: Iterator[str], preface: _Preface, options: ReadOptions) -> None:
    """Read what stands before the events, up to the first of them."""
    for _ in range(_PREFACE + 1):
        preface.first = next(lines, None)
        if preface.first is None:
            return
        words = _words(preface.first)
        if len(words) == 2 and all(word.isdecimal() for word in words):
            preface.size = first_known((int(words[0]), int(words[1])), preface.size)
        elif all(map(_is_number, words)):
            return
        elif fields_by_name(words) or options.columns is not None:
            preface.names = words
        else:
            raise EventFormatError(
                f"{path}: begins with {preface.first[:80]!r}, expected four numbers a line, or names of columns such as"
                " t, x, y and p; if these are names, say their order with columns="
            )


def _is_number(word: str) -> bool:
    """Whether a word is a number, with a point or a comma, a polarity, or nothing."""
    return _is_float(word.replace(",", ".")) or not word or word.lower() in _POLARITIES


def _is_float(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _separator(line: str) -> str | None:
    """What separates the columns of a line; None for spaces."""
    separator = max(_SEPARATORS, key=line.count)
    return separator if separator in line else None


def _words(line: str) -> list[str]:
    """The words of a line, empty ones between separators too."""
    line = re.sub(r"\s+([\[(])", r"\1", line)  # a unit belongs to the name before it
    words = [word.strip().strip(_QUOTES) for word in line.split(_separator(line))]
    while words and not words[-1]:
        words.pop()
    return words


def _table(
    path: Path,
    preface: _Preface,
    lines: Iterator[str],
    places: dict[str, int] | None,
    options: ReadOptions,
    flaws: list[str],
) -> np.ndarray:
    """The numbers of the lines ``[N, 4]``: all, or those of the columns that are named, in the order of ``places``."""
    first = preface.first or ""
    named = any(word.lower() in _POLARITIES for word in _words(first))
    # Of columns with names, some may be empty: there the separators count.
    delimiter = _separator(first) if places is not None else None
    spaces = _spaces(first, delimiter)

    def cleaned(line: str) -> str:
        line = line.translate(spaces).rstrip(f" {delimiter or ''}")
        if named:
            words = (_POLARITIES.get(word.strip().lower(), word) for word in line.split(delimiter))
            return (delimiter or " ").join(words)
        return line

    width = len(cleaned(first).split(delimiter))

    used = list(places.values()) if places is not None else None

    def is_event(line: str) -> bool:
        words = line.split(delimiter)
        return len(words) >= width and all(_is_float(words[k]) for k in used or range(width))

    def counted() -> Iterator[str]:
        waiting = None  # the last line is looked at, since it may be cut off
        for number, line in enumerate(chain([first], lines) if first else (), start=1):
            options.check_count(path, number)
            if waiting is not None:
                yield waiting
            waiting = cleaned(line)
        if waiting is not None and number > 1 and not preface.whole and not is_event(waiting):
            flaws.append(f"cut off, its last line {waiting[:80]!r} is left out")
        elif waiting is not None:
            yield waiting

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # NumPy's on an empty file, which is an error later
            table = np.loadtxt(counted(), ndmin=2, comments=None, delimiter=delimiter, usecols=used)
    except EventFormatError:
        raise
    except ValueError as error:
        raise EventFormatError(
            f"{path}: {str(error)[:300]}, expected four numbers a line, x y t p or another order"
        ) from error
    expected = _NUMBERS if used is None else len(used)
    if table.size and table.shape[1] != expected:
        raise EventFormatError(f"{path}: {table.shape[1]} numbers a line, expected four, such as x y t p")
    return table.reshape(-1, expected)


def _spaces(line: str, kept: str | None) -> dict[int, str]:
    """What to put in place of quotes and separators but the one that is kept, in lines like this."""
    places = {**dict.fromkeys(_SEPARATORS + _QUOTES, " "), **({} if _separator(line) == "," else {",": "."})}
    return str.maketrans({mark: place for mark, place in places.items() if mark != kept})
