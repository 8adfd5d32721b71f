# SPDX-License-Identifier: Apache-2.0
"""What is at a path, before anything is read from it."""

from __future__ import annotations

import stat
from pathlib import Path

from aegnn_core.events.array import EventFormatError

__all__ = ["check_regular"]

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


def check_regular(path: Path) -> None:
    """Raise ``EventFormatError`` for what is neither a file nor a folder: reading a pipe or a device may never end.

    Raises:
        FileNotFoundError: nothing is there.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        found = next((name for test, name in _KINDS if test(mode)), "something else")
        raise EventFormatError(f"{path}: is {found}, expected a file or a folder")
