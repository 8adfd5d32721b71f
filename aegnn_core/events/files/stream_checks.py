# SPDX-License-Identifier: Apache-2.0
"""From decoded events to an event stream: what all file readers are asked, check and report in the same words."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aegnn_core.events.array import EVENT_DTYPE, EventFormatError, EventStream, check_events
from aegnn_core.events.decoders import DecoderCounts
from aegnn_core.events.time_order import TimeJumpError, in_time_order

__all__ = [
    "LARGEST_SIDE",
    "MAX_EVENTS",
    "EventChunks",
    "ReadOptions",
    "Reader",
    "Size",
    "camera_stream",
    "checked_stream",
    "drop_outside",
    "first_known",
    "unwrapped",
    "warn_reader",
]

#: Width and height [px], None where not known.
Size = tuple[int | None, int | None]

#: The largest recording that is read unless asked otherwise: 6.5 GB of events.
MAX_EVENTS = 500_000_000

#: Most columns and rows of a sensor: pixels have coordinates of 16 bits.
LARGEST_SIDE = 1 << 16

#: A sensor that large [px], as found from the events, says that their coordinates are not pixels: those of cameras are
#: smaller.
_LARGEST_CAMERA = 1 << 12

#: Of this many events one may be at a time of its own, far from its neighbours, and counts as a fault of that event.
_EVENTS_PER_STRAY = 1000

#: So many damaged times in a row are told from a counter that has started again.
_MOST_DAMAGED = 8

#: The first so many times are damaged, too, where the counter would have waited longer than this [µs] to start again.
_LONGEST_WAIT_US = 1_000_000

_PACKAGE = __name__.rpartition(".")[0]


@dataclass(frozen=True)
class ReadOptions:
    """What the caller of ``read_events`` knows that a recording may not say.

    Attributes:
        width: sensor width [px].
        height: sensor height [px].
        topic: the event topic of a bag that has several.
        stream: the event stream of a file that has several.
        columns: order of the columns of a table, such as ``"txyp"``.
        time_unit: unit of the times of a table or array: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``.
        rows: where rows are counted from: ``"down"`` from the upper edge, ``"up"`` from the lower one.
        max_events: a larger recording is refused.
    """

    width: int | None = None
    height: int | None = None
    topic: str | None = None
    stream: str | None = None
    columns: str | None = None
    time_unit: str | None = None
    rows: str | None = None
    max_events: int = MAX_EVENTS

    @property
    def size(self) -> Size:
        """Width and height [px]."""
        return self.width, self.height

    def check_count(self, path: Path, count: int) -> None:
        """Raise ``EventFormatError`` where a recording states more events than are asked for."""
        if count > self.max_events:
            raise EventFormatError(
                f"{path}: holds {count} events, expected at most {self.max_events}; if the recording is truly that"
                " large, and memory is, read it with max_events="
            )


#: Reads one format.
Reader = Callable[[Path, ReadOptions], EventStream]


class EventChunks:
    """Events as they come out of a file, part by part, up to as many as are asked for."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._path, self._options = path, options
        self._chunks: list[np.ndarray] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, events: np.ndarray) -> None:
        """Keep an array of ``EVENT_DTYPE``; ``EventFormatError`` where there are too many now."""
        self._count += len(events)
        self._options.check_count(self._path, self._count)
        if len(events):
            self._chunks.append(events)

    def together(self) -> np.ndarray:
        """All events as one array."""
        return np.concatenate(self._chunks) if self._chunks else np.empty(0, EVENT_DTYPE)


