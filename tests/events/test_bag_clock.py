# SPDX-License-Identifier: Apache-2.0
"""Labels are stamped in ROS time, events in the sensor's: what lies between is followed over all of a bag."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aegnn_core.events import EventFormatError, EventStream, event_packets, make_events, write_event_bag
from aegnn_core.events.files.bag_clock import BagClock, read_bag_clock
from aegnn_core.events.label_topics import Label
from tests.datasets.tiny_datasets import write_ros1_bag

OFFSET = 1_700_000_000_000_000_123
SECOND_US, SECOND = 10**6, 10**9


def packets(seconds: int, drift: float = 0.0, late: int = 0) -> list[tuple[int, int, int]]:
    """Ten packets of 100 ms per second, of clocks that drift, stamped up to 5 ms late, and the first one later [ns]."""
    delays = np.random.default_rng(0).integers(0, 5_000_000, 10 * seconds)
    delays[::5] = 0
    delays[0] += late
    firsts = [100_000 * number for number in range(10 * seconds)]
    stamps = [OFFSET + round(1000 * t * (1 + drift)) + int(delay) for t, delay in zip(firsts, delays, strict=True)]
    return [(first, first + 99_999, stamp) for first, stamp in zip(firsts, stamps, strict=True)]


def test_clocks_that_drift_and_a_first_packet_that_is_late_move_no_label() -> None:
    drift = 50e-6
    clock = BagClock(packets(600, drift, late=100_000_000))
    for t in (500_000, 300 * SECOND_US, 599 * SECOND_US):
        stamp = OFFSET + round(1000 * t * (1 + drift))
        assert clock.sensor_time(stamp) == pytest.approx(1000 * t, abs=500_000)
        assert clock.sensor_time(clock.stamp(t)) == 1000 * t
    (moved,) = clock.in_sensor_time([Label(OFFSET + 2 * SECOND, class_id=1)])
    assert (moved.stamp, moved.class_id) == (clock.sensor_time(OFFSET + 2 * SECOND), 1)


def test_a_clock_that_is_set_anew_changes_nothing_before() -> None:
    """By an hour, after three seconds."""
    moved = [
        (first, last, stamp + (3600 * SECOND if first >= 3 * SECOND_US else 0)) for first, last, stamp in packets(6)
    ]
    clock = BagClock(moved)
    assert clock.stamp(2_500_000) == OFFSET + 2_500_000_000
    assert clock.stamp(3_500_000) == OFFSET + 3603_500_000_000
    assert clock.sensor_time(OFFSET + 3603_500_000_000) == 3_500_000_000


def test_the_clock_of_a_bag(tmp_path: Path) -> None:
    """The size of the sensor makes no difference, nor do packets without events; arrays are in ROS time."""
    stream = EventStream(make_events(*np.array([[10, 20, 900_000], [1, 2, 3], [4, 5, 6], [0, 1, 0]])), 64, 48)
    made = list(event_packets(stream, stamp_offset=OFFSET))
    silent = replace(made[0], events=made[0].events[:0], stamp=5)
    write_event_bag(tmp_path / "bag", [silent, *(replace(packet, width=0, height=0) for packet in made)])
    clock = read_bag_clock(tmp_path / "bag")
    assert (clock.first, clock.last, clock.stamp(20)) == (10, 900_000, OFFSET + 20_000)
    write_ros1_bag(tmp_path / "a.bag", stream, [])
    clock = read_bag_clock(tmp_path / "a.bag")
    assert (clock.first, clock.last, clock.stamp(20)) == (10, 900_000, 20_000)
    write_event_bag(tmp_path / "silent", [silent])
    with pytest.raises(EventFormatError, match="silent: there are no events, expected at least one"):
        read_bag_clock(tmp_path / "silent")


def test_packets_without_a_stamp_are_of_the_time_at_which_they_came(tmp_path: Path) -> None:
    stream = EventStream(make_events([10, 900_000], [0, 1], [0, 0], [1, 1]), 4, 4)
    made = event_packets(stream, stamp_offset=OFFSET)
    unstamped = [replace(packet, stamp=0, received=packet.stamp) for packet in made]
    write_event_bag(tmp_path / "bag", unstamped)
    assert read_bag_clock(tmp_path / "bag").stamp(20) == OFFSET + 20_000


def test_labels_on_another_clock_are_told() -> None:
    clock = BagClock(packets(2))
    clock.check(Path("bag"), [])
    clock.check(Path("bag"), clock.in_sensor_time([Label(OFFSET - 10**12), Label(OFFSET + SECOND)]))
    with pytest.raises(
        EventFormatError,
        match=r"bag: events are stamped from 1700000000\.000 to 1700000002\.000 s, labels from 5\.000 to 6\.000 s;"
        " expected some at the same time, on one clock",
    ):
        clock.check(Path("bag"), clock.in_sensor_time([Label(5 * SECOND), Label(6 * SECOND)]))
