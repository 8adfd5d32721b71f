# SPDX-License-Identifier: Apache-2.0
"""A split of a data set of the field, as a sequence of labelled recordings."""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aegnn_core.datasets.bag_folder import ROSBAG, ROSBAG_SOURCE, rosbag_format
from aegnn_core.datasets.dataset_format import (
    AT_THE_END,
    SPLITS,
    DatasetFormat,
    LabelledStream,
    MissingFilesError,
    Recording,
    boxes_in_picture,
)
from aegnn_core.datasets.dsec_det import DSEC_DET
from aegnn_core.datasets.dvs_gesture import DVS_GESTURE
from aegnn_core.datasets.gen1 import GEN1
from aegnn_core.datasets.ncaltech101 import NCALTECH101
from aegnn_core.datasets.ncars import NCARS
from aegnn_core.datasets.nmnist import NMNIST
from aegnn_core.datasets.one_megapixel import ONE_MEGAPIXEL
from aegnn_core.events.array import EventFormatError, EventStream
from aegnn_core.events.downsampling import DOWNSAMPLING, Downsampler
from aegnn_core.events.files import read_events
from aegnn_core.events.letterbox import Letterbox
from aegnn_core.registry import Registry, is_path

__all__ = ["DATA_DIR_VARIABLE", "FORMATS", "EventDataset", "dataset_format", "dataset_names", "open_dataset"]

#: Name of the environment variable with the folder that holds a folder per data set.
DATA_DIR_VARIABLE = "AEGNN_DATA_DIR"

#: Data sets whose labels and sensor are always the same.
_OWN = {form.name: form for form in (NCARS, NCALTECH101, GEN1, ONE_MEGAPIXEL, DSEC_DET, NMNIST, DVS_GESTURE)}
FORMATS: Registry[DatasetFormat] = Registry("data set", "aegnn_core.datasets", _OWN)


def dataset_names() -> tuple[str, ...]:
    """Names of all that can be opened."""
    return (*FORMATS, ROSBAG)


def dataset_format(name: str) -> DatasetFormat:
    """The format of a name in :data:`FORMATS`.

    Raises:
        ValueError: the package that gave the name cannot be imported, or the name leads to something else.
    """
    form = FORMATS[name]
    if not isinstance(form, DatasetFormat):
        raise ValueError(f"data set {name} is {type(form).__name__}, expected a DatasetFormat")
    return form


