# SPDX-License-Identifier: Apache-2.0
"""Where a camera's picture lies on the sensor that a model was trained for: scaled, centred, aspect ratio kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

__all__ = ["Letterbox", "read_size"]


@dataclass(frozen=True)
class Letterbox:
    """The camera's picture on the model's sensor, as large as fits there with its aspect ratio kept.

    A pixel of the camera belongs to the one pixel of the model that its centre falls into, found in whole numbers. The
    picture is moved to the middle by whole pixels of the model, so that every pixel of the model gets as many of the
    camera's where the scale is a whole number.

    Args:
        camera: width and height [px] of the sensor that events come from.
        model: width and height [px] of the sensor that they are for.

    Raises:
        ValueError: a size that is not positive, or more than 65 536 px.
    """

    camera: tuple[int, int]
    model: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("camera", "model"):
            size = tuple(int(side) for side in getattr(self, name))
            if len(size) != 2 or not 1 <= min(size) <= max(size) <= 1 << 16:
                raise ValueError(f"the {name}'s sensor is {size}, expected a width and a height of 1 to 65536 px")
            object.__setattr__(self, name, size)

    @property
    def scale(self) -> float:
        """Pixels of the camera along one of the model's; below 1 for a camera that is smaller in both directions."""
        numerator, denominator = self._ratio
        return numerator / denominator

    @property
    def shrinks(self) -> bool:
        """Whether pixels of the camera share pixels of the model."""
        numerator, denominator = self._ratio
        return numerator > denominator

    @property
    def offset(self) -> tuple[int, int]:
        """Columns and rows of the model's sensor before the picture begins [px]."""
        numerator, denominator = self._ratio
        left, top = (
            (model * numerator - camera * denominator) // (2 * numerator)
            for camera, model in zip(self.camera, self.model, strict=True)
        )
        return left, top

    @property
    def columns(self) -> np.ndarray:
        """The model's column of every column of the camera, int64 ``[camera width]``."""
        return self._along(0)

    @property
    def rows(self) -> np.ndarray:
        """The model's row of every row of the camera, int64 ``[camera height]``."""
        return self._along(1)

    @property
    def pixels(self) -> np.ndarray:
        """How many pixels of the camera each pixel of the model has, int64 ``[model height, model width]``."""
        across = np.bincount(self.columns, minlength=self.model[0])
        return np.bincount(self.rows, minlength=self.model[1])[:, None] * across

    def to_camera(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes of the model's sensor in the camera's pixels, clipped at the camera's picture.

        Args:
            boxes: structured array ``[N]`` with x, y (upper left corner), w and h [px] among its fields.

        Returns:
            A copy.
        """
        found = boxes.copy()
        for (position, length), size, offset in zip((("x", "w"), ("y", "h")), self.camera, self.offset, strict=True):
            low = (boxes[position].astype(np.float64) - offset) * self.scale
            high = low + boxes[length].astype(np.float64) * self.scale
            low, high = (np.minimum(np.maximum(side, 0), size) for side in (low, high))
            found[position], found[length] = low, high - low
        return found

    def to_model(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes of the camera in the model's pixels; the inverse of :meth:`to_camera`, which needs no clipping."""
        found = boxes.copy()
        for (position, length), offset in zip((("x", "w"), ("y", "h")), self.offset, strict=True):
            found[position] = boxes[position].astype(np.float64) / self.scale + offset
            found[length] = boxes[length].astype(np.float64) / self.scale
        return found

    @property
    def _ratio(self) -> tuple[int, int]:
        """Numerator and denominator of the scale: of the direction in which the picture fills the model's sensor."""
        (width, height), (model_width, model_height) = self.camera, self.model
        return (width, model_width) if width * model_height >= height * model_width else (height, model_height)

    def _along(self, axis: int) -> np.ndarray:
        numerator, denominator = self._ratio
        pixel = np.arange(self.camera[axis], dtype=np.int64)
        return (2 * pixel + 1) * denominator // (2 * numerator) + self.offset[axis]

    def __str__(self) -> str:
        camera, model = ("{} x {} px".format(*size) for size in (self.camera, self.model))
        return f"{camera} on {model}, {self.scale:g} px to one"


def read_size(text: str, name: str = "sensor") -> tuple[int, int]:
    """Width and height [px] from a text such as ``640x480``.

    Args:
        text: two whole numbers with an x between them.
        name: what the error message calls it.

    Raises:
        ValueError: anything else.
    """
    found = re.fullmatch(r"\s*(\d{1,5})\s*[xX×]\s*(\d{1,5})\s*", text)
    width, height = map(int, found.groups()) if found else (0, 0)
    if width == 0 or height == 0:
        raise ValueError(
            f"{name} is {repr(text)[:300]}, expected a width and a height of at least 1 px such as 640x480"
        )
    return width, height
