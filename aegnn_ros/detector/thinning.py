# SPDX-License-Identifier: Apache-2.0
"""Bounded latency: how many events the network can process in the time available, and an even choice of that many."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["LoadControl", "UpdateCost", "thin_evenly"]

#: Time constant with which the measurements behind the factor fade [s] ...
_MEMORY_S = 0.5
#: ... and that for the cost of an update, which another process can double at once.
_COST_MEMORY_S = 0.1
#: The share of the time that is planned; the rest is for what is not measured, such as other processes.
_PLANNED_SHARE = 0.85
#: While decoding and results alone take nearly all the time, the network still gets this share.
_LEAST_SHARE = 0.05
#: One update takes at most this share of the latency budget, because what arrives meanwhile has to wait for it.
_SHARE_OF_BUDGET = 0.5
#: ... and may take this share, however late it is.
_LEAST_SHARE_OF_BUDGET = 0.1
#: Weight of the expected cost until there is new work to measure [s of work].
_PRIOR_S = 0.005


def thin_evenly(events: np.ndarray, factor: float, phase: float) -> tuple[np.ndarray, float]:
    """Keep one of ``factor`` events, spread evenly over the stream; a whole factor keeps every n-th event.

    Args:
        events: array ``[N]``.
        factor: at least 1, which keeps all.
        phase: how many events to skip before the first one kept, as returned for the packet before; 0 at first.

    Returns:
        The events kept, and the phase of the next packet.
    """
    if factor <= 1.0:
        return events, 0.0
    phase = min(phase, factor)  # a factor that has become smaller does not wait for the larger one's next event
    positions = phase + factor * np.arange(int(len(events) / factor) + 2)  # at least one is beyond the end
    count = int(np.searchsorted(positions, len(events)))
    return events[positions[:count].astype(np.int64)], float(positions[count]) - len(events)


@dataclass(frozen=True)
class UpdateCost:
    """The time that an update of the network takes: a fixed part and a part per event [s]."""

    fixed: float
    per_event: float

    def of(self, events: int) -> float:
        """Time of an update with this many events [s]."""
        return self.fixed + self.per_event * events


class LoadControl:
    """Chooses the factor by which events are thinned, from what decoding, updates and results have taken so far.

    The factor meets two demands. In the long run, all work has to fit into the time that passes. And events that have
    waited have to be processed within the rest of the latency budget. It is 1 if both are met without thinning.

    Args:
        cost: of an update, measured beforehand; only its scale is corrected while the node runs.
    """

    def __init__(self, cost: UpdateCost) -> None:
        self._cost = cost
        self._last: float | None = None
        # All of these fade with time.
        self._elapsed = self._events = self._decoding = self._reading = 0.0
        self._updating = self._expected = _PRIOR_S
        self._readout = 0.0

    def note_decoding(self, seconds: float) -> None:
        """A packet was decoded and filtered in this time [s]."""
        self._decoding += seconds

    def note_update(self, events: int, seconds: float) -> None:
        """The network was updated with so many events in this time [s]."""
        self._updating += seconds
        self._expected += self._cost.of(events)

    def note_readout(self, seconds: float) -> None:
        """A result was made and published in this time [s]."""
        self._reading += seconds
        self._readout = seconds if self._readout == 0.0 else 0.8 * self._readout + 0.2 * seconds

    def factor(self, events: int, waited: float, now: float, max_latency: float) -> float:
        """The factor by which to thin the events of the next update; call it once for each update.

        Args:
            events: their number before thinning.
            waited: how long the oldest of them has been waiting [s].
            now: on a monotonic clock [s].
            max_latency: from a packet's arrival to the end of its update [s].
        """
        self._fade(now)
        self._events += events
        scale = self._scale
        fixed, per_event = scale * self._cost.fixed, scale * self._cost.per_event
        # Under load an update waits for the one before it, which bounds how often their fixed cost has to be paid.
        shares = (self._decoding + self._reading) / self._elapsed + fixed / (_SHARE_OF_BUDGET * max_latency / 2)
        share = max(_PLANNED_SHARE - shares, _LEAST_SHARE)
        in_the_long_run = self._events / self._elapsed * per_event / share

        left = min(_SHARE_OF_BUDGET * max_latency, max_latency - waited) - fixed - self._readout
        in_time = per_event * events / max(left, _LEAST_SHARE_OF_BUDGET * max_latency)
        return max(1.0, in_the_long_run, in_time)

    @property
    def _scale(self) -> float:
        """How much more an update takes than expected."""
        return self._updating / self._expected

    def _fade(self, now: float) -> None:
        if self._last is None:
            # There is nothing to measure yet: treat these events as if they had come within one time constant.
            self._last, self._elapsed = now, _MEMORY_S
            return
        elapsed, self._last = now - self._last, now
        keep = math.exp(-elapsed / _MEMORY_S)
        self._elapsed = keep * self._elapsed + elapsed
        self._events *= keep
        self._decoding *= keep
        self._reading *= keep
        keep = math.exp(-elapsed / _COST_MEMORY_S)
        self._updating = keep * self._updating + (1 - keep) * _PRIOR_S * self._scale
        self._expected = keep * self._expected + (1 - keep) * _PRIOR_S
