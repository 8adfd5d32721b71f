# SPDX-License-Identifier: Apache-2.0
"""Whether settings, camera, calibration and model fit together; diagnostics report what does not."""

from __future__ import annotations

from aegnn_ros.detector.camera_model import CameraModel
from aegnn_ros.detector.parameters import DetectorParameters
from aegnn_ros.detector.ready_model import ReadyModel

__all__ = ["what_does_not_fit"]

#: Where the camera's picture fills less of the model's sensor than this, its shape makes objects small.
_LEAST_FILL = 0.5


def what_does_not_fit(
    settings: DetectorParameters, model: ReadyModel, camera: tuple[int, int] | None, calibration: CameraModel | None
) -> str:
    """One sentence about the first thing that does not fit, or an empty text.

    Args:
        settings: of the node.
        model: that runs.
        camera: width and height [px] of its sensor; None while no packet has told them.
        calibration: of the camera; None while nothing has come on ``~/camera_info``.
    """
    labels = model.trained.labels
    if unknown := settings.class_names - set(labels):
        return f"classes has {', '.join(sorted(unknown))}, expected some of {', '.join(labels)}"
    if camera is None:
        return ""
    return (
        _region_fault(settings, camera)
        or _calibration_fault(settings, camera, calibration)
        or _shape_fault(settings, model, camera)
    )


def _region_fault(settings: DetectorParameters, camera: tuple[int, int]) -> str:
    if settings.region is None:
        return ""
    left, top, _, _ = settings.region
    if left < camera[0] and top < camera[1]:
        return ""
    return f"region_of_interest lies outside of the camera's {camera[0]} x {camera[1]} px"


def _calibration_fault(settings: DetectorParameters, camera: tuple[int, int], calibration: CameraModel | None) -> str:
    if calibration is None:
        needed = "undistort needs the camera's calibration, and nothing has come on ~/camera_info"
        return needed if settings.undistort else ""
    if (calibration.width, calibration.height) == camera:
        return ""
    return (
        f"~/camera_info is of {calibration.width} x {calibration.height} px,"
        f" expected the camera's {camera[0]} x {camera[1]}"
    )


def _shape_fault(settings: DetectorParameters, model: ReadyModel, camera: tuple[int, int]) -> str:
    width, height = camera if settings.region is None else settings.region[2:]
    model_width, model_height = model.sensor_behind((width, height))
    ratio = width * model_height / (height * model_width)
    filled = min(ratio, 1 / ratio)
    if filled >= _LEAST_FILL:
        return ""
    return (
        f"{width} x {height} px fill only {filled:.0%} of the model's {model_width} x {model_height} px:"
        " a region_of_interest of its shape shows objects larger"
    )
