# SPDX-License-Identifier: Apache-2.0
"""From a camera to a model of another sensor: pixels that integrate, as larger photodiodes would, or coordinates alone.

On a model that was trained for fewer pixels than the camera has, coordinates that are only divided make each pixel fire
as often as all the camera's pixels in it. A pixel that sums up their polarities and fires when the sum has changed by
about as much as there are pixels in it makes the events that a camera with such large pixels would have sent.

How much it has to change follows the camera. A camera that sends few events for its size is not sensitive, or stands
still and sees little: with the threshold of a busy camera, hardly any of its events would be left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aegnn_core.events.array import EVENT_DTYPE, check_events, check_pixel_state, make_events
from aegnn_core.events.letterbox import Letterbox
from aegnn_core.machine_code import kernel

__all__ = [
    "DOWNSAMPLING",
    "INTEGRATION_THRESHOLD",
    "LEAST_THRESHOLD",
    "Downsampler",
    "check_downsampling",
    "integrate",
    "integration_state",
    "integration_thresholds",
    "project",
]

#: The ways from a camera to a smaller model: pixels that integrate, or coordinates alone.
DOWNSAMPLING = ("integrate", "coordinates")

#: Events per pixel of the camera, of one polarity and more than of the other, that make a model's pixel fire. On scenes
#: of 640 x 480 px for a model of 160 x 120 px, three quarters were better than a half or a whole (docs/results.md).
INTEGRATION_THRESHOLD = 0.75

#: The least that it becomes for a camera with few events; it is in proportion to the camera's rate, and reaches three
#: quarters at so many events per pixel and second.
LEAST_THRESHOLD, _FULL_RATE_HZ = 0.25, 6.0

#: The rate is counted over intervals of this length [µs], each of which makes half of the estimate.
_INTERVAL_US = 50_000
_NEWEST_SHARE = 0.5

#: Sums are in this part of an event, so that thresholds need not be whole events.
_PARTS = 256
_LARGEST_THRESHOLD = 1000


def project(events: np.ndarray, letterbox: Letterbox) -> np.ndarray:
    """Give every event the pixel of the model that its own pixel belongs to.

    Args:
        events: structured array ``[N]`` in time order, on the camera's sensor.
        letterbox: from the camera to the model.

    Returns:
        ``events`` itself where the sensors are equal, otherwise a new array ``[N]`` of ``EVENT_DTYPE``.

    Raises:
        ValueError: the events are not in order or not on the camera's sensor.
    """
    check_events(events, *letterbox.camera)
    if letterbox.camera == letterbox.model:
        return events
    return _projected(events, _lookups(letterbox))


@kernel
def _project(events: np.ndarray, column: np.ndarray, row: np.ndarray, projected: np.ndarray) -> None:
    """Write all events to ``projected``, with the columns and rows of the model."""
    for i in range(len(events)):
        event = events[i]
        projected[i]["t"] = event["t"]
        projected[i]["x"] = column[event["x"]]
        projected[i]["y"] = row[event["y"]]
        projected[i]["p"] = event["p"]


def integration_state(letterbox: Letterbox) -> np.ndarray:
    """The sums of all pixels of the model before the first event, int64 ``[model height, model width]``."""
    return np.zeros(letterbox.model[::-1], np.int64)


def integration_thresholds(letterbox: Letterbox, threshold: float = INTEGRATION_THRESHOLD) -> np.ndarray:
    """The sum at which each pixel of the model fires, int64 ``[model height, model width]``, in 1/256 of an event.

    It is in proportion to the number of the camera's pixels there, so that all pixels of the model are as sensitive to
    the same light where the scale is not a whole number; and at least one event, since one event cannot make two.

    Raises:
        ValueError: a threshold that is not from above 0 to 1000.
    """
    _check_threshold(threshold)
    return np.maximum(np.rint(_PARTS * threshold * letterbox.pixels), _PARTS).astype(np.int64)


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold <= _LARGEST_THRESHOLD:
        raise ValueError(
            f"the threshold of downsampling is {threshold} events per pixel, expected more than 0 and at most"
            f" {_LARGEST_THRESHOLD}"
        )


class _Sensitivity(NamedTuple):
    """What the thresholds of an integration follow.

    Attributes:
        thresholds: int64 ``[model height, model width]``, see :func:`integration_thresholds`.
        pixels: of the camera, in each pixel of the model, int64 ``[model height, model width]``.
        interval: int64 ``[4]``: its end [µs] (:data:`_END`), the camera's events in it so far (:data:`_COUNT`), what it
            is (:data:`_PHASE`), and the threshold in force, in 1/256 of an event per pixel (:data:`_IN_FORCE`).
        rate: estimate ``[1]`` of the camera's events per pixel and second.
    """

    thresholds: NDArray[np.int64]
    pixels: NDArray[np.int64]
    interval: NDArray[np.int64]
    rate: NDArray[np.float64]


_END, _COUNT, _PHASE, _IN_FORCE = range(4)
#: No event has come; the first interval, of which the rate is all that will be known; a later one.
_NOT_BEGUN, _FIRST, _LATER = range(3)
_NEVER = np.iinfo(np.int64).max


def _sensitivity(letterbox: Letterbox, threshold: float | None) -> _Sensitivity:
    """Before the first event. A ``threshold`` stays as it is, in an interval without end; None follows the camera."""
    fixed = INTEGRATION_THRESHOLD if threshold is None else threshold
    thresholds = integration_thresholds(letterbox, fixed)
    phase = _NOT_BEGUN if threshold is None else _FIRST
    interval = np.array([_NEVER, 0, phase, _PARTS * fixed], np.int64)
    return _Sensitivity(thresholds, letterbox.pixels.astype(np.int64), interval, np.zeros(1))


@kernel
def _threshold_at(rate_hz: float) -> float:
    """The threshold behind a camera with so many events per pixel and second."""
    return min(max(INTEGRATION_THRESHOLD * rate_hz / _FULL_RATE_HZ, LEAST_THRESHOLD), INTEGRATION_THRESHOLD)


@kernel
def _follow(t: int, sensitivity: _Sensitivity) -> None:
    """End the interval that was over at ``t`` [µs], and any empty ones after it, and set the thresholds."""
    thresholds, pixels, interval, rate = sensitivity
    counted = interval[_COUNT] / (pixels.sum() * _INTERVAL_US * 1e-6)
    empty = (t - interval[_END]) // _INTERVAL_US
    share = 1.0 if interval[_PHASE] == _FIRST else _NEWEST_SHARE
    rate[0] = (rate[0] * (1 - share) + counted * share) * (1 - _NEWEST_SHARE) ** float(empty)
    begin = t - (t - interval[_END]) % _INTERVAL_US
    interval[_END] = min(begin, _NEVER - _INTERVAL_US) + _INTERVAL_US
    interval[_COUNT] = 0
    interval[_PHASE] = _LATER
    parts = int(np.rint(_PARTS * _threshold_at(rate[0])))
    if parts != interval[_IN_FORCE]:
        interval[_IN_FORCE] = parts
        for y in range(thresholds.shape[0]):
            for x in range(thresholds.shape[1]):
                thresholds[y, x] = max(_PARTS, parts * pixels[y, x])


@kernel
def _integrate(
    events: np.ndarray,
    column: np.ndarray,
    row: np.ndarray,
    sensitivity: _Sensitivity,
    sums: NDArray[np.int64],
    fired: np.ndarray,
) -> int:
    """Write an event to ``fired`` whenever a sum passes ± its threshold; returns the number of these events."""
    threshold, interval = sensitivity.thresholds, sensitivity.interval
    if len(events) and interval[_PHASE] == _NOT_BEGUN:
        interval[_END] = min(events[0]["t"], _NEVER - _INTERVAL_US) + _INTERVAL_US
        interval[_PHASE] = _FIRST
    count = first = 0
    while first < len(events):
        if events[first]["t"] >= interval[_END]:
            _follow(events[first]["t"], sensitivity)
        before = np.searchsorted(events[first:]["t"], interval[_END])
        part = events[first : first + max(1, before)]
        interval[_COUNT] += len(part)
        first += len(part)
        for i in range(len(part)):
            event = part[i]
            x = column[event["x"]]
            y = row[event["y"]]
            total = sums[y, x] + (_PARTS if event["p"] else -_PARTS)
            least = threshold[y, x]
            if total >= least or total <= -least:
                fired[count]["t"] = event["t"]
                fired[count]["x"] = x
                fired[count]["y"] = y
                # Where the threshold has fallen, an event against the sum may still leave enough of it.
                fired[count]["p"] = 1 if total > 0 else 0
                count += 1
                total -= least if total > 0 else -least
            sums[y, x] = total
    return count


def integrate(
    events: np.ndarray,
    letterbox: Letterbox,
    threshold: float = INTEGRATION_THRESHOLD,
    sums: np.ndarray | None = None,
) -> np.ndarray:
    """Let each pixel of the model sum up the polarities, ± 1, of its events and fire when the sum is large enough.

    When a sum has passed ± the threshold of its pixel (see :func:`integration_thresholds`), one event of that polarity
    and of the time of the last event comes out, and the threshold is taken off the sum. Where no pixels of the camera
    share one of the model, this is :func:`project`.

    Args:
        events: structured array ``[N]`` in time order, on the camera's sensor; a polarity above 0 is ON.
        letterbox: from the camera to the model.
        threshold: events per pixel of the camera that make one of the model's fire.
        sums: from :func:`integration_state`; updated, so that the next packet goes on where this one ended.

    Returns:
        The model's events in time order, a new array of ``EVENT_DTYPE``, no more than ``events``.

    Raises:
        ValueError: the events are not in order or not on the camera's sensor, the threshold is not positive, or the
            sums are of another sensor.
    """
    if sums is None:
        sums = integration_state(letterbox)
    else:
        check_pixel_state(sums, *letterbox.model, "sums")
    sensitivity = _sensitivity(letterbox, threshold)
    if not letterbox.shrinks:
        return project(events, letterbox)
    check_events(events, *letterbox.camera)
    return _fired(events, _lookups(letterbox), sensitivity, sums)


class Downsampler:
    """Takes a camera's stream to a model's sensor, packet by packet; any division into packets gives the same events.

    Args:
        letterbox: from the camera to the model.
        way: one of :data:`DOWNSAMPLING`. Where no pixels of the camera share one of the model, both are the same.
        threshold: of ``"integrate"``, events per pixel of the camera that make one of the model's fire. None follows
            the camera: three quarters where it sends 6 events per pixel and second or more, in proportion where it
            sends fewer, at least a quarter. The rate is that of the past tenths of a second; at first it is three
            quarters.

    Attributes:
        sums: of the model's pixels so far, see :func:`integrate`; of no pixels where none is summed up.

    Raises:
        ValueError: an unknown way, or a threshold that is not positive.
    """

    def __init__(self, letterbox: Letterbox, way: str = DOWNSAMPLING[0], threshold: float | None = None) -> None:
        check_downsampling(way)
        if threshold is not None:
            _check_threshold(threshold)
        self.letterbox, self.way, self._fixed = letterbox, way, threshold
        self._lookups = _lookups(letterbox)
        self._begin()

    def _begin(self) -> None:
        # Where the model's pixels do not sum up, those of a large sensor need no memory.
        summed = self.way == "integrate" and self.letterbox.shrinks
        self.sums = integration_state(self.letterbox) if summed else np.zeros((0, 0), np.int64)
        self._sensitivity = _sensitivity(self.letterbox, self._fixed) if summed else None

    def __call__(self, events: np.ndarray) -> np.ndarray:
        """The model's events that the stream's next ``events [N]`` make, as :func:`integrate` or :func:`project`."""
        check_events(events, *self.letterbox.camera)
        if self.letterbox.camera == self.letterbox.model:
            return events
        if self._sensitivity is None:
            return _projected(events, self._lookups)
        return _fired(events, self._lookups, self._sensitivity, self.sums)

    @property
    def threshold_rule(self) -> dict[str, float]:
        """By what rule the threshold is chosen: what tells downsampled recordings from those of another version."""
        if self._fixed is not None:
            return {"fixed": self._fixed}
        return {"least": LEAST_THRESHOLD, "most": INTEGRATION_THRESHOLD, "most_from_hz": _FULL_RATE_HZ}

    @property
    def threshold(self) -> float:
        """Events per pixel of the camera that make one of the model's fire now."""
        if self._fixed is not None or self._sensitivity is None:
            return self._fixed or INTEGRATION_THRESHOLD
        return float(self._sensitivity.interval[_IN_FORCE] / _PARTS)

    def reset(self) -> None:
        """Forget the stream so far."""
        del self.sums, self._sensitivity  # first, so that there need not be memory for both
        self._begin()

    def __repr__(self) -> str:
        charged = np.count_nonzero(self.sums)
        return f"Downsampler({self.letterbox}; {self.way}, threshold={self.threshold:g}, charged={charged} px)"


