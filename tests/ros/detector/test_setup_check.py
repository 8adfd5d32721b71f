# SPDX-License-Identifier: Apache-2.0
"""What does not fit together is said in one sentence, before anybody wonders why there are no boxes."""

from types import SimpleNamespace
from typing import Any

import pytest

from aegnn_ros.detector.parameters import DetectorParameters
from aegnn_ros.detector.setup_check import what_does_not_fit


@pytest.mark.parametrize(
    ("settings", "camera", "calibration", "expected"),
    [
        ({}, None, None, ""),
        ({}, (640, 480), (640, 480), ""),
        ({"classes": "car, lorry"}, None, None, "classes has lorry, expected some of car, pedestrian"),
        ({"undistort": True}, (640, 480), None, "undistort needs the camera's calibration"),
        ({}, (640, 480), (320, 240), "~/camera_info is of 320 x 240 px, expected the camera's 640 x 480"),
        ({"region_of_interest": (640, 0, 10, 10)}, (640, 480), None, "region_of_interest lies outside of the camera's"),
        ({}, (640, 200), None, "640 x 200 px fill only 42% of the model's 160 x 120 px"),
        ({"region_of_interest": (0, 0, 200, 150)}, (640, 200), None, ""),
    ],
)
def test_what_does_not_fit_is_said(
    settings: dict[str, Any], camera: tuple[int, int] | None, calibration: tuple[int, int] | None, expected: str
) -> None:
    model: Any = SimpleNamespace(
        trained=SimpleNamespace(labels=("car", "pedestrian")), sensor_behind=lambda camera: (160, 120)
    )
    lens: Any = None if calibration is None else SimpleNamespace(width=calibration[0], height=calibration[1])

    fault = what_does_not_fit(DetectorParameters(**settings), model, camera, lens)

    assert fault.startswith(expected)
    assert bool(fault) == bool(expected)
