# SPDX-License-Identifier: Apache-2.0
"""The node in the process of its test: what transitions that fail leave behind, and what a swapped model takes away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_srvs.srv import Trigger
from vision_msgs.msg import LabelInfo
from visualization_msgs.msg import Marker, MarkerArray

from aegnn_ros.detector.detector_node import EventDetector
from aegnn_ros.detector.ready_model import prepare_model

SUCCESS = TransitionCallbackReturn.SUCCESS
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@contextmanager
def detector(models: dict[str, Path], *parameters: str) -> Iterator[EventDetector]:
    """An unconfigured node with these parameters."""
    given = (f"model:={models['detection']}", "threads:=1", *parameters)
    rclpy.init(args=["--ros-args", *(word for one in given for word in ("-p", one))])
    node = EventDetector()
    try:
        yield node
    finally:
        node.end()
        node.destroy_node()
        rclpy.shutdown()


def left_behind(node: EventDetector) -> tuple[int, int, int]:
    """How many publishers, subscriptions and threads there are."""
    return len(list(node.publishers)), len(list(node.subscriptions)), threading.active_count()


@pytest.mark.parametrize(
    ("override", "configures", "complaint"),
    [
        (
            "/event_detector/markers.publisher.reliability:=best-effort",
            False,
            "cannot configure: Unexpected QoS override",
        ),
        ("/event_detector/events.subscription.depth:=much", True, "cannot activate: "),
    ],
)
def test_what_cannot_be_configured_or_activated_is_said_and_leaves_nothing_behind(
    models: dict[str, Path], override: str, configures: bool, complaint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with detector(models, f"qos_overrides.{override}") as node:
        before = left_behind(node)
        for _ in range(2):
            assert (node.trigger_configure() == SUCCESS) is configures
            if configures:
                assert node.trigger_activate() == TransitionCallbackReturn.ERROR
            status = node._idle_status()
            assert (status.level, status.values[0].value) == (DiagnosticStatus.ERROR, "unconfigured")
            assert status.message.startswith(complaint)
            assert left_behind(node) == before
        said = capfd.readouterr().err
        assert said.count(status.message) == 2
        assert "Traceback" not in said


def test_an_error_of_the_program_is_said_with_its_place(
    models: dict[str, Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with detector(models) as node:
        monkeypatch.setattr(EventDetector, "_outputs_of", lambda self, model: model.no_such_attribute)
        before = left_behind(node)
        assert node.trigger_configure() == TransitionCallbackReturn.ERROR
        assert node._idle_status().message.startswith("cannot configure: AttributeError: ")
        assert left_behind(node) == before
        assert "Traceback" in capfd.readouterr().err
        monkeypatch.undo()
        assert node.trigger_configure() == SUCCESS
        assert node._idle_status().message == "inactive"


class Listener:
    """A node that keeps what a detector publishes, while both are spun."""

    def __init__(self, detector: EventDetector, topics: dict[str, tuple[type, Any]]) -> None:
        self.received: dict[str, list[Any]] = {name: [] for name in topics}
        self._node = Node("listener")
        for name, (kind, qos) in topics.items():
            self._node.create_subscription(kind, f"/event_detector/{name}", self.received[name].append, qos)
        self._executor = SingleThreadedExecutor()
        for node in (detector, self._node):
            self._executor.add_node(node)

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline
            self._executor.spin_once(timeout_sec=0.05)

    def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What a coroutine returns."""
        task = self._executor.create_task(work, *arguments)
        self.wait(task.done)
        return task.result()

    def end(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()


def test_a_model_with_other_classes_takes_the_markers_of_the_old_one_away(models: dict[str, Path]) -> None:
    with detector(models) as node:
        assert node.trigger_configure() == node.trigger_activate() == SUCCESS
        listener = Listener(node, {"markers": (MarkerArray, 10), "label_info": (LabelInfo, LATCHED)})
        markers, labels = listener.received.values()
        (publisher,) = (publisher for publisher in node.publishers if publisher.topic_name.endswith("/markers"))
        listener.wait(lambda: labels and publisher.get_subscription_count())
        node._swap_model(prepare_model(str(models["recognition"]), "cpu", threads=1))
        listener.wait(lambda: markers and len(labels) == 2)
        assert [marker.action for marker in markers[0].markers] == [Marker.DELETEALL]
        assert len(labels[1].class_map) == 3
        listener.end()


def test_a_model_whose_outputs_cannot_be_made_does_not_take_the_place_of_another(models: dict[str, Path]) -> None:
    """Only a detector publishes detections."""
    override = "qos_overrides./event_detector/detections.publisher.reliability:=best-effort"
    with detector(models, f"model:={models['recognition']}", override) as node:
        assert node.trigger_configure() == node.trigger_activate() == SUCCESS
        before = left_behind(node)
        node.set_parameters([Parameter("model", value=str(models["detection"]))])
        listener = Listener(node, {})
        answer = listener.run(node._on_reload_model, Trigger.Request(), Trigger.Response())
        assert answer.message.startswith("recognition goes on: Unexpected QoS override")
        assert not answer.success
        assert left_behind(node) == before
        listener.end()


def test_the_threshold_that_is_told_is_that_of_tracks_while_there_are_any(models: dict[str, Path]) -> None:
    pytest.importorskip("edgefirst.tracker", reason="edgefirst-tracker is not installed")
    with detector(models, "tracking:=true") as node:
        assert node.trigger_configure() == node.trigger_activate() == SUCCESS
        listener = Listener(node, {"label_info": (LabelInfo, LATCHED)})
        told = listener.received["label_info"]
        for count, (name, value, threshold) in enumerate(
            [("tracking", True, 0.1), ("tracking", False, 0.3), ("score_threshold", 0.05, 0.05)], 1
        ):
            (result,) = node.set_parameters([Parameter(name, value=value)])
            assert result.successful
            listener.wait(lambda count=count: len(told) == count)
            assert told[-1].threshold == pytest.approx(threshold)
        listener.end()


def test_diagnostics_know_the_end_and_leave_out_what_an_idle_node_does(models: dict[str, Path]) -> None:
    with detector(models) as node:
        assert node.trigger_configure() == node.trigger_activate() == SUCCESS
        node._input.enable(False)
        node._input.counts.packets_lost += 3
        node._publish_diagnostics()
        node._input.enable(True)
        status = node._active_status(1.0)
        assert "packets lost" not in status.message
        assert {value.key: value.value for value in status.values}["packets_lost"] == "3"
        assert node.trigger_shutdown() == SUCCESS
        status = node._idle_status()
        assert (status.message, status.values[0].value) == ("finalized", "finalized")
