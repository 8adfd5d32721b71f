# SPDX-License-Identifier: Apache-2.0
"""Random changes to a sample that do not change its class; boxes follow their events."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch_geometric.data import Data

from aegnn_core.datasets.event_dataset import FORMATS, dataset_format
from aegnn_core.datasets.samples import EventSample
from aegnn_core.events.array import EVENT_DTYPE

__all__ = ["Augmentation", "default_augmentation"]

#: A box is dropped when less than this share of its area is left in the picture, or a side is shorter than this [px].
_LEAST_SHARE, _LEAST_SIDE_PX = 0.25, 2.0


class _Map(NamedTuple):
    """``matrix [2, 2]`` about the middle of the picture, then ``shift [2]`` as shares of its sides."""

    matrix: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Augmentation:
    """Draws an affine change of the image, drops events, and mirrors and inverts where the class allows it.

    Attributes:
        rotation: largest angle either way [degrees].
        shear: largest shear of x along y either way.
        scale: largest change of size along either axis, as the logarithm of a factor.
        shift: largest shift along either axis, as a share of the sensor's side.
        drop: largest share of events that is left out, at random.
        mirror: whether left and right may change places.
        invert: whether ON and OFF may.
        crop: largest share of the sensor's width and height that is cut off, anywhere.
        time_scale: largest change of speed, as the logarithm of a factor; the moment of the truth keeps its time, or
            where a sample says none, the last event.
        cut: largest share of its time by which half of the samples end early; for recognition, as boxes are true at the
            end only.

    Raises:
        ValueError: a value is out of its range; the message says which one is right.
    """

    rotation: float = 15.0
    shear: float = 0.2
    scale: float = 0.15
    shift: float = 0.1
    drop: float = 0.6
    mirror: bool = False
    invert: bool = False
    crop: float = 0.0
    time_scale: float = 0.0
    cut: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name in ("mirror", "invert"):
                if not isinstance(value, bool):
                    raise ValueError(f"augmentation: {name} must be true or false, found {repr(value)[:300]}")
            elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"augmentation: {name} must be a number of at least 0, found {repr(value)[:300]}")
        for name in ("drop", "crop", "cut"):
            if getattr(self, name) > 1:
                raise ValueError(f"augmentation: {name} must be a share of at most 1, found {getattr(self, name)}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Augmentation:
        """The changes from plain values; unknown names are a ``ValueError``."""
        known = [item.name for item in fields(cls)]
        if unknown := sorted({str(name) for name in values} - set(known)):
            raise ValueError(f"augmentation: unknown changes {', '.join(unknown)}; known are {', '.join(known)}")
        return cls(**values)

    def __call__(self, sample: EventSample, sensor: tuple[int, int], rng: np.random.Generator) -> EventSample:
        """The changed sample: events that are still on the ``sensor`` (width, height) [px], in the same order.

        Coordinates are rounded to pixels after the change, so two pixels may become one. Boxes become the upright
        rectangles around their images, as far as these are in the picture; those of which little is left are gone.
        """
        events = self._draw_beginning(sample, rng)
        events = events[rng.random(len(events)) >= rng.uniform(0, self.drop)]
        side = np.array(sensor)
        change = self._draw_map(rng)
        middle = (side - 1) / 2
        place = np.stack([events["x"], events["y"]]) - middle[:, None]
        place = np.rint(change.matrix @ place + (middle + change.shift * side)[:, None]).astype(np.int64)
        invert = self.invert and rng.random() < 0.5
        lower, upper = self._draw_crop(side, rng)
        inside = ((place >= lower[:, None]) & (place < upper[:, None])).all(0)
        changed = np.empty(np.count_nonzero(inside), EVENT_DTYPE)
        changed["t"], changed["p"] = events["t"][inside], events["p"][inside]
        changed["x"], changed["y"] = place[:, inside]
        if invert:
            changed["p"] = 1 - changed["p"]
        if self.time_scale and len(changed):
            end = changed["t"][-1] if sample.time is None else sample.time
            age = end - changed["t"]
            changed["t"] = end - np.rint(age * np.exp(rng.uniform(-1, 1) * self.time_scale)).astype(int)
        boxes = sample.boxes
        if boxes is not None:
            boxes = _map_boxes(boxes, change, side, lower, upper)
        return EventSample(changed, sample.label, boxes, sample.time)

    def of_graph(self, data: Data, sensor: tuple[int, int], rng: np.random.Generator) -> Data:
        """A graph mirrored and inverted, which leaves its edges as they are; the other changes are for events only.

        Args:
            data: from :func:`aegnn_core.datasets.samples.labelled_graph`; it is left as it is.
            sensor: width and height [px].
            rng: draws whether.
        """
        changed = data.clone()
        if self.mirror and rng.random() < 0.5:
            changed.pos[:, 0] = sensor[0] - 1 - changed.pos[:, 0]
            changed.edge_attr[:, 0] = 1 - changed.edge_attr[:, 0]
            if "boxes" in changed:
                changed.boxes[:, [0, 2]] = sensor[0] - changed.boxes[:, [2, 0]]
        if self.invert and rng.random() < 0.5:
            changed.x = -changed.x
        return changed

    def _draw_map(self, rng: np.random.Generator) -> _Map:
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shear = np.array([[1, rng.uniform(-self.shear, self.shear)], [0, 1]])
        scale = np.exp(rng.uniform(-self.scale, self.scale, 2))
        if self.mirror and rng.random() < 0.5:
            scale[0] = -scale[0]
        return _Map(rotation @ shear @ np.diag(scale), rng.uniform(-self.shift, self.shift, 2))

    def _draw_beginning(self, sample: EventSample, rng: np.random.Generator) -> np.ndarray:
        """The events of a sample up to where it is cut."""
        events = sample.events
        if self.cut and sample.boxes is not None:
            raise ValueError(f"augmentation: cut is for recognition, found {self.cut} with boxes")
        if not self.cut or not len(events) or rng.random() < 0.5:
            return events
        t: NDArray[np.int64] = events["t"].astype(np.int64)
        begun: NDArray[np.bool_] = t <= t[-1] - rng.uniform(0, self.cut) * (t[-1] - t[0])
        return events[begun]

    def _draw_crop(self, side: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The first pixel ``[2]`` of the part of the picture that stays, and the one behind its last."""
        if not self.crop:
            return np.zeros(2, int), side
        size = np.maximum(1, np.rint(side * (1 - rng.uniform(0, self.crop, 2)))).astype(int)
        lower = rng.integers(0, side - size + 1)
        return lower, lower + size


