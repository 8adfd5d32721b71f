# SPDX-License-Identifier: Apache-2.0
"""Filters: pure functions from event array to event array, each keeping the order of the events."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aegnn_core.events.array import LONGEST_STREAM_US, check_events, check_pixel_state
from aegnn_core.machine_code import kernel

__all__ = [
    "PixelRateLimit",
    "background_activity",
    "every_nth",
    "hot_pixels",
    "refractory_period",
    "refractory_state",
    "region_of_interest",
    "remove_pixels",
    "rescale",
]

#: Time [µs] of an event that never was, earlier than any other.
_NEVER = np.int64(-(2**62))


def every_nth(events: np.ndarray, n: int, phase: int = 0) -> np.ndarray:
    """Keep every ``n``-th event.

    Args:
        events: array ``[N]``.
        n: 1 keeps all.
        phase: how many events to skip before the first one kept, 0 to ``n - 1``. To go on with the stream's next packet
            use ``(phase - len(events)) % n``.

    Returns:
        View of ``events``.
    """
    if n < 1 or not 0 <= phase < n:
        raise ValueError(f"every_nth: n is {n} and phase {phase}, expected n >= 1 and 0 <= phase < n")
    return events[phase::n]


def refractory_state(width: int, height: int) -> np.ndarray:
    """Times [µs] of the last event kept per pixel, int64 ``[height, width]``, before the first event."""
    return np.full((height, width), _NEVER)


@kernel
def refractory_mask(t: np.ndarray, x: np.ndarray, y: np.ndarray, period_us: int, last_kept: np.ndarray) -> np.ndarray:
    """Mark the events that come ``period_us`` or more after the last one kept at their pixel; update ``last_kept``."""
    keep = np.empty(len(t), np.bool_)
    for i in range(len(t)):
        keep[i] = t[i] - last_kept[y[i], x[i]] >= period_us
        if keep[i]:
            last_kept[y[i], x[i]] = t[i]
    return keep


def _marked(
    mask: Callable[..., np.ndarray],
    name: str,
    events: np.ndarray,
    period_us: int,
    width: int,
    height: int,
    state: np.ndarray | None,
) -> np.ndarray:
    """The events, checked, that a mask marks by their pixels' last times; it takes t, x, y, period and last times."""
    if not 0 <= period_us <= LONGEST_STREAM_US:
        raise ValueError(f"{name} is {period_us} µs, expected 0 to {LONGEST_STREAM_US}")
    check_events(events, width, height)
    if state is None:
        state = refractory_state(width, height)
    else:
        check_pixel_state(state, width, height, "state")
    t, x, y = (events[name].astype(np.int64) for name in "txy")
    kept: NDArray[np.bool_] = mask(t, x, y, period_us, state)
    return events[kept]


def refractory_period(
    events: np.ndarray, period_us: int, width: int, height: int, state: np.ndarray | None = None
) -> np.ndarray:
    """Drop events that come less than ``period_us`` after the last one kept at the same pixel, of either polarity.

    Args:
        events: structured array ``[N]`` in time order.
        period_us: dead time of a pixel [µs].
        width: sensor width [px].
        height: sensor height [px].
        state: from :func:`refractory_state`; updated, so that the next packet goes on where this one ended.

    Raises:
        ValueError: the events are not in order or not on the sensor, the period is negative, or the state is of another
            sensor.
    """
    return _marked(refractory_mask, "refractory period", events, period_us, width, height, state)


@kernel
def supported_mask(t: np.ndarray, x: np.ndarray, y: np.ndarray, period_us: int, last: np.ndarray) -> np.ndarray:
    """Mark the events that one at a neighbouring pixel precedes by at most ``period_us``; update ``last``."""
    height, width = last.shape
    keep = np.zeros(len(t), np.bool_)
    for i in range(len(t)):
        for row in range(max(0, y[i] - 1), min(height, y[i] + 2)):
            for column in range(max(0, x[i] - 1), min(width, x[i] + 2)):
                if (row != y[i] or column != x[i]) and t[i] - last[row, column] <= period_us:
                    keep[i] = True
        last[y[i], x[i]] = t[i]
    return keep


def background_activity(
    events: np.ndarray, period_us: int, width: int, height: int, state: np.ndarray | None = None
) -> np.ndarray:
    """Drop events that no event at one of the eight pixels around precedes within a time (Delbruck, 2008).

    What moves fires many pixels beside each other; noise of a dark sensor, and a pixel that fires all the time, do not.

    Args:
        events: structured array ``[N]`` in time order.
        period_us: how long an event supports those around it [µs].
        width: sensor width [px].
        height: sensor height [px].
        state: from :func:`refractory_state`; updated, so that the next packet goes on where this one ended.

    Raises:
        ValueError: the events are not in order or not on the sensor, the period is negative, or the state is of another
            sensor.
    """
    return _marked(supported_mask, "background activity period", events, period_us, width, height, state)


