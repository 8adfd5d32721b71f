# SPDX-License-Identifier: Apache-2.0
"""Events on the model's sensor: downsampled from the camera's, and waiting until the network is updated with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aegnn_core.events.downsampling import Downsampler, check_downsampling
from aegnn_core.events.filters import refractory_period, refractory_state
from aegnn_core.events.letterbox import Letterbox
from aegnn_ros.detector.thinning import thin_evenly

__all__ = ["Chosen", "ModelInput"]


@dataclass(frozen=True)
class Chosen:
    """Events for an update of the network.

    Attributes:
        events: structured array ``[N]``.
        thinned: how many others were left out because there was no time for them.
        filtered: how many were left out by the refractory filter.
    """

    events: np.ndarray
    thinned: int
    filtered: int


class ModelInput:
    """What waits for the network.

    Args:
        sensor: width and height of the model's [px].
        downsampling: how events of a camera with more pixels come to it: ``"integrate"`` or ``"coordinates"``.
        refractory_us: drop events that follow another one at the same pixel within this time [µs].

    Raises:
        ValueError: no such way of downsampling.
    """

    def __init__(self, sensor: tuple[int, int], downsampling: str, refractory_us: int) -> None:
        check_downsampling(downsampling)
        self._downsampling, self._refractory_us = downsampling, refractory_us
        self._downsampler: Downsampler | None = None
        self.restart(sensor)

    @property
    def downsampling(self) -> str:
        """How events of a camera with more pixels come to the model's."""
        return self._downsampling

    @downsampling.setter
    def downsampling(self, way: str) -> None:
        check_downsampling(way)
        self._downsampling = way

    @property
    def waiting(self) -> int:
        """How many events wait."""
        return sum(len(events) for events in self._waiting)

    def restart(self, sensor: tuple[int, int]) -> None:
        """Forget what waits and what the model's pixels have seen; the model now has a sensor of this size [px]."""
        self._sensor = sensor
        self._waiting: list[np.ndarray] = []
        self._thinning_phase = 0.0
        self._last_kept = refractory_state(*sensor)
        if self._downsampler is not None:
            self._downsampler.reset()

    def add(self, events: np.ndarray, size: tuple[int, int]) -> int:
        """Downsample events ``[N]`` of a view of this size [px] and let the result wait; returns how many those are."""
        letterbox = Letterbox(size, self._sensor)
        downsampler = self._downsampler
        if downsampler is None or (downsampler.letterbox, downsampler.way) != (letterbox, self._downsampling):
            downsampler = self._downsampler = Downsampler(letterbox, self._downsampling)
        events = downsampler(events)
        if len(events):
            self._waiting.append(events)
        return len(events)

    def take(self, factor: float) -> Chosen:
        """One of ``factor`` of the waiting events, evenly chosen; the others are dropped before they cost anything."""
        waiting, self._waiting = self._waiting, []
        parts = []
        for events in waiting:
            kept, self._thinning_phase = thin_evenly(events, factor, self._thinning_phase)
            parts.append(kept)
        events = parts[0] if len(parts) == 1 else np.concatenate(parts)
        thinned = sum(len(part) for part in waiting) - len(events)
        if not self._refractory_us or not len(events):
            return Chosen(events, thinned, 0)
        kept = refractory_period(events, self._refractory_us, *self._sensor, state=self._last_kept)
        return Chosen(kept, thinned, len(events) - len(kept))
