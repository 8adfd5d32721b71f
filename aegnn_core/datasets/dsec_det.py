# SPDX-License-Identifier: Apache-2.0
"""DSEC-Det (Gehrig and Scaramuzza, Nature 2024): 60 drives with stereo cameras and boxes of 8 classes, 640 × 480 px.

The download holds a folder per drive in ``train`` and ``test``, with ``events/left/events.h5`` of DSEC and
``object_detections/left/tracks.npy``. The drives of the validation split lie in ``train``. AEGNN's layout has the same
folders in ``training``, ``validation`` and ``test``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aegnn_core.datasets.boxes_file import read_boxes_file
from aegnn_core.datasets.dataset_format import DatasetFormat, MissingFilesError, Recording, require_files

__all__ = ["DSEC_DET", "drives"]

_LABELS = ("pedestrian", "rider", "car", "bus", "truck", "bicycle", "motorcycle", "train")
_EVENTS, _BOXES = Path("events/left/events.h5"), Path("object_detections/left/tracks.npy")

#: Numbers of DSEC's drives by place, and their parts, of each split.
_DRIVES = {
    "training": (
        "thun_00 a, interlaken_00 cdefg, zurich_city_00 ab, zurich_city_01 abcdef, zurich_city_02 abcde,"
        " zurich_city_03 a, zurich_city_04 abcdef, zurich_city_05 ab, zurich_city_06 a, zurich_city_07 a,"
        " zurich_city_08 a, zurich_city_09 abcde, zurich_city_10 ab, zurich_city_11 abc"
    ),
    "validation": (
        "zurich_city_16 a, zurich_city_17 a, zurich_city_18 a, zurich_city_19 a, zurich_city_20 a, zurich_city_21 a"
    ),
    "test": (
        "thun_01 ab, thun_02 a, interlaken_00 ab, interlaken_01 a, zurich_city_12 a, zurich_city_13 ab,"
        " zurich_city_14 abc, zurich_city_15 a"
    ),
}


def drives(split: str) -> list[str]:
    """The names of the drives of a split."""
    entries = (entry.split() for entry in _DRIVES[split].split(","))
    return [f"{place}_{part}" for place, parts in entries for part in parts]


def _find(folder: Path, split: str, task: str) -> Sequence[Recording]:
    if split != "test" and (folder / split).is_dir():
        names = sorted(path.name for path in (folder / split).iterdir() if path.is_dir())
        place = folder / split
    else:
        names, place = drives(split), folder / ("test" if split == "test" else "train")
    if not names:
        raise MissingFilesError(f"{place} holds no folder with {_EVENTS} and {_BOXES}")
    recordings = [Recording(place / name / _EVENTS, boxes=place / name / _BOXES) for name in names]
    require_files(folder, [file for item in recordings for file in (item.events, item.boxes) if file])
    return recordings


def _with_boxes(events: Path) -> Recording | None:
    events = events.absolute()
    if events.parts[-3:] != _EVENTS.parts:
        return None
    boxes = events.parents[2] / _BOXES
    return Recording(events, boxes=boxes) if boxes.exists() else None


def _read_boxes(recording: Recording) -> np.ndarray:
    """The boxes, in the time of the events behind their offset."""
    assert recording.boxes is not None
    return read_boxes_file(recording.boxes, _LABELS)


DSEC_DET = DatasetFormat(
    name="dsec_det",
    labels=_LABELS,
    sensor=(640, 480),
    tasks=("detection",),
    symmetric=True,
    source="events of https://dsec.ifi.uzh.ch and object_detections of https://github.com/uzh-rpg/dsec-det",
    find=_find,
    read_boxes=_read_boxes,
    with_boxes=_with_boxes,
)