@kernel
def _cool_mask(
    t: np.ndarray, x: np.ndarray, y: np.ndarray, most: int, began: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Mark the events that are not beyond the ``most`` of their pixel in its second; update both states."""
    keep = np.empty(len(t), np.bool_)
    for i in range(len(t)):
        if t[i] - began[y[i], x[i]] >= 1_000_000:
            began[y[i], x[i]], counts[y[i], x[i]] = t[i], 0
        counts[y[i], x[i]] += 1
        keep[i] = counts[y[i], x[i]] <= most
    return keep


class PixelRateLimit:
    """Takes the events of pixels that fire too often out of a stream: hot pixels, and flicker.

    Seconds begin with a pixel's first event; of each, the first ``max_rate_hz`` events of the pixel are kept.

    Args:
        max_rate_hz: most events per pixel and second.
        width: sensor width [px].
        height: sensor height [px].

    Raises:
        ValueError: no positive rate.
    """

    def __init__(self, max_rate_hz: int, width: int, height: int) -> None:
        if not max_rate_hz >= 1:
            raise ValueError(f"the highest rate of a pixel is {max_rate_hz} Hz, expected 1 or more")
        self.max_rate_hz = max_rate_hz
        self._began = refractory_state(width, height)
        self._counts = np.zeros((height, width), np.int64)

    def __call__(self, events: np.ndarray) -> np.ndarray:
        """The events ``[N]`` of the next packet without those that are too many."""
        check_events(events, self._counts.shape[1], self._counts.shape[0])
        t, x, y = (events[name].astype(np.int64) for name in "txy")
        kept: NDArray[np.bool_] = _cool_mask(t, x, y, self.max_rate_hz, self._began, self._counts)
        return events[kept]


def region_of_interest(events: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    """Keep the events of a rectangle and move its upper left corner to the origin: a stream of a smaller sensor.

    Args:
        events: structured array ``[N]``.
        x: left column of the rectangle [px].
        y: upper row of the rectangle [px].
        width: columns [px].
        height: rows [px].

    Returns:
        Copy with coordinates below ``width`` and ``height``.
    """
    if not (x >= 0 and y >= 0 and width >= 1 and height >= 1):
        raise ValueError(
            f"region of interest is {width} x {height} px at ({x}, {y}), expected a positive size at (0, 0) or beyond"
        )
    # Compared in int64, since subtracting from uint16 would wrap.
    column = events["x"].astype(np.int64) - x
    row = events["y"].astype(np.int64) - y
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    region = events[inside]
    region["x"] = column[inside]
    region["y"] = row[inside]
    return region


def hot_pixels(events: np.ndarray, width: int, height: int, max_rate_hz: float) -> np.ndarray:
    """Find pixels that fire more often than ``max_rate_hz`` on average between the first event and the last.

    Args:
        events: structured array ``[N]`` in time order, of a recording long enough for a pixel's mean rate to say
            something: a second or more.
        width: sensor width [px].
        height: sensor height [px].
        max_rate_hz: highest rate of a healthy pixel [events per second].

    Returns:
        Boolean mask ``[height, width]``, true where hot; see :func:`remove_pixels`.

    Raises:
        ValueError: the events are not in order, not on the sensor, or all at one time, or the rate is negative.
    """
    if not max_rate_hz >= 0:
        raise ValueError(f"hot_pixels: the highest rate is {max_rate_hz} Hz, expected 0 or more")
    check_events(events, width, height)
    if len(events) == 0:
        return np.zeros((height, width), bool)
    duration_us = int(events["t"][-1]) - int(events["t"][0])
    if duration_us == 0:
        raise ValueError(f"hot_pixels: all {len(events)} events are at {events['t'][0]} µs, expected a time span")
    pixel = events["y"].astype(np.int64) * width + events["x"]
    counts = np.bincount(pixel, minlength=width * height).reshape(height, width)
    return counts > max_rate_hz * (duration_us * 1e-6)


def remove_pixels(events: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Drop the events of the pixels where a mask is true.

    Args:
        events: structured array ``[N]`` in time order.
        mask: ``[height, width]``, of bool, or of numbers that are true where they are not 0, as in a black and white
            image.

    Raises:
        ValueError: the mask has no such shape, or the events are not in order or not on its sensor.
    """
    if mask.ndim != 2:
        raise ValueError(f"remove_pixels: expected a mask [height, width], found an array {mask.dtype} {mask.shape}")
    check_events(events, mask.shape[1], mask.shape[0])
    kept: NDArray[np.bool_] = mask[events["y"], events["x"]] == 0
    return events[kept]


def rescale(events: np.ndarray, from_size: tuple[int, int], to_size: tuple[int, int]) -> np.ndarray:
    """Map the pixels of one sensor onto another, ``x * W2 // W1``, for a model trained on another sensor.

    Every event is kept: on a smaller sensor several pixels share one, so thin with :func:`refractory_period` after it.

    Args:
        events: structured array ``[N]``.
        from_size: width and height [px] of the events' sensor.
        to_size: width and height [px] wanted.

    Returns:
        ``events`` itself when the sizes are equal, otherwise a copy.
    """
    if not all(1 <= side <= 1 << 16 for side in (*from_size, *to_size)):
        raise ValueError(f"rescale: sensor sizes are {from_size} and {to_size} px, expected sides of 1 to 65536 px")
    if tuple(from_size) == tuple(to_size):
        return events
    check_events(events, *from_size)
    scaled = events.copy()
    for name, old, new in zip("xy", from_size, to_size, strict=True):
        scaled[name] = events[name].astype(np.int64) * new // old
    return scaled
