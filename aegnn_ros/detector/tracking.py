# SPDX-License-Identifier: Apache-2.0
"""Tracks detections over time, so that an object keeps its number and its box does not jitter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from aegnn_core.extras import missing_package
from aegnn_ros.detector.stream_results import Readout

__all__ = ["CONTINUING_SCORE", "DetectionTracker"]

#: Boxes down to this score continue a track, but do not start one.
CONTINUING_SCORE = 0.1
#: Boxes that overlap a track's predicted place by more than this (intersection over union) may continue it.
_OVERLAP = 0.25
#: A track that no box continues ends after this time [ns].
_LIFESPAN_NS = 500_000_000


class DetectionTracker:
    """ByteTrack (Zhang et al., ECCV 2022): a Kalman filter per track, certain boxes matched before uncertain ones."""

    def __init__(self) -> None:
        self._tracker: Any = None
        self._beginning_score = 0.0
        self._last_stamp = 0
        self._numbers: dict[str, int] = {}
        self._next = 1

    def follow(self, readout: Readout, beginning_score: float) -> Readout:
        """The readout with only the boxes that belong to a track, at its position, and with the tracks' numbers.

        Args:
            readout: with boxes from :data:`CONTINUING_SCORE` on. One that is earlier than the one before, or much
                later, ends all tracks.
            beginning_score: a box of at least this score that belongs to no track begins one.

        Raises:
            RuntimeError: the library is not installed.
        """
        goes_on = 0 <= readout.stamp - self._last_stamp <= _LIFESPAN_NS
        if self._tracker is None or beginning_score != self._beginning_score or not goes_on:
            self._begin_anew(beginning_score)
        self._last_stamp = readout.stamp
        found = readout.detections
        if found is None:
            return readout
        corners = np.stack([found["x"], found["y"], found["x"] + found["w"], found["y"] + found["h"]], axis=-1)
        tracks = self._tracker.update(
            corners.astype(np.float32),
            found["score"].astype(np.float32),
            found["class_id"].astype(np.uintp),
            readout.stamp,
        )
        living = {track.info.uuid for track in self._tracker.get_active_tracks()}
        self._numbers = {uuid: number for uuid, number in self._numbers.items() if uuid in living}
        kept = [k for k, track in enumerate(tracks) if track is not None]
        followed, numbers = found[kept], []
        for box, track in zip(followed, (tracks[k] for k in kept), strict=True):
            left, top, right, bottom = track.tracked_location
            box["x"], box["y"], box["w"], box["h"] = left, top, right - left, bottom - top
            if track.uuid not in self._numbers:
                self._numbers[track.uuid] = self._next
                self._next += 1
            numbers.append(self._numbers[track.uuid])
        return replace(readout, detections=followed, tracks=tuple(numbers))

    def _begin_anew(self, beginning_score: float) -> None:
        try:
            from edgefirst.tracker import ByteTrack
        except ImportError as error:
            raise RuntimeError(f"tracking: {missing_package('edgefirst')}") from error
        self._tracker = ByteTrack(high_conf=beginning_score, iou=_OVERLAP, lifespan_ns=_LIFESPAN_NS)
        self._beginning_score = beginning_score
