"""Columns of any integer kind into one event array, or the reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aegnn_core.events.array import EventFormatError, make_events

__all__ = ["events_from_columns"]


def events_from_columns(path: Path, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Make the event array of four columns t [µs], x, y [px] and p (0 and 1, or −1 and 1).

    Raises:
        EventFormatError: columns of unequal length or other than one-dimensional, not integers, or values that an event
            cannot have.
    """
    shapes = {name: columns[name].shape for name in "txyp"}
    if len(set(shapes.values())) > 1 or columns["t"].ndim != 1:
        raise EventFormatError(f"{path}: columns have the shapes {shapes}, expected one length")
    for name in "txyp":
        if columns[name].dtype.kind not in "iub":
            raise EventFormatError(f"{path}: column {name} is of {columns[name].dtype}, expected integers")
    if len(columns["t"]):
        for name in "xy":
            low, high = int(columns[name].min()), int(columns[name].max())
            if low < 0 or high > np.iinfo(np.uint16).max:
                raise EventFormatError(f"{path}: column {name} spans {low} to {high}, expected 0 to 65535")
        values = set(np.unique(columns["p"]).tolist())
        if not (values <= {0, 1} or values <= {-1, 1}):
            raise EventFormatError(
                f"{path}: column p has the values {sorted(values)[:5]}, expected 0 and 1, or -1 and 1"
            )
    return make_events(columns["t"], columns["x"], columns["y"], columns["p"] > 0)
