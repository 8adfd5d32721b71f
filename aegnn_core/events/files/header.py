"""The header that Prophesee's files begin with: text lines that start with a percent sign."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from aegnn_core.events.array import EventFormatError

__all__ = ["read_header", "sensor_size"]

_LONGEST_LINE = 4096
_TEXT = frozenset(range(0x20, 0x7F)) | {0x09, 0x0A, 0x0D}


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
        if not line.startswith(b"%") or not _TEXT.issuperset(line):
            file.seek(start)
            break
        if not line.endswith(b"\n"):
            raise EventFormatError(f"{path}: ends inside its header, at {line[:40]!r}, expected lines and then events")
        key, _, value = line[1:].decode("ascii").strip().partition(" ")
        if key == "end":
            break
        header[key.lower()] = value.strip()
    if not header:
        found = "nothing" if not line else repr(line[:16])
        raise EventFormatError(f"{path}: begins with {found}, expected header lines that start with '%'")
    return header


def sensor_size(header: dict[str, str], path: Path) -> tuple[int | None, int | None]:
    """Width and height [px] that the header states (geometry, format options, or width and height), None where not."""
    stated = dict(option.split("=", 1) for option in header.get("format", "").split(";") if "=" in option)
    stated |= {key: header[key] for key in ("width", "height") if key in header}
    if "geometry" in header:
        stated["width"], _, stated["height"] = header["geometry"].partition("x")
    sides = [stated.get(key) for key in ("width", "height")]
    if any(side is not None and not (side.isdecimal() and 0 < int(side) <= 1 << 16) for side in sides):
        raise EventFormatError(f"{path}: sensor size is {' x '.join(map(str, sides))} px, expected 1 to 65536 each")
    width, height = (None if side is None else int(side) for side in sides)
    return width, height
