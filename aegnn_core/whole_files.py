# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole or not at all, whenever the process or the machine stops or the disk is full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

__all__ = ["check_writable", "new_file", "whole_file"]


@contextmanager
def whole_file(path: Path, part: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of the one at ``path`` once it is complete and on the disk.

    Args:
        path: whose folder is made if it is missing.
        part: where the file is until then, in the same folder; ``path`` with ``.part`` behind it if None. Processes
            that may write the same file at the same time each have their own.

    Raises:
        OSError: it cannot be written; the message names it. What is at ``path`` stays then.
    """
    part = part or path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(f"{path}: cannot be written: {error.strerror or error}") from error
        raise


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """As :func:`whole_file` where nothing is yet.

    Raises:
        FileExistsError: something is at ``path``, which stays.
        OSError: it cannot be written; the message names it. Nothing is left of it then.
    """
    if path.exists():
        raise FileExistsError(f"{path}: exists already, expected the name of a new file")
    with whole_file(path) as file:
        yield file


def check_writable(path: Path) -> None:
    """Raise an ``OSError`` unless a file can be written to ``path``, whose folder is made."""
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, expected the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f"{path}: cannot be written: {reason}; expected a folder that can be made and written to"
        ) from error
