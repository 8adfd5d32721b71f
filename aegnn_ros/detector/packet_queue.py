# SPDX-License-Identifier: Apache-2.0
"""What waits for the worker: event packets, bounded in bytes, and requests for results in between."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from event_camera_msgs.msg import EventPacket

from aegnn_ros.detector.event_arrays import SerializedArray

__all__ = ["Arrival", "PacketQueue", "TakenPackets"]

#: Bytes of encoded events that are taken at once: they may become 80 times as many when they are decoded.
_BYTES_AT_ONCE = 1 << 19
#: A request waits for a packet that is expected within this time [s], so that the result covers it.
_PATIENCE_S = 0.005


@dataclass(frozen=True)
class Arrival:
    """A packet and when it came, on the clock of ``time.monotonic`` [s]."""

    packet: EventPacket | SerializedArray
    time: float


@dataclass(frozen=True)
class TakenPackets:
    """What the worker takes at once: packets, and whether a result is due after the last of them."""

    arrivals: list[Arrival]
    readout: bool


class PacketQueue:
    """First in, first out, between the receiver's thread and the worker's.

    Args:
        capacity: bytes of encoded events that may wait; when more come, the oldest packets are thrown away, and so is
            one that is larger by itself.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._ready = threading.Condition()
        self._arrivals: deque[Arrival] = deque()
        self._readout_behind: int | None = None  # so many packets
        self._patient_until = 0.0  # the request waits until then for one more packet, monotonic clock [s]
        self._last_arrival = self._gap = 0.0  # and the time from the packet before it [s]
        self._closed = False
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Encoded events that wait."""
        return self._bytes

    def put(self, packet: EventPacket | SerializedArray) -> int:
        """Append a packet; returns how many were thrown away, it or old ones for it."""
        if len(packet.events) > self._capacity:
            return 1
        arrival = Arrival(packet, time.monotonic())
        dropped = 0
        with self._ready:
            self._arrivals.append(arrival)
            self._bytes += len(packet.events)
            self._gap, self._last_arrival = arrival.time - self._last_arrival, arrival.time
            while self._bytes > self._capacity:
                self._bytes -= len(self._arrivals.popleft().packet.events)
                dropped += 1
            if self._readout_behind is not None:
                self._readout_behind = max(0, self._readout_behind - dropped)
                if self._patient_until:
                    self._readout_behind, self._patient_until = len(self._arrivals), 0.0
            self._ready.notify()
        return dropped

    def request_readout(self) -> None:
        """Request a result with all packets so far; a request that is still waiting is enough.

        Where nothing waits and the next packet is expected soon, the result is one with that packet.
        """
        with self._ready:
            if self._readout_behind is None:
                self._readout_behind = len(self._arrivals)
                self._patient_until = 0.0 if self._arrivals else self._end_of_patience()
                self._ready.notify()

    def _end_of_patience(self) -> float:
        """Until when a request waits for the next packet; 0 if it does not."""
        latest = time.monotonic() + _PATIENCE_S
        return min(self._last_arrival + 1.5 * self._gap, latest) if self._last_arrival + self._gap < latest else 0.0

    def take(self, pause: float) -> TakenPackets | None:
        """The packets up to the next request, as soon as there is anything; None once the queue is closed.

        A pause of this length [s] counts as a request.
        """
        end = time.monotonic() + pause
        with self._ready:
            while not (self._closed or self._arrivals):
                until = end if self._readout_behind is None else self._patient_until
                if (left := until - time.monotonic()) <= 0:
                    self._readout_behind, self._patient_until = None, 0.0
                    return TakenPackets([], readout=True)
                self._ready.wait(left)
            if self._closed:
                return None
            most = len(self._arrivals) if self._readout_behind is None else self._readout_behind
            arrivals: list[Arrival] = []
            size = 0
            while len(arrivals) < most and size < _BYTES_AT_ONCE:
                arrivals.append(self._arrivals.popleft())
                size += len(arrivals[-1].packet.events)
            self._bytes -= size
            if self._readout_behind is None or len(arrivals) < self._readout_behind:
                if self._readout_behind is not None:
                    self._readout_behind -= len(arrivals)
                return TakenPackets(arrivals, readout=False)
            self._readout_behind = None
            return TakenPackets(arrivals, readout=True)

    def close(self) -> None:
        """Forget what waits, and let :meth:`take` return None."""
        with self._ready:
            self._closed = True
            self._arrivals.clear()
            self._bytes = 0
            self._ready.notify_all()