def warn_reader(message: str) -> None:
    """Warn in the name of whoever called into this package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def first_known(asked: Size, stated: Size) -> Size:
    """What the caller asked for, otherwise what the file states."""
    return stated[0] if asked[0] is None else asked[0], stated[1] if asked[1] is None else asked[1]


def unwrapped(t: np.ndarray, bits: int) -> np.ndarray:
    """Times ``[N]`` [µs] of a counter of so many bits, as int64 that goes on where the counter has started again.

    A step back by more than half the counter's range is a wrap, unless it only takes back a step ahead of that size a
    few events before: those are damaged. So are the few events before the first step back, which have nothing before
    them that they could be ahead of, where the counter would not have started again soon after them.
    """
    counted: NDArray[np.int64] = t.astype(np.int64)
    steps, half = np.diff(counted, prepend=counted[:1]), 1 << (bits - 1)
    number = np.arange(len(counted))
    last_ahead = np.maximum.accumulate(np.where(steps > half, number, -_MOST_DAMAGED - 1))
    known_before = (number > _MOST_DAMAGED) | (steps + (1 << bits) <= _LONGEST_WAIT_US)
    wraps = np.cumsum((steps < -half) & (number - last_ahead > _MOST_DAMAGED) & known_before)
    return counted + (wraps << bits)


def checked_stream(path: Path, events: np.ndarray, size: Size, flaws: list[str] | None = None) -> EventStream:
    """Make a stream of events that lie on the sensor; what is wrong with their times is mended and said in one warning.

    Args:
        path: the recording, for messages.
        events: array of ``EVENT_DTYPE``.
        size: sensor size; the largest coordinate plus one where None.
        flaws: what else the warning has to say.

    Raises:
        EventFormatError: no events, time that jumps back, or events that are not on the sensor.
    """
    flaws = list(flaws or [])
    if len(events) == 0:
        found = f", found {', '.join(flaws)}" if flaws else ""
        raise EventFormatError(f"{path}: holds no events{found}, expected at least one")
    events, late = _ordered(path, events)
    flaws += late + _scaled(events, size)
    if flaws:
        warn_reader(f"{path}: {', '.join(flaws)}")
    width, height = (
        int(events[name].max()) + 1 if side is None else side for name, side in zip("xy", size, strict=True)
    )
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise EventFormatError(f"{path}: sensor size is {width} x {height} px, expected 1 to {LARGEST_SIDE} each")
    try:
        check_events(events, width, height, source=str(path))
    except ValueError as error:
        raise EventFormatError(str(error)) from error
    return EventStream(events, width, height)


def _scaled(events: np.ndarray, size: Size) -> list[str]:
    """What to say of coordinates that are beyond every camera's pixels, where no size is known."""
    x, y = (int(events[name].max()) if side is None else 0 for name, side in zip("xy", size, strict=True))
    if max(x, y) < _LARGEST_CAMERA:
        return []
    return [f"x and y go to {x} and {y}, beyond the pixels of any camera: say the size with width= and height="]


def camera_stream(path: Path, events: np.ndarray, counts: DecoderCounts, size: Size) -> EventStream:
    """Make a stream of events as a camera sent them; what the decoder left out is reported in the one warning.

    Raises:
        EventFormatError: no events, or time jumps back further than a camera's disorder.
    """
    flaws = [counts.describe_malformed()] if counts.malformed else []
    flaws += [counts.describe_lost()] if counts.lost_packets else []
    if len(events) == 0:
        flaws += [f"triggers: {counts.triggers}"] if counts.triggers else []
        flaws += [f"events without time or address: {counts.unplaced_events}"] if counts.unplaced_events else []
        found = ", ".join(flaws) or "nothing"
        raise EventFormatError(f"{path}: holds no events, found {found}, expected at least one event")
    return checked_stream(path, events, size, flaws)


def _ordered(path: Path, events: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The events in time order, and what had to be done for that.

    Events a little late are lifted to the time before them. So are single ones that are far too early; single ones that
    are far too late are left out, since everything behind them would be lifted. More than one of either in a thousand
    is a jump of the clock.
    """
    flaws = []
    stray = np.zeros(0, bool)
    try:
        ordered = in_time_order(events)
    except TimeJumpError as error:
        t = events["t"]
        early = np.maximum.accumulate(t) - t > error.limit
        late = t - np.minimum.accumulate(t[::-1])[::-1] > error.limit
        stray = early if early.sum() <= late.sum() else late
        if stray.sum() > len(events) // _EVENTS_PER_STRAY:
            raise EventFormatError(
                f"{path}: events must be in time order: {error}; if only their order is wrong, sort them by time first"
            ) from error
        if stray is late:
            flaws.append(f"events far ahead of their neighbours, left out: {stray.sum()}")
            events = events[~stray]
            ordered = in_time_order(events)
        else:
            ordered = events.copy()
            ordered["t"] = np.maximum.accumulate(t)
    if ordered is not events:
        lifted = np.count_nonzero(ordered["t"] != events["t"])
        flaws.append(f"late events, lifted to the time before them: {lifted}")
    return ordered, flaws


def drop_outside(events: np.ndarray, size: Size, counts: DecoderCounts) -> np.ndarray:
    """Leave out the events that are not on the sensor, where its size is known, and count them."""
    width, height = size
    inside = np.ones(len(events), bool)
    if width is not None:
        inside &= events["x"] < width
    if height is not None:
        inside &= events["y"] < height
    counts.outside_events += len(events) - int(np.count_nonzero(inside))
    return events if inside.all() else events[inside]
