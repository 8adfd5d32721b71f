# SPDX-License-Identifier: Apache-2.0
"""The files that a command writes at its end, checked before its work begins."""

from __future__ import annotations

from pathlib import Path

__all__ = ["output_files"]


def output_files(folder: Path, *names: str) -> list[Path]:
    """The paths of files in a folder, which is made if it is missing; what is there already stays as it is.

    Raises:
        OSError: the folder cannot be made, or one of the files not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in names]
    for file in files:
        is_new = not file.exists()
        file.open("ab").close()
        if is_new:
            file.unlink()
    return files
