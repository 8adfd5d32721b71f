# SPDX-License-Identifier: Apache-2.0
"""All nodes have expired when the window has passed without events, by the host's clock and by ROS time."""

from __future__ import annotations

import time

import numpy as np
import pytest

from aegnn_core.events.array import make_events
from aegnn_ros.detector import stream_time
from aegnn_ros.detector.stream_time import StreamTime

STAMP = 1_700_000_000_000_000_000
WINDOW_US = 20_000


class Stream:
    """Packets of 10 ms that come as soon as they are recorded, and readouts."""

    def __init__(self) -> None:
        self.time = StreamTime()

    def take(self, begin: int) -> None:
        zeros = np.zeros(10, int)
        recorded = make_events(begin + 1000 * np.arange(10), zeros, zeros, zeros)
        events, reason = self.time.order(recorded, at(begin), WINDOW_US)
        assert not reason
        self.time.advance(int(events["t"][-1]), at(begin + 9_000))

    def stamp(self, now: int) -> int | None:
        """The stamp of a readout, if there is a new one; ``now`` and the stamp in sensor time [µs]."""
        t = self.time.next_readout(WINDOW_US, at(now))
        return None if t is None else (self.time.note_readout(t) - STAMP) // 1000


def at(sensor_us: int) -> int:
    return STAMP + 1000 * sensor_us


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Stream:
    """A stream with two packets and a readout, without a packet for longer than the window by the host's clock."""
    monkeypatch.setattr(stream_time, "_LONGEST_PAUSE_S", 0.0)
    stream = Stream()
    stream.take(0)
    stream.take(10_000)
    assert stream.stamp(19_000) == 19_000
    time.sleep(1.1e-6 * WINDOW_US)
    return stream


def test_while_ros_time_is_paused_nothing_expires(paused: Stream) -> None:
    assert paused.stamp(19_000) is None
    paused.take(20_000)
    assert paused.stamp(29_000) == 29_000


def test_stamps_follow_the_events_also_where_they_come_after_all_had_expired(paused: Stream) -> None:
    """A clock that is slow against the host's, or packets that were held up."""
    assert paused.stamp(39_000) is None
    assert paused.stamp(39_001) == 39_000
    assert paused.stamp(40_000) is None
    for begin in (20_000, 30_000, 40_000):
        paused.take(begin)
        assert paused.stamp(begin + 9_000) == begin + 9_000
