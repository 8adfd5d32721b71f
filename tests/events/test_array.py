# SPDX-License-Identifier: Apache-2.0
"""One rule for what an event is, at every door that lets events in."""

from collections.abc import Callable

import numpy as np
import pytest

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous, network
from aegnn_core.asynchronous import ENGINES
from aegnn_core.drawing import EventSurface
from aegnn_core.events import check_events, encode_evt3, make_events
from aegnn_core.events.array import EVENT_DTYPE, LONGEST_STREAM_US
from tests.nn.random_networks import taken_by

DIRECT = {"t": "i8", "x": "i4", "y": "i4", "p": "i1"}


def columns(polarity: list[int], **types: str) -> np.ndarray:
    """Events a millisecond apart in an array with signed fields."""
    events = np.zeros(len(polarity), list({**DIRECT, **types}.items()))
    events["t"], events["x"], events["p"] = 1_000 * np.arange(len(polarity)), np.arange(len(polarity)), polarity
    return events


SIGNED, PLAIN = columns([1, -1, -1, 1, 0]), columns([1, 0, 0, 1, 0])


def test_off_may_be_minus_one() -> None:
    made = make_events(*(SIGNED[name] for name in "txyp"))
    assert made.dtype == EVENT_DTYPE
    assert made["p"].tolist() == [1, 0, 0, 1, 0]
    assert check_events(SIGNED).tolist() == made.tolist()
    assert make_events([0], [0], [0], [-1.0])["p"].tolist() == [0]
    assert encode_evt3(SIGNED) == encode_evt3(PLAIN)
    assert build_graph(SIGNED, GraphConfig()).x.flatten().tolist() == [1, -1, -1, 1, -1]
    surfaces = [EventSurface(8, 8), EventSurface(8, 8)]
    for surface, events in zip(surfaces, (SIGNED, PLAIN), strict=True):
        surface.update(events)
    assert np.array_equal(*(surface.image(4_000, 10_000) for surface in surfaces))


@pytest.mark.parametrize("engine", ENGINES)
def test_off_may_be_minus_one_in_every_engine(engine: str) -> None:
    module = network(taken_by(engine), dataset="nmnist").double()
    outputs = []
    for events in (SIGNED, PLAIN):
        live = make_model_asynchronous(module, GraphConfig(), engine=engine)
        live.update(events)
        outputs.append(live.output())
    assert outputs[0].equal(outputs[1])


def live_update(events: np.ndarray) -> object:
    return make_model_asynchronous(network("graph_res", dataset="nmnist"), engine="dense").update(events)


DOORS: dict[str, Callable[[np.ndarray], object]] = {
    "check_events": check_events,
    "make_events": lambda events: make_events(*(events[name] for name in "txyp")),
    "build_graph": lambda events: build_graph(events, GraphConfig()),
    "encode_evt3": encode_evt3,
    "update": live_update,
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("events", "message"),
    [
        (columns([1, 2]), "polarity must be 1 for ON, 0 or -1 for OFF, found 2"),
        (columns([1, -2]), "polarity must be .*, found -2"),
        (columns([1, 255], p="u1"), "polarity must be .*, found 255"),
        (columns([1, -128]), "polarity must be .*, found -128"),
    ],
)
def test_other_polarities_are_refused(door: str, events: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=f"events.*{message}"):
        DOORS[door](events)


@pytest.mark.parametrize("door", ["check_events", "make_events", "build_graph", "update"])
@pytest.mark.parametrize(
    ("name", "kind", "value", "message"),
    [
        ("x", "i4", 65_536, "pixel of 16 bits, found 65536"),
        ("x", "i8", 2**45, "pixel of 16 bits"),
        ("y", "u8", 2**63, "pixel of 16 bits"),
        ("y", "i2", -1, "y must not be negative, found -1"),
        ("t", "u8", 2**63, "a time of 64 bits, found 9223372036854775808"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(door: str, name: str, kind: str, value: int, message: str) -> None:
    events = columns([1, 0], **{name: kind})
    events[name][1] = value
    with pytest.raises(ValueError, match=message):
        DOORS[door](events)


def test_fractions_of_a_polarity_are_refused() -> None:
    for value in (0.5, float("nan")):
        with pytest.raises(ValueError, match=f"polarity must be .*, found {value}"):
            make_events([0, 1], [0, 0], [0, 0], [1.0, value])


def test_what_is_no_column_of_numbers_is_refused() -> None:
    good = [0, 1]
    for other in (["1", "0"], [1 + 0j, 0], np.array(good, "M8[us]"), np.array(good, object), [[0], [1]], 1):
        for place in range(4):
            with pytest.raises(ValueError, match=r"events: [txyp] must be a column of numbers, found"):
                make_events(*(other if n == place else good for n in range(4)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"events: t, x, y and p must be of one length, found \[2, 2, 1, 2\]"):
        make_events(good, good, [0], good)


@pytest.mark.parametrize("first", [-(2**63), 0, 2**63 - 1 - LONGEST_STREAM_US])
def test_a_stream_may_begin_at_any_time_and_last_285_years(first: int) -> None:
    events = columns([1, 0])
    events["t"] = first, first + LONGEST_STREAM_US
    assert check_events(events)["t"].tolist() == events["t"].tolist()
    early = first if first else -1
    events["t"] = (early, early + LONGEST_STREAM_US + 1) if first <= 0 else (first - 1, 2**63 - 1)
    for kind in (EVENT_DTYPE, events.dtype):
        with pytest.raises(ValueError, match=r"may last 9007199254740992 µs \(285 years\), found one that began at"):
            check_events(events.astype(kind))


def test_what_needs_no_copy_is_not_copied() -> None:
    events = make_events([0, 1], [0, 1], [0, 1], [0, 1])
    assert check_events(events) is events
    assert check_events(events[:0]) is not None
