"""A split of a data set of the field, as a sequence of labelled recordings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aegnn_core.datasets.gen1 import GEN1
from aegnn_core.datasets.ncaltech101 import NCALTECH101
from aegnn_core.datasets.ncars import NCARS
from aegnn_core.datasets.nmnist import NMNIST
from aegnn_core.datasets.recording import (
    AT_THE_END,
    SPLITS,
    DatasetFormat,
    LabelledStream,
    MissingFilesError,
    Recording,
)
from aegnn_core.datasets.rosbag import ROSBAG, ROSBAG_SOURCE, rosbag_format
from aegnn_core.events.files import read_events

__all__ = ["DATA_DIR_VARIABLE", "FORMATS", "EventDataset", "open_dataset"]

#: Name of the environment variable with the folder that holds a folder per data set.
DATA_DIR_VARIABLE = "AEGNN_DATA_DIR"

#: Data sets whose labels and sensor are always the same.
FORMATS = {form.name: form for form in (NCARS, NCALTECH101, GEN1, NMNIST)}


class EventDataset:
    """The recordings of one split; an item is read from its files when it is asked for.

    Args:
        form: of the data set.
        split: ``"training"``, ``"validation"`` or ``"test"``.
        recordings: of that split.
        folder: of the data set.
    """

    def __init__(self, form: DatasetFormat, split: str, recordings: Sequence[Recording], folder: Path) -> None:
        self.form, self.split, self.recordings, self.folder = form, split, recordings, folder

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, number: int) -> LabelledStream:
        recording = self.recordings[number]
        stream = read_events(recording.events, *self.form.sensor)
        boxes = self.boxes(number)
        if boxes is not None:
            boxes["t"][boxes["t"] == AT_THE_END] = stream.events["t"][-1]
        return LabelledStream(stream, recording.label, boxes)

    def only(self, number: int) -> EventDataset:
        """The data set of one recording."""
        return EventDataset(self.form, self.split, [self.recordings[number]], self.folder)

    def joined(self, other: EventDataset) -> EventDataset:
        """The recordings of both of two splits, these first."""
        recordings = [*self.recordings, *other.recordings]
        return EventDataset(self.form, f"{self.split} and {other.split}", recordings, self.folder)

    def boxes(self, number: int) -> np.ndarray | None:
        """The boxes of a recording without its events, see :attr:`DatasetFormat.read_boxes`; None without boxes."""
        recording = self.recordings[number]
        if recording.boxes is None or self.form.read_boxes is None:
            return None
        return self.form.read_boxes(recording)

    def __repr__(self) -> str:
        return f"EventDataset({self.form.name}, {self.split}, {len(self)} recordings)"


def open_dataset(name: str, split: str, *, task: str, root: str | Path | None = None) -> EventDataset:
    """Find the recordings of a split, in the layout of the original download or of AEGNN.

    Args:
        name: ``"ncars"``, ``"ncaltech101"``, ``"gen1"``, ``"nmnist"`` or ``"rosbag"``.
        split: ``"training"``, ``"validation"`` or ``"test"``.
        task: ``"recognition"`` or ``"detection"``: whether labels or boxes are needed.
        root: folder that holds a folder of the data set's name; by default ``AEGNN_DATA_DIR``.

    Raises:
        ValueError: an unknown data set or split, a data set without labels for the task, or no root.
        MissingFilesError: files are missing; the message says which and where they come from.
    """
    for what, value, known in (("data set", name, (*FORMATS, ROSBAG)), ("split", split, SPLITS)):
        if value not in known:
            raise ValueError(f"unknown {what} {value!r}, known are {', '.join(known)}")
    root = os.environ.get(DATA_DIR_VARIABLE) if root is None else root
    if not root:
        raise ValueError(f"{DATA_DIR_VARIABLE} is not set, expected the folder that holds the folder {name}")
    folder = Path(root).absolute() / name  # of which other machines of a cluster know what it means
    try:
        form = rosbag_format(folder, split) if name == ROSBAG else FORMATS[name]
        if task not in form.tasks:
            raise ValueError(f"data set {name} has no labels for {task}, only for {', '.join(form.tasks)}")
        return EventDataset(form, split, form.find(folder, split, task), folder)
    except MissingFilesError as error:
        source = ROSBAG_SOURCE if name == ROSBAG else FORMATS[name].source
        raise MissingFilesError(f"data set {name}, split {split}: {error}; expected there: {source}") from error
