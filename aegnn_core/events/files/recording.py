"""From decoded events to an event stream: what all file readers check and report in the same words."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from aegnn_core.events.array import EventFormatError, EventStream, check_events
from aegnn_core.events.decoders import DecoderCounts
from aegnn_core.events.time_order import TimeJumpError, in_time_order

__all__ = ["Size", "camera_stream", "checked_stream", "drop_outside", "first_known"]

#: Width and height [px], None where not known.
Size = tuple[int | None, int | None]


def first_known(asked: Size, stated: Size) -> Size:
    """What the caller asked for, otherwise what the file states."""
    return stated[0] if asked[0] is None else asked[0], stated[1] if asked[1] is None else asked[1]


def checked_stream(path: Path, events: np.ndarray, size: Size) -> EventStream:
    """Make a stream of events that must be flawless: the formats that store arrays.

    Args:
        path: the recording, for messages.
        events: array of ``EVENT_DTYPE``.
        size: sensor size; the largest coordinate plus one where None.

    Raises:
        EventFormatError: no events, not in time order, or not on the sensor.
    """
    if len(events) == 0:
        raise EventFormatError(f"{path}: holds no events, expected at least one")
    width, height = (
        int(events[name].max()) + 1 if side is None else side for name, side in zip("xy", size, strict=True)
    )
    try:
        check_events(events, width, height, source=str(path))
    except ValueError as error:
        raise EventFormatError(str(error)) from error
    return EventStream(events, width, height)


def camera_stream(path: Path, events: np.ndarray, counts: DecoderCounts, size: Size) -> EventStream:
    """Make a stream of events as a camera sent them.

    What the decoder left out, and steps back in time within a camera's disorder, are reported in one warning.

    Raises:
        EventFormatError: no events, or time jumps back further than a camera's disorder.
    """
    flaws = [counts.describe_malformed()] if counts.malformed else []
    if len(events) == 0:
        found = ", ".join([*flaws, *([f"triggers: {counts.triggers}"] if counts.triggers else [])]) or "nothing"
        raise EventFormatError(f"{path}: holds no events, found {found}, expected at least one event")
    try:
        ordered = in_time_order(events)
    except TimeJumpError as error:
        raise EventFormatError(f"{path}: events must be in time order: {error}") from error
    if ordered is not events:
        late = np.count_nonzero(ordered["t"] != events["t"])
        flaws.append(f"late events, lifted to the time before them: {late}")
    if flaws:
        # Four frames up is who called read_events.
        warnings.warn(f"{path}: {', '.join(flaws)}", stacklevel=4)
    return checked_stream(path, ordered, size)


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
