"""The event array: one structured NumPy array that every reader returns and every consumer takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aegnn_core.machine_code import kernel

__all__ = ["EVENT_DTYPE", "EventFormatError", "EventStream", "check_events", "make_events"]

#: One event: t [µs, sensor time], x and y [px, origin at the upper left], p [1 = ON (brighter), 0 = OFF].
EVENT_DTYPE = np.dtype([("t", np.int64), ("x", np.uint16), ("y", np.uint16), ("p", np.uint8)])


#: Larger than any coordinate.
_ANY_SIZE = 1 << 16


class EventFormatError(ValueError):
    """A recording or packet is not what its format says; the message names the input, what was found and expected."""


@dataclass(frozen=True)
class EventStream:
    """Events of one sensor, in time order.

    Attributes:
        events: structured array ``[N]`` of :data:`EVENT_DTYPE`.
        width: sensor width [px].
        height: sensor height [px].
    """

    events: np.ndarray
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"sensor size is {self.width} x {self.height} px, both must be positive")

    def __len__(self) -> int:
        return len(self.events)

    @property
    def duration(self) -> int:
        """Time between the first and the last event [µs]; 0 for fewer than two events."""
        return int(self.events["t"][-1] - self.events["t"][0]) if len(self.events) else 0

    def __repr__(self) -> str:
        return f"EventStream({len(self)} events, {self.width} x {self.height} px, {self.duration / 1e6:.3f} s)"


def make_events(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Put four columns of equal length ``[N]`` into one structured array of :data:`EVENT_DTYPE`."""
    events = np.empty(len(t), EVENT_DTYPE)
    events["t"], events["x"], events["y"], events["p"] = t, x, y, p
    return events


@kernel
def _is_faultless(events, width, height):
    """Whether events of :data:`EVENT_DTYPE` are in time order, on the sensor and of polarity 0 or 1."""
    before = events[0]["t"] if len(events) else 0
    for event in events:
        if event["t"] < before or event["x"] >= width or event["y"] >= height or event["p"] > 1:
            return False
        before = event["t"]
    return True


def check_events(
    events: np.ndarray, width: int | None = None, height: int | None = None, source: str = "events"
) -> None:
    """Raise ``ValueError`` unless ``events`` has the four fields, is in time order and lies on the sensor.

    Args:
        events: any one-dimensional structured array with integer fields t [µs], x, y [px] and p (0 or 1).
        width: sensor width [px]; not checked when None.
        height: sensor height [px]; not checked when None.
        source: what the error message calls the input.
    """
    if (
        type(events) is np.ndarray
        and events.dtype == EVENT_DTYPE
        and events.ndim == 1
        and events.flags.c_contiguous
        and events.flags.writeable
        and _is_faultless(events, width or _ANY_SIZE, height or _ANY_SIZE)
    ):
        return
    names = getattr(getattr(events, "dtype", None), "names", None)
    if names is None or not set("txyp") <= set(names) or events.ndim != 1:
        found = f"an array {events.dtype} {events.shape}" if isinstance(events, np.ndarray) else type(events).__name__
        raise ValueError(f"{source}: expected a one-dimensional structured array with fields t, x, y, p, found {found}")
    for name in "txyp":
        if events.dtype[name].kind not in "iub":
            raise ValueError(f"{source}: field {name} must be an integer, found {events.dtype[name]}")
    if len(events) == 0:
        return
    t = events["t"]
    if len(events) > 1:
        late = np.flatnonzero(t[1:] < t[:-1])
        if len(late):
            k = int(late[0]) + 1
            raise ValueError(
                f"{source}: events must be in time order, but event {k} at {t[k]} µs follows {t[k - 1]} µs"
                f" ({len(late)} such steps)"
            )
    for name, size in (("x", width), ("y", height)):
        values = events[name]
        if values.dtype.kind == "i" and values.min() < 0:
            raise ValueError(f"{source}: {name} must not be negative, found {values.min()}")
        if size is not None and values.max() >= size:
            raise ValueError(f"{source}: {name} must be below the sensor's {size} px, found {values.max()}")
    if events["p"].max() > 1:
        raise ValueError(f"{source}: polarity must be 0 or 1, found {events['p'].max()}")
