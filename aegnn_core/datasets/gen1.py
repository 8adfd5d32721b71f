# SPDX-License-Identifier: Apache-2.0
"""Gen1 Automotive Detection (de Tournemire et al., 2020): 39 hours of road traffic in parts of 60 s, 304 × 240 px.

The original download holds ``*_td.dat`` and ``*_bbox.npy`` in ``train``, ``val`` and ``test``; AEGNN's layout calls
the first two ``training`` and ``validation``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aegnn_core.datasets.boxes_file import read_boxes_file
from aegnn_core.datasets.recording import DatasetFormat, MissingFilesError, Recording, require_files
from aegnn_core.events.array import EventFormatError

__all__ = ["GEN1", "large_enough"]

_LABELS = ("car", "pedestrian")
_FOLDERS = {"training": "train", "validation": "val", "test": "test"}
_EVENTS, _BOXES = "_td.dat", "_bbox.npy"

#: The paper's evaluation skips the first half second [µs], and boxes that are small [px].
_EVALUATED_AFTER_US = 500_000
_LEAST_DIAGONAL_PX, _LEAST_SIDE_PX = 30, 10


def large_enough(w: np.ndarray, h: np.ndarray) -> NDArray[np.bool_]:
    """Which boxes ``[M]``, true or predicted, count in the paper's evaluation: diagonal ≥ 30 px and sides ≥ 10 px.

    The toolbox's defaults of 60 px and 20 px are for the 1 Mpx data set; AEGNN took them for this one.
    """
    w, h = w.astype(float), h.astype(float)
    return (w * w + h * h >= _LEAST_DIAGONAL_PX**2) & (w >= _LEAST_SIDE_PX) & (h >= _LEAST_SIDE_PX)


def _find(folder: Path, split: str, task: str) -> Sequence[Recording]:
    places = [folder / split, folder / _FOLDERS[split]]
    place = next((place for place in places if place.is_dir()), places[-1])
    stems = {file.name.removesuffix(ending) for ending in (_EVENTS, _BOXES) for file in place.glob(f"*{ending}")}
    if not stems:
        raise MissingFilesError(f"{place} holds no files *{_EVENTS} and *{_BOXES}")
    recordings = [Recording(place / (stem + _EVENTS), boxes=place / (stem + _BOXES)) for stem in sorted(stems)]
    require_files(folder, [file for item in recordings for file in (item.events, item.boxes) if file])
    return recordings


def _with_boxes(events: Path) -> Recording | None:
    boxes = events.with_name(events.name.removesuffix(_EVENTS) + _BOXES)
    return Recording(events, boxes=boxes) if events.name.endswith(_EVENTS) and boxes.exists() else None


def _read_boxes(recording: Recording) -> np.ndarray:
    path = recording.boxes
    assert path is not None
    boxes = read_boxes_file(path)
    unknown = set(boxes["class_id"].tolist()) - set(range(len(_LABELS)))
    if unknown:
        raise EventFormatError(f"{path}: class_id {min(unknown)}, expected 0 (car) or 1 (pedestrian)")
    return boxes


GEN1 = DatasetFormat(
    name="gen1",
    labels=_LABELS,
    sensor=(304, 240),
    tasks=("detection",),
    source="the archives of https://www.prophesee.ai/2020/01/24/prophesee-gen1-automotive-detection-dataset",
    find=_find,
    read_boxes=_read_boxes,
    with_boxes=_with_boxes,
    evaluated_from_us=_EVALUATED_AFTER_US + 1,
    counts=large_enough,
)
