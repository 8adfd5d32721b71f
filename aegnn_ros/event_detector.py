"""The node: event packets in; boxes, classes and diagnostics out."""

from __future__ import annotations

import sys
import time
import traceback
from typing import Any

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from event_camera_msgs.msg import EventPacket
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.logging import get_logger
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from aegnn_core.nn.checkpoint import TrainedModel, load_model
from aegnn_ros.camera_stream import CameraStream, warm_up
from aegnn_ros.diagnostics import StreamDiagnostics
from aegnn_ros.outputs import DetectorOutputs
from aegnn_ros.parameters import check_changes, declare_parameters, read_parameters

__all__ = ["EventDetector", "main"]

_DIAGNOSTICS_PERIOD_S = 1.0
#: A camera that sends nonsense keeps sending it: one line in this time [s] says so.
_LOG_PERIOD_S = 5.0
#: RViz shows nothing that has no frame.
_DEFAULT_FRAME = "event_camera"


class EventDetector(LifecycleNode):
    """Lifecycle node: configure loads the model, activate subscribes, deactivate keeps the graph, cleanup frees it.

    Subscribes to ``~/events`` (best effort) and publishes ``~/detections`` (detectors only), ``~/classification``,
    ``~/label_info``, ``~/markers``, ``~/annotated_image`` and ``/diagnostics``.
    """

    # While the node is configured.
    _model: TrainedModel
    _stream: CameraStream
    _outputs: DetectorOutputs
    _diagnostics: StreamDiagnostics
    # While it is active.
    _events: Subscription[EventPacket]
    _alarms: list[Timer]

    def __init__(self) -> None:
        super().__init__("event_detector")
        self._configured = self._active = False
        self._frame_id = _DEFAULT_FRAME
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.add_on_set_parameters_callback(self._check_parameters)
        self._settings = declare_parameters(self)
        self.add_post_set_parameters_callback(self._apply_parameters)

    # States

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and compile what it runs; with wrong settings say so and stay unconfigured."""
        settings = self._settings
        try:
            self._model = load_model(settings.model, device=settings.device)
            warm_up(self._model)
            self._stream = CameraStream(
                self._model,
                every_nth=settings.every_nth,
                refractory_us=settings.refractory_us,
                on_malformed=self._log_malformed,
                on_reset=self._log_reset,
            )
        except (ValueError, RuntimeError, OSError) as error:
            self.get_logger().error(f"cannot configure: {error}")
            return TransitionCallbackReturn.FAILURE
        except Exception:
            # rclpy would go on to the error state without a word.
            self.get_logger().fatal(traceback.format_exc())
            return TransitionCallbackReturn.ERROR
        self._outputs = DetectorOutputs(self, self._model.labels, self._model.task == "detection")
        topic = self.resolve_topic_name("~/events")
        self._diagnostics = StreamDiagnostics(self.get_fully_qualified_name(), topic, self._stream.counts)
        self._configured = True
        self.get_logger().info(
            f"model {self._model.name}: {self._model.task} of {', '.join(self._model.labels)}"
            f" on {settings.device}, trained for {self._model.width} x {self._model.height} px"
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the events and start to publish."""
        settings = self._settings
        self._stream.resume()
        result = super().on_activate(state)
        self._outputs.publish_labels(settings.score_threshold)
        qos = QoSProfile(depth=settings.queue_depth, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._events = self.create_subscription(EventPacket, "~/events", self._on_packet, qos)
        self._alarms = [
            self.create_timer(1.0 / settings.rate, self._publish_results),
            self.create_timer(_DIAGNOSTICS_PERIOD_S, self._publish_diagnostics),
        ]
        self._last_diagnostics = time.monotonic()
        self._active = True
        self.get_logger().info(f"listening to {self._events.topic_name}")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop to listen; the graph stays as it is."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the graph."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        self._stop()
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured, so that the node can be configured again."""
        self._stop()
        self._release()
        return super().on_error(state)

    def _stop(self) -> None:
        if self._active:
            self._active = False
            self.destroy_subscription(self._events)
            for timer in self._alarms:
                self.destroy_timer(timer)

    def _release(self) -> None:
        if self._configured:
            self._configured = False
            self._outputs.destroy()
            del self._model, self._stream, self._outputs, self._diagnostics

    # Parameters

    def _check_parameters(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        return check_changes(changes, self._configured)

    def _apply_parameters(self, changes: list[Parameter[Any]]) -> None:
        before, self._settings = self._settings, read_parameters(self)
        if self._active:
            self._alarms[0].timer_period_ns = round(1e9 / self._settings.rate)
            if self._settings.score_threshold != before.score_threshold:
                self._outputs.publish_labels(self._settings.score_threshold)

    # Events and results

    def _on_packet(self, packet: EventPacket) -> None:
        self._frame_id = packet.header.frame_id or _DEFAULT_FRAME
        events = self._stream.process(packet)
        if len(events):
            self._outputs.collect(events, packet.width, packet.height)
            self._diagnostics.note_lag(self.get_clock().now().nanoseconds - self._stream.last_stamp())

    def _publish_results(self) -> None:
        if (t := self._stream.news()) is None:
            return
        settings = self._settings
        readout = self._stream.read_out(t, settings.score_threshold, settings.iou_threshold, settings.max_detections)
        self._outputs.publish(readout, settings.frame_id or self._frame_id, round(1000 * settings.image_ms))

    def _publish_diagnostics(self) -> None:
        now = time.monotonic()
        facts = {"model": self._model.name, "device": self._settings.device}
        status = self._diagnostics.status(now - self._last_diagnostics, facts)
        self._last_diagnostics = now
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_publisher.publish(message)

    def _log_malformed(self, reason: str) -> None:
        self.get_logger().warning(reason, throttle_duration_sec=_LOG_PERIOD_S)

    def _log_reset(self, reason: str) -> None:
        self.get_logger().warning(f"the graph starts again: {reason}", throttle_duration_sec=_LOG_PERIOD_S)


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit code."""
    # The network's steps are small: a second thread costs many times what it saves, above all on a busy machine.
    torch.set_num_threads(1)
    rclpy.init(args=args)
    try:
        rclpy.spin(EventDetector())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (rclpy_implementation.RCLError, rclpy_implementation.InvalidHandle):
        # A signal shuts ROS down between any two lines of a callback, and what the callback then publishes fails.
        if rclpy.ok():
            raise
    except ParameterException as error:
        get_logger("event_detector").fatal(f"cannot start: {error}")
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
