# SPDX-License-Identifier: Apache-2.0
"""The node: event packets in; boxes, classes and diagnostics out."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.timer import Timer
from std_srvs.srv import SetBool, Trigger

from aegnn_core.events.event_array_topics import EVENT_ARRAY_TYPES
from aegnn_ros.detector import topics
from aegnn_ros.detector.background import run_in_thread, wait_for_thread
from aegnn_ros.detector.calibration_input import CalibrationInput
from aegnn_ros.detector.camera_model import CameraModel
from aegnn_ros.detector.camera_stream import CameraStream
from aegnn_ros.detector.detection_worker import DetectionWorker
from aegnn_ros.detector.diagnostics import NodeFacts, StreamDiagnostics, idle_status, status_name
from aegnn_ros.detector.event_arrays import array_type
from aegnn_ros.detector.event_input import EventInput
from aegnn_ros.detector.outputs import DetectorOutputs
from aegnn_ros.detector.parameters import (
    DetectorParameters,
    check_changes,
    declare_parameters,
    read_parameters,
    unknown_parameters,
)
from aegnn_ros.detector.ready_model import ReadyModel, prepare_model
from aegnn_ros.detector.setup_check import what_does_not_fit

__all__ = ["EventDetector"]

#: A camera that sends nonsense keeps sending it: one line in this time [s] says so.
_LOG_PERIOD_S = 5.0
#: How long the end of the process waits for the worker [s].
_PATIENCE_S = 5.0
#: What a wrong setting raises: its text says what is wrong.
_WRONG_SETTING = (ValueError, RuntimeError, OSError, ParameterException)


class EventDetector(LifecycleNode):
    """The lifecycle node: configure loads the model, activate subscribes, deactivate keeps the graph, cleanup frees it.

    Subscribes to ``~/events`` (best effort) and ``~/camera_info``, and publishes ``~/detections`` (detectors only),
    ``~/classification``, ``~/label_info``, ``~/markers``, ``~/triggers``, ``~/annotated_image`` (``/compressed``) and
    ``/diagnostics``. The service ``~/reload_model`` swaps the model while the node runs, ``~/enable`` pauses it.

    Callbacks only hand over; a :class:`DetectionWorker` does the work while the node is active.
    """

    # While the node is configured.
    _stream: CameraStream
    _outputs: DetectorOutputs
    _diagnostics: StreamDiagnostics
    # While it is active.
    _worker: DetectionWorker
    _result_timer: Timer | None
    _active_state: LifecycleState

    def __init__(self, name: str = "event_detector") -> None:
        super().__init__(name)
        self._configured = self._active = self._finalized = False
        self._failure = ""  # why it is unconfigured, where that was not asked for
        self._diagnostics_publisher = self.create_publisher(topics.DIAGNOSTICS.kind, topics.DIAGNOSTICS.name, 10)
        self.add_on_set_parameters_callback(self._check_parameters)
        self._settings = declare_parameters(self)
        if unknown := unknown_parameters(self):
            self.get_logger().warning(f"ignored, as this node has no such parameters: {unknown}")
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._input = EventInput(self)
        self._calibration = CalibrationInput(self, self._use_calibration)
        self.create_service(
            topics.RELOAD_MODEL.kind,
            topics.RELOAD_MODEL.name,
            self._on_reload_model,
            callback_group=MutuallyExclusiveCallbackGroup(),
        )
        self.create_service(topics.ENABLE.kind, topics.ENABLE.name, self._on_enable)
        self._last_diagnostics = time.monotonic()
        self._diagnostics_timer = self._timer_for_diagnostics()

    # States

    def start(self) -> None:
        """Configure and activate, where the parameter autostart asks for it; call it once the node is spinning."""
        if self._settings.autostart and self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and compile what it runs; with wrong settings say so and stay unconfigured."""
        return self._attempt("configure", partial(self._configure, state), TransitionCallbackReturn.FAILURE)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the events and start publishing; where that fails say so and be unconfigured again."""
        return self._attempt("activate", partial(self._activate, state), TransitionCallbackReturn.ERROR)

    def _attempt(
        self, what: str, work: Callable[[], TransitionCallbackReturn], refused: TransitionCallbackReturn
    ) -> TransitionCallbackReturn:
        """What ``work`` returns; where it fails, say so and leave nothing behind, which rclpy does not do.

        ``refused`` is returned where a setting is wrong.
        """
        try:
            return work()
        except _WRONG_SETTING as error:
            result, self._failure = refused, f"cannot {what}: {error}"
            if self.context.ok():  # otherwise a signal has shut ROS down under it
                self.get_logger().error(self._failure)
        except Exception as error:
            result, self._failure = TransitionCallbackReturn.ERROR, f"cannot {what}: {type(error).__name__}: {error}"
            if self.context.ok():
                self.get_logger().fatal(traceback.format_exc())
        self._stop()
        self._release()
        return result

    def _configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        settings = self._settings
        if settings.events_type in EVENT_ARRAY_TYPES:
            array_type(settings.events_type)  # or it is missing
        model = wait_for_thread(partial(_prepare, settings))
        self._stream = CameraStream(
            model,
            region=settings.region,
            downsampling=settings.downsampling,
            every_nth=settings.every_nth,
            refractory_us=settings.refractory_us,
            on_malformed=self._log_malformed,
            on_reset=self._log_reset,
        )
        self._input.restart()
        self._diagnostics = StreamDiagnostics(self._status_name(), self._input.counts, self._stream.counts)
        self._last_diagnostics = time.monotonic()
        self._outputs = self._outputs_of(model)
        self._failure = ""
        self._configured = True
        self._log_model(model)
        return super().on_configure(state)

    def _activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        self._active_state = state
        self._stream.resume()
        self._outputs.publish_labels(self._settings.lowest_score)
        self._result_timer = None
        self._worker = DetectionWorker(
            self._stream, self._outputs, self._settings, self.get_clock(), self._on_thread_failure
        )
        self._active = True
        self._input.listen(
            self._settings.events_type, self._settings.queue_depth, self._worker.queue, self._on_thread_failure
        )
        self._set_result_timer()
        self.get_logger().info(f"listening to {self._input.topic_name}")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening; the graph stays as it is."""
        self._stop()
        if self._failure:
            return TransitionCallbackReturn.ERROR
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the graph."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, from any state."""
        self._stop()
        self._release()
        self._finalized = True
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured, so that the node can be configured again."""
        self._stop()
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def _stop(self) -> None:
        if self._active:
            self._active = False
            self._input.stop()
            if self._result_timer is not None:
                self.destroy_timer(self._result_timer)
            self._worker.stop()
            self._outputs.clear_markers()
            del self._worker

    def _release(self) -> None:
        if self._configured:
            self._configured = False
            self._outputs.destroy()
            del self._stream, self._outputs, self._diagnostics
            gc.collect()
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.empty_cache()

    def end(self) -> None:
        """End the worker, where the process ends without a transition."""
        if self._active:
            self._active = False
            self._input.stop()
            self._worker.stop(_PATIENCE_S)

    def _on_thread_failure(self, error: Exception) -> None:
        """The receiver or the worker has ended, and says so in its own thread: leave active through the error state."""
        if not self.context.ok():  # a signal has shut ROS down under it
            return
        self._failure = f"{type(error).__name__}: {error}"
        self.get_logger().fatal("".join(traceback.format_exception(error)))
        if self.executor is not None:
            self.executor.create_task(self._leave_active)

    def _leave_active(self) -> None:
        if self._active:
            self.trigger_deactivate()

    # Parameters and model

    def _check_parameters(self, changes: list[Parameter[Any]]) -> SetParametersResult:
        return check_changes(changes, self._settings if self._configured else None)

    def _apply_parameters(self, changes: list[Parameter[Any]]) -> None:
        before, self._settings = self._settings, read_parameters(self)
        if self._settings.diagnostics_period != before.diagnostics_period:
            self.destroy_timer(self._diagnostics_timer)
            self._diagnostics_timer = self._timer_for_diagnostics()
        if not self._active:
            return
        self._worker.settings = self._settings
        if self._settings.lowest_score != before.lowest_score:
            self._outputs.publish_labels(self._settings.lowest_score)
        if (self._settings.trigger, self._settings.rate) != (before.trigger, before.rate):
            self._set_result_timer()

    def _set_result_timer(self) -> None:
        if self._result_timer is not None:
            self.destroy_timer(self._result_timer)
            self._result_timer = None
        if self._settings.trigger == "rate":
            self._result_timer = self.create_timer(1.0 / self._settings.rate, self._request_result)

    async def _on_reload_model(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Load what the parameters model and device say while the present model goes on, and swap them."""
        if not self._configured:
            response.message = "the node is not configured: configure loads the model"
            return response
        settings, stream = self._settings, self._stream
        try:
            model = await run_in_thread(partial(_prepare, settings), self.executor)
            if model is None or not self._configured or self._stream is not stream:
                response.message = "the node was cleaned up before the model was there"
                return response
            self._swap_model(model)
        except Exception as error:
            response.message = f"{stream.model.trained.name} goes on: {error}"
            self.get_logger().error(f"cannot load another model: {response.message}")
            return response
        response.success = True
        response.message = f"{model.trained.name} on {model.device}"
        return response

    def _swap_model(self, model: ReadyModel) -> None:
        old, outputs = self._stream.model.trained, self._outputs
        if (old.labels, old.task) != (model.trained.labels, model.trained.task):
            self._outputs = self._outputs_of(model)
            if self._active:
                self._outputs.activate(self._active_state)
        if self._active:
            self._worker.use_model(model, self._outputs)
        else:
            self._stream.use_model(model)
        if self._outputs is not outputs:
            outputs.clear_markers()
            outputs.destroy()
            if self._active:
                self._outputs.publish_labels(self._settings.lowest_score)
        self._log_model(model)

    def _outputs_of(self, model: ReadyModel) -> DetectorOutputs:
        outputs = DetectorOutputs(self, model.trained.labels, model.trained.task == "detection")
        outputs.camera = self._calibration.camera
        return outputs

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Pause or go on without a change of state: while paused, packets are neither decoded nor counted as lost."""
        response.success = True
        response.message = "enabled" if request.data else "paused"
        if request.data != self._input.enabled:
            self._input.enable(request.data)
            self.get_logger().info(response.message)
        return response

    def _use_calibration(self, camera: CameraModel) -> None:
        if self._configured:
            self._outputs.camera = camera

    # Results and diagnostics

    def _works(self) -> bool:
        return self._active and self._input.enabled

    def _request_result(self) -> None:
        self._worker.queue.request_readout()

    def _timer_for_diagnostics(self) -> Timer:
        # Monitors want to hear of a node in any state, and whether ROS time goes on or not.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        return self.create_timer(self._settings.diagnostics_period, self._publish_diagnostics, clock=steady)

    def _status_name(self) -> str:
        return status_name(self.get_fully_qualified_name() if self._settings.diagnostics_use_fqn else self.get_name())

    def _publish_diagnostics(self) -> None:
        now = time.monotonic()
        interval, self._last_diagnostics = now - self._last_diagnostics, now
        if self._works():
            status = self._active_status(interval)
        else:
            self._skip_interval()
            status = self._idle_status()
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_publisher.publish(message)

    def _active_status(self, interval: float) -> DiagnosticStatus:
        topic, model = self._input.topic_name, self._stream.model
        facts = NodeFacts(
            topic=topic,
            publishers=self.count_publishers(topic),
            model=model.trained.name,
            device=model.device,
            device_choice=model.device_choice,
            camera=self._stream.camera,
            sensor=model.sensor,
            problem=what_does_not_fit(self._settings, model, self._stream.size, self._calibration.camera),
            max_latency=1e-3 * self._settings.max_latency_ms,
            queued=self._worker.queue.bytes,
        )
        status = self._diagnostics.status(interval, self._worker.take_load(), facts)
        if status.level != DiagnosticStatus.OK and "lost" in status.message:
            self.get_logger().warning(status.message, throttle_duration_sec=10 * _LOG_PERIOD_S)
        return status

    def _skip_interval(self) -> None:
        """Leave what has happened since the last status out of the next one of an active node."""
        if self._configured:
            self._diagnostics.skip()
        if self._active:
            self._worker.take_load()

    def _idle_status(self) -> DiagnosticStatus:
        return idle_status(self._status_name(), self._input.topic_name, self._idle_state(), self._failure)

    def _idle_state(self) -> str:
        if self._active:
            return "paused"
        if self._configured:
            return "inactive"
        return "finalized" if self._finalized else "unconfigured"

    def _log_model(self, model: ReadyModel) -> None:
        trained = model.trained
        self.get_logger().info(
            f"model {trained.name}: {trained.task} of {', '.join(trained.labels)}"
            f" on {model.device}, trained for {trained.width} x {trained.height} px,"
            f" downsampling {model.downsampling(self._settings.downsampling)}"
            + (", runs on the camera's sensor" if model.native else "")
            + (f"; device auto took {model.device}: {model.device_choice}" if model.device_choice else "")
        )
        if model.warning:
            self.get_logger().warning(model.warning)

    def _log_malformed(self, reason: str) -> None:
        self.get_logger().warning(reason, throttle_duration_sec=_LOG_PERIOD_S)

    def _log_reset(self, reason: str) -> None:
        self.get_logger().warning(f"the graph starts again: {reason}", throttle_duration_sec=_LOG_PERIOD_S)


def _prepare(settings: DetectorParameters) -> ReadyModel:
    """The model that the parameters name, on the device that they name."""
    return prepare_model(
        settings.model, settings.device, settings.model_sensor, settings.bound, settings.threads, settings.trust_code
    )
