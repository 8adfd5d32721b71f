# SPDX-License-Identifier: Apache-2.0
"""N-MNIST (Orchard et al., 2015): 70 000 recordings of 300 ms of the digits of MNIST, on 34 × 34 px.

The original download holds ``<number>.bin`` in a folder per digit of ``Train`` and of ``Test``. It has no validation
split: here the training recordings from number 50 001 on, as is usual for MNIST. ``training``, ``validation`` and
``test`` with a folder per digit are read as well, however many recordings they hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aegnn_core import known_datasets
from aegnn_core.datasets.class_folders import find_in_class_folders
from aegnn_core.datasets.dataset_format import DatasetFormat, MissingFilesError, Recording

__all__ = ["NMNIST"]

#: Folder and numbers of the recordings of each split in the original download.
_PARTS = {
    "training": ("Train", range(1, 50_001)),
    "validation": ("Train", range(50_001, 60_001)),
    "test": ("Test", range(1, 10_001)),
}


def _find(folder: Path, split: str, task: str) -> Sequence[Recording]:
    if (folder / split).is_dir():
        return find_in_class_folders(folder / split, known_datasets.NMNIST.labels)
    part, numbers = _PARTS[split]
    items = find_in_class_folders(folder / part, known_datasets.NMNIST.labels)
    recordings = {int(item.events.stem): item for item in items}
    missing = [number for number in numbers if number not in recordings]
    if missing:
        raise MissingFilesError(
            f"{len(missing)} of {len(numbers)} recordings are missing in {folder / part},"
            f" the first is {missing[0]:05d}.bin"
        )
    return [recordings[number] for number in numbers]


NMNIST = DatasetFormat(
    name="nmnist",
    labels=known_datasets.NMNIST.labels,
    sensor=known_datasets.NMNIST.sensor,
    tasks=("recognition",),
    source="Train.zip and Test.zip from https://www.garrickorchard.com/datasets/n-mnist",
    find=_find,
)