def check_downsampling(way: str) -> None:
    """Raise a ``ValueError`` unless ``way`` is one of :data:`DOWNSAMPLING`."""
    if way not in DOWNSAMPLING:
        raise ValueError(f"unknown downsampling {way!r}, known are {', '.join(DOWNSAMPLING)}")


def _lookups(letterbox: Letterbox) -> tuple[np.ndarray, np.ndarray]:
    return letterbox.columns.astype(np.uint16), letterbox.rows.astype(np.uint16)


def _projected(events: np.ndarray, lookups: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    projected = np.empty(len(events), EVENT_DTYPE)
    _project(_plain(events), *lookups, projected)
    return projected


def _fired(
    events: np.ndarray, lookups: tuple[np.ndarray, np.ndarray], sensitivity: _Sensitivity, sums: np.ndarray
) -> np.ndarray:
    fired = np.empty(len(events), EVENT_DTYPE)
    return fired[: _integrate(_plain(events), *lookups, sensitivity, sums, fired)].copy()


def _plain(events: np.ndarray) -> np.ndarray:
    """The same events in ``EVENT_DTYPE`` and one piece, so that the loops are compiled for one type."""
    if events.dtype != EVENT_DTYPE:
        events = make_events(events["t"], events["x"], events["y"], events["p"] > 0)
    return np.require(events, requirements=["C", "W"])
