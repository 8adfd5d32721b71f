# SPDX-License-Identifier: Apache-2.0
"""Time order across packets: cameras step back a little at times, drivers jump back when they restart."""

from __future__ import annotations

import numpy as np

__all__ = ["MAX_DISORDER_US", "TimeJumpError", "in_time_order"]

#: The furthest [µs] that an intact stream steps back: EVT3's jitter of ten TIME_HIGH steps and a TIME_LOW.
MAX_DISORDER_US = 11 * 4096


class TimeJumpError(ValueError):
    """Sensor time jumps back further than any intact stream: a bag that loops, a driver that restarted.

    Attributes:
        index: the first event of the new time.
        limit: how far time may step back [µs].
    """

    limit = MAX_DISORDER_US

    def __init__(self, index: int, before: int, after: int) -> None:
        super().__init__(
            f"event {index} at {after} µs comes after an event at {before} µs: time jumps back by"
            f" {before - after} µs, expected at most {MAX_DISORDER_US} µs"
        )
        self.index = index


def in_time_order(events: np.ndarray, last_t: int | None = None) -> np.ndarray:
    """Lift late events to the latest time before them, so that times never decrease.

    The order of the events stays the camera's. In contrast to sorting each packet, the result is the same for any split
    of the stream into packets, which the graph rule demands.

    Args:
        events: structured array ``[N]`` with a field t [µs], in the order of arrival.
        last_t: time of the last event of the packet before, as returned from this function; None for the first packet.

    Returns:
        ``events`` itself when it is in order already, otherwise a copy.

    Raises:
        TimeJumpError: time steps back by more than :data:`MAX_DISORDER_US`. The events from ``error.index`` on belong
            to a new time: forget what was built from the old one, and go on with them and ``last_t=None``.
    """
    if len(events) == 0:
        return events
    t = np.ascontiguousarray(events["t"])
    if (last_t is None or t[0] >= last_t) and bool((t[1:] >= t[:-1]).all()):
        return events
    latest = np.maximum.accumulate(t)
    if last_t is not None:
        latest = np.maximum(latest, last_t)
    jumps = np.flatnonzero(latest - t > MAX_DISORDER_US)
    if len(jumps):
        index = int(jumps[0])
        raise TimeJumpError(index, int(latest[index]), int(t[index]))
    ordered = events.copy()
    ordered["t"] = latest
    return ordered
