# SPDX-License-Identifier: Apache-2.0
"""The layout that N-MNIST and N-Caltech101 share in AEGNN: a folder per split, in it a folder per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aegnn_core.datasets.dataset_format import MissingFilesError, Recording

__all__ = ["find_in_class_folders"]


def find_in_class_folders(folder: Path, labels: Sequence[str]) -> list[Recording]:
    """The ``.bin`` recordings in the folders that are named after the labels, by class and name.

    Raises:
        MissingFilesError: a class without recordings.
    """
    found = [(label, sorted((folder / name).glob("*.bin"))) for label, name in enumerate(labels)]
    empty = [labels[label] for label, files in found if not files]
    if empty:
        raise MissingFilesError(
            f"{len(empty)} of {len(labels)} classes have no .bin files in {folder}, the first is {empty[0]}"
        )
    return [Recording(file, label) for label, files in found for file in files]
