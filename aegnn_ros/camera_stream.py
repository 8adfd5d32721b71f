"""One camera's way through the detector: packets in, live model, boxes and classes in the camera's pixels out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from event_camera_msgs.msg import EventPacket

from aegnn_core.asynchronous import make_model_asynchronous
from aegnn_core.events.array import EventFormatError, make_events
from aegnn_core.events.decoders import PACKET_DECODERS, Decoder, make_decoder
from aegnn_core.events.filters import every_nth, refractory_period, refractory_state, rescale
from aegnn_core.events.time_order import TimeJumpError, in_time_order
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_ros.conversions import nanoseconds

__all__ = ["CameraStream", "Readout", "StreamCounts", "warm_up"]

#: Packets of a stream that goes on do not come further apart than this [s].
_LONGEST_PAUSE_S = 1.0


@dataclass
class StreamCounts:
    """What has happened since the stream was made.

    Attributes:
        packets: packets that arrived.
        packets_lost: packets that never arrived, from gaps in their sequence numbers.
        packets_malformed: packets of which at least a part could not be decoded.
        events: events decoded.
        events_processed: events that the network got.
        events_dropped: decoded events that it did not get, because a filter took them out.
        resets: how often the graph had to start again, because time jumped back or the camera changed.
        processing_ns: wall time of decoding, filters and the network's update [ns].
    """

    packets: int = 0
    packets_lost: int = 0
    packets_malformed: int = 0
    events: int = 0
    events_processed: int = 0
    events_dropped: int = 0
    resets: int = 0
    processing_ns: int = 0


@dataclass(frozen=True)
class Readout:
    """What the network says at one time.

    Attributes:
        time: sensor time [µs].
        stamp: the same moment in ROS time [ns].
        width, height: the camera's sensor size [px].
        scores: one per class, float ``[classes]``.
        detections: boxes in the camera's pixels (``DETECTION_DTYPE``), best first; None if the model only classifies.
    """

    time: int
    stamp: int
    width: int
    height: int
    scores: np.ndarray
    detections: np.ndarray | None


class CameraStream:
    """Feeds the packets of one camera to a live model and keeps what that takes: decoder, filter states, clocks.

    Args:
        trained: the model; events of a camera of another size are rescaled onto its sensor.
        every_nth: keep every n-th event only.
        refractory_us: drop events that follow another one at the same pixel of the model within this time [µs].
        on_malformed: called with what was wrong with a packet.
        on_reset: called with the reason why the graph starts again.
    """

    # What the packets so far have left behind; see _forget_time.
    _last_t: int | None  # the last event's time [µs]
    _stamp_of_zero: int  # ROS time of the sensor's time 0 [ns]
    _last_arrival: float  # of a packet with events, monotonic clock [s]
    _unread: bool  # events have come since the last readout
    _expired: bool  # the last readout was made after the last node had expired
    _phase: int  # of the filter that keeps every n-th event
    _last_kept: np.ndarray  # of the refractory filter

    def __init__(
        self,
        trained: TrainedModel,
        *,
        every_nth: int,
        refractory_us: int,
        on_malformed: Callable[[str], None],
        on_reset: Callable[[str], None],
    ) -> None:
        self.counts = StreamCounts()
        self._trained = trained
        self._live = make_model_asynchronous(trained.network, graph=trained.graph)
        self._every_nth, self._refractory_us = every_nth, refractory_us
        self._on_malformed, self._on_reset = on_malformed, on_reset
        self._decoder: Decoder | None = None
        self._last_seq: int | None = None
        self._forget_time()

    def process(self, packet: EventPacket) -> np.ndarray:
        """Decode a packet and update the network with it; what is malformed costs that packet and is reported.

        Returns:
            Its events in time order, in the camera's pixels: structured array ``[N]`` of ``EVENT_DTYPE``.
        """
        self.counts.packets += 1
        self._follow_sequence(packet.seq)
        # The figure "us_per_event" is what lies between here and the second reading of the clock, per processed event.
        started = time.perf_counter_ns()
        events = self._in_time_order(self._decode(packet), packet)
        selected = self._select(events)
        self._live.update(selected)
        self.counts.processing_ns += time.perf_counter_ns() - started

        self.counts.events += len(events)
        self.counts.events_processed += len(selected)
        self.counts.events_dropped += len(events) - len(selected)
        if len(events):
            self._last_t = int(events["t"][-1])
            self._stamp_of_zero = nanoseconds(packet.header.stamp) - 1000 * int(events["t"][0])
            self._last_arrival = time.monotonic()
            self._unread, self._expired = True, False
        return events

    def news(self) -> int | None:
        """The sensor time [µs] of the next readout that can differ from the last one; None while there is none.

        Without events nobody knows how far sensor time has come, so a readout is made for the last event's time. But
        when no packet has come for longer than the window, and for too long to be late, all nodes have expired.
        """
        if self._last_t is None or self._unread:
            return self._last_t
        window = self._trained.graph.window
        if window is None or self._expired:
            return None
        pause = time.monotonic() - self._last_arrival
        return self._last_t + window if pause > max(1e-6 * window, _LONGEST_PAUSE_S) else None

    def read_out(self, t: int, score_threshold: float, iou_threshold: float, max_detections: int) -> Readout:
        """What the network says for the sensor time ``t`` [µs] that :meth:`news` gave."""
        decoder, trained = self._decoder, self._trained
        if decoder is None or self._last_t is None:
            raise RuntimeError("there is nothing to read out before the first event")
        self._unread, self._expired = False, t > self._last_t
        output = self._live.output(t)
        detections = None
        if trained.task == "detection":
            detections = trained.network.detections(output, score_threshold, iou_threshold, max_detections)[0]
            for fields, scale in (("xw", decoder.width / trained.width), ("yh", decoder.height / trained.height)):
                for name in fields:
                    detections[name] *= scale
        scores = trained.network.class_scores(output)[0].cpu().numpy()
        return Readout(t, self._stamp_of_zero + 1000 * t, decoder.width, decoder.height, scores, detections)

    def last_stamp(self) -> int:
        """The last event's time in ROS time [ns]; header stamps belong to the first event of their packet."""
        return self._stamp_of_zero + 1000 * (self._last_t or 0)

    def resume(self) -> None:
        """Go on after a pause: packets that came meanwhile are not lost ones."""
        self._last_seq = None

    def _follow_sequence(self, seq: int) -> None:
        """Count lost packets; a sequence that starts again means another recording or driver, with another clock."""
        if self._last_seq is not None:
            if seq < self._last_seq:
                self._decoder = None
                self._reset(f"packet number {seq} follows {self._last_seq}: the driver or the bag has started again")
            else:
                self.counts.packets_lost += max(0, seq - self._last_seq - 1)
        self._last_seq = seq

    def _decode(self, packet: EventPacket) -> np.ndarray:
        """The events of a packet as they are in it; as many as can be decoded where it is malformed."""
        camera = (packet.encoding, packet.width, packet.height)
        decoder = self._decoder
        try:
            if decoder is None or camera != (decoder.encoding, decoder.width, decoder.height):
                decoder = make_decoder(*camera)
                if self._decoder is not None:
                    old = self._decoder
                    self._reset(
                        f"the camera has changed from {old.encoding}, {old.width} x {old.height} px"
                        f" to {decoder.encoding}, {decoder.width} x {decoder.height} px"
                    )
                self._decoder = decoder
            malformed = decoder.counts.malformed
            payload = np.frombuffer(packet.events, np.uint8)
            events = decoder.decode(payload, packet.time_base, packet.is_bigendian)
        except EventFormatError as error:
            self._refuse(packet, str(error))
            return make_events(*np.empty((4, 0), np.int64))
        if decoder.counts.malformed > malformed:
            self._refuse(packet, decoder.counts.describe_malformed() + " so far")
        return events

    def _in_time_order(self, events: np.ndarray, packet: EventPacket) -> np.ndarray:
        """Put up with small steps back in time; start again after a jump back between packets."""
        try:
            return in_time_order(events, self._last_t)
        except TimeJumpError as jump:
            try:
                events = in_time_order(events)
            except TimeJumpError as inside:
                self._refuse(packet, str(inside))
                return events[:0]
            self._reset(f"sensor time: {jump}")
            return events

    def _select(self, events: np.ndarray) -> np.ndarray:
        """The events that the network gets, on its own sensor."""
        kept = every_nth(events, self._every_nth, self._phase)
        self._phase = (self._phase - len(events)) % self._every_nth
        if len(kept) == 0 or self._decoder is None:
            return kept
        sensor = (self._trained.width, self._trained.height)
        kept = rescale(kept, (self._decoder.width, self._decoder.height), sensor)
        if self._refractory_us:
            kept = refractory_period(kept, self._refractory_us, *sensor, state=self._last_kept)
        return kept

    def _refuse(self, packet: EventPacket, reason: str) -> None:
        self.counts.packets_malformed += 1
        self._on_malformed(f"packet {packet.seq} is malformed: {reason}")

    def _reset(self, reason: str) -> None:
        """Start with an empty graph: what comes has nothing to do with what came."""
        self._forget_time()
        self._live.reset()
        self.counts.resets += 1
        self._on_reset(reason)

    def _forget_time(self) -> None:
        self._last_t = None
        self._stamp_of_zero = 0
        self._last_arrival = 0.0
        self._unread = self._expired = False
        self._phase = 0
        self._last_kept = refractory_state(self._trained.width, self._trained.height)


def warm_up(trained: TrainedModel) -> None:
    """Run everything once on a few events, so that compilation and first-time costs do not meet the first packets."""
    rng = np.random.default_rng(0)
    count = 256
    events = make_events(
        np.sort(rng.integers(0, 5000, count)),
        rng.integers(0, trained.width, count),
        rng.integers(0, trained.height, count),
        rng.integers(0, 2, count),
    )
    live = make_model_asynchronous(trained.network, graph=trained.graph)
    live.update(events)
    output = live.output()
    trained.network.class_scores(output)
    if trained.task == "detection":
        trained.network.detections(output)
    refractory_period(events, 1, trained.width, trained.height)
    for encoding in PACKET_DECODERS:
        make_decoder(encoding, trained.width, trained.height).decode(bytes(8))
