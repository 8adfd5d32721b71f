# SPDX-License-Identifier: Apache-2.0
"""The queue keeps the order of packets and requests, and a bound on its bytes."""

from __future__ import annotations

import array
import threading
import time
from types import SimpleNamespace

import pytest
from event_camera_msgs.msg import EventPacket

from aegnn_ros.detector.arrivals import ArrivalCounts
from aegnn_ros.detector.packet_queue import PacketQueue, TakenPackets


def packet(seq: int, size: int = 10) -> EventPacket:
    return EventPacket(seq=seq, events=array.array("B", bytes(size)))


def numbers(taken: TakenPackets | None) -> list[int]:
    assert taken is not None
    return [arrival.packet.seq for arrival in taken.arrivals]


def test_a_request_is_answered_with_the_packets_before_it() -> None:
    queue = PacketQueue(1000)
    for seq in (1, 2):
        queue.put(packet(seq))
    queue.request_readout()
    queue.request_readout()
    queue.put(packet(3))
    assert queue.bytes == 30
    taken = queue.take(1.0)
    assert numbers(taken) == [1, 2]
    assert taken == TakenPackets(taken.arrivals, readout=True)
    taken = queue.take(1.0)
    assert numbers(taken) == [3]
    assert not taken.readout
    assert queue.bytes == 0


@pytest.mark.parametrize(("gap", "waits"), [(0.002, True), (0.02, False)])
def test_a_request_waits_for_a_packet_that_is_expected_soon(
    gap: float, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("aegnn_ros.detector.packet_queue.time", SimpleNamespace(monotonic=lambda: now))
    queue = PacketQueue(1000)
    for seq in (1, 2):
        now += gap
        queue.put(packet(seq))
        queue.take(1.0)
    now += 0.1 * gap
    queue.request_readout()
    now += 0.5 * gap
    queue.put(packet(3))
    taken = queue.take(1.0)
    assert numbers(taken) == ([3] if waits else [])
    assert taken == TakenPackets(taken.arrivals, readout=True)
    if waits:
        queue.request_readout()
        now += 2 * gap
        assert queue.take(1.0) == TakenPackets([], readout=True)  # no other packet has come


def test_the_oldest_packets_make_room() -> None:
    queue = PacketQueue(100)
    assert [queue.put(packet(seq, 40)) for seq in range(4)] == [0, 0, 1, 1]
    assert queue.bytes == 80
    assert queue.put(packet(9, 1000)) == 1  # one that is too large by itself is the one that is thrown away
    assert numbers(queue.take(1.0)) == [2, 3]


def test_a_request_loses_its_packets_but_not_itself() -> None:
    queue = PacketQueue(100)
    queue.put(packet(0, 60))
    queue.request_readout()
    queue.put(packet(1, 60))
    taken = queue.take(1.0)
    assert taken == TakenPackets([], readout=True)
    assert numbers(queue.take(1.0)) == [1]


def test_a_long_queue_is_taken_in_parts() -> None:
    queue = PacketQueue(10_000_000)
    for seq in range(5):
        queue.put(packet(seq, 300_000))
    queue.request_readout()
    parts = [queue.take(1.0) for _ in range(3)]
    assert [numbers(part) for part in parts] == [[0, 1], [2, 3], [4]]
    assert [part.readout for part in parts if part] == [False, False, True]


def test_a_pause_is_a_request() -> None:
    begin = time.monotonic()
    assert PacketQueue(100).take(0.05) == TakenPackets([], readout=True)
    assert time.monotonic() - begin >= 0.05


def test_closing_ends_the_wait() -> None:
    queue = PacketQueue(100)
    threading.Timer(0.05, queue.close).start()
    assert queue.take(30.0) is None
    queue.put(packet(1))
    assert queue.take(0.0) is None


@pytest.mark.parametrize(
    ("sequence", "lost"), [([0, 3, 4, 7], 4), ([5, 6, 0, 1], 0), ([5, 5, 9], 3), ([2**64 - 1, 0, 2], 1)]
)
def test_lost_packets_are_those_missing_in_the_sequence(sequence: list[int], lost: int) -> None:
    counts = ArrivalCounts()
    for seq in sequence:
        counts.note(seq, 10 * seq)
    assert (counts.packets, counts.packets_lost, counts.largest) == (len(sequence), lost, 10 * max(sequence))
    counts.resume()
    counts.note(1000, 0)
    assert counts.packets_lost == lost
