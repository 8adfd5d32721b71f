# SPDX-License-Identifier: Apache-2.0
"""From a camera's own time to ROS time, without drift and without the stamps' jitter."""

from __future__ import annotations

from collections import deque

__all__ = ["SensorClock"]

#: If a stamp is off by more than this [ns], one of the two clocks has been set anew.
_JUMP_NS = 1_000_000_000
#: The two clocks drift by some 50 µs per second, so only the last seconds of sensor time count [µs] ...
_MEMORY_US = 10_000_000
#: ... in parts of this length [µs].
_PART_US = 1_000_000


class SensorClock:
    """Follows the header stamps of one stream.

    A packet is stamped when it reaches the host, so its stamp is late by a time that varies: the offset between the two
    clocks is the smallest that was seen lately. As it is tracked continuously, clocks that run at different speeds
    cause no drift.
    """

    def __init__(self) -> None:
        self._parts: deque[tuple[int, int]] = deque()  # when a part began [µs], smallest offset in it [ns]
        self._latest = 0  # stamp [ns] ...
        self._latest_us = 0  # ... and the sensor time that it is of [µs]

    def jump(self, sensor_us: int, stamp_ns: int) -> int:
        """By how much [ns] ROS time has jumped against sensor time where this packet was stamped; 0: it has not."""
        if not self._parts:
            return 0
        deviation = stamp_ns - 1000 * sensor_us - self._offset()
        return deviation if abs(deviation) > _JUMP_NS else 0

    def follow(self, sensor_us: int, stamp_ns: int) -> None:
        """Take in the stamp of a packet whose first event has this sensor time."""
        offset = stamp_ns - 1000 * sensor_us
        if not self._parts or sensor_us - self._parts[-1][0] >= _PART_US:
            self._parts.append((sensor_us, offset))
            while sensor_us - self._parts[0][0] > _MEMORY_US:
                self._parts.popleft()
        else:
            began, smallest = self._parts[-1]
            self._parts[-1] = (began, min(smallest, offset))

    def stamp(self, sensor_us: int) -> int:
        """ROS time [ns] of a sensor time; from call to call, it decreases only where the sensor time does."""
        stamp = self.at(sensor_us)
        self._latest = stamp if sensor_us < self._latest_us else max(self._latest, stamp)
        self._latest_us = sensor_us
        return self._latest

    def at(self, sensor_us: int) -> int:
        """ROS time [ns] of any sensor time."""
        return 1000 * sensor_us + self._offset()

    def _offset(self) -> int:
        return min(offset for _, offset in self._parts)
