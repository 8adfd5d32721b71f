# SPDX-License-Identifier: Apache-2.0
"""Packets are published with the recording's timing and stamps, and its clock goes on evenly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from event_camera_msgs.msg import EventPacket

from aegnn_core.events.rosbag import RecordedPacket
from aegnn_ros.conversions import nanoseconds
from aegnn_ros.playback import packet_replay
from aegnn_ros.playback.packet_replay import publish_in_time

BEGIN = 1_700_000_000_000_000_000


class SlowMachine:
    """Time on a machine that has run for years and takes a millisecond for everything."""

    def __init__(self) -> None:
        self.now = 10**17

    def monotonic_ns(self) -> int:
        self.now += 1_000_000
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(1e9 * seconds)


class Topic:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.messages: list[EventPacket] = []

    def publish(self, message: EventPacket) -> None:
        self.messages.append(message)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> SlowMachine:
    machine = SlowMachine()
    monkeypatch.setattr(packet_replay, "time", machine)
    return machine


def packets_received_at(times: list[int]) -> list[RecordedPacket]:
    """Each was stamped 3 ms before it was received."""
    nothing = np.empty(0, np.uint8)
    return [
        RecordedPacket(nothing, "evt3", 640, 480, number, 0, False, received - 3_000_000, "camera", received)
        for number, received in enumerate(times)
    ]


def published_stamps(packets: list[RecordedPacket], begin: int | None = BEGIN, rate: float = 1.0) -> list[int]:
    topic = Topic()
    sent = list(publish_in_time(packets, topic, begin, rate))
    stamps = [nanoseconds(message.header.stamp) for message in topic.messages]
    assert stamps == [packet.stamp for packet in sent]
    return stamps


@pytest.mark.parametrize("rate", [0.3, 1.0, 2.0])
def test_the_clock_never_steps_back_and_tells_every_receipt(rate: float) -> None:
    pauses = np.random.default_rng(0).integers(0, 12_000_000, 300)
    receipts = [BEGIN + int(time) for time in np.cumsum(pauses)]
    told: list[int] = []

    for _ in publish_in_time(packets_received_at(receipts), Topic(), None, rate, told.append):
        pass

    assert told == sorted(told)
    assert set(receipts) < set(told)


def test_packets_are_published_when_they_are_due(machine: SlowMachine) -> None:
    start = machine.now
    sent = list(publish_in_time(packets_received_at([0, 50_000_000, 80_000_000]), Topic(), BEGIN, rate=0.5))
    np.testing.assert_allclose([packet.published - start for packet in sent], [0, 100e6, 160e6], atol=5e6)


@pytest.mark.parametrize("rate", [1.0, 5.0])
def test_stamps_keep_their_distances_from_the_first_receipt(rate: float) -> None:
    packets = packets_received_at([500_000_000, 510_000_000, 535_000_000])
    expected = [BEGIN - 3_000_000, BEGIN + 7_000_000, BEGIN + 32_000_000]
    assert published_stamps(packets, rate=rate) == expected
    assert published_stamps(packets, None) == [packet.stamp for packet in packets]


def test_packets_without_a_stamp_are_stamped_with_their_receipt() -> None:
    unstamped = [replace(packet, stamp=0) for packet in packets_received_at([500_000_000, 510_000_000, 535_000_000])]
    assert published_stamps(unstamped) == [BEGIN, BEGIN + 10_000_000, BEGIN + 35_000_000]
    assert published_stamps(unstamped, None) == [packet.received for packet in unstamped]


def test_stamps_begin_with_the_first_packet_that_has_one() -> None:
    first, *others = packets_received_at([500_000_000, 510_000_000, 535_000_000])
    packets = [replace(first, stamp=0), *others]
    assert published_stamps(packets) == [BEGIN, BEGIN + 7_000_000, BEGIN + 32_000_000]


def test_stamps_of_another_clock_begin_with_the_first_receipt() -> None:
    packets = packets_received_at([500_000_000, 510_000_000])
    others = [replace(packet, stamp=packet.stamp + BEGIN) for packet in packets]
    assert published_stamps(others) == [BEGIN, BEGIN + 10_000_000]
