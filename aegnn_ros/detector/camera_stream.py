# SPDX-License-Identifier: Apache-2.0
"""One camera's way through the detector: packets in, live model, boxes and classes in the camera's pixels out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from event_camera_msgs.msg import EventPacket

from aegnn_core.events.letterbox import Letterbox
from aegnn_core.events.time_order import TimeJumpError
from aegnn_ros.conversions import nanoseconds
from aegnn_ros.detector.camera_filters import CameraFilters, Region
from aegnn_ros.detector.model_input import ModelInput
from aegnn_ros.detector.packet_decoder import PacketDecoder
from aegnn_ros.detector.ready_model import DOWNSAMPLING_CHOICES, ReadyModel, on_sensor, wait_for_device
from aegnn_ros.detector.stream_results import Readout, Trigger
from aegnn_ros.detector.stream_time import StreamTime

__all__ = ["CameraStream", "StreamCounts"]


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


class CameraStream:
    """Leads the packets of one camera to a live model.

    :meth:`decode` every packet; :meth:`update` the network with what has come since the last update. A packet passes a
    :class:`PacketDecoder`, the :class:`StreamTime`, the :class:`CameraFilters` and the :class:`ModelInput`.

    Args:
        model: events of a camera of another size come to its sensor, or it to the camera's.
        region: the part of the sensor that the model looks at; None for all of it.
        downsampling: how events of a camera with more pixels come to the model's, one of
            :data:`aegnn_ros.detector.ready_model.DOWNSAMPLING_CHOICES`.
        every_nth: keep every n-th event only.
        refractory_us: drop events that follow another one at the same pixel of the model within this time [µs].
        on_malformed: called with what was wrong with a packet.
        on_reset: called with the reason why the graph starts again.
    """

    def __init__(
        self,
        model: ReadyModel,
        *,
        region: Region | None = None,
        downsampling: str = DOWNSAMPLING_CHOICES[0],
        every_nth: int,
        refractory_us: int,
        on_malformed: Callable[[str], None],
        on_reset: Callable[[str], None],
    ) -> None:
        self.counts = StreamCounts()
        self._model = model
        self._on_malformed, self._on_reset = on_malformed, on_reset
        self._decoder = PacketDecoder(self._refuse, self._reset)
        self._time = StreamTime()
        self._filters = CameraFilters(region, every_nth)
        self._downsampling = downsampling
        self._input = ModelInput(model.sensor, model.downsampling(downsampling), refractory_us)
        self._triggers: list[Trigger] = []
        self._refused: int | None = None  # number of the last packet that was malformed, of those so far
        model.live.reset()

    @property
    def model(self) -> ReadyModel:
        """The model that follows the stream."""
        return self._model

    @property
    def region(self) -> Region | None:
        """The part of the sensor that the model looks at."""
        return self._filters.region

    @property
    def downsampling(self) -> str:
        """What was chosen: how events of a camera with more pixels come to the model's."""
        return self._downsampling

    @property
    def camera(self) -> tuple[str, int, int] | None:
        """Encoding, width and height [px] of the packets; None before the first one that can be decoded."""
        return self._decoder.camera

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height [px] of the camera's sensor, once a packet has told them."""
        return self._decoder.size

    @property
    def waiting(self) -> int:
        """Events on the model's sensor that :meth:`update` will take."""
        return self._input.waiting

    def decode(self, packet: EventPacket, received: int) -> np.ndarray:
        """Decode a packet and keep its events for :meth:`update`; what cannot be decoded is reported and left out.

        Args:
            packet: the next of the stream.
            received: ROS time of its arrival [ns], also the stamp of a packet that has none.

        Returns:
            Its events in time order, in the camera's pixels: structured array ``[N]`` of ``EVENT_DTYPE``.
        """
        started = time.perf_counter_ns()
        self.counts.packets += 1
        stamp = nanoseconds(packet.header.stamp) or received
        decoded = self._decoder.decode(packet, self._model.native)
        events = self._in_order(decoded, packet.seq, stamp)
        self._keep_triggers(stamp, follow=not len(events))
        if len(events):
            self._keep(events)
            self._time.advance(int(events["t"][-1]), received)
        self.counts.processing_ns += time.perf_counter_ns() - started
        return events

    def refuse(self, seq: int, reason: str) -> None:
        """Count and report a packet that could not even be opened."""
        self.counts.packets += 1
        self._refuse(seq, reason)

    def take_triggers(self) -> list[Trigger]:
        """The edges on the camera's trigger inputs since the last call, in their order."""
        triggers, self._triggers = self._triggers, []
        return triggers

    def update(self, factor: float) -> int:
        """Update the network with one of ``factor`` of the waiting events, evenly chosen; returns how many were chosen.

        The refractory filter and the network, which come after the choice, cost nothing for the others.
        """
        started = time.perf_counter_ns()
        chosen = self._input.take(factor)
        self._model.live.update(chosen.events)
        wait_for_device(self._model.device)
        self.counts.events_thinned += chosen.thinned
        self.counts.events_filtered += chosen.filtered
        self.counts.events_processed += len(chosen.events)
        self.counts.processing_ns += time.perf_counter_ns() - started
        return len(chosen.events) + chosen.filtered

    def next_readout(self, now: int | None = None) -> int | None:
        """The sensor time [µs] of the next readout that can differ from the last one; None while there is none.

        See :meth:`StreamTime.next_readout`; ``now`` is ROS time [ns].
        """
        return self._time.next_readout(self._model.trained.graph.window, now)

    def read_out(
        self,
        t: int,
        score_threshold: float,
        iou_threshold: float,
        max_detections: int,
        classes: frozenset[str] = frozenset(),
    ) -> Readout:
        """The network's answer for a time.

        Args:
            t: sensor time that :meth:`next_readout` gave [µs].
            score_threshold: least score of a box.
            iou_threshold: of two boxes of a class that overlap by more than this, the better one stays.
            max_detections: most boxes; the best stay.
            classes: names of the classes whose boxes are wanted; none for all.

        Raises:
            RuntimeError: nothing has been decoded yet, or the network's output is not finite.
        """
        size, trained = self._decoder.size, self._model.trained
        if size is None or self._time.last is None:
            raise RuntimeError("there is nothing to read out before the first event")
        stamp = self._time.note_readout(t)
        output = self._model.live.output(t)
        scores = trained.network.class_scores(output)[0].cpu().numpy()
        if not np.isfinite(scores).all():
            raise RuntimeError(f"the class scores of model {trained.name} are {scores}, expected finite numbers")
        detections = None
        if trained.task == "detection":
            most = sys.maxsize if classes else max_detections  # the best boxes may be of other classes
            found = trained.network.detections(output, score_threshold, iou_threshold, most)[0]
            if classes:
                found = _of_classes(found, trained.labels, classes)[:max_detections]
            left, top, width, height = self._filters.view(size)
            detections = Letterbox((width, height), self._model.sensor).to_camera(found)
            detections["x"] += left
            detections["y"] += top
        return Readout(t, stamp, *size, scores, detections)

    def resume(self) -> None:
        """Continue after a pause: packets that came meanwhile were not lost."""
        self._decoder.resume()

    def filter_noise(self, noise_filter_us: int, pixel_rate_hz: int) -> None:
        """Take out noise and hot pixels from now on, see :mod:`aegnn_core.events.filters`; 0 takes nothing out."""
        self._filters.filter_noise(noise_filter_us, pixel_rate_hz)

    def look_at(self, region: Region | None) -> None:
        """Let the model look at another part of the sensor, with an empty graph."""
        self._filters.region = region
        self._empty_graph()

    def downsample(self, chosen: str) -> None:
        """Bring events to the model's sensor in another way from now on, with an empty graph.

        Raises:
            ValueError: an unknown way.
        """
        self._input.downsampling = self._model.downsampling(chosen)
        self._downsampling = chosen
        self._empty_graph()

    def use_model(self, model: ReadyModel) -> None:
        """Go on with another model and an empty graph; clocks and decoder stay."""
        self._input.downsampling = model.downsampling(self._downsampling)
        self._model = model
        self._empty_graph()

    def _in_order(self, events: np.ndarray, seq: int, stamp: int) -> np.ndarray:
        """The events of a packet in time order; none of a packet in which time jumps."""
        if not len(events):
            return events
        try:
            ordered, restarted = self._time.order(events, stamp, self._model.trained.graph.window)
        except TimeJumpError as inside:
            self._refuse(seq, str(inside))
            return events[:0]
        if restarted:
            self._begin_anew(restarted)
        return ordered

    def _keep(self, events: np.ndarray) -> None:
        """Let what the filters leave of a packet's events wait for the next update."""
        size = self._decoder.size
        assert size is not None  # of the decoder that has decoded them
        _, _, width, height = self._filters.view(size)
        self._follow_camera((width, height))
        selected = self._filters(events, size)
        self.counts.events += len(events)
        self.counts.events_filtered += len(events) - len(selected)
        self.counts.events_seen += len(selected)
        if len(selected):
            self.counts.events_downsampled += self._input.add(selected, (width, height))

    def _follow_camera(self, view: tuple[int, int]) -> None:
        """Bring the model to the sensor that it runs on behind a view of this width and height [px]."""
        sensor = self._model.sensor_behind(view)
        if sensor != self._model.sensor:
            self._model = on_sensor(self._model, sensor)
            self._empty_graph()

    def _keep_triggers(self, stamp: int, follow: bool) -> None:
        """Keep the edges of the packet that has been decoded last, and follow its clock where it has no events."""
        edges = self._decoder.triggers
        if not len(edges):
            return
        if follow and (restarted := self._time.follow_triggers(int(edges["t"][0]), stamp)):
            self._begin_anew(restarted)
        self.counts.triggers += len(edges)
        self._triggers += [Trigger(t, self._time.at(t), channel, bool(p)) for t, channel, p in edges.tolist()]

    def _refuse(self, seq: int, reason: str) -> None:
        """Report what is wrong with a packet, and count the packet once."""
        if self._refused != self.counts.packets:
            self.counts.packets_malformed += 1
        self._refused = self.counts.packets
        self._on_malformed(f"packet {seq} is malformed: {reason}")

    def _reset(self, reason: str) -> None:
        """Start again; the graph only if events have come since the last start, as one jump shows in several clocks."""
        begun = self._time.last is not None
        self._time.restart()
        if begun:
            self._begin_anew(reason)

    def _begin_anew(self, reason: str) -> None:
        """Start with an empty graph: what comes has nothing to do with what came."""
        self._filters.restart_noise()
        self._empty_graph()
        self.counts.resets += 1
        self._on_reset(reason)

    def _empty_graph(self) -> None:
        """Forget all nodes and what belongs to the model's pixels."""
        self._model.live.reset()
        self._filters.restart_counting()
        self._input.restart(self._model.sensor)


def _of_classes(detections: np.ndarray, labels: Sequence[str], names: frozenset[str]) -> np.ndarray:
    """The boxes of the named classes."""
    wanted = [number for number, label in enumerate(labels) if label in names]
    return detections[np.isin(detections["class_id"], wanted)]
