# SPDX-License-Identifier: Apache-2.0
"""The worker thread of a camera: decodes its packets, updates the network and publishes results, in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from event_camera_msgs.msg import EventPacket
from rclpy.clock import Clock

from aegnn_core.events.array import EventFormatError
from aegnn_ros.detector.camera_stream import CameraStream
from aegnn_ros.detector.event_arrays import SerializedArray
from aegnn_ros.detector.outputs import DetectorOutputs
from aegnn_ros.detector.packet_queue import Arrival, PacketQueue, TakenPackets
from aegnn_ros.detector.parameters import DetectorParameters
from aegnn_ros.detector.ready_model import ReadyModel
from aegnn_ros.detector.thinning import LoadControl
from aegnn_ros.detector.tracking import DetectionTracker

__all__ = ["DetectionWorker", "Load"]

#: Where neither the parameter nor the camera names a frame: RViz shows nothing without one.
_DEFAULT_FRAME = "event_camera"
#: After this time without a packet [s], a result of what is left is published, and later one of an expired graph.
_PAUSE_S = 1.0


@dataclass
class Load:
    """The worker's load since it was last asked.

    Attributes:
        lag: longest time from a packet's arrival to the end of its update [s].
        factor: largest factor by which events were thinned.
        results: results published.
        readout: longest time that a result took [s].
    """

    lag: float = 0.0
    factor: float = 1.0
    results: int = 0
    readout: float = 0.0


class DetectionWorker:
    """Everything that takes time happens in this thread; those of the receiver and the executor only hand over.

    It decodes all packets that are waiting. Then it updates the network once with all their events, thinned if there
    are more than the latency budget allows, and makes a result if one is due.

    Args:
        stream: of the camera; it belongs to the worker while that runs.
        outputs: where results go.
        settings: of the node; assign :attr:`settings` to change them.
        clock: ROS time.
        on_failure: called in the worker's thread with the error that has ended it.
    """

    def __init__(
        self,
        stream: CameraStream,
        outputs: DetectorOutputs,
        settings: DetectorParameters,
        clock: Clock,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self.settings = settings
        self.queue = PacketQueue(round(1e6 * settings.queue_mb))
        self._stream, self._outputs, self._clock = stream, outputs, clock
        self._on_failure = on_failure
        self._control = LoadControl(stream.model.cost)
        self._busy = threading.Lock()
        self._load, self._load_lock = Load(), threading.Lock()
        self._tracker = DetectionTracker()
        self._frame_id = ""
        self._events_since_result = 0
        # A daemon: a network that never returns does not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="detection", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """End the thread after its current work, but wait no longer than the timeout; what still waits is dropped."""
        self.queue.close()
        self._thread.join(timeout_s)

    def use_model(self, model: ReadyModel, outputs: DetectorOutputs) -> None:
        """Switch to another model, whose results go to these outputs, after the packets that are being processed."""
        with self._busy:
            self._stream.use_model(model)
            self._outputs, self._control = outputs, LoadControl(model.cost)

    def take_load(self) -> Load:
        """The worker's load since the last call."""
        with self._load_lock:
            load, self._load = self._load, Load()
            return load

    def _run(self) -> None:
        try:
            while (taken := self.queue.take(_PAUSE_S)) is not None:
                with self._busy:
                    self._process(taken)
        except Exception as error:  # the thread would end silently
            self._on_failure(error)

    def _process(self, taken: TakenPackets) -> None:
        settings = self.settings
        if settings.region != self._stream.region:
            self._stream.look_at(settings.region)
        self._stream.filter_noise(settings.noise_filter_us, settings.pixel_rate_hz)
        if settings.downsampling != self._stream.downsampling:
            self._stream.downsample(settings.downsampling)
        events = sum(self._take_in(arrival.packet) for arrival in taken.arrivals)
        if self._stream.waiting:
            self._update(taken.arrivals, 1e-3 * settings.max_latency_ms)
        self._events_since_result += events
        if (
            taken.readout
            or (settings.trigger == "packet" and taken.arrivals)
            or (settings.trigger == "events" and self._events_since_result >= settings.events_per_result)
        ):
            self._publish_result(settings)

    def _take_in(self, arrived: EventPacket | SerializedArray) -> int:
        if not isinstance(arrived, SerializedArray):
            return self._decode(arrived)
        try:
            packet = arrived.packet()
        except EventFormatError as error:
            self._stream.refuse(arrived.seq, str(error))
            return 0
        return self._decode(packet)

    def _decode(self, packet: EventPacket) -> int:
        begin = time.perf_counter()
        events = self._stream.decode(packet, self._clock.now().nanoseconds)
        if len(events):
            self._frame_id = packet.header.frame_id
            self._outputs.collect(events, packet.width, packet.height)
        if triggers := self._stream.take_triggers():
            self._outputs.publish_triggers(triggers, self._frame_of(packet.header.frame_id))
        self._control.note_decoding(time.perf_counter() - begin)
        return len(events)

    def _update(self, arrivals: list[Arrival], max_latency: float) -> None:
        begin = time.monotonic()
        factor = self._control.factor(self._stream.waiting, begin - arrivals[0].time, begin, max_latency)
        count = self._stream.update(factor)
        end = time.monotonic()
        self._control.note_update(count, end - begin)
        with self._load_lock:
            self._load.lag = max(self._load.lag, end - arrivals[0].time)
            self._load.factor = max(self._load.factor, factor)

    def _frame_of(self, camera: str) -> str:
        return self.settings.frame_id or camera or _DEFAULT_FRAME

    def _publish_result(self, settings: DetectorParameters) -> None:
        self._events_since_result = 0
        if (t := self._stream.next_readout(self._clock.now().nanoseconds)) is None:
            return
        begin = time.perf_counter()
        readout = self._stream.read_out(
            t, settings.lowest_score, settings.iou_threshold, settings.max_detections, settings.class_names
        )
        if settings.tracking:
            readout = self._tracker.follow(readout, settings.score_threshold)
        self._outputs.publish(
            readout, self._frame_of(self._frame_id), round(1000 * settings.image_ms), settings.undistort
        )
        seconds = time.perf_counter() - begin
        self._control.note_readout(seconds)
        with self._load_lock:
            self._load.results += 1
            self._load.readout = max(self._load.readout, seconds)