class EventDataset:
    """The recordings of one split; an item is read from its files when it is asked for.

    Args:
        form: of the data set.
        split: ``"training"``, ``"validation"`` or ``"test"``.
        recordings: of that split.
        folder: of the data set.
        downsampler: from the camera to the sensor of ``form``, where that is another one.
    """

    def __init__(
        self,
        form: DatasetFormat,
        split: str,
        recordings: Sequence[Recording],
        folder: Path,
        downsampler: Downsampler | None = None,
    ) -> None:
        self.form, self.split, self.recordings, self.folder = form, split, recordings, folder
        self.downsampler = downsampler
        self._joined: tuple[EventDataset, ...] = ()
        self._parted: tuple[Path, EventStream] | None = None  # the file of which the last part was read

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, number: int) -> LabelledStream:
        recording = self.recordings[number]
        camera = self.form.sensor if self.downsampler is None else self.downsampler.letterbox.camera
        if recording.span is None:
            stream = read_events(recording.events, *camera, topic=recording.topic)
        else:
            stream = self._part(recording, *camera)
        boxes = self.boxes(number)
        if boxes is not None:
            boxes["t"][boxes["t"] == AT_THE_END] = stream.events["t"][-1]
        if self.downsampler is not None:
            self.downsampler.reset()
            stream = EventStream(self.downsampler(stream.events), *self.form.sensor)
        return LabelledStream(stream, recording.label, boxes)

    def _part(self, recording: Recording, width: int, height: int) -> EventStream:
        """A part of a file; the next one of the same file costs no reading."""
        if self._parted is None or self._parted[0] != recording.events:
            self._parted = recording.events, read_events(recording.events, width, height, topic=recording.topic)
        stream = self._parted[1]
        return replace(stream, events=_within(recording, stream.events).copy())

    def only(self, number: int) -> EventDataset:
        """The data set of one recording."""
        return EventDataset(self.form, self.split, [self.recordings[number]], self.folder, self.downsampler)

    def on_sensor(self, sensor: tuple[int, int], downsampling: str = DOWNSAMPLING[0]) -> EventDataset:
        """The same recordings as a model for a smaller sensor gets them, events as well as boxes.

        Args:
            sensor: width and height [px].
            downsampling: one of :data:`aegnn_core.events.DOWNSAMPLING`.

        Raises:
            ValueError: an unknown way, or a sensor that is not smaller in any direction.
        """
        letterbox = Letterbox(self.form.sensor, sensor)
        downsampler = Downsampler(letterbox, downsampling)
        if letterbox.camera == letterbox.model:
            return self
        if not letterbox.shrinks:
            model, camera = ("{} x {} px".format(*size) for size in (letterbox.model, letterbox.camera))
            raise ValueError(f"the recordings of {self.form.name} have {camera}, expected at least those of {model}")
        form = replace(
            self.form,
            sensor=letterbox.model,
            read_boxes=self.form.read_boxes and partial(_boxes_on_model, self.form.read_boxes, letterbox),
            counts=self.form.counts and partial(_counts_on_camera, self.form.counts, letterbox.scale),
        )
        small = EventDataset(form, self.split, self.recordings, self.folder, downsampler)
        small._joined = tuple(part.on_sensor(sensor, downsampling) for part in self._joined)
        return small

    def joined(self, other: EventDataset) -> EventDataset:
        """The recordings of both of two splits, these first.

        Raises:
            ValueError: see :meth:`check_same_kind`.
        """
        self.check_same_kind(other)
        recordings, split = [*self.recordings, *other.recordings], f"{self.split} and {other.split}"
        both = EventDataset(self.form, split, recordings, self.folder, self.downsampler)
        both._joined = (*self.parts, *other.parts)
        return both

    @property
    def parts(self) -> tuple[EventDataset, ...]:
        """The splits that this one was joined from, in the order of their recordings; of a single split, itself."""
        return self._joined or (self,)

    def check_same_kind(self, other: EventDataset) -> None:
        """Raise a ``ValueError`` unless another split has the same classes and sensor, and is downsampled the same way.

        Splits of your own bags are opened apart, and may have been recorded apart.
        """
        for what, found, expected in (
            ("for the classes", *(", ".join(one.form.labels) for one in (other, self))),
            ("for a sensor of", *("{} x {} px".format(*one.form.sensor) for one in (other, self))),
            ("downsampled", *(_way(one.downsampler) for one in (other, self))),
        ):
            if found != expected:
                raise ValueError(
                    f"split {other.split} of {other.form.name} is {what} {found}, split {self.split} {what} {expected}"
                )

    def boxes(self, number: int) -> np.ndarray | None:
        """The boxes of a recording without its events, see :attr:`DatasetFormat.read_boxes`; None without boxes.

        They are clipped to the camera's picture, and what lies outside of it is not there.
        """
        recording = self.recordings[number]
        if recording.boxes is None or self.form.read_boxes is None:
            return None
        return boxes_in_picture(self.form.read_boxes(recording), self.form.sensor)

    def __repr__(self) -> str:
        return f"EventDataset({self.form.name}, {self.split}, {len(self)} recordings)"


def _way(downsampler: Downsampler | None) -> str:
    """How recordings are downsampled, if they are, without what the last of them has left."""
    if downsampler is None:
        return "not at all"
    rule = ", ".join(f"{name} {value:g}" for name, value in downsampler.threshold_rule.items())
    return f"by {downsampler.way} ({rule}) from {downsampler.letterbox}"


