# SPDX-License-Identifier: Apache-2.0
"""Filters of a camera's events in its own pixels: hot pixels, noise, the region of interest, every n-th event."""

from __future__ import annotations

import numpy as np

from aegnn_core.events.filters import (
    PixelRateLimit,
    background_activity,
    every_nth,
    refractory_state,
    region_of_interest,
)

__all__ = ["CameraFilters", "Region"]

#: Left column and upper row [px], width and height [px] of a part of the sensor.
Region = tuple[int, int, int, int]


class CameraFilters:
    """The filters of one stream and what the events so far have left in them.

    Args:
        region: the part of the sensor that the model looks at; None for all of it.
        nth: keep every n-th event only.

    Attributes:
        region: as above; may be changed.
    """

    def __init__(self, region: Region | None, nth: int) -> None:
        self.region = region
        self._nth, self._phase = nth, 0
        self._noise_filter_us = self._pixel_rate_hz = 0
        self.restart_noise()

    def filter_noise(self, noise_filter_us: int, pixel_rate_hz: int) -> None:
        """Take out noise and hot pixels from now on, see :mod:`aegnn_core.events.filters`; 0 takes nothing out."""
        if (noise_filter_us, pixel_rate_hz) != (self._noise_filter_us, self._pixel_rate_hz):
            self._noise_filter_us, self._pixel_rate_hz = noise_filter_us, pixel_rate_hz
            self.restart_noise()

    def __call__(self, events: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The events ``[N]`` that all filters leave; ``size`` is the camera's width and height [px]."""
        kept = self._without_noise(events, size)
        if self.region is not None:
            kept = region_of_interest(kept, *self.region)
        chosen = every_nth(kept, self._nth, self._phase)
        self._phase = (self._phase - len(kept)) % self._nth
        return chosen

    def view(self, size: tuple[int, int]) -> Region:
        """The part of a sensor of this width and height [px] that the model looks at."""
        if self.region is None:
            return 0, 0, *size
        left, top, width, height = self.region
        return left, top, max(1, min(width, size[0] - left)), max(1, min(height, size[1] - top))

    def restart_noise(self) -> None:
        """Forget which pixels have fired."""
        self._rate_limit: PixelRateLimit | None = None
        self._last_around: np.ndarray | None = None

    def restart_counting(self) -> None:
        """Let the next event be the first one that is kept of every n."""
        self._phase = 0

    def _without_noise(self, events: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        if self._pixel_rate_hz:
            if self._rate_limit is None:
                self._rate_limit = PixelRateLimit(self._pixel_rate_hz, *size)
            events = self._rate_limit(events)
        if self._noise_filter_us and len(events):
            if self._last_around is None:
                self._last_around = refractory_state(*size)
            events = background_activity(events, self._noise_filter_us, *size, self._last_around)
        return events
