"""Changes to a recording that leave its class as it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aegnn_core.events.array import EVENT_DTYPE

__all__ = ["Augmentation"]


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
    """

    rotation: float = 15.0
    shear: float = 0.2
    scale: float = 0.15
    shift: float = 0.1
    drop: float = 0.6
    mirror: bool = False
    invert: bool = False

    def __call__(self, events: np.ndarray, sensor: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Changed events, those that are still on the ``sensor`` (width, height) [px], in the same order.

        Coordinates are rounded to pixels after the change, so two pixels may become one.
        """
        events = events[rng.random(len(events)) >= rng.uniform(0, self.drop)]
        side = np.array(sensor)
        matrix, shift = self._draw_map(rng)
        middle = (side - 1) / 2
        place = np.stack([events["x"], events["y"]]) - middle[:, None]
        place = np.rint(matrix @ place + (middle + shift * side)[:, None]).astype(np.int64)
        inside = ((place >= 0) & (place < side[:, None])).all(0)
        changed = np.empty(np.count_nonzero(inside), EVENT_DTYPE)
        changed["t"], changed["p"] = events["t"][inside], events["p"][inside]
        changed["x"], changed["y"] = place[:, inside]
        if self.invert and rng.random() < 0.5:
            changed["p"] = 1 - changed["p"]
        return changed

    def _draw_map(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A matrix ``[2, 2]`` about the middle and a shift ``[2]`` as shares of the sensor's sides."""
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        shear = np.array([[1, rng.uniform(-self.shear, self.shear)], [0, 1]])
        scale = np.exp(rng.uniform(-self.scale, self.scale, 2))
        if self.mirror and rng.random() < 0.5:
            scale[0] = -scale[0]
        return rotation @ shear @ np.diag(scale), rng.uniform(-self.shift, self.shift, 2)
