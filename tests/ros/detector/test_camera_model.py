# SPDX-License-Identifier: Apache-2.0
"""Pixels of a calibrated camera become rays: forward through the lens, by hand, and back."""

from __future__ import annotations

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from aegnn_core.nn.detection import DETECTION_DTYPE
from aegnn_ros.detector.box_messages import MarkerMessages
from aegnn_ros.detector.camera_model import CameraModel

FX, FY, CX, CY = 320.0, 310.0, 170.0, 130.0


def info_of(model: str = "plumb_bob", coefficients: tuple[float, ...] = (), **changed: object) -> CameraInfo:
    matrix = [FX, 0.0, CX, 0.0, FY, CY, 0.0, 0.0, 1.0]
    fields = {"width": 346, "height": 260, "k": matrix, "d": list(coefficients), "distortion_model": model}
    return CameraInfo(**(fields | changed))


def through_the_lens(ray: tuple[float, float], model: str, d: tuple[float, ...]) -> tuple[float, float]:
    """The pixel that sees a ray, after OpenCV's documentation of its camera models."""
    x, y = ray
    r = np.hypot(x, y)
    if model == "equidistant":
        angle = np.arctan(r)
        distorted = angle * (1 + d[0] * angle**2 + d[1] * angle**4 + d[2] * angle**6 + d[3] * angle**8)
        x, y = x * distorted / r, y * distorted / r
    else:
        k1, k2, p1, p2, k3, k4, k5, k6 = (*d, *(0,) * (8 - len(d)))
        radial = (1 + k1 * r**2 + k2 * r**4 + k3 * r**6) / (1 + k4 * r**2 + k5 * r**4 + k6 * r**6)
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (r**2 + 2 * x**2),
            y * radial + p1 * (r**2 + 2 * y**2) + 2 * p2 * x * y,
        )
    return FX * x + CX, FY * y + CY


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("plumb_bob", ()),
        ("plumb_bob", (-0.35, 0.12, 0.002, -0.001, 0.01)),
        ("rational_polynomial", (0.2, -0.1, 0.001, 0.002, 0.01, 0.5, -0.05, 0.02)),
        ("equidistant", (0.05, -0.02, 0.004, -0.001)),
    ],
)
def test_rays_go_back_through_the_lens(model: str, coefficients: tuple[float, ...]) -> None:
    rays = [(x, y) for x in (-0.45, 0.01, 0.3) for y in (-0.35, 0.02, 0.4)]
    pixels = np.array([through_the_lens(ray, model, coefficients) for ray in rays])
    camera = CameraModel(info_of(model, coefficients))
    np.testing.assert_allclose(camera.rays(pixels), rays, atol=1e-7)
    # A box is, in the rectified image, around where a pinhole would see its sides, which bend: the lower one downwards.
    low, high = pixels.min(0), np.array([pixels[:, 0].max(), CY - 40])
    boxes = np.array([(*low, *(high - low), 0.5, 1)], DETECTION_DTYPE)
    rectified = camera.rectified(boxes)[0]
    way = np.linspace(low, high, 500)
    sides = [np.stack([way[:, 0], np.full(500, y)], 1) for y in (low[1], high[1])]
    sides += [np.stack([np.full(500, x), way[:, 1]], 1) for x in (low[0], high[0])]
    seen = camera.rays(np.concatenate(sides)) * (FX, FY) + (CX, CY)
    expected = (*seen.min(0), *np.ptp(seen, axis=0))
    np.testing.assert_allclose([rectified[name] for name in "xywh"], expected, atol=1.0)
    assert (rectified["score"], rectified["class_id"]) == (0.5, 1)
    assert len(camera.rectified(boxes[:0])) == 0


def test_the_rectified_image_has_a_matrix_and_a_rotation_of_its_own() -> None:
    turned = [0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]  # by a quarter, about the view's axis
    projection = [200.0, 0.0, 100.0, 0.0, 0.0, 200.0, 50.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    camera = CameraModel(info_of(r=turned, p=projection))
    box = np.array([(CX, CY, FX / 10, FY / 5, 1, 0)], DETECTION_DTYPE)
    found = camera.rectified(box)[0]
    np.testing.assert_allclose([found[name] for name in "xywh"], (100 - 40, 50, 40, 20), rtol=1e-5)


def test_markers_of_a_calibrated_camera_lie_where_its_rays_go() -> None:
    box = np.array([(CX - FX / 4, CY, FX / 2, FY / 8, 0.5, 0)], DETECTION_DTYPE)
    outline, caption = MarkerMessages().markers(Header(), box, ["car"], [0], 346, 260, CameraModel(info_of()))
    points = [(round(point.x, 6), round(point.y, 6), point.z) for point in outline.points]
    assert points == [(-0.25, 0, 1), (0.25, 0, 1), (0.25, 0.125, 1), (-0.25, 0.125, 1), (-0.25, 0, 1)]
    assert caption.pose.position.x == pytest.approx(0)
    assert caption.pose.position.y < 0


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (CameraInfo(width=346, height=260), r"focal lengths \[0.0, 0.0\], expected a calibrated camera"),
        (info_of("thin_prism"), "distortion model 'thin_prism', expected one of plumb_bob, rational_polynomial, equi"),
    ],
)
def test_what_is_no_calibration_is_said(info: CameraInfo, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CameraModel(info)
