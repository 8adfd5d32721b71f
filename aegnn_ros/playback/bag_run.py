# SPDX-License-Identifier: Apache-2.0
"""Plays recorded packets to a detector in another process, through ROS in real time, and collects its answers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from event_camera_msgs.msg import EventPacket
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from vision_msgs.msg import Classification, Detection2DArray

from aegnn_core.events.recorded_packet import RecordedPacket
from aegnn_core.nn.detection import DETECTION_DTYPE
from aegnn_ros.conversions import detections_of, nanoseconds, scores_of
from aegnn_ros.installed_files import large_packet_profile
from aegnn_ros.playback.node_process import NodeProcess
from aegnn_ros.playback.packet_replay import DRIVER_QOS, PublishedPacket, publish_in_time
from aegnn_ros.playback.ros_domain import OTHER_DISCOVERY, claim_ros_domain

__all__ = ["BagRun", "BagRunner", "ReceivedResult", "isolate_ros"]

_TARGET = "/event_detector"
#: Longest time for loading torch and compiling, even on a slow machine [s].
_TIMEOUT_S = 120.0
_POLL_S = 0.1
_SETTLE_S = 0.5
_RESULTS_DEPTH = 1000
#: The claims on this process's ROS domains, held until it ends.
_claims: list[object] = []


@dataclass(frozen=True)
class ReceivedResult:
    """One message: detections, or class scores of a model that only classifies.

    Attributes:
        stamp: of its header [ns, ROS time].
        received: when it came, on the clock of ``time.monotonic_ns`` [ns].
        boxes: ``DETECTION_DTYPE [N]``.
        scores: one per class ``[classes]``.
    """

    stamp: int
    received: int
    boxes: np.ndarray = field(default_factory=lambda: np.empty(0, DETECTION_DTYPE))
    scores: np.ndarray = field(default_factory=lambda: np.empty(0))


@dataclass
class BagRun:
    """What went in and what came out.

    Attributes:
        sent: the packets.
        results: the node's answers.
        diagnostics: values of its last diagnostic status.
        history: values of all of them.
        idle: whether the last one found no new packets.
        failure: why the node is not active, where it has said so.
    """

    sent: list[PublishedPacket] = field(default_factory=list)
    results: list[ReceivedResult] = field(default_factory=list)
    diagnostics: dict[str, str] = field(default_factory=dict)
    history: list[dict[str, str]] = field(default_factory=list)
    idle: bool = False
    failure: str = ""


def isolate_ros() -> None:
    """Give this process and its children a ROS domain of their own on the loopback, and room for large packets."""
    domain, claim = claim_ros_domain()
    _claims.append(claim)
    for name in OTHER_DISCOVERY:
        os.environ.pop(name, None)
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.update(large_packet_profile())


class BagRunner:
    """Starts a detector for each recording, plays the recording to it and collects its answers; a context manager.

    Ctrl-C raises ``KeyboardInterrupt`` as usual, which unwinds a run and stops its detector.

    Args:
        task: of the detectors' models, ``"detection"`` or ``"recognition"``.

    Attributes:
        node: does the talking; further subscriptions may be added to it.

    Raises:
        OSError: ROS cannot start, for example because it has no folder for its log.
    """

    def __init__(self, task: str = "detection") -> None:
        try:
            rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        except rclpy_implementation.RCLError as error:
            rclpy.try_shutdown()
            raise OSError(f"ROS cannot start: {error}; ROS_LOG_DIR names a folder that its log can go to") from None
        self.node = Node("bag_run")
        self._run, self._begun = BagRun(), 0
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._keep_diagnostics, 10)
        self._publisher = self.node.create_publisher(EventPacket, f"{_TARGET}/events", DRIVER_QOS)
        self._results: Subscription[Any] = (
            self.node.create_subscription(
                Detection2DArray, f"{_TARGET}/detections", self._keep_detections, _RESULTS_DEPTH
            )
            if task == "detection"
            else self.node.create_subscription(
                Classification, f"{_TARGET}/classification", self._keep_scores, _RESULTS_DEPTH
            )
        )

    def __enter__(self) -> BagRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        rclpy.try_shutdown()

    def run(
        self,
        packets: Iterable[RecordedPacket],
        parameters: Mapping[str, str | int | float],
        progress: Callable[[int], None] = lambda played: None,
        rate: float = 1.0,
    ) -> BagRun:
        """Start a detector, bring it to active, play all packets, wait for the last answer and stop it.

        Args:
            packets: in the order of their receipt.
            parameters: of the detector.
            progress: called with the number of packets played so far.
            rate: how many times as fast as recorded.

        Raises:
            NodeProcessError: the detector ended, could not be configured or fell silent.
        """
        run = self._run = BagRun()
        self._begun = self.node.get_clock().now().nanoseconds
        with NodeProcess({**parameters, "autostart": True}) as process, _spinning(self.node):
            _wait(lambda: run.diagnostics or run.failure, process)
            if run.failure:
                raise process.error("the node did not become active")
            _wait(lambda: self._publisher.get_subscription_count() and self._results.get_publisher_count(), process)
            # We have discovered the node, but it also has to discover us: it misses what is published before that.
            _wait(lambda: int(run.diagnostics.get("publishers", 0)), process)
            time.sleep(_SETTLE_S)
            now = self.node.get_clock().now().nanoseconds
            for sent in publish_in_time(packets, self._publisher, now, rate):
                run.sent.append(sent)
                progress(len(run.sent))
                process.check()
            played = len(run.history)
            _wait(lambda: len(run.history) > played + 1 and run.idle, process)
        return run

    def _keep_detections(self, message: Detection2DArray) -> None:
        received = time.monotonic_ns()
        stamp = nanoseconds(message.header.stamp)
        self._run.results.append(ReceivedResult(stamp, received, boxes=detections_of(message)))

    def _keep_scores(self, message: Classification) -> None:
        received = time.monotonic_ns()
        stamp = nanoseconds(message.header.stamp)
        self._run.results.append(ReceivedResult(stamp, received, scores=scores_of(message)))

    def _keep_diagnostics(self, message: DiagnosticArray) -> None:
        run, status = self._run, message.status[0]
        values = {value.key: value.value for value in status.values}
        if nanoseconds(message.header.stamp) < self._begun:  # of the detector before
            return
        if values["state"] != "active":
            run.failure = status.message if status.level == DiagnosticStatus.ERROR else ""
            return
        run.idle = values["packets"] == run.diagnostics.get("packets")
        run.diagnostics = values
        run.history.append(values)


def _wait(condition: Callable[[], object], process: NodeProcess) -> None:
    """Return once ``condition`` holds; raise where the process ends or nothing happens."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not condition():
        process.check()
        if time.monotonic() > deadline:
            raise process.error(f"the node did not answer within {_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)


@contextmanager
def _spinning(node: Node) -> Iterator[None]:
    """Run a node's callbacks in another thread."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join()
