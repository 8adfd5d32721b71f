# SPDX-License-Identifier: Apache-2.0
"""Columns of numbers into one event array: their order, their unit of time, and what an event cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aegnn_core.events.array import EventFormatError, make_events
from aegnn_core.events.files.stream_checks import ReadOptions, warn_reader

__all__ = [
    "FIELD_NAMES",
    "ORDERS",
    "TIME_UNITS",
    "events_from_columns",
    "fields_by_name",
    "refuse_order",
    "table_columns",
    "unit_in",
]

#: What the four columns are called in the formats of the field.
FIELD_NAMES: dict[str, tuple[str, ...]] = {
    "t": ("t", "ts", "timestamp", "timestamps", "time", "times"),
    "x": ("x", "xs", "x_addr", "x_coord", "col", "column"),
    "y": ("y", "ys", "y_addr", "y_coord", "row"),
    "p": ("p", "ps", "pol", "polarity", "polarities", "on"),
}
#: What some put in front of all four names.
_PREFIX = re.compile("(?:events?|ev)_")

#: A name with a unit behind it: ``t_us``, ``timestamp [ns]``, ``time(s)``, ``x_px``.
_UNIT = re.compile(
    r"(.*?)[\s_\[(]+"
    r"(s|ms|us|µs|ns|px|(?:milli|micro|nano)?sec(?:ond)?s?|m?sec|usec|nsec|pixels?)[\])]?",
    re.IGNORECASE,
)
#: By the first letters of a unit, longest first.
_UNITS_BY_START = {"milli": "ms", "micro": "us", "nano": "ns", "ms": "ms", "us": "us", "µs": "us", "ns": "ns", "s": "s"}

#: One of the two columns of a time as ROS and C have it, of seconds and of what is beyond them: ``ts_sec``, ``secs``.
_PART_OF_TIME = re.compile(
    r"(?:(.+?)[\s_.\[(]+)?(s|ms|us|µs|ns|(?:milli|micro|nano)?sec(?:ond)?s?|[mun]secs?)[\])]?", re.IGNORECASE
)
#: What may stand before the unit there, besides the names of times.
_STAMPS = ("", "stamp", "header.stamp", "header_stamp")

#: Orders of columns that tables without names have: Event Camera Dataset, v2e and E2VID; N-Cars; Metavision.
ORDERS = ("txyp", "xytp", "xypt")
#: Those with x before y that no source of ours has; they count where none of the others fits.
_RARE_ORDERS = ("tpxy", "ptxy", "pxyt", "xtyp", "xpyt", "pxty", "xtpy", "xpty", "txpy")

#: Microseconds per unit.
TIME_UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}

#: Later than this in microseconds is the year 5138; in nanoseconds since 1970 it is 1973.
_EPOCH_NANOSECONDS = 10**17

#: Recordings that last this long [µs] are rare, and so are quiet ones of this duration, or long ones of whole
#: milliseconds: their times may be nanoseconds.
_SUSPECT_US = 3_600_000_000
_SUSPECT_QUIET_US = 100_000_000
_QUIET_EVENTS_PER_S = 1000
_SUSPECT_ROUND_US = 10_000_000
#: What times with fractions, or whole ones, may be if not what they were taken for.
_FINER = {"s": ("ms", "us"), "us": ("ns",), "ns": ("ns",)}
_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
#: No camera sends more than some hundred events per microsecond; times so dense are in a longer unit.
_FASTEST_EVENTS_PER_US = 200
_SUSPECT_FAST_EVENTS = 1000

#: Floating-point times coarser than this [µs] at their latest are no longer those of events.
_COARSE_US = 100

#: Share of steps back in time that a column of times may have; every other column has about a half.
_MOST_STEPS_BACK = 0.1


def fields_by_name(names: Iterable[str]) -> dict[str, str] | None:
    """Which of the names is t, x, y and p, with or without a unit; None unless all four are there.

    Where times are in two columns, of seconds and of what is beyond them, t are the seconds, and ``t_ms``, ``t_us`` or
    ``t_ns`` is the name of the other.
    """
    names = list(names)
    by_lower = {_bare(name): name for name in names}
    found = {
        field: next((by_lower[alias] for alias in aliases if alias in by_lower), None)
        for field, aliases in FIELD_NAMES.items()
    }
    fields = {field: name for field, name in found.items() if name is not None} | _times_in_two(names)
    return fields if fields.keys() >= FIELD_NAMES.keys() else None


def _times_in_two(names: Iterable[str]) -> dict[str, str]:
    """The names of a column of seconds and of one of the same name in a finer unit; none unless both are there."""
    by_unit: dict[tuple[str, str], str] = {}
    for name in names:
        part = _PART_OF_TIME.fullmatch(str(name).strip().lower())
        if part is None:
            continue
        stem = _PREFIX.sub("", part[1] or "", count=1)
        unit = _known_unit(part[2])
        if unit is not None and (stem in _STAMPS or stem in FIELD_NAMES["t"]):
            by_unit.setdefault((stem, unit), name)
    for (stem, unit), name in by_unit.items():
        seconds = by_unit.get((stem, "s"))
        if unit != "s" and seconds is not None:
            return {"t": seconds, f"t_{unit}": name}
    return {}


def _bare(name: str) -> str:
    """A name in lower case, without unit and prefix."""
    name = str(name).strip().lower()
    with_unit = _UNIT.fullmatch(name)
    return _PREFIX.sub("", with_unit[1] if with_unit else name, count=1)


def unit_in(name: str) -> str | None:
    """The unit of time that a name ends in, one of :data:`TIME_UNITS`, or None."""
    found = _UNIT.fullmatch(str(name).strip())
    if found is None:
        return None
    return _known_unit(found[2])


def _known_unit(text: str) -> str | None:
    unit = text.lower().replace("\N{GREEK SMALL LETTER MU}", "µ")
    return next((known for start, known in _UNITS_BY_START.items() if unit.startswith(start)), None)


def refuse_order(path: Path, options: ReadOptions) -> None:
    """Raise ``EventFormatError`` where an order is asked for of columns that say by their names what they are."""
    if options.columns is not None:
        raise EventFormatError(
            f"{path}: its columns have names, found columns={options.columns!r}, which is for tables without any"
        )


def table_columns(path: Path, table: np.ndarray, options: ReadOptions, default: str) -> dict[str, np.ndarray]:
    """The columns of a table ``[N, 4]`` by name, in the order asked for, or the only one that the numbers allow.

    Times are a column that hardly ever steps back, x and y whole numbers of pixels, and polarities 0 and 1, or −1
    and 1. Where several orders fit, those count in which time passes, and of these the format's usual one.

    Args:
        path: the recording, for messages.
        table: numbers of any kind.
        options: with ``columns`` if the caller knows the order.
        default: the usual order of the format.

    Raises:
        EventFormatError: several orders fit and the usual one is not among them, or none.
    """
    if options.columns is not None:
        return dict(zip(options.columns, table.T, strict=True))
    fits = _fitting(table, (default, *ORDERS)) or _fitting_rarely(table)
    if not fits and not all(_are_whole(table[:, default.index(name)]) for name in "xyp"):
        raise EventFormatError(
            f"{path}: its columns are in no known order, such as {', '.join(ORDERS)}: expected one of times that do not"
            " step back, two of whole pixels, and one of 0 and 1, or -1 and 1; say the order with columns="
        )
    if len(fits) > 1 and default not in fits:
        raise EventFormatError(
            f"{path}: its columns can be {' or '.join(fits)}, expected one order; say which with columns="
        )
    order = fits[0] if fits and default not in fits else default
    return dict(zip(order, table.T, strict=True))


def _fitting(table: np.ndarray, orders: Iterable[str]) -> list[str]:
    """The orders that the numbers allow; where several do, those in which time passes."""
    fits = [order for order in dict.fromkeys(orders) if _fits(dict(zip(order, table.T, strict=True)))]
    passing = [order for order in fits if len(table) and np.ptp(table[:, order.index("t")]) > 0]
    return passing or fits


def _fitting_rarely(table: np.ndarray) -> list[str]:
    """The rare orders that the numbers allow; a column of one value is no polarity there, but rather a pixel."""
    fits = _fitting(table, _RARE_ORDERS)
    return [order for order in fits if np.ptp(table[:, order.index("p")]) > 0]


def _fits(columns: Mapping[str, np.ndarray]) -> bool:
    t = columns["t"]
    # Compared, since differences of unsigned numbers are never negative.
    if not np.isfinite(t).all() or np.count_nonzero(t[1:] < t[:-1]) > _MOST_STEPS_BACK * max(len(t) - 1, 1):
        return False
    return _is_polarity(columns["p"]) and all(_are_pixels(columns[name]) for name in "xy")


def _are_pixels(values: np.ndarray) -> bool:
    if not _are_whole(values):
        return False
    return len(values) == 0 or (int(values.min()) >= 0 and int(values.max()) <= np.iinfo(np.uint16).max)


def _are_whole(values: np.ndarray) -> bool:
    return values.dtype.kind != "f" or bool(np.isfinite(values).all() and (values % 1 == 0).all())


def _is_polarity(values: np.ndarray) -> bool:
    return bool((values == 1).all() or ((values == 1) | (values == 0)).all() or (np.abs(values) == 1).all())


def events_from_columns(
    path: Path, columns: Mapping[str, np.ndarray], options: ReadOptions, unit: str | None = None
) -> np.ndarray:
    """Make the event array of the columns t, x, y [px] and p (0 and 1, or −1 and 1); t may be two.

    Times are in the unit asked for, or stated. Otherwise those with fractions are seconds, and whole numbers
    microseconds; after 1973 in nanoseconds since 1970 they are nanoseconds. Where another unit is likely, a warning
    says so.

    Args:
        path: the recording, for messages.
        columns: the numbers of each ``[N]``, also as ``[N, 1]`` or ``[1, N]``, by the fields of :func:`fields_by_name`.
        options: with ``time_unit`` if the caller knows it.
        unit: of the times as the recording states it.

    Raises:
        EventFormatError: columns of unequal length or other than one-dimensional, not numbers, or values that an event
            cannot have.
    """
    columns = {name: _one_dimensional(column) for name, column in columns.items()}
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) > 1 or columns["t"].ndim != 1:
        raise EventFormatError(f"{path}: columns have the shapes {shapes}, expected one length")
    for name, column in columns.items():
        if column.dtype.kind not in "iubf":
            raise EventFormatError(f"{path}: column {name} is of {column.dtype}, expected numbers")
    if len(columns["t"]):
        for name in "xy":
            values = columns[name]
            if not _are_whole(values):
                raise EventFormatError(f"{path}: column {name} has no whole numbers everywhere, expected pixels")
            low, high = int(values.min()), int(values.max())
            if low < 0 or high > np.iinfo(np.uint16).max:
                raise EventFormatError(f"{path}: column {name} spans {low} to {high}, expected 0 to 65535")
        if not _is_polarity(columns["p"]):
            found = np.unique(columns["p"]).tolist()[:5]
            raise EventFormatError(f"{path}: column p has the values {found}, expected 0 and 1, or -1 and 1")
    finer = next((name for name in columns if name.startswith("t_")), None)
    if finer is None:
        t = _microseconds(path, columns["t"], options.time_unit or unit)
    else:
        t = _joined_times(path, columns["t"], columns[finer], finer.removeprefix("t_"), options)
    return make_events(t, columns["x"], columns["y"], columns["p"] > 0)


def _joined_times(
    path: Path, seconds: np.ndarray, finer: np.ndarray, unit: str, options: ReadOptions
) -> NDArray[np.int64]:
    """Times [µs] of a column of seconds and one of what is beyond them, or of all of the time, in a finer unit."""
    if options.time_unit is not None:
        raise EventFormatError(f"{path}: has columns of seconds and of {_UNIT_NAMES[unit]}, expected no time_unit=")
    whole = _microseconds(path, seconds, "s")
    beyond = _microseconds(path, finer, unit)
    if _are_whole(seconds) and bool(((beyond >= 0) & (beyond < 1_000_000)).all()):
        return whole + beyond
    if bool((np.abs(beyond - whole) <= 1_000_000).all()):
        return beyond
    raise EventFormatError(
        f"{path}: its columns of seconds and of {_UNIT_NAMES[unit]} do not go together, expected whole seconds and what"
        " is beyond them, or twice the same times"
    )


def _one_dimensional(column: np.ndarray) -> np.ndarray:
    """A column ``[N]``, also one that is stored as ``[N, 1]`` or ``[1, N]``."""
    return column.reshape(-1) if column.ndim == 2 and 1 in column.shape else column


def _microseconds(path: Path, t: np.ndarray, unit: str | None) -> NDArray[np.int64]:
    """Times as int64 [µs]; a warning where nobody has said their unit and another one is likely."""
    is_float = t.dtype.kind == "f"
    if is_float and not np.isfinite(t).all():
        raise EventFormatError(f"{path}: column t is not finite everywhere, expected times")
    said = unit is not None
    if unit is None:
        latest = int(t.max()) if len(t) else 0
        if is_float and bool((t % 1).any()):
            unit = "s"
        else:
            unit = "ns" if _EPOCH_NANOSECONDS < latest < np.iinfo(np.int64).max else "us"
    step = float(np.spacing(np.abs(t).max())) if is_float and len(t) else 0.0  # before its floats are made finer
    if is_float and not (unit == "ns" and _are_whole(t)):
        scaled = np.rint(t.astype(np.float64) * TIME_UNITS[unit])
        if len(t) and (scaled.max() >= 2.0**63 or scaled.min() < -(2.0**63)):
            raise EventFormatError(f"{path}: column t goes from {t.min()} to {t.max()} {unit}, expected 64 bits of µs")
        times: NDArray[np.int64] = scaled.astype(np.int64)
    elif unit == "ns":
        times = t.astype(np.int64) // 1000
    else:
        factor, bound = int(TIME_UNITS[unit]), np.iinfo(np.int64).max
        if len(t) and (int(t.max()) > bound // factor or int(t.min()) < -bound // factor):
            raise EventFormatError(f"{path}: column t goes from {t.min()} to {t.max()} {unit}, expected 64 bits of µs")
        times = t.astype(np.int64) * factor
    if step * TIME_UNITS[unit] > _COARSE_US:
        warn_reader(
            f"{path}: times in {unit} are numbers of {t.dtype}, which tell only those apart that are {step:g} {unit} or"
            " more from each other there; write them as float64 or as whole microseconds"
        )
    elif not said and len(times):
        _warn_of_unit(path, times, unit)
    return times


def _warn_of_unit(path: Path, t: np.ndarray, unit: str) -> None:
    """Say that times are perhaps in another unit than they were taken for."""
    duration = int(t.max()) - int(t.min())

    def is_long(duration: float) -> bool:
        quiet = duration > _SUSPECT_QUIET_US and len(t) < _QUIET_EVENTS_PER_S * duration / 1e6
        return duration > _SUSPECT_US or quiet

    whole = duration > _SUSPECT_ROUND_US and not (t % 1000).any()
    if is_long(duration) or whole:
        shorter = [finer for finer in _FINER[unit] if not is_long(duration * TIME_UNITS[finer] / TIME_UNITS[unit])]
        lasts, likely = f"{duration / 1e6:.0f} s", (shorter or _FINER[unit])[0]
    elif len(t) > max(_SUSPECT_FAST_EVENTS, _FASTEST_EVENTS_PER_US * duration):
        lasts, likely = f"{duration} µs, faster than any camera,", "ms"
    else:
        return
    warn_reader(
        f"{path}: {len(t)} events would last {lasts} with times in {unit}; if they are {_UNIT_NAMES[likely]},"
        f' read it with time_unit="{likely}"'
    )