def _within(recording: Recording, events: np.ndarray) -> np.ndarray:
    """The events of the recording's part of its file."""
    assert recording.span is not None
    first, last = recording.span
    t = events["t"]  # which np.searchsorted would copy
    begin = bisect_left(t, first)
    end = bisect_right(t, last, begin)
    if begin == end:
        raise EventFormatError(
            f"{recording.events}: has no events from {first} to {last} µs, expected some in a part with a label"
        )
    return events[begin:end]


def _boxes_on_model(
    read_boxes: Callable[[Recording], np.ndarray], letterbox: Letterbox, recording: Recording
) -> np.ndarray:
    # The model's sensor may have more than the camera's picture.
    return letterbox.to_model(boxes_in_picture(read_boxes(recording), letterbox.camera))


def _counts_on_camera(
    counts: Callable[[np.ndarray, np.ndarray], NDArray[np.bool_]], scale: float, w: np.ndarray, h: np.ndarray
) -> NDArray[np.bool_]:
    return counts(w * scale, h * scale)


def open_dataset(
    name: str,
    split: str,
    *,
    task: str,
    root: str | Path | None = None,
    sensor: tuple[int, int] | None = None,
    downsampling: str = DOWNSAMPLING[0],
    topic: str | None = None,
) -> EventDataset:
    """Find the recordings of a split, in the layout of the original download or of AEGNN.

    Args:
        name: one of :func:`dataset_names`, or the path ``package.module:NAME`` of a :class:`DatasetFormat`, whose
            module is imported.
        split: ``"training"``, ``"validation"`` or ``"test"``.
        task: ``"recognition"`` or ``"detection"``: whether labels or boxes are needed.
        root: folder that holds a folder of the data set's name; by default ``AEGNN_DATA_DIR``.
        sensor: width and height [px] of a model's sensor that the recordings are taken to, see
            :meth:`EventDataset.on_sensor`; by default they stay on the camera's.
        downsampling: how they are.
        topic: the event topic of bags that have several; for ``"rosbag"``.

    Raises:
        ValueError: an unknown data set or split, a data set without labels for the task, no root, a topic for something
            else than bags, or a sensor that the recordings' is smaller than.
        MissingFilesError: files are missing; the message says which and where they come from.
    """
    if is_path(name):
        FORMATS.trust(name)
    for what, value, known in (("data set", name, dataset_names()), ("split", split, SPLITS)):
        if value not in known:
            raise ValueError(f"unknown {what} {value!r}, known are {', '.join(known)}")
    if topic is not None and name != ROSBAG:
        raise ValueError(f"an event topic is for bags, found {topic!r} with the data set {name}")
    own_name, source = _name_and_source(name)
    root = os.environ.get(DATA_DIR_VARIABLE) if root is None else root
    if not root:
        raise ValueError(f"{DATA_DIR_VARIABLE} is not set, expected the folder that holds the folder {own_name}")
    folder = Path(root).absolute() / own_name  # whose meaning other machines of a cluster know
    try:
        form = rosbag_format(folder, split, topic) if name == ROSBAG else dataset_format(name)
        if task not in form.tasks:
            raise ValueError(f"data set {name} has no labels for {task}, only for {', '.join(form.tasks)}")
        dataset = EventDataset(form, split, form.find(folder, split, task), folder)
    except MissingFilesError as error:
        raise MissingFilesError(f"data set {name}, split {split}: {error}; expected there: {source}") from error
    return dataset if sensor is None else dataset.on_sensor(sensor, downsampling)


def _name_and_source(name: str) -> tuple[str, str]:
    """What a data set calls itself, and where it comes from."""
    if name == ROSBAG:
        return ROSBAG, ROSBAG_SOURCE
    form = dataset_format(name)
    return form.name, form.source
