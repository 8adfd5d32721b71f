# SPDX-License-Identifier: Apache-2.0
"""Simulated scenes as recordings with boxes, in every format that is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np

from aegnn_core.datasets.boxes_file import boxes_file_of, write_boxes_file
from aegnn_core.datasets.dataset_format import NAMES_FILE, read_names
from aegnn_core.events.files.writing import WRITERS, write_events
from aegnn_core.events.label_topics import Label
from aegnn_core.events.rosbag import write_event_bag
from aegnn_core.events.simulation import SceneConfig, SimulatedScene, simulate_scene

__all__ = ["SCENE_FORMATS", "SceneFile", "write_scenes"]

_STORAGES = ("mcap", "sqlite3")
#: Storages of bags, and endings of files without their dot.
SCENE_FORMATS = (*_STORAGES, *(ending.removeprefix(".") for ending in WRITERS))


@dataclass(frozen=True)
class SceneFile:
    """One scene that has been written.

    Attributes:
        path: file, or the bag's folder.
        events: their number.
        boxes: their number, at all times together.
    """

    path: Path
    events: int
    boxes: int


def write_scenes(output: str | Path, form: str, seed: int, scenes: int, config: SceneConfig) -> Iterator[SceneFile]:
    """Write the scenes with the seeds ``seed, seed + 1, …`` as ``scene_<seed>``, one whenever the next is asked for.

    A bag has the boxes on ``/labels`` and the names of the classes on ``/label_info``. A file has the boxes in
    ``scene_<seed>_bbox.npy`` beside it, as Prophesee's data sets have them, and the names in ``labels.txt``.

    Args:
        output: folder for them.
        form: one of :data:`SCENE_FORMATS`.
        seed: of the first scene.
        scenes: how many.
        config: of the scenes, with the camera.

    Raises:
        FileExistsError: a scene is there already.
        ValueError: an unknown format, a negative seed, no positive number of scenes, or what a format cannot hold.
        OSError: a scene cannot be written. Nothing is left of it then.
    """
    if form not in SCENE_FORMATS:
        raise ValueError(f"unknown format {form!r}, expected one of {', '.join(SCENE_FORMATS)}")
    if scenes < 1:
        raise ValueError(f"the number of scenes is {scenes}, expected at least 1")
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    for number in range(seed, seed + scenes):
        path = output / (f"scene_{number}" if form in _STORAGES else f"scene_{number}.{form}")
        for there in (path,) if form in _STORAGES else (path, boxes_file_of(path)):
            if there.exists():
                raise FileExistsError(f"{there}: exists already, expected the name of a new recording")
        scene = simulate_scene(number, config)
        if form in _STORAGES:
            storage = cast(Literal["mcap", "sqlite3"], form)
            write_event_bag(
                path, scene.stream, storage=storage, labels=_labels(scene, config), class_names=scene.labels
            )
        else:
            _write_names(output / NAMES_FILE, scene.labels)
            write_events(path, scene.stream)
            try:
                write_boxes_file(boxes_file_of(path), scene.boxes)
            except BaseException:
                path.unlink()  # events without their boxes would be a recording in which nothing is to be seen
                raise
        yield SceneFile(path, len(scene.stream), len(scene.boxes))


def _write_names(file: Path, names: tuple[str, ...]) -> None:
    """Say what the numbers of boxes mean, unless the folder says so already."""
    if not file.exists():
        file.write_text("\n".join(names) + "\n")
    elif (there := read_names(file)) != names:
        raise FileExistsError(
            f"{file}: names the classes {', '.join(there)}, expected {', '.join(names)} or no such file"
        )


def _labels(scene: SimulatedScene, config: SceneConfig) -> list[Label]:
    """The boxes at every time that the simulation samples, including times without any."""
    times = np.arange(config.box_period_us, config.duration_us + 1, config.box_period_us)
    return [Label(1000 * int(time), boxes=scene.boxes[scene.boxes["t"] == time]) for time in times]
