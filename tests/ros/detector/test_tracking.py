# SPDX-License-Identifier: Apache-2.0
"""Tracks keep their numbers while an object moves, and end with it."""

from __future__ import annotations

import numpy as np
import pytest

from aegnn_core.nn.detection import DETECTION_DTYPE
from aegnn_ros.detector.parameters import DetectorParameters
from aegnn_ros.detector.stream_results import Readout

pytest.importorskip("edgefirst.tracker", reason="edgefirst-tracker is not installed")

from aegnn_ros.detector.tracking import CONTINUING_SCORE, DetectionTracker


def readout(stamp_ms: int, *boxes: tuple[float, ...]) -> Readout:
    detections = np.array([tuple(box) for box in boxes], DETECTION_DTYPE)
    return Readout(1000 * stamp_ms, 1_000_000 * stamp_ms, 640, 480, np.ones(2), detections)


def test_an_object_keeps_its_number_while_it_moves_and_fades() -> None:
    tracker = DetectionTracker()
    followed = []
    for k in range(20):
        score = 0.8 if k < 10 else 0.15  # too little to begin a track, enough to go on with one
        moving, standing = (100 + 3 * k, 50, 40, 30, score, 0), (300, 200, 60, 40, 0.9, 1)
        followed.append(tracker.follow(readout(33 * k, moving, standing), 0.3))
    assert {result.tracks for result in followed} == {(1, 2)}
    last = followed[-1].detections
    assert last is not None
    assert abs(last["x"][0] - 157) < 12
    assert last["x"][1] == pytest.approx(300, abs=1)
    assert last["class_id"].tolist() == [0, 1]


def test_boxes_are_published_from_the_score_on_that_continues_a_track() -> None:
    assert DetectorParameters(score_threshold=0.3).lowest_score == 0.3
    assert DetectorParameters(score_threshold=0.3, tracking=True).lowest_score == CONTINUING_SCORE
    assert DetectorParameters(score_threshold=0.05, tracking=True).lowest_score == 0.05


def test_boxes_that_are_too_uncertain_begin_no_track() -> None:
    result = DetectionTracker().follow(readout(0, (10, 10, 20, 20, 0.2, 0)), 0.3)
    assert result.tracks == ()
    assert result.detections is not None
    assert len(result.detections) == 0


@pytest.mark.parametrize("stamp_ms", [0, 5000])
def test_after_a_jump_in_time_numbers_are_new(stamp_ms: int) -> None:
    tracker = DetectionTracker()
    box = (10.0, 10.0, 40.0, 40.0, 0.9, 0)
    assert tracker.follow(readout(1000, box), 0.3).tracks == (1,)
    assert tracker.follow(readout(stamp_ms, box), 0.3).tracks == (2,)


def test_what_has_no_boxes_stays_as_it_is() -> None:
    classes = Readout(0, 0, 640, 480, np.ones(2), None)
    assert DetectionTracker().follow(classes, 0.3) is classes
