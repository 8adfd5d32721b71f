# SPDX-License-Identifier: Apache-2.0
"""The event camera model: turns log intensity images into events with noise, mismatch and a refractory period.

The model follows ESIM (Rebecq et al., CoRL 2018: reference level per pixel, linear interpolation of log intensity
between two renderings) and v2e (Hu et al., CVPR-W 2021: threshold mismatch, leak and shot noise events).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aegnn_core.events.array import make_events
from aegnn_core.events.filters import refractory_mask
from aegnn_core.machine_code import kernel

__all__ = ["EventSensor", "SensorModel"]

#: No pixel is more sensitive than this [log intensity], whatever its mismatch (v2e uses the same bound).
SMALLEST_THRESHOLD = 0.01


@dataclass(frozen=True)
class SensorModel:
    """Size and imperfections of an event camera.

    Attributes:
        width: sensor width [px].
        height: sensor height [px].
        threshold_on: change of log intensity that makes an ON event.
        threshold_off: change of log intensity that makes an OFF event.
        threshold_mismatch: standard deviation of both thresholds over the pixels [log intensity].
        refractory_us: a pixel is silent for this long after an event [µs].
        leak_rate_hz: ON events that a pixel makes without any change of light [1/s].
        shot_rate_hz: events of random polarity per pixel [1/s], on average over the pixels.
        shot_spread: standard deviation of the logarithm of the pixels' own rates of such events. With 1.5 or 2, a few
            pixels are hot.
    """

    width: int = 160
    height: int = 120
    threshold_on: float = 0.25
    threshold_off: float = 0.25
    threshold_mismatch: float = 0.03
    refractory_us: int = 500
    leak_rate_hz: float = 0.1
    shot_rate_hz: float = 0.3
    shot_spread: float = 0.0

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            if not 1 <= getattr(self, name) <= 65535:
                raise ValueError(f"{name} is {getattr(self, name)} px, expected 1 to 65535")
        for name in ("threshold_on", "threshold_off"):
            if not SMALLEST_THRESHOLD <= getattr(self, name) < float("inf"):
                raise ValueError(
                    f"{name} is {getattr(self, name)}, expected a finite number of at least {SMALLEST_THRESHOLD}"
                )
        for name in ("threshold_mismatch", "refractory_us", "leak_rate_hz", "shot_rate_hz", "shot_spread"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}, expected a finite number that is not negative")


class EventSensor:
    """The state of a :class:`SensorModel` that looks at a sequence of log intensity images.

    Args:
        model: the camera.
        log_intensity: what it sees at first, ``[height, width]`` float32.
        t_us: time of that image [µs].
        rng: source of mismatch and noise.
    """

    def __init__(self, model: SensorModel, log_intensity: np.ndarray, t_us: int, rng: np.random.Generator) -> None:
        self.model = model
        self._check_size(log_intensity)
        shape = log_intensity.shape
        self._rng = rng
        spread = model.threshold_mismatch
        self._on = np.maximum(model.threshold_on + spread * rng.standard_normal(shape), SMALLEST_THRESHOLD)
        self._off = np.maximum(model.threshold_off + spread * rng.standard_normal(shape), SMALLEST_THRESHOLD)
        # The camera has been running: each pixel starts somewhere between its last event and its next one.
        self._reference = log_intensity - (rng.uniform(size=shape) * (self._on + self._off) - self._off)
        self._last = np.full(shape, -(2**62), np.int64)
        # The share of the shot noise that comes from a pixel or one before it.
        self._noisy = None
        if model.shot_spread:
            rates = np.exp(model.shot_spread * rng.standard_normal(model.width * model.height))
            self._noisy = np.cumsum(rates / rates.sum())
        self._image = log_intensity.copy()
        self._t_us = t_us

    def advance(self, log_intensity: np.ndarray, t_us: int) -> np.ndarray:
        """Return the events ``[N]`` (EVENT_DTYPE, in time order) between the last image and this one at ``t_us`` [µs].

        Light changes linearly in between. Of events at equal times, those from light and leak come first, row by row.
        """
        self._check_size(log_intensity)
        model, rng, start = self.model, self._rng, self._t_us
        t, x, y, p = threshold_crossings(
            self._image, log_intensity, start, t_us, self._reference, self._on, self._off, model.leak_rate_hz
        )
        pixels = model.width * model.height
        shots = rng.poisson(model.shot_rate_hz * pixels * (t_us - start) * 1e-6)
        if shots:
            where = self._draw_pixels(shots)
            t = np.concatenate([t, rng.integers(start, t_us, size=shots)])
            x = np.concatenate([x, (where % model.width).astype(np.uint16)])
            y = np.concatenate([y, (where // model.width).astype(np.uint16)])
            p = np.concatenate([p, rng.integers(2, size=shots, dtype=np.uint8)])
        order = np.argsort(t, kind="stable")
        events = make_events(t[order], x[order], y[order], p[order])
        self._image[...] = log_intensity
        self._t_us = t_us
        kept: NDArray[np.bool_] = refractory_mask(
            events["t"], events["x"], events["y"], model.refractory_us, self._last
        )
        return events[kept]

    def _check_size(self, log_intensity: np.ndarray) -> None:
        shape = (self.model.height, self.model.width)
        if log_intensity.shape != shape:
            raise ValueError(f"log intensity has shape {log_intensity.shape}, the sensor expects {shape}")

    def _draw_pixels(self, count: int) -> np.ndarray:
        """The pixels, row by row, that ``count`` events of noise come from."""
        pixels = self.model.width * self.model.height
        if self._noisy is None:
            return self._rng.integers(pixels, size=count)
        return np.minimum(np.searchsorted(self._noisy, self._rng.random(count)), pixels - 1)


@kernel
def threshold_crossings(
    before: np.ndarray,
    after: np.ndarray,
    start_us: int,
    stop_us: int,
    reference: NDArray[np.float64],
    on: np.ndarray,
    off: np.ndarray,
    leak_hz: float,
) -> tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint8]]:
    """Find when each pixel's log intensity leaves the band around its reference level, which then moves to the edge.

    Args:
        before: log intensity ``[H, W]`` at ``start_us``.
        after: log intensity ``[H, W]`` at ``stop_us``.
        start_us: beginning of the interval [µs].
        stop_us: end of the interval [µs].
        reference: level of the last event ``[H, W]`` float64; updated in place.
        on: ON thresholds ``[H, W]``.
        off: OFF thresholds ``[H, W]``.
        leak_hz: the reference sinks by ``on`` this many times a second.

    Returns:
        Columns t [µs, int64, rounded down], x, y [px], p, row by row.
    """
    height, width = before.shape
    seconds = (stop_us - start_us) * 1e-6
    bound = 0
    for y in range(height):
        for x in range(width):
            end = np.float64(after[y, x]) - reference[y, x] + leak_hz * on[y, x] * seconds
            if end >= on[y, x]:
                bound += int(end / on[y, x]) + 1
            elif -end >= off[y, x]:
                bound += int(-end / off[y, x]) + 1
    times = np.empty(bound, np.int64)
    columns = np.empty(bound, np.uint16)
    rows = np.empty(bound, np.uint16)
    polarities = np.empty(bound, np.uint8)
    count = 0
    for y in range(height):
        for x in range(width):
            begin = np.float64(before[y, x]) - reference[y, x]
            leak = leak_hz * on[y, x] * seconds
            end = np.float64(after[y, x]) - reference[y, x] + leak
            reference[y, x] -= leak
            if end == begin:
                continue
            level = 0.0
            polarity = 1 if end > begin else 0
            while end - level >= on[y, x] if polarity else level - end >= off[y, x]:
                level += on[y, x] if polarity else -off[y, x]
                # A level at or before `begin` was due earlier: the event comes at once.
                part = min(max((level - begin) / (end - begin), 0.0), 1.0)
                times[count] = start_us + int(part * (stop_us - start_us))
                columns[count] = x
                rows[count] = y
                polarities[count] = polarity
                count += 1
            reference[y, x] += level
    return times[:count], columns[:count], rows[:count], polarities[:count]
