# SPDX-License-Identifier: Apache-2.0
"""Time in a camera's stream: order, jumps and gaps, ROS time, and whether there can be a new answer."""

from __future__ import annotations

import time

import numpy as np

from aegnn_core.events.time_order import TimeJumpError, in_time_order
from aegnn_ros.detector.sensor_clock import SensorClock

__all__ = ["StreamTime"]

#: Longest time between two packets of one stream, and between two of its events [s].
_LONGEST_PAUSE_S = 1.0


class StreamTime:
    """Sensor time of one stream, from its first event until it starts again.

    Attributes:
        last: sensor time of the last event [µs]; None before the first one.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget everything: what comes now has another clock."""
        self.last: int | None = None
        self._clock = SensorClock()
        self._last_arrival = 0.0  # of a packet with events, monotonic clock [s]
        self._last_received = 0  # the same in ROS time [ns]
        self._unread = False  # events have come since the last readout
        self._expired = False  # the last readout was made after the last node had expired

    def order(self, events: np.ndarray, stamp: int, window: int | None) -> tuple[np.ndarray, str]:
        """Lift events that step back a little, and start again after a jump or a gap between packets.

        Args:
            events: of a packet, at least one, in the camera's order.
            stamp: of the packet [ns, ROS time].
            window: of the model's graph [µs].

        Returns:
            The events in time order, and the reason why the stream has started again; empty where it has not.

        Raises:
            TimeJumpError: time jumps within the packet.
        """
        reason = ""
        try:
            ordered = in_time_order(events, self.last)
        except TimeJumpError as jump:
            ordered = in_time_order(events)
            reason = f"sensor time: {jump}"
            self.restart()
        first = int(ordered["t"][0])
        return ordered, self._follow(first, stamp, self._gap(first, window)) or reason

    def advance(self, t: int, received: int) -> None:
        """The last event so far has this time [µs]; its packet came at this ROS time [ns]."""
        self.last, self._last_arrival, self._last_received = t, time.monotonic(), received
        self._unread, self._expired = True, False

    def next_readout(self, window: int | None, now: int | None = None) -> int | None:
        """The sensor time [µs] of the next readout that can differ from the last one; None while there is none.

        Without events the sensor's time is unknown, so a readout is made for the last event's time. But
        when no packet has come for longer than the window, and for too long to be late, all nodes have expired.
        ROS time has to have passed the window, too: a bag or a simulation may be paused, or slow.

        Args:
            window: of the model's graph [µs].
            now: ROS time [ns]; None where it goes as the host's clock does.
        """
        if self.last is None or self._unread:
            return self.last
        if window is None or self._expired:
            return None
        if now is not None and now - self._last_received <= 1000 * window:
            return None
        pause = time.monotonic() - self._last_arrival
        return self.last + window if pause > max(1e-6 * window, _LONGEST_PAUSE_S) else None

    def note_readout(self, t: int) -> int:
        """A readout is made for a time that :meth:`next_readout` gave; returns its stamp [ns, ROS time]."""
        assert self.last is not None
        self._unread, self._expired = False, t > self.last
        return self._clock.stamp(t)

    def follow_triggers(self, first: int, stamp: int) -> str:
        """Take the time of a packet that has triggers and no events, and start again after a jump.

        Args:
            first: sensor time of its first trigger [µs].
            stamp: of the packet [ns, ROS time].

        Returns:
            The reason why the stream has started again; empty where it has not, or had not begun.
        """
        return self._follow(first, stamp)

    def at(self, t: int) -> int:
        """ROS time [ns] of a sensor time [µs]."""
        return self._clock.at(t)

    def _follow(self, first: int, stamp: int, gap: str = "") -> str:
        """Follow the clock, a new one after a jump or a gap; returns which it was, if there have been events."""
        jumped = self._clock.jump(first, stamp)
        separated = f"the packets' stamps have jumped by {jumped / 1e9:+.3f} s against sensor time" if jumped else gap
        reason = "" if self.last is None else separated
        if separated:
            self.restart()
        self._clock.follow(first, stamp)
        return reason

    def _gap(self, first: int, window: int | None) -> str:
        """How long there was no event before the first one of a packet; empty where the stream goes on."""
        gap = 0 if self.last is None else first - self.last
        if gap > max(1e6 * _LONGEST_PAUSE_S, window or 0):
            return f"no event for {gap / 1e6:.3f} s"
        return ""
