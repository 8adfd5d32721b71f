# SPDX-License-Identifier: Apache-2.0
"""A detector's answers to a recording that was played to it: their sensor times, and their latency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aegnn_core.events.time_order import TimeJumpError
from aegnn_ros.conversions import packet_message
from aegnn_ros.detector.packet_decoder import PacketDecoder
from aegnn_ros.detector.stream_time import StreamTime
from aegnn_ros.playback.bag_run import BagRun

__all__ = ["Answer", "answers_of", "packet_latencies_ms"]

#: An answer is about the end of a packet, and its stamp lies no further from that than this [ns], even after losses, or
#: than half the window: when that is over, one more answer says that nothing is left.
_TOLERANCE_NS = 20_000_000


@dataclass(frozen=True)
class Answer:
    """A result of the node, with its time in the recording.

    Attributes:
        time: sensor time that it is about [µs].
        stamp: the same as the recording has it [ns].
        packet: number of the last packet that it is about.
        latency_ms: from that packet to the result.
        boxes: ``DETECTION_DTYPE [N]`` of a detector.
        scores: one per class ``[classes]`` of a model that only classifies.
    """

    time: int
    stamp: int
    packet: int
    latency_ms: float
    boxes: np.ndarray
    scores: np.ndarray


def answers_of(run: BagRun, window: int | None = None) -> list[Answer]:
    """The node's results, in order, without those that belong to no packet, such as one after all nodes expired.

    ``window`` is that of the model's graph [µs].
    """
    numbers, times, stamps = _ends_of_packets(run, window)
    tolerance = _TOLERANCE_NS if window is None else min(_TOLERANCE_NS, 1000 * window // 2)
    answers = []
    for result in run.results:
        nearest = int(np.argmin(np.abs(stamps - result.stamp))) if len(stamps) else 0
        if len(stamps) and abs(int(stamps[nearest]) - result.stamp) <= tolerance:
            sent = run.sent[numbers[nearest]]
            answers.append(
                Answer(
                    time=int(times[nearest]),
                    stamp=result.stamp - sent.stamp + sent.packet.stamp_or_receipt,
                    packet=int(numbers[nearest]),
                    latency_ms=(result.received - sent.published) / 1e6,
                    boxes=result.boxes,
                    scores=result.scores,
                )
            )
    return answers


def packet_latencies_ms(run: BagRun, answers: list[Answer]) -> np.ndarray:
    """From every packet to the first result that includes it, the wait until that result was due included [ms]."""
    latencies = []
    first = 0
    for answer in answers:
        received = run.sent[answer.packet].published + 1e6 * answer.latency_ms
        latencies += [(received - sent.published) / 1e6 for sent in run.sent[first : answer.packet + 1]]
        first = max(first, answer.packet + 1)
    return np.array(latencies)


def _ends_of_packets(run: BagRun, window: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number, last sensor time [µs] and its stamp [ns], as the node computes it, of each packet that has events.

    As in the node, the sensor's time starts again with another sequence of packets, and what is malformed is left out.
    """
    stream_time = StreamTime()
    decoder = PacketDecoder(lambda number, reason: None, lambda reason: stream_time.restart())
    rows = []
    for number, sent in enumerate(run.sent):
        events = decoder.decode(packet_message(sent.packet, sent.stamp))
        if not len(events):
            continue
        try:
            events, _ = stream_time.order(events, sent.stamp, window)
        except TimeJumpError:
            continue
        last_t = int(events["t"][-1])
        stream_time.advance(last_t, sent.stamp)
        rows.append((number, last_t, stream_time.note_readout(last_t)))
    table = np.array(rows, np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]
