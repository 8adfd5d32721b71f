# SPDX-License-Identifier: Apache-2.0
"""The header that Prophesee's files begin with: text lines that start with a percent sign."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from aegnn_core.events.array import EventFormatError
from aegnn_core.events.files.stream_checks import LARGEST_SIDE, Size

__all__ = ["is_text_line", "parse_geometry", "read_header", "resolution", "sensor_size"]

_LONGEST_LINE = 1 << 16
_CONTROL = frozenset(range(0x20)) - {0x09, 0x0A, 0x0D} | {0x7F}
_LETTERS = frozenset(range(0x20, 0x7F)) | {0x09, 0x0A, 0x0D}
#: Of a line in an encoding of one byte per letter, at least so much is plain ASCII.
_PLAIN_SHARE = 0.75
#: Old and new files: "% key value", "% key: value", "%key=value".
_LINE = re.compile(r"%\s*([^\s:=]+)\s*[:=]?\s*(.*)", re.DOTALL)
_GEOMETRY = re.compile(r"\D*?(\d+)\s*(?:px)?\s*[^\d\s]\s*(\d+)\s*(?:px)?\D*", re.IGNORECASE)


def is_text_line(line: bytes) -> bool:
    """Whether bytes are a line of text in UTF-8, or in another encoding that is mostly ASCII, and not packed events."""
    if not _CONTROL.isdisjoint(line):
        return False
    try:
        line.decode("utf8")
    except UnicodeDecodeError:
        return sum(byte in _LETTERS for byte in line) >= _PLAIN_SHARE * len(line)
    return True


def read_header(file: BinaryIO, path: Path) -> dict[str, str]:
    """Read the lines ``% key value`` and leave ``file`` at the first byte behind them.

    Returns:
        Values by key, keys in lower case; of two lines with one key the later counts.

    Raises:
        EventFormatError: the file is empty, does not begin with a header, or ends inside it.
    """
    header: dict[str, str] = {}
    while True:
        start = file.tell()
        line = file.readline(_LONGEST_LINE)
        # Older files have no end mark, and the words behind the header may begin with a percent sign too.
        if not line.startswith(b"%") or not is_text_line(line):
            file.seek(start)
            break
        if not line.endswith(b"\n"):
            raise EventFormatError(f"{path}: ends inside its header, at {line[:40]!r}, expected lines and then events")
        found = _LINE.match(line.decode("utf8", "replace").strip())
        key, value = (found[1].lower(), found[2].strip()) if found else ("", "")
        if key == "end":
            break
        header[key] = value
    if not header:
        found_bytes = "nothing" if not line else repr(line[:16])
        raise EventFormatError(f"{path}: begins with {found_bytes}, expected header lines that start with '%'")
    return header


def parse_geometry(text: str) -> tuple[int, int] | None:
    """Width and height [px] out of ``1280x720`` in any spelling: ``1280 X 720``, ``1280*720``, ``1280,720 px``."""
    found = _GEOMETRY.fullmatch(text.strip()) or re.fullmatch(r"(\d+)\s+(\d+)", text.strip())
    return (int(found[1]), int(found[2])) if found else None


def resolution(stated: object) -> Size:
    """Width and height [px] of a text, or of numbers in either order: sensors are not higher than wide."""
    if isinstance(stated, str | bytes):
        sides = parse_geometry(stated.decode() if isinstance(stated, bytes) else stated)
    else:
        numbers = np.ravel(np.asarray(stated))[:2]
        sides = (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 and numbers.dtype.kind in "iuf" else None
    return (max(sides), min(sides)) if sides else (None, None)


def sensor_size(header: dict[str, str], path: Path) -> Size:
    """Width and height [px] that the header states (geometry, format options, or width and height), None where not."""
    options = (option.partition("=") for option in header.get("format", "").split(";"))
    stated = {key.strip().lower(): value.strip() for key, equals, value in options if equals}
    stated |= {key: header[key] for key in ("width", "height") if key in header}
    if "geometry" in header:
        geometry = parse_geometry(header["geometry"])
        if geometry is None:
            raise EventFormatError(f"{path}: geometry is {header['geometry'][:40]!r}, expected a size such as 640x480")
        stated["width"], stated["height"] = (str(side) for side in geometry)
    sides = [stated.get(key) for key in ("width", "height")]
    if any(side is not None and not (side.isdecimal() and 0 < int(side) <= LARGEST_SIDE) for side in sides):
        found = " x ".join(str(side)[:20] for side in sides)
        raise EventFormatError(f"{path}: sensor size is {found} px, expected 1 to {LARGEST_SIDE} each")
    width, height = (None if side is None else int(side) for side in sides)
    return width, height
