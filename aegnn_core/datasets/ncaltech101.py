# SPDX-License-Identifier: Apache-2.0
"""N-Caltech101 (Orchard et al., 2015): 8 709 recordings of 300 ms of the pictures of Caltech101, with a box each.

The original download holds ``Caltech101/<class>/image_<number>.bin`` and
``Caltech101_annotations/<class>/annotation_<number>.bin``, and has no splits: here those of ``ncaltech101_split.txt``.
AEGNN's layout has ``training``, ``validation`` and ``test`` with a folder per class, and ``annotations``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aegnn_core import known_datasets
from aegnn_core.datasets.class_folders import find_in_class_folders
from aegnn_core.datasets.dataset_format import AT_THE_END, BOX_DTYPE, SPLITS, DatasetFormat, Recording, require_files
from aegnn_core.events.array import EventFormatError
from aegnn_core.known_datasets import split_letters

__all__ = ["NCALTECH101", "split_letters"]

#: The class without an object, hence without boxes.
_BACKGROUND = "BACKGROUND_Google"


def _find(folder: Path, split: str, task: str) -> Sequence[Recording]:
    labels = NCALTECH101.labels
    if (folder / split).is_dir():
        recordings, annotations = find_in_class_folders(folder / split, labels), folder / "annotations"
    else:
        letter = dict(zip(SPLITS, "Tvx", strict=True))[split]
        recordings = [
            Recording(folder / "Caltech101" / name / f"image_{number:04d}.bin", label)
            for label, name in enumerate(labels)
            for number, drawn in enumerate(split_letters()[name], 1)
            if drawn == letter
        ]
        annotations = folder / "Caltech101_annotations"
        require_files(folder, [recording.events for recording in recordings])
    if task == "recognition":
        return recordings
    recordings = [
        replace(item, boxes=_annotation(annotations, item.events))
        for item in recordings
        if item.events.parent.name != _BACKGROUND
    ]
    require_files(folder, [item.boxes for item in recordings if item.boxes])
    return recordings


def _annotation(annotations: Path, events: Path) -> Path:
    return annotations / events.parent.name / events.name.replace("image", "annotation")


def _with_boxes(events: Path) -> Recording | None:
    name = events.absolute().parent.name
    if name not in NCALTECH101.labels:
        return None
    root = events.absolute().parents[2]
    for folder in ("Caltech101_annotations", "annotations"):
        boxes = _annotation(root / folder, events.absolute())
        if boxes.exists():
            return Recording(events, NCALTECH101.labels.index(name), boxes)
    return None


def _read_boxes(recording: Recording) -> np.ndarray:
    """The one box, which holds for all of the recording."""
    assert recording.boxes is not None
    values = np.fromfile(recording.boxes, "<i2")
    if len(values) < 10:
        raise EventFormatError(f"{recording.boxes}: {len(values)} numbers of 16 bit, expected at least 10")
    x0, y0, x1, _, _, y2 = values[2:8].astype(float)
    box = (AT_THE_END, max(x0, 0), max(y0, 0), x1 - x0, y2 - y0, recording.label, 0)
    return np.array([box], BOX_DTYPE)


NCALTECH101 = DatasetFormat(
    name="ncaltech101",
    labels=known_datasets.NCALTECH101.labels,
    sensor=known_datasets.NCALTECH101.sensor,
    tasks=("recognition", "detection"),
    symmetric=True,
    source="Caltech101.zip and Caltech101_annotations.zip from https://www.garrickorchard.com/datasets/n-caltech101",
    find=_find,
    read_boxes=_read_boxes,
    with_boxes=_with_boxes,
)
