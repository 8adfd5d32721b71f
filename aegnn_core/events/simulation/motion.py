# SPDX-License-Identifier: Apache-2.0
"""How the camera and the objects of a simulated scene move: closed-form functions of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aegnn_core.events.simulation.shapes import Look

__all__ = ["Actor", "Camera", "crossing_times"]


@dataclass(frozen=True)
class Camera:
    """Motion of what is far away, seen from a camera that pans, shakes, rolls and zooms a little.

    Attributes:
        drift: steady motion of the backdrop ``[2]`` [px/s].
        sway: amplitude x, amplitude y [px], frequency [Hz], phase x, phase y [rad] of each oscillation ``[K, 5]``.
        roll: amplitude [rad], frequency [Hz], phase [rad].
        zoom: amplitude, frequency [Hz], phase [rad] of the logarithm of the magnification.
    """

    drift: np.ndarray
    sway: np.ndarray
    roll: tuple[float, float, float]
    zoom: tuple[float, float, float]

    def shift(self, t_us: np.ndarray) -> np.ndarray:
        """Bounded displacement ``[T, 2]`` [px] of everything in view, from panning to and fro and from shaking."""
        angle = 2e-6 * np.pi * np.multiply.outer(t_us, self.sway[:, 2])
        x = np.sin(angle + self.sway[:, 3]) @ self.sway[:, 0]
        y = np.sin(angle + self.sway[:, 4]) @ self.sway[:, 1]
        return np.stack([x, y], axis=-1)

    def backdrop(self, t_us: np.ndarray, width: int, height: int) -> np.ndarray:
        """Map pixels to texels: ``[T, 2, 3]``, one texel for a pixel at zoom 0, about the centre of the sensor."""
        pan = self.drift * (t_us[:, None] * 1e-6) + self.shift(t_us)
        angle, scale = _wave(self.roll, t_us), np.exp(-_wave(self.zoom, t_us))
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        x, y = 0.5 * (width - 1), 0.5 * (height - 1)
        rows = [
            (cosine, sine, x - pan[:, 0] - cosine * x - sine * y),
            (-sine, cosine, y - pan[:, 1] + sine * x - cosine * y),
        ]
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=1)


def _wave(wave: tuple[float, float, float], t_us: np.ndarray) -> np.ndarray:
    amplitude, frequency, phase = wave
    return amplitude * np.sin(2e-6 * np.pi * frequency * t_us + phase)


@dataclass(frozen=True)
class Actor:
    """One object on its way through the scene.

    Attributes:
        look: its polygons.
        class_id: index into the classes of the scene; -1 for clutter.
        track_id: number of the object in its scene.
        depth: objects with less depth are in front.
        size: length of the look's unit [px], in the middle of growing and shrinking.
        growth: amplitude of the logarithm of the size, frequency [Hz], phase [rad]: coming closer and going away.
        facing: 1 when it looks to the right, -1 to the left.
        tilt: constant rotation [rad].
        point: where its ground point passes at ``time_us`` ``[2]`` [px].
        time_us: see ``point`` [µs].
        velocity: ``[2]`` [px/s].
        phase: phase of its gait at time 0 [rad].
        texels: texels per unit of the look.
        enter_us: before this time it is out of view [µs].
        leave_us: after this time it is out of view [µs].
    """

    look: Look
    class_id: int
    track_id: int
    depth: float
    size: float
    growth: tuple[float, float, float]
    facing: int
    tilt: float
    point: np.ndarray
    time_us: float
    velocity: np.ndarray
    phase: float
    texels: float
    enter_us: float
    leave_us: float

    def pose(self, t_us: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place the look on the sensor.

        Args:
            t_us: times ``[T]`` [µs].
            shift: displacement by the camera ``[T, 2]`` [px].

        Returns:
            Vertices x, y, radius ``[T, V, 3]`` [px] and texture coordinates ``[T, P, 2, 3]`` for ``paint_polygons``.
        """
        look = self.look
        seconds = t_us * 1e-6
        size = self.size * np.exp(_wave(self.growth, t_us))
        ground = self.point + np.multiply.outer((t_us - self.time_us) * 1e-6, self.velocity) + shift
        rate = 2 * np.pi * look.cadence_hz if look.cadence_hz else float(np.hypot(*self.velocity)) / self.size
        cosine, sine, x, y = _bone_transforms(look.bones, self.phase + rate * seconds)
        # Size, tilt and facing are one more transform on top of the skeleton's.
        a, b = size * np.cos(self.tilt), size * np.sin(self.tilt)
        flip = self.facing
        xx, xy = flip * a * cosine - b * sine, -flip * a * sine - b * cosine
        yx, yy = flip * b * cosine + a * sine, -flip * b * sine + a * cosine
        left, top = flip * a * x - b * y + ground[:, 0], flip * b * x + a * y + ground[:, 1]

        owner = np.repeat(look.bone, np.diff(look.starts))
        u, v, radius = look.vertices.T[:, :, None]
        vertices = np.empty((len(t_us), len(owner), 3))
        vertices[:, :, 0] = (xx[owner] * u + xy[owner] * v + left[owner]).T
        vertices[:, :, 1] = (yx[owner] * u + yy[owner] * v + top[owner]).T
        vertices[:, :, 2] = (radius * size).T

        # The inverse of each bone's transform, in texels. Its determinant is flip * size^2.
        gain = self.texels * flip / size**2
        rows = np.stack([gain * yy, -gain * xy, -gain * yx, gain * xx], axis=-1).reshape(*xx.shape, 2, 2)
        offset = -np.einsum("btij,jbt->bti", rows, np.stack([left, top]))
        frames = np.concatenate([rows, offset[..., None]], axis=-1)
        return vertices, np.ascontiguousarray(frames[look.bone].swapaxes(0, 1))


def _bone_transforms(bones: np.ndarray, phase: np.ndarray) -> tuple[np.ndarray, ...]:
    """Cosine, sine, x and y ``[B, T]`` of each bone's motion at the gait phases ``[T]``."""
    cosine, sine, x, y = (np.zeros((len(bones), len(phase))) for _ in range(4))
    cosine[0] = 1.0
    for k, (parent, pivot_x, pivot_y, offset, swing, shift, turn) in enumerate(bones[1:], 1):
        angle = offset + swing * np.sin(phase + shift) + turn * phase
        c, s, up = np.cos(angle), np.sin(angle), int(parent)
        dx, dy = pivot_x - c * pivot_x + s * pivot_y, pivot_y - s * pivot_x - c * pivot_y
        cosine[k], sine[k] = cosine[up] * c - sine[up] * s, sine[up] * c + cosine[up] * s
        x[k] = x[up] + cosine[up] * dx - sine[up] * dy
        y[k] = y[up] + sine[up] * dx + cosine[up] * dy
    return cosine, sine, x, y


def crossing_times(point: np.ndarray, velocity: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """When a point that is at ``point`` at time 0 enters and leaves the rectangle from ``low`` to ``high`` [s].

    The point must be in the rectangle at time 0 and must move.
    """
    with np.errstate(divide="ignore"):
        ends = np.sort(np.stack([(low - point) / velocity, (high - point) / velocity]), axis=0)
    return float(ends[0].max()), float(ends[1].min())
