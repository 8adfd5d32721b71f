# SPDX-License-Identifier: Apache-2.0
"""N-Cars (Sironi et al., CVPR 2018): 24 029 recordings of 100 ms, with a car or without.

The original download holds ``obj_<number>_td.dat`` in the folders ``cars`` and ``background`` of ``train`` and of
``test``. It has no validation split: here the last fifth of its training recordings, by number and class, so that the
views of one car, whose numbers are close, stay together. AEGNN's layout has ``training``, ``validation`` and ``test``
with a folder per recording, which holds ``events.txt`` and ``is_car.txt``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aegnn_core import known_datasets
from aegnn_core.datasets.dataset_format import DatasetFormat, MissingFilesError, Recording, require_files
from aegnn_core.events.array import EventFormatError
from aegnn_core.events.files.text import EVENTS_TEXT

__all__ = ["NCARS"]

_CLASSES = ("cars", "background")
#: Numbers of the recordings of each class, in the order of ``_CLASSES``.
_NUMBERS = {
    "training": (range(4396, 10748), range(4211, 10197)),
    "validation": (range(10748, 12336), range(10197, 11693)),
    "test": (range(4396), range(4211)),
}
_IS_CAR = "is_car.txt"


def _find(folder: Path, split: str, task: str) -> Sequence[Recording]:
    if (folder / split).is_dir() and not any((folder / split / name).is_dir() for name in _CLASSES):
        return _find_sequences(folder, folder / split)
    part = "test" if split == "test" else "train"
    # The archive holds n-cars_<part>.zip, whose top folder is <part>: some tools unpack it into a folder of its name.
    places = [folder / f"n-cars_{part}" / part, folder / f"n-cars_{part}", folder / part]
    places += [folder / "Prophesee_Dataset_n_cars" / place.relative_to(folder) for place in places]
    place = next((place for place in places if (place / _CLASSES[0]).is_dir()), places[0])
    recordings = [
        Recording(place / name / f"obj_{number:06d}_td.dat", label)
        for label, name in enumerate(_CLASSES)
        for number in _NUMBERS[split][label]
    ]
    require_files(folder, [recording.events for recording in recordings])
    return recordings


def _find_sequences(folder: Path, place: Path) -> Sequence[Recording]:
    sequences = sorted(path for path in place.iterdir() if path.is_dir())
    if not sequences:
        raise MissingFilesError(f"{place} holds no folder with {EVENTS_TEXT} and {_IS_CAR}")
    require_files(folder, [sequence / name for sequence in sequences for name in (EVENTS_TEXT, _IS_CAR)])
    return [Recording(sequence, _label(sequence / _IS_CAR)) for sequence in sequences]


def _label(path: Path) -> int:
    text = path.read_text("utf8").strip()
    if text not in ("0", "1"):
        raise EventFormatError(f"{path}: holds {text[:20]!r}, expected 1 for a car or 0")
    return _CLASSES.index("cars" if text == "1" else "background")


NCARS = DatasetFormat(
    name="ncars",
    labels=known_datasets.NCARS.labels,
    sensor=known_datasets.NCARS.sensor,
    tasks=("recognition",),
    symmetric=True,
    source="Prophesee_Dataset_n_cars.zip and the two archives in it, from https://www.prophesee.ai/dataset-n-cars-download",
    find=_find,
)
