# SPDX-License-Identifier: Apache-2.0
"""One camera's way through the detector: packets in, live model, boxes and classes in the camera's pixels out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from event_camera_msgs.msg import EventPacket

from aegnn_core.events.array import EventFormatError
from aegnn_core.events.decoders import Decoder, make_decoder
from aegnn_core.events.decoders.decoder import NO_EVENTS, NO_TRIGGERS
from aegnn_core.events.downsampling import DOWNSAMPLING, Downsampler, check_downsampling
from aegnn_core.events.filters import (
    PixelRateLimit,
    background_activity,
    every_nth,
    refractory_period,
    refractory_state,
    region_of_interest,
)
from aegnn_core.events.letterbox import Letterbox
from aegnn_core.events.time_order import TimeJumpError, in_time_order
from aegnn_ros.conversions import nanoseconds
from aegnn_ros.detector.ready_model import MOST_PIXELS, ReadyModel, on_sensor, wait_for_device
from aegnn_ros.detector.sensor_clock import SensorClock
from aegnn_ros.detector.thinning import thin_evenly

__all__ = ["CameraStream", "Readout", "Region", "StreamCounts", "Trigger"]

#: Packets of a stream that goes on do not come further apart than this [s], and neither do its events.
_LONGEST_PAUSE_S = 1.0

#: Limits of one packet, far beyond any camera's: what is larger is malformed and must not fill the memory.
_LARGEST_PACKET_BYTES = 1 << 24
_MOST_EVENTS = 1 << 22
_MOST_PIXELS = 1 << 24

#: Left column and upper row [px], width and height [px] of a part of the sensor.
Region = tuple[int, int, int, int]


@dataclass
class StreamCounts:
    """What has happened since the stream was made.

    Attributes:
        packets: packets that were decoded.
        packets_malformed: packets of which at least a part could not be decoded.
        events: events decoded.
        events_filtered: events that a filter or the region of interest took out.
        events_seen: events that every_nth and the region of interest have left, for downsampling.
        events_downsampled: events on the model's sensor that downsampling has made of them.
        events_thinned: events that were left out to hold the latency budget.
        events_processed: events that the network got.
        resets: how often the graph had to start again, because a clock jumped or the camera changed.
        triggers: edges on the camera's trigger inputs.
        processing_ns: wall time of decoding, filters and the network's updates [ns].
    """

    packets: int = 0
    packets_malformed: int = 0
    events: int = 0
    events_filtered: int = 0
    events_seen: int = 0
    events_downsampled: int = 0
    events_thinned: int = 0
    events_processed: int = 0
    resets: int = 0
    triggers: int = 0
    processing_ns: int = 0


@dataclass(frozen=True)
class Trigger:
    """An edge on a trigger input of the camera.

    Attributes:
        time: sensor time [µs].
        stamp: the same moment in ROS time [ns].
        channel: the input.
        rising: whether the level went up.
    """

    time: int
    stamp: int
    channel: int
    rising: bool


@dataclass(frozen=True)
class Readout:
    """What the network says at one time.

    Attributes:
        time: sensor time [µs].
        stamp: the same moment in ROS time [ns].
        width, height: the camera's sensor size [px].
        scores: one per class, float ``[classes]``.
        detections: boxes in the camera's pixels (``DETECTION_DTYPE``), best first; None if the model only classifies.
        tracks: the number of each box's track; None if they are not followed.
    """

    time: int
    stamp: int
    width: int
    height: int
    scores: np.ndarray
    detections: np.ndarray | None
    tracks: tuple[int, ...] | None = None


class CameraStream:
    """Feeds the packets of one camera to a live model and keeps what that takes: decoder, filter states, clocks.

    :meth:`decode` every packet; :meth:`update` the network with what has come since the last update.

    Args:
        model: events of a camera of another size come to its sensor, or it to the camera's.
        region: the part of the sensor that the model looks at; None for all of it.
        downsampling: how events of a camera with more pixels come to the model's: ``"integrate"`` or ``"coordinates"``.
        every_nth: keep every n-th event only.
        refractory_us: drop events that follow another one at the same pixel of the model within this time [µs].
        on_malformed: called with what was wrong with a packet.
        on_reset: called with the reason why the graph starts again.
    """

    # What the packets so far have left behind; see _forget_time.
    _clock: SensorClock
    _last_t: int | None  # the last event's time [µs]
    _last_arrival: float  # of a packet with events, monotonic clock [s]
    _unread: bool  # events have come since the last readout
    _expired: bool  # the last readout was made after the last node had expired
    _phase: int  # of the filter that keeps every n-th event
    _thinning_phase: float
    _last_kept: np.ndarray  # of the refractory filter
    _waiting: list[np.ndarray]  # events for the next update
    _rate_limit: PixelRateLimit | None
    _last_around: np.ndarray | None  # of the noise filter
    _found: np.ndarray  # triggers of the packet that was decoded last

    def __init__(
        self,
        model: ReadyModel,
        *,
        region: Region | None = None,
        downsampling: str = DOWNSAMPLING[0],
        every_nth: int,
        refractory_us: int,
        on_malformed: Callable[[str], None],
        on_reset: Callable[[str], None],
    ) -> None:
        self.counts = StreamCounts()
        check_downsampling(downsampling)
        self._model, self._region, self._downsampling = model, region, downsampling
        self._every_nth, self._refractory_us = every_nth, refractory_us
        self._on_malformed, self._on_reset = on_malformed, on_reset
        self._decoder: Decoder | None = None
        self._triggers: list[np.ndarray] = []
        self._downsampler: Downsampler | None = None
        self._noise_filter_us = self._pixel_rate_hz = 0
        self._last_seq: int | None = None
        self._refused: int | None = None  # number of the last packet that was malformed, of those so far
        self._forget_time()

    @property
    def model(self) -> ReadyModel:
        """The model that follows the stream."""
        return self._model

    @property
    def region(self) -> Region | None:
        """The part of the sensor that the model looks at."""
        return self._region

    @property
    def downsampling(self) -> str:
        """How events of a camera with more pixels come to the model's."""
        return self._downsampling

    @property
    def camera(self) -> tuple[str, int, int] | None:
        """Encoding, width and height [px] of the packets; None before the first one that can be decoded."""
        decoder = self._decoder
        return None if decoder is None else (decoder.encoding, decoder.width, decoder.height)

    def decode(self, packet: EventPacket, received: int) -> np.ndarray:
        """Decode a packet and keep its events for :meth:`update`; what is malformed costs that packet and is reported.

        Args:
            packet: the next of the stream.
            received: ROS time of its arrival [ns], for packets without a stamp.

        Returns:
            Its events in time order, in the camera's pixels: structured array ``[N]`` of ``EVENT_DTYPE``.
        """
        started = time.perf_counter_ns()
        self.counts.packets += 1
        self._follow_sequence(packet.seq)
        stamp = nanoseconds(packet.header.stamp) or received
        events = self._in_order(self._events_of(packet), packet, stamp)
        self._note_triggers(stamp)
        if len(events):
            self._follow_camera()
            selected = self._select(self._without_noise(events))
            self.counts.events += len(events)
            self.counts.events_filtered += len(events) - len(selected)
            self.counts.events_seen += len(selected)
            if len(selected):
                self._keep(self._on_the_models_sensor(selected))
            self._last_t = int(events["t"][-1])
            self._last_arrival = time.monotonic()
            self._unread, self._expired = True, False
        self.counts.processing_ns += time.perf_counter_ns() - started
        return events

    def refuse(self, seq: int, reason: str) -> None:
        """Count and report a packet that could not even be opened."""
        self.counts.packets += 1
        self._refuse(seq, reason)

    def take_triggers(self) -> list[Trigger]:
        """The edges on the camera's trigger inputs since the last call, in their order."""
        edges, self._triggers = self._triggers, []
        return [
            Trigger(int(edge["t"]), self._clock.at(int(edge["t"])), int(edge["channel"]), bool(edge["p"]))
            for part in edges
            for edge in part
        ]

    @property
    def waiting(self) -> int:
        """Events on the model's sensor that :meth:`update` will take."""
        return sum(len(events) for events in self._waiting)

    def update(self, factor: float) -> int:
        """Update the network with one of ``factor`` of the waiting events, evenly chosen; returns how many were chosen.

        What comes after the choice, the refractory filter and the network, costs nothing for the others.
        """
        started = time.perf_counter_ns()
        waiting, self._waiting = self._waiting, []
        chosen = []
        for events in waiting:
            kept, self._thinning_phase = thin_evenly(events, factor, self._thinning_phase)
            chosen.append(kept)
        events = chosen[0] if len(chosen) == 1 else np.concatenate(chosen)
        processed = events
        if self._refractory_us and len(events):
            sensor = (self._model.trained.width, self._model.trained.height)
            processed = refractory_period(events, self._refractory_us, *sensor, state=self._last_kept)
        self._model.live.update(processed)
        wait_for_device(self._model.device)
        self.counts.events_thinned += sum(len(events) for events in waiting) - len(events)
        self.counts.events_filtered += len(events) - len(processed)
        self.counts.events_processed += len(processed)
        self.counts.processing_ns += time.perf_counter_ns() - started
        return len(events)

    def news(self) -> int | None:
        """The sensor time [µs] of the next readout that can differ from the last one; None while there is none.

        Without events nobody knows how far sensor time has come, so a readout is made for the last event's time. But
        when no packet has come for longer than the window, and for too long to be late, all nodes have expired.
        """
        if self._last_t is None or self._unread:
            return self._last_t
        window = self._model.trained.graph.window
        if window is None or self._expired:
            return None
        pause = time.monotonic() - self._last_arrival
        return self._last_t + window if pause > max(1e-6 * window, _LONGEST_PAUSE_S) else None

    def read_out(self, t: int, score_threshold: float, iou_threshold: float, max_detections: int) -> Readout:
        """What the network says for the sensor time ``t`` [µs] that :meth:`news` gave.

        Raises:
            RuntimeError: nothing has been decoded yet, or the network's output is not finite.
        """
        decoder, trained = self._decoder, self._model.trained
        if decoder is None or self._last_t is None:
            raise RuntimeError("there is nothing to read out before the first event")
        self._unread, self._expired = False, t > self._last_t
        output = self._model.live.output(t)
        scores = trained.network.class_scores(output)[0].cpu().numpy()
        if not np.isfinite(scores).all():
            raise RuntimeError(f"the class scores of model {trained.name} are {scores}, expected finite numbers")
        detections = None
        if trained.task == "detection":
            found = trained.network.detections(output, score_threshold, iou_threshold, max_detections)[0]
            left, top, *size = self._view(decoder)
            letterbox = Letterbox((size[0], size[1]), (trained.width, trained.height))
            detections = letterbox.to_camera(found)
            detections["x"] += left
            detections["y"] += top
        return Readout(t, self._clock.stamp(t), decoder.width, decoder.height, scores, detections)

    def resume(self) -> None:
        """Go on after a pause: a sequence that has gone on meanwhile is the same one."""
        self._last_seq = None
        if self._decoder is not None:
            self._decoder.lose(0)

    def filter_noise(self, noise_filter_us: int, pixel_rate_hz: int) -> None:
        """Take out noise and hot pixels from now on, see :mod:`aegnn_core.events.filters`; 0 takes nothing out."""
        if (noise_filter_us, pixel_rate_hz) != (self._noise_filter_us, self._pixel_rate_hz):
            self._noise_filter_us, self._pixel_rate_hz = noise_filter_us, pixel_rate_hz
            self._forget_noise()

    def look_at(self, region: Region | None) -> None:
        """Let the model look at another part of the sensor, with an empty graph."""
        self._region = region
        self._empty_graph()

    def downsample(self, way: str) -> None:
        """Bring events to the model's sensor in another way from now on, with an empty graph.

        Raises:
            ValueError: an unknown way.
        """
        check_downsampling(way)
        self._downsampling = way
        self._empty_graph()

    def use_model(self, model: ReadyModel) -> None:
        """Go on with another model and an empty graph; clocks and decoder stay."""
        self._model = model
        self._empty_graph()

    def _follow_sequence(self, seq: int) -> None:
        """A sequence that starts again means another recording or driver, with another clock; gaps are lost packets."""
        if self._last_seq is not None and seq < self._last_seq:
            self._decoder = None
            self._reset(f"packet number {seq} follows {self._last_seq}: the driver or the bag has started again")
        elif self._last_seq is not None and seq > self._last_seq + 1 and self._decoder is not None:
            self._decoder.lose(seq - self._last_seq - 1)
        self._last_seq = seq

    def _events_of(self, packet: EventPacket) -> np.ndarray:
        """The events of a packet as they are in it; as many as can be decoded where it is malformed."""
        camera = (packet.encoding, packet.width, packet.height)
        decoder = self._decoder
        parts, count = [], 0
        self._found = NO_TRIGGERS
        try:
            _check_limits(packet)
            if decoder is None or camera != self.camera:
                decoder = make_decoder(*camera)
                if self._model.native and decoder.width * decoder.height > MOST_PIXELS:
                    raise EventFormatError(
                        f"its sensor of {decoder.width} x {decoder.height} px is too large for a network of that size,"
                        f" expected at most {MOST_PIXELS} px"
                    )
                if self._decoder is not None:
                    old = self._decoder
                    self._reset(
                        f"the camera has changed from {old.encoding}, {old.width} x {old.height} px"
                        f" to {decoder.encoding}, {decoder.width} x {decoder.height} px"
                    )
                self._decoder = decoder
            malformed = decoder.counts.malformed
            payload = np.frombuffer(packet.events, np.uint8)
            for part in decoder.decode_parts(payload, packet.time_base, packet.is_bigendian):
                parts.append(part)
                count += len(part)
                if count > _MOST_EVENTS:
                    decoder.lose(0)  # the rest of the packet
                    raise EventFormatError(f"holds more than {_MOST_EVENTS} events")
            self._found = decoder.triggers
        except EventFormatError as error:
            self._refuse(packet.seq, str(error))
            return NO_EVENTS
        if decoder.counts.malformed > malformed:
            self._refuse(packet.seq, decoder.counts.describe_malformed() + " so far")
        return parts[0] if len(parts) == 1 else np.concatenate([NO_EVENTS, *parts])

    def _in_order(self, events: np.ndarray, packet: EventPacket, stamp: int) -> np.ndarray:
        """Put up with small steps back in time; start again after a jump or a gap between packets."""
        if len(events) == 0:
            return events
        try:
            ordered = in_time_order(events, self._last_t)
        except TimeJumpError as jump:
            try:
                ordered = in_time_order(events)
            except TimeJumpError as inside:
                self._refuse(packet.seq, str(inside))
                return events[:0]
            self._reset(f"sensor time: {jump}")
        first = int(ordered["t"][0])
        gap = 0 if self._last_t is None else first - self._last_t
        if jumped := self._clock.jump(first, stamp):
            self._reset(f"the packets' stamps have jumped by {jumped / 1e9:+.3f} s against sensor time")
        elif gap > max(1e6 * _LONGEST_PAUSE_S, self._model.trained.graph.window or 0):
            self._reset(f"no event for {gap / 1e6:.3f} s")
        self._clock.follow(first, stamp)
        return ordered

    def _without_noise(self, events: np.ndarray) -> np.ndarray:
        """The events in the camera's pixels that the filters for hot pixels and noise leave."""
        decoder = self._decoder
        assert decoder is not None  # which has decoded them
        size = (decoder.width, decoder.height)
        if self._pixel_rate_hz:
            if self._rate_limit is None:
                self._rate_limit = PixelRateLimit(self._pixel_rate_hz, *size)
            events = self._rate_limit(events)
        if self._noise_filter_us and len(events):
            if self._last_around is None:
                self._last_around = refractory_state(*size)
            events = background_activity(events, self._noise_filter_us, *size, self._last_around)
        return events

    def _forget_noise(self) -> None:
        self._rate_limit, self._last_around = None, None

    def _select(self, events: np.ndarray) -> np.ndarray:
        """The events of the region, and of them every n-th."""
        if self._region is not None:
            events = region_of_interest(events, *self._region)
        kept = every_nth(events, self._every_nth, self._phase)
        self._phase = (self._phase - len(events)) % self._every_nth
        return kept

    def _view(self, decoder: Decoder) -> Region:
        """The part of the camera's sensor that the model looks at."""
        if self._region is None:
            return 0, 0, decoder.width, decoder.height
        left, top, width, height = self._region
        return left, top, max(1, min(width, decoder.width - left)), max(1, min(height, decoder.height - top))

    def _follow_camera(self) -> None:
        """Bring a model that runs on the camera's own sensor there."""
        decoder, trained = self._decoder, self._model.trained
        if not self._model.native or decoder is None:
            return
        _, _, width, height = self._view(decoder)
        if (width, height) != (trained.width, trained.height):
            self._model = on_sensor(self._model, (width, height))
            self._empty_graph()

    def _on_the_models_sensor(self, events: np.ndarray) -> np.ndarray:
        """Events of the camera, or of the region, on the model's sensor."""
        decoder = self._decoder
        assert decoder is not None  # which has decoded them
        _, _, width, height = self._view(decoder)
        trained = self._model.trained
        letterbox = Letterbox((width, height), (trained.width, trained.height))
        downsampler = self._downsampler
        if downsampler is None or (downsampler.letterbox, downsampler.way) != (letterbox, self._downsampling):
            downsampler = self._downsampler = Downsampler(letterbox, self._downsampling)
        return downsampler(events)

    def _keep(self, events: np.ndarray) -> None:
        """Let events on the model's sensor wait for the next update."""
        self.counts.events_downsampled += len(events)
        if len(events):
            self._waiting.append(events)

    def _note_triggers(self, stamp: int) -> None:
        """Keep the edges of the packet that has been decoded last."""
        found = self._found
        if len(found):
            if not self._clock.started:  # nothing but triggers has come so far
                self._clock.follow(int(found["t"][0]), stamp)
            self.counts.triggers += len(found)
            self._triggers.append(found)

    def _refuse(self, seq: int, reason: str) -> None:
        if self._refused != self.counts.packets:
            self.counts.packets_malformed += 1
        self._refused = self.counts.packets
        self._on_malformed(f"packet {seq} is malformed: {reason}")

    def _reset(self, reason: str) -> None:
        """Start with an empty graph: what comes has nothing to do with what came."""
        if self._last_t is None:  # as it was after the last reset: one jump shows in several clocks
            return
        self._forget_time()
        self._model.live.reset()
        self.counts.resets += 1
        self._on_reset(reason)

    def _empty_graph(self) -> None:
        """Forget all nodes and what belongs to the model's pixels."""
        self._model.live.reset()
        self._waiting = []
        self._phase, self._thinning_phase = 0, 0.0
        if self._downsampler is not None:
            self._downsampler.reset()
        trained = self._model.trained
        self._last_kept = refractory_state(trained.width, trained.height)

    def _forget_time(self) -> None:
        self._clock = SensorClock()
        self._last_t = None
        self._last_arrival = 0.0
        self._unread = self._expired = False
        self._forget_noise()
        self._empty_graph()


def _check_limits(packet: EventPacket) -> None:
    """Raise ``EventFormatError`` for a packet of no camera."""
    if len(packet.events) > _LARGEST_PACKET_BYTES:
        raise EventFormatError(f"has {len(packet.events)} bytes, expected at most {_LARGEST_PACKET_BYTES}")
    if packet.width * packet.height > _MOST_PIXELS:
        raise EventFormatError(
            f"is of a sensor of {packet.width} x {packet.height} px, expected at most {_MOST_PIXELS} pixels"
        )
