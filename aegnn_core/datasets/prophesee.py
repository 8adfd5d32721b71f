# SPDX-License-Identifier: Apache-2.0
"""What Prophesee's automotive data sets share: recordings of 60 s with a file of boxes beside each.

The downloads hold ``*_td.dat`` and ``*_bbox.npy`` in ``train``, ``val`` and ``test``; AEGNN's layout calls the first
two ``training`` and ``validation``. RVT's copies of the events, ``*_td.dat.h5``, are read where there are only these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aegnn_core.datasets.boxes_file import read_boxes_file
from aegnn_core.datasets.dataset_format import DatasetFormat, MissingFilesError, Recording, require_files

__all__ = ["large_enough", "prophesee_format"]

_FOLDERS = {"training": "train", "validation": "val", "test": "test"}
_EVENTS, _BOXES = ("_td.dat", "_td.dat.h5"), "_bbox.npy"

#: The papers' evaluations skip the first half second [µs].
_EVALUATED_AFTER_US = 500_000


def prophesee_format(
    name: str,
    labels: tuple[str, ...],
    sensor: tuple[int, int],
    source: str,
    counts: Callable[[np.ndarray, np.ndarray], NDArray[np.bool_]],
    evaluated_labels: tuple[str, ...] | None = None,
) -> DatasetFormat:
    """The format of one of the data sets; see :class:`DatasetFormat` for the arguments."""
    return DatasetFormat(
        name=name,
        labels=labels,
        sensor=sensor,
        tasks=("detection",),
        symmetric=True,
        source=source,
        find=_find,
        read_boxes=partial(_read_boxes, labels),
        with_boxes=_with_boxes,
        evaluated_from_us=_EVALUATED_AFTER_US + 1,
        counts=counts,
        evaluated_labels=evaluated_labels,
    )


def large_enough(diagonal: float, side: float, w: np.ndarray, h: np.ndarray) -> NDArray[np.bool_]:
    """Which boxes ``[M]`` have at least this diagonal, and at least this width and height [px]."""
    width: NDArray[np.float64] = w.astype(float)
    height: NDArray[np.float64] = h.astype(float)
    return (width * width + height * height >= diagonal**2) & (width >= side) & (height >= side)


def _find(folder: Path, split: str, task: str) -> Sequence[Recording]:
    places = [folder / split, folder / _FOLDERS[split]]
    place = next((place for place in places if place.is_dir()), places[-1])
    stems = {file.name.removesuffix(ending) for ending in (*_EVENTS, _BOXES) for file in place.glob(f"*{ending}")}
    if not stems:
        raise MissingFilesError(f"{place} holds no files *{_EVENTS[0]} and *{_BOXES}")
    recordings = [Recording(_events(place, stem), boxes=place / (stem + _BOXES)) for stem in sorted(stems)]
    require_files(folder, [file for item in recordings for file in (item.events, item.boxes) if file])
    return recordings


def _events(place: Path, stem: str) -> Path:
    """The recording as it was downloaded, or RVT's copy where there is only that."""
    files = [place / (stem + ending) for ending in _EVENTS]
    return next((file for file in files if file.exists()), files[0])


def _with_boxes(events: Path) -> Recording | None:
    for ending in _EVENTS:
        boxes = events.with_name(events.name.removesuffix(ending) + _BOXES)
        if events.name.endswith(ending) and boxes.exists():
            return Recording(events, boxes=boxes)
    return None


def _read_boxes(labels: Sequence[str], recording: Recording) -> np.ndarray:
    assert recording.boxes is not None
    return read_boxes_file(recording.boxes, labels)