def default_augmentation(dataset: str, task: str) -> Augmentation:
    """The default for a task and data set: boxes are not rotated, which would make them larger than their objects."""
    mirror = dataset in FORMATS and dataset_format(dataset).symmetric
    if task == "recognition":
        return Augmentation(mirror=mirror)
    return Augmentation(
        rotation=0, shear=0, scale=0.2, shift=0.1, drop=0.3, mirror=mirror, invert=True, crop=0.3, time_scale=0.2
    )


def _map_boxes(boxes: np.ndarray, change: _Map, side: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Boxes ``[M]`` with x, y, w, h [px] after the change, clipped to what lies between ``lower`` and ``upper``."""
    # Pixel i of an axis reaches from i to i + 1 for a box: the middle is half a pixel further than that of pixels.
    x, y = (np.stack([boxes[at], boxes[at] + boxes[size]]).astype(float) for at, size in (("x", "w"), ("y", "h")))
    corners = np.stack([x[[0, 0, 1, 1]], y[[0, 1, 0, 1]]], -1) - side / 2  # [4, M, 2]
    corners = corners @ change.matrix.T + side / 2 + change.shift * side
    first, last = corners.min(0), corners.max(0)
    whole = (last - first).prod(1)
    first, last = np.maximum(first, lower), np.minimum(last, upper)
    size = last - first
    left: NDArray[np.bool_] = (size >= _LEAST_SIDE_PX).all(1) & (size.clip(0).prod(1) >= _LEAST_SHARE * whole)
    changed: np.ndarray = boxes[left].copy()
    changed["x"], changed["y"] = first[left].T
    changed["w"], changed["h"] = size[left].T
    return changed
