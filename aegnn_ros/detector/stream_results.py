# SPDX-License-Identifier: Apache-2.0
"""Results of a camera's stream: the network's answers, and edges on the camera's trigger inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Readout", "Trigger"]


@dataclass(frozen=True)
class Trigger:
    """An edge on a trigger input of the camera.

    Attributes:
        time: sensor time [µs].
        stamp: the same moment in ROS time [ns].
        channel: the input.
        rising: whether the level went up.
    """

    time: int
    stamp: int
    channel: int
    rising: bool


@dataclass(frozen=True)
class Readout:
    """The network's answer at one time.

    Attributes:
        time: sensor time [µs].
        stamp: the same moment in ROS time [ns].
        width, height: the camera's sensor size [px].
        scores: one per class, float ``[classes]``.
        detections: boxes in the camera's pixels (``DETECTION_DTYPE``), best first; None if the model only classifies.
        tracks: the number of each box's track; None if boxes are not tracked.
    """

    time: int
    stamp: int
    width: int
    height: int
    scores: np.ndarray
    detections: np.ndarray | None
    tracks: tuple[int, ...] | None = None
