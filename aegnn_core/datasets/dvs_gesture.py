# SPDX-License-Identifier: Apache-2.0
"""DVS128 Gesture (Amir et al., CVPR 2017): 29 people make 11 gestures with hands and arms, 128 × 128 px.

The download, ``DvsGesture``, has a file of events and one of labels for each person and light,
``user<number>_<light>.aedat`` and ``…_labels.csv``, of which every row is a recording: its class from 1 on, its first
time and its last. ``trials_to_train.txt`` and ``trials_to_test.txt`` list the files of 23 and 6 people. There is no
validation split: here the last fifth of the people to train on, by their numbers, so that nobody is in two splits.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from aegnn_core.datasets.dataset_format import DatasetFormat, MissingFilesError, Recording, require_files
from aegnn_core.events.array import EventFormatError

__all__ = ["DVS_GESTURE"]

_LABELS = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter clockwise",
    "left arm clockwise",
    "left arm counter clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other gestures",
)
_COLUMNS = ("class", "startTime_usec", "endTime_usec")
#: One of so many people to train on is for validation.
_VALIDATION_PART = 5


def _find(folder: Path, split: str, task: str) -> Sequence[Recording]:
    place = folder / "DvsGesture" if (folder / "DvsGesture").is_dir() else folder
    listed = place / f"trials_to_{'test' if split == 'test' else 'train'}.txt"
    if not listed.exists():
        raise MissingFilesError(f"{listed} is missing")
    files = sorted(place / line.strip() for line in listed.read_text("utf8").splitlines() if line.strip())
    if split != "test":
        people = sorted({_person(file) for file in files})
        kept = len(people) - len(people) // _VALIDATION_PART
        chosen = set(people[:kept] if split == "training" else people[kept:])
        files = [file for file in files if _person(file) in chosen]
    if not files:
        raise MissingFilesError(f"{listed} lists no recordings for the split {split}")
    labels = [file.with_name(file.stem + "_labels.csv") for file in files]
    require_files(folder, [*files, *labels])
    return [
        Recording(events, label, span=span)
        for events, rows in zip(files, labels, strict=True)
        for label, span in _parts(rows)
    ]


def _person(file: Path) -> int:
    found = re.fullmatch(r"user(\d+)_.*", file.stem)
    if found is None:
        raise EventFormatError(f"{file}: listed as a recording, expected a name like user01_fluorescent.aedat")
    return int(found[1])


def _parts(path: Path) -> list[tuple[int, tuple[int, int]]]:
    """Class, and first and last time [µs], of each recording in a file of labels."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file, skipinitialspace=True) if row]
    if not rows or tuple(name.strip() for name in rows[0]) != _COLUMNS:
        raise EventFormatError(
            f"{path}: begins with {','.join(rows[0]) if rows else 'nothing'}, expected {','.join(_COLUMNS)}"
        )
    parts = []
    for row in rows[1:]:
        numbers = [int(value) if value.strip().isdecimal() else -1 for value in row]
        if len(numbers) != len(_COLUMNS) or not (1 <= numbers[0] <= len(_LABELS) and 0 <= numbers[1] < numbers[2]):
            raise EventFormatError(
                f"{path}: a row is {','.join(row)}, expected a class from 1 to {len(_LABELS)} and two times [us]"
            )
        parts.append((numbers[0] - 1, (numbers[1], numbers[2])))
    return parts


DVS_GESTURE = DatasetFormat(
    name="dvs_gesture",
    labels=_LABELS,
    sensor=(128, 128),
    tasks=("recognition",),
    source="DvsGesture.tar.gz from https://research.ibm.com/interactive/dvsgesture",
    find=_find,
)
