# SPDX-License-Identifier: Apache-2.0
"""A calibrated camera: from pixels to rays of the optical frame, and to pixels of an image without distortion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo

__all__ = ["CameraModel", "corners_of"]

#: Coefficients of the distortion models that ROS has; those that are not given are 0.
_MODELS = {"": 0, "plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}
_ITERATIONS = 20
#: Points of a side of a box that are looked at, since a lens bends sides. With so many, random boxes in 640 x 480 px
#: were right to less than a pixel, for lenses that move the image's corners by up to a third of half the diagonal.
_POINTS = 16


class CameraModel:
    """What a ``sensor_msgs/CameraInfo`` says: intrinsics, distortion, and the matrix of the rectified image.

    Args:
        info: of the whole sensor, without binning.

    Raises:
        ValueError: not calibrated (no focal length), or a distortion model that is not known.
    """

    def __init__(self, info: CameraInfo) -> None:
        self.width, self.height = int(info.width), int(info.height)
        matrix, projection = np.asarray(info.k).reshape(3, 3), np.asarray(info.p).reshape(3, 4)
        self._focal, self._center = matrix[[0, 1], [0, 1]], matrix[:2, 2]
        if not (np.isfinite(matrix).all() and (self._focal > 0).all()):
            raise ValueError(f"camera_info has the focal lengths {self._focal.tolist()}, expected a calibrated camera")
        if info.distortion_model not in _MODELS:
            known = ", ".join(name for name in _MODELS if name)
            raise ValueError(f"camera_info has the distortion model {info.distortion_model!r}, expected one of {known}")
        self._kind = info.distortion_model
        self._coefficients = np.zeros(8)
        given = np.asarray(info.d, float)[: _MODELS[self._kind]]
        self._coefficients[: len(given)] = given
        rectified = projection[:, :3] if projection[0, 0] > 0 else matrix
        self._rotation = np.asarray(info.r).reshape(3, 3) if np.any(info.r) else np.eye(3)
        self._new_focal, self._new_center = rectified[[0, 1], [0, 1]], rectified[:2, 2]

    def rays(self, pixels: np.ndarray) -> NDArray[np.float64]:
        """Where rays through pixels ``[..., 2]`` cross the plane one metre in front of the camera, ``[..., 2]`` [m].

        In the optical frame: x right, y down, z forward. Distortion is taken out.
        """
        seen: NDArray[np.float64] = (np.asarray(pixels, float) - self._center) / self._focal
        if not self._coefficients.any():
            return seen
        return self._without_fisheye(seen) if self._kind == "equidistant" else self._without_lens(seen)

    def rectified(self, boxes: np.ndarray) -> np.ndarray:
        """The smallest boxes in the rectified image that contain these (x, y, w, h [px]); other fields stay."""
        rays = self.rays(_points_of_sides(boxes))
        turned = np.concatenate([rays, np.ones((*rays.shape[:2], 1))], axis=2) @ self._rotation.T
        points = turned[..., :2] / turned[..., 2:] * self._new_focal + self._new_center
        low, high = points.min(1), points.max(1)
        changed = boxes.copy()
        changed["x"], changed["y"] = low.T
        changed["w"], changed["h"] = (high - low).T
        return changed

    def _without_lens(self, seen: np.ndarray) -> np.ndarray:
        """Undo OpenCV's model of a lens by fixed-point iteration."""
        k1, k2, p1, p2, k3, k4, k5, k6 = self._coefficients
        x0, y0 = seen[..., 0], seen[..., 1]
        x, y = x0, y0
        for _ in range(_ITERATIONS):
            r2 = x * x + y * y
            scale = (1 + r2 * (k4 + r2 * (k5 + r2 * k6))) / (1 + r2 * (k1 + r2 * (k2 + r2 * k3)))
            shift_x = 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
            shift_y = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
            x, y = (x0 - shift_x) * scale, (y0 - shift_y) * scale
        return np.stack([x, y], axis=-1)

    def _without_fisheye(self, seen: np.ndarray) -> np.ndarray:
        """Undo Kannala and Brandt's model by Newton's method."""
        k = self._coefficients[:4]
        distorted = np.linalg.norm(seen, axis=-1)
        angle = distorted.copy()
        for _ in range(_ITERATIONS):
            a2 = angle * angle
            value = angle * (1 + a2 * (k[0] + a2 * (k[1] + a2 * (k[2] + a2 * k[3])))) - distorted
            slope = 1 + a2 * (3 * k[0] + a2 * (5 * k[1] + a2 * (7 * k[2] + 9 * a2 * k[3])))
            angle = angle - value / slope
        scale = np.where(distorted > 0, np.tan(angle) / np.where(distorted > 0, distorted, 1), 1)
        return seen * scale[..., None]


def corners_of(boxes: np.ndarray) -> NDArray[np.float64]:
    """The corners ``[N, 4, 2]`` [px] of boxes with x, y, w, h, from the upper left one clockwise."""
    left, top = boxes["x"].astype(float), boxes["y"].astype(float)
    right, bottom = left + boxes["w"], top + boxes["h"]
    columns, rows = (left, right, right, left), (top, top, bottom, bottom)
    return np.stack([np.stack(columns, 1), np.stack(rows, 1)], axis=2)


def _points_of_sides(boxes: np.ndarray) -> NDArray[np.float64]:
    """Points ``[N, P, 2]`` [px] along the sides of boxes, their corners among them."""
    corners = corners_of(boxes)
    sides = np.roll(corners, -1, axis=1) - corners
    points: NDArray[np.float64] = corners[:, :, None] + np.arange(_POINTS)[:, None] / _POINTS * sides[:, :, None]
    return points.reshape(len(boxes), 4 * _POINTS, 2)
