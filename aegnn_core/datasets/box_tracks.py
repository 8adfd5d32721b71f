# SPDX-License-Identifier: Apache-2.0
"""Detections of an image detector as labels, also between its images: along tracks, and what is unclear left out.

A label says where *all* objects are. So a time gets no label if any object is unclear then: its score is between that
of a certain box and that of none, it is seen in one image only, it matches two objects of the next image, or it appears
or disappears between two images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from aegnn_core.events.label_topics import LABEL_DTYPE, DetectedBox, Label

__all__ = ["Labelling", "TrackRules", "label_between", "map_boxes"]

#: The second best of two matches may not be as good as this share of the best.
_CLEARLY_WORSE = 0.8

#: Share of a mapped box that has to lie on the sensor.
_LEAST_VISIBLE = 0.25

#: Boxes have times in µs: labels closer than that [ns] would become one.
_LEAST_PERIOD_NS = 1000

#: Stamp [ns] and boxes of one image.
Image = tuple[int, Sequence[DetectedBox]]


@dataclass(frozen=True)
class TrackRules:
    """What is certain.

    Attributes:
        score: a box of at least this score is one.
        doubtful_score: one of at least this score, and not certain, makes its time unclear.
        period_ns: time between labels [ns], at least 1 µs.
        longest_gap_ns: images further apart than this have no labels between them [ns].
        overlap: of the boxes of an object in two images, intersection over union, where the detector has no tracks.
    """

    score: float = 0.5
    doubtful_score: float = 0.25
    period_ns: int = 10_000_000
    longest_gap_ns: int = 200_000_000
    overlap: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.doubtful_score <= self.score <= 1:
            raise ValueError(
                f"scores are {self.doubtful_score} (doubtful) and {self.score} (certain), expected 0 <= doubtful <="
                " certain <= 1"
            )
        for name, least in (("period_ns", _LEAST_PERIOD_NS), ("longest_gap_ns", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {least}")
        if not 0 < self.overlap < 1:
            raise ValueError(f"overlap is {self.overlap}, expected a share between 0 and 1")


@dataclass(frozen=True)
class Labelling:
    """The labels, and how many images and intervals between them were usable.

    Attributes:
        labels: by time.
        images: their number.
        unclear_images: those that are no label.
        intervals: between two images that are not too far apart.
        unclear_intervals: those without labels in between.
    """

    labels: list[Label]
    images: int
    unclear_images: int
    intervals: int
    unclear_intervals: int


def map_boxes(boxes: Sequence[DetectedBox], homography: np.ndarray, sensor: tuple[int, int]) -> list[DetectedBox]:
    """Boxes of another camera in the event camera's pixels: around the four corners, clipped to the sensor.

    Boxes of which less than a quarter lies on the sensor are left out.

    Args:
        boxes: in the other camera's pixels.
        homography: ``[3, 3]``, takes its (u, v, 1) to the event camera's (x, y, 1), up to a factor.
        sensor: width and height of the event camera [px].
    """
    mapped = []
    for box in boxes:
        u, v = np.array([box.x, box.x + box.w]), np.array([box.y, box.y + box.h])
        corners = homography @ np.stack([u[[0, 1, 0, 1]], v[[0, 0, 1, 1]], np.ones(4)])
        if not (corners[2] > 0).all() and not (corners[2] < 0).all():
            continue  # reaches behind the event camera
        low, high = (corners[:2] / corners[2]).min(1), (corners[:2] / corners[2]).max(1)
        whole = np.prod(high - low)
        low, high = np.clip(low, 0, sensor), np.clip(high, 0, sensor)
        if whole > 0 and np.prod(high - low) >= _LEAST_VISIBLE * whole:
            (x, y), (w, h) = low.tolist(), (high - low).tolist()
            mapped.append(box._replace(x=x, y=y, w=w, h=h))
    return mapped


def label_between(images: Sequence[Image], classes: dict[str, int], rules: TrackRules) -> Labelling:
    """Labels at the images' times and, every ``rules.period_ns``, between them.

    Between two images, the last label is at least half a period before the second one.

    Args:
        images: by time.
        classes: number of each class of the detector that counts; others are not looked at.
        rules: what is certain.
    """
    images = [
        (stamp, [box for box in boxes if box.class_name in classes and box.score >= rules.doubtful_score])
        for stamp, boxes in images
    ]
    certain = [all(box.score >= rules.score for box in boxes) for _, boxes in images]
    tracked = all(_are_told_apart(boxes) for _, boxes in images)
    links: list[dict[int, int] | None] = []  # of each image to the next one; None where that is too late
    for (stamp, boxes), (next_stamp, next_boxes) in pairwise(images):
        near = 0 < next_stamp - stamp <= rules.longest_gap_ns
        links.append(_links(boxes, next_boxes, rules, tracked) if near else None)
    labels, clear_images, clear_intervals = [], 0, 0
    for k, (stamp, boxes) in enumerate(images):
        before, behind = links[k - 1] if k else None, links[k] if k < len(links) else None
        linked = set(behind or ()) | set((before or {}).values())
        if certain[k] and len(linked) == len(boxes) and (before is not None or behind is not None):
            clear_images += 1
            labels.append(Label(stamp, boxes=_array([(box, box) for box in boxes], 0.0, classes)))
        if behind is None:
            continue
        next_stamp, next_boxes = images[k + 1]
        if certain[k] and certain[k + 1] and len(behind) == len(boxes) == len(next_boxes):
            clear_intervals += 1
            pairs = [(boxes[a], next_boxes[b]) for a, b in sorted(behind.items())]
            last = next_stamp - max(rules.period_ns // 2, _LEAST_PERIOD_NS)
            for time in range(stamp + rules.period_ns, last + 1, rules.period_ns):
                share = (time - stamp) / (next_stamp - stamp)
                labels.append(Label(time, boxes=_array(pairs, share, classes)))
    intervals = sum(link is not None for link in links)
    return Labelling(labels, len(images), len(images) - clear_images, intervals, intervals - clear_intervals)


def _track(box: DetectedBox) -> tuple[str, str]:
    """Some trackers count the objects of each class by themselves."""
    return box.track, box.class_name


def _are_told_apart(boxes: Sequence[DetectedBox]) -> bool:
    """Whether each track is one object of an image. Some detectors put the class there, which tells nothing apart."""
    tracks = [_track(box) for box in boxes if box.track]
    return len(set(tracks)) == len(tracks)


def _links(
    boxes: Sequence[DetectedBox], following: Sequence[DetectedBox], rules: TrackRules, tracked: bool
) -> dict[int, int]:
    """Which box of the next image is the same object as which of this one: by their tracks, or where they overlap."""
    if tracked and all(box.track for box in (*boxes, *following)):
        by_track = {_track(box): b for b, box in enumerate(following)}
        return {a: by_track[_track(box)] for a, box in enumerate(boxes) if _track(box) in by_track}
    overlaps = np.array([[_overlap(a, b) for b in following] for a in boxes]).reshape(len(boxes), len(following))
    links = {}
    for a, b in np.argwhere(overlaps >= rules.overlap).tolist():
        others = np.concatenate([np.delete(overlaps[a], b), np.delete(overlaps[:, b], a)])
        if others.max(initial=0.0) < _CLEARLY_WORSE * overlaps[a, b]:
            links[a] = b
    return links


def _overlap(a: DetectedBox, b: DetectedBox) -> float:
    """Intersection over union; 0 for boxes of different classes."""
    if a.class_name != b.class_name:
        return 0.0
    w = min(a.x + a.w, b.x + b.w) - max(a.x, b.x)
    h = min(a.y + a.h, b.y + b.h) - max(a.y, b.y)
    shared = max(w, 0.0) * max(h, 0.0)
    together = a.w * a.h + b.w * b.h - shared
    return shared / together if together > 0 else 0.0


def _array(pairs: Sequence[tuple[DetectedBox, DetectedBox]], share: float, classes: dict[str, int]) -> np.ndarray:
    """The boxes between pairs, at a share of the way, as ``LABEL_DTYPE [N]``."""
    array = np.empty(len(pairs), LABEL_DTYPE)
    for row, (a, b) in zip(array, pairs, strict=True):
        for name in "xywh":
            row[name] = (1 - share) * getattr(a, name) + share * getattr(b, name)
        row["class_id"] = classes[a.class_name]
    return array
