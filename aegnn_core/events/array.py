# SPDX-License-Identifier: Apache-2.0
"""The event array: one structured NumPy array that every reader returns and every consumer takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aegnn_core.machine_code import kernel

__all__ = [
    "EVENT_DTYPE",
    "LONGEST_STREAM_US",
    "EventFormatError",
    "EventStream",
    "check_events",
    "check_pixel_state",
    "make_events",
    "too_long",
]

#: One event: t [µs, sensor time], x and y [px, origin at the upper left], p [1 = ON (brighter), 0 = OFF].
EVENT_DTYPE = np.dtype([("t", np.int64), ("x", np.uint16), ("y", np.uint16), ("p", np.uint8)])


#: Longest time between two events of a stream [µs]: up to there, float64 holds every difference exactly.
LONGEST_STREAM_US = 1 << 53

#: Larger than any coordinate.
_ANY_SIZE = 1 << 16


#: Characters of an error's message.
_LONGEST_MESSAGE = 1_600


class EventFormatError(ValueError):
    """A recording or packet does not follow its format; the message names the input, what was found and expected.

    What was found can be the text of a damaged file, of any length: the middle of a long message is left out.
    """

    def __init__(self, message: str) -> None:
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[: _LONGEST_MESSAGE // 2]} … {message[-_LONGEST_MESSAGE // 4 :]}"
        super().__init__(message)


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


def make_events(t: np.ndarray, x: np.ndarray, y: np.ndarray, p: np.ndarray, *, source: str = "events") -> np.ndarray:
    """Put four columns of equal length ``[N]`` into one structured array of :data:`EVENT_DTYPE`.

    Args:
        t: times [µs]; their order is not looked at. A fraction is cut off, as NumPy does.
        x, y: pixels.
        p: polarities: 1 is ON, 0 and -1 are OFF.
        source: what the error message calls the input.

    Raises:
        ValueError: a number that is not a time, pixel or polarity, or what is no column of numbers.
    """
    columns = {"t": np.asarray(t), "x": np.asarray(x), "y": np.asarray(y), "p": np.asarray(p)}
    for name, values in columns.items():
        if values.ndim != 1 or values.dtype.kind not in "iubf":
            raise ValueError(f"{source}: {name} must be a column of numbers, found {values.dtype} {values.shape}")
    if len({len(values) for values in columns.values()}) > 1:
        found = [len(values) for values in columns.values()]
        raise ValueError(f"{source}: t, x, y and p must be of one length, found {found}")
    events = np.empty(len(columns["t"]), EVENT_DTYPE)
    for name, values in columns.items():
        if values.dtype != EVENT_DTYPE[name] or name == "p":
            _check_range(name, values, source)
        events[name] = values > 0 if name == "p" else values
    return events


@kernel
def _is_faultless(events: np.ndarray, width: int, height: int) -> bool:
    """Whether events of :data:`EVENT_DTYPE` are in time order, not too long, on the sensor and of polarity 0 or 1."""
    if len(events) == 0:
        return True
    before = events[0]["t"]
    # As unsigned numbers, the difference is right over all of the range.
    if np.uint64(events[-1]["t"]) - np.uint64(before) > np.uint64(LONGEST_STREAM_US):
        return False
    for event in events:
        if event["t"] < before or event["x"] >= width or event["y"] >= height or event["p"] > 1:
            return False
        before = event["t"]
    return True


def _is_one_faultless(events: np.ndarray, width: int, height: int) -> bool:
    """:func:`_is_faultless` for a single event, for which calling compiled code takes longer than the check."""
    event: tuple[int, int, int, int] = events.item()
    _, x, y, p = event
    return x < width and y < height and p <= 1


def check_events(
    events: np.ndarray, width: int | None = None, height: int | None = None, source: str = "events"
) -> np.ndarray:
    """The events as an array of :data:`EVENT_DTYPE`, if they are in time order and lie on the sensor.

    All events enter the package through this check, so that they mean the same everywhere.

    Args:
        events: any one-dimensional structured array with integer fields t [µs], x, y [px] and p: 1 is ON, 0 and -1 are
            OFF.
        width: sensor width [px]; not checked when None.
        height: sensor height [px]; not checked when None.
        source: what the error message calls the input.

    Returns:
        ``events`` itself if it has that type and is contiguous and writeable, otherwise a copy.

    Raises:
        ValueError: anything else; the message says what was found.
    """
    columns = _ANY_SIZE if width is None or width > _ANY_SIZE else width
    rows = _ANY_SIZE if height is None or height > _ANY_SIZE else height
    if (
        type(events) is np.ndarray
        and events.dtype == EVENT_DTYPE
        and events.ndim == 1
        and events.flags.carray  # contiguous and writeable
        and (_is_one_faultless if len(events) == 1 else _is_faultless)(events, columns, rows)
    ):
        return events
    names = getattr(getattr(events, "dtype", None), "names", None)
    if names is None or not set("txyp") <= set(names) or events.ndim != 1:
        found = f"an array {events.dtype} {events.shape}" if isinstance(events, np.ndarray) else type(events).__name__
        raise ValueError(f"{source}: expected a one-dimensional structured array with fields t, x, y, p, found {found}")
    for name in "txyp":
        if events.dtype[name].kind not in "iub":
            raise ValueError(f"{source}: field {name} must be an integer, found {events.dtype[name]}")
        _check_range(name, events[name], source)
    for name, size in (("x", width), ("y", height)):
        if size is not None and len(events) and events[name].max() >= size:
            raise ValueError(f"{source}: {name} must be below the sensor's {size} px, found {events[name].max()}")
    taken = make_events(*(events[name] for name in "txyp"))
    t = taken["t"]
    late = np.flatnonzero(t[1:] < t[:-1])
    if len(late):
        k = int(late[0]) + 1
        raise ValueError(
            f"{source}: events must be in time order, but event {k} at {t[k]} µs follows {t[k - 1]} µs"
            f" ({len(late)} such steps)"
        )
    if len(t) and int(t[-1]) - int(t[0]) > LONGEST_STREAM_US:
        raise ValueError(f"{source}: {too_long(int(t[0]), int(t[-1]))}")
    return taken


def check_pixel_state(state: np.ndarray, width: int, height: int, name: str) -> None:
    """Check what compiled code is to read and update, as it looks at no bounds.

    Args:
        state: one number per pixel, int64 ``[height, width]``.
        width: sensor width [px].
        height: sensor height [px].
        name: what the error message calls the state.

    Raises:
        ValueError: another type or shape, or an array that cannot be written to.
    """
    is_array = isinstance(state, np.ndarray)
    if is_array and state.dtype == np.int64 and state.shape == (height, width) and state.flags.writeable:
        return
    kind = "array" if not is_array or state.flags.writeable else "read-only array"
    found = f"{kind} {state.dtype} {state.shape}" if is_array else type(state).__name__
    raise ValueError(f"{name}: expected a writeable array int64 {(height, width)}, found {found}")


def too_long(first: int, last: int) -> str:
    """What is wrong with a stream from ``first`` to ``last`` [µs]."""
    return (
        f"a stream may last {LONGEST_STREAM_US} µs (285 years), found one that began at {first} µs and goes on at"
        f" {last} µs"
    )


#: The least and the largest value of every field, and what to say of others.
_RANGES = {
    "t": (-(2**63), 2**63 - 1, "t must be a time of 64 bits"),
    "x": (0, _ANY_SIZE - 1, "x must be a pixel of 16 bits"),
    "y": (0, _ANY_SIZE - 1, "y must be a pixel of 16 bits"),
    "p": (-1, 1, "polarity must be 1 for ON, 0 or -1 for OFF"),
}


def _check_range(name: str, values: np.ndarray, source: str) -> None:
    """Raise ``ValueError`` unless all values of a field are what it can hold."""
    if not values.size:
        return
    least, largest, rule = _RANGES[name]
    low, high = values.min().item(), values.max().item()
    if not (low >= least and high <= largest):  # not a number, too
        if name in "xy" and low < least:
            raise ValueError(f"{source}: {name} must not be negative, found {low}")
        found = low if low < least else high
        raise ValueError(f"{source}: {rule}, found {found}")
    if name == "p" and values.dtype.kind == "f" and not np.isin(values, (-1, 0, 1)).all():
        raise ValueError(f"{source}: {rule}, found {values[~np.isin(values, (-1, 0, 1))][0]}")
