# SPDX-License-Identifier: Apache-2.0
"""From ROS time, in which labels are stamped, to the sensor's time of a bag's events, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aegnn_core.events.array import EventFormatError
from aegnn_core.events.decoders import Decoder
from aegnn_core.events.event_array_topics import EVENT_ARRAY_TYPES
from aegnn_core.events.files.bag import packet_decoder
from aegnn_core.events.label_topics import Label
from aegnn_core.events.rosbag import event_topic_type, read_event_arrays, read_event_packets

__all__ = ["BagClock", "read_bag_clock"]

#: Packets are looked at together in parts of this length [µs] ...
_PART_US = 1_000_000
#: ... and with them those of so many parts before and behind.
_PARTS_BESIDE = 5
#: If the offset is another by more than this [ns], one of the two clocks has been set anew.
_JUMP_NS = 1_000_000_000


class BagClock:
    """The sensor's clock beside that of ROS.

    A packet is stamped when it reaches the host, so its stamp is late by a time that varies: the offset between the two
    clocks is the smallest of all packets within some seconds. Clocks that run at different speeds, by some 50 µs per
    second, so cause no drift. The node does the same, but cannot look ahead.

    Args:
        packets: sensor time of the first and of the last event [µs], and stamp [ns], of each packet with events.

    Attributes:
        first: sensor time of the first event of all [µs].
        last: sensor time of the last [µs].

    Raises:
        ValueError: there are no packets.
    """

    def __init__(self, packets: Iterable[tuple[int, int, int]]) -> None:
        least: dict[int, tuple[int, int]] = {}  # of each part: when it began [µs], and its smallest offset [ns]
        ends = []
        for first, last, stamp in packets:
            offset = stamp - 1000 * first
            began, smallest = least.get(first // _PART_US, (first, offset))
            least[first // _PART_US] = min(began, first), min(smallest, offset)
            ends.append(last)
        if not least:
            raise ValueError("there are no events, expected at least one")
        parts = [least[number] for number in sorted(least)]
        own = np.array([offset for _, offset in parts])
        same_clock = np.cumsum(np.abs(np.diff(own, prepend=own[:1])) > _JUMP_NS)
        offsets = []
        for number in range(len(own)):
            beside = slice(max(number - _PARTS_BESIDE, 0), number + _PARTS_BESIDE + 1)
            offsets.append(int(own[beside][same_clock[beside] == same_clock[number]].min()))
        self._offsets = np.array(offsets)
        self._begins = np.array([began for began, _ in parts])
        self.first, self.last = int(self._begins[0]), max(ends)

    def stamp(self, sensor_us: int) -> int:
        """ROS time [ns] of a sensor time [µs]."""
        return 1000 * sensor_us + self._offset(self._begins, sensor_us)

    def sensor_time(self, stamp: int) -> int:
        """Sensor time [ns] of a ROS time [ns]."""
        return stamp - self._offset(1000 * self._begins + self._offsets, stamp)

    def in_sensor_time(self, labels: Iterable[Label]) -> list[Label]:
        """Labels, stamped with the sensor's time."""
        return [replace(label, stamp=self.sensor_time(label.stamp)) for label in labels]

    def check(self, path: Path, labels: Sequence[Label]) -> None:
        """Raise ``EventFormatError`` where no label in sensor time is within a second of the events: other clocks."""
        first, last = 1000 * self.first, 1000 * self.last
        if labels and not any(first - _JUMP_NS <= label.stamp <= last + _JUMP_NS for label in labels):
            begin, end = self.stamp(self.first), self.stamp(self.last)
            shift = begin - first
            found = f"{(labels[0].stamp + shift) / 1e9:.3f} to {(labels[-1].stamp + shift) / 1e9:.3f} s"
            raise EventFormatError(
                f"{path}: events are stamped from {begin / 1e9:.3f} to {end / 1e9:.3f} s, labels from {found}; expected"
                " some at the same time, on one clock"
            )

    def _offset(self, begins: np.ndarray, moment: int) -> int:
        return int(self._offsets[max(int(np.searchsorted(begins, moment, "right")) - 1, 0)])


def read_bag_clock(path: Path, topic: str | None = None) -> BagClock:
    """The clock of a bag's event topic, from all of its packets. In event arrays the sensor's time is ROS time.

    Raises:
        EventFormatError: not a bag, no event topic or several, an encoding that is not known, or no events.
    """
    packets = _arrays(path, topic) if event_topic_type(path, topic) in EVENT_ARRAY_TYPES else _packets(path, topic)
    try:
        return BagClock(packets)
    except EventFormatError:
        raise
    except ValueError as error:
        raise EventFormatError(f"{path}: {error}") from error


def _arrays(path: Path, topic: str | None) -> Iterator[tuple[int, int, int]]:
    for events, _, _ in read_event_arrays(path, topic):
        if len(events):
            first, last = int(events["t"][0]), int(events["t"][-1])
            yield first, last, 1000 * first


def _packets(path: Path, topic: str | None) -> Iterator[tuple[int, int, int]]:
    decoder: Decoder | None = None
    for packet in read_event_packets(path, topic):
        decoder = decoder or packet_decoder(path, packet)
        decoder.expect(packet.seq)
        events = decoder.decode(packet.events, packet.time_base, packet.is_bigendian)
        if len(events):
            yield int(events["t"][0]), int(events["t"][-1]), packet.stamp_or_receipt
