# SPDX-License-Identifier: Apache-2.0
"""Answers are brought together with the packets that they are about, by the node's own rules of time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aegnn_core.events.rosbag import RecordedPacket
from aegnn_ros.playback.bag_run import BagRun, ReceivedResult
from aegnn_ros.playback.packet_replay import PublishedPacket
from aegnn_ros.playback.timed_answers import answers_of

STAMP = 1_700_000_000_000_000_000


def run_of(packets: list[RecordedPacket]) -> BagRun:
    """They were sent as they were recorded, and 10 ms after the last event of each there was a result about that."""
    sent = [PublishedPacket(packet, STAMP + packet.stamp, packet.received) for packet in packets]
    ends = [packet.stamp + 10_000_000 for packet in packets]
    return BagRun(sent, [ReceivedResult(STAMP + end - 1000, end + 10_000_000) for end in ends])


def test_a_driver_that_was_started_again_in_the_recording_has_another_time(packets: list[RecordedPacket]) -> None:
    """Sequence and sensor time begin anew; a malformed packet only has no answer of its own."""
    malformed = replace(packets[10], encoding="evt9")
    first = [*packets[:10], malformed, *packets[11:20]]
    pause = 800_000_000
    again = [replace(packet, stamp=packet.stamp + pause, received=packet.received + pause) for packet in packets[:20]]
    answers = answers_of(run_of([*first, *again]), 50_000)
    assert [answer.packet for answer in answers[-20:]] == list(range(20, 40))
    times = np.array([answer.time for answer in answers])
    assert (np.diff(times) < 0).sum() == 1
    np.testing.assert_allclose(times[-20:], 10_000 * np.arange(1, 21), atol=1000)
    assert {answer.packet for answer in answers} == set(range(40)) - {10}
    assert answers[-1].stamp == pytest.approx(again[-1].stamp + 10_000_000, abs=1_000_000)


def test_an_answer_after_a_short_window_has_passed_belongs_to_no_packet(packets: list[RecordedPacket]) -> None:
    run = run_of(packets[:20])
    last = run.results[-1]
    run.results.append(replace(last, stamp=last.stamp + 15_000_000, received=last.received + 1_000_000_000))
    assert [answer.packet for answer in answers_of(run, window=15_000)] == list(range(20))


def test_answers_about_packets_without_a_stamp_are_at_their_receipt(packets: list[RecordedPacket]) -> None:
    unstamped = [replace(packet, stamp=0) for packet in packets[:20]]
    sent = [PublishedPacket(packet, STAMP + packet.received, packet.received) for packet in unstamped]
    results = [ReceivedResult(STAMP + packet.received + 10_000_000, packet.received) for packet in unstamped]
    stamps = [answer.stamp for answer in answers_of(BagRun(sent, results), 50_000)]
    np.testing.assert_allclose(stamps, [packet.received + 10_000_000 for packet in unstamped], rtol=0, atol=1_000_000)
