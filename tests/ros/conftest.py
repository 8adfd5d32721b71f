# SPDX-License-Identifier: Apache-2.0
"""Untrained models in files, and a node in the test process that talks to an event detector in another one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from event_camera_msgs.msg import EventPacket
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Classification, Detection2DArray
from visualization_msgs.msg import MarkerArray

from aegnn_core.events.array import EventStream, make_events
from aegnn_core.events.rosbag import RecordedPacket, event_packets
from aegnn_core.graph import GraphConfig
from aegnn_core.nn.checkpoint import TrainedModel, save_model
from aegnn_core.nn.networks import network
from aegnn_ros.conversions import nanoseconds, packet_message
from aegnn_ros.detector.parameters import default_parameters
from aegnn_ros.installed_files import large_packet_profile
from aegnn_ros.playback import node_process
from aegnn_ros.playback.node_process import NodeProcess
from aegnn_ros.playback.packet_replay import DRIVER_QOS, publish_in_time
from tests.conftest import claimed_ros_domain
from tests.ros.lifecycle_client import LifecycleClient

LABELS = {"detection": ("car", "pedestrian"), "recognition": ("car", "pedestrian", "clutter")}

COUNTS = ("packets", "packets_lost", "packets_dropped", "packets_malformed", "events")

#: No packet gets lost on its way to a node that is kept from running for a while.
PATIENT = {"queue_depth": 1000}

#: Tests need not wait for diagnostics.
TALKATIVE = {"diagnostic_updater.period": 0.2}

#: Nothing more comes of what was sent if nothing has come for this long [s].
SETTLED_S = 0.5

#: An answer that takes longer than this is lost [s]; all requests of the tests may be made twice.
ASK_AGAIN_S = 15.0

Parameters = dict[str, str | int | float]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file with an untrained network per task."""
    folder = tmp_path_factory.mktemp("models")
    files = {}
    torch.manual_seed(0)
    for task, labels in LABELS.items():
        architecture = {"name": "graph_grid", "dataset": "simulated", "task": task}
        graph = GraphConfig(radius=3.0, max_neighbors=8, time_scale=6e-5, window=50_000)
        files[task] = folder / f"{task}.safetensors"
        save_model(files[task], TrainedModel(network(**architecture), graph, labels, task, architecture))
    return files


@pytest.fixture(scope="session")
def packets() -> list[RecordedPacket]:
    """One second of a bright bar that moves over a sensor of the models' size, as evt3 packets of 10 ms."""
    rng = np.random.default_rng(1)
    count = 20_000
    t = np.sort(rng.integers(0, 1_000_000, count))
    x = (20 + 100 * t / 1_000_000 + rng.integers(0, 4, count)).astype(int)
    y, p = rng.integers(30, 90, count), rng.integers(0, 2, count)
    return list(event_packets(EventStream(make_events(t, x, y, p), 160, 120), packet_us=10_000))


class Conversation:
    """A node that publishes events to ``/event_detector`` and keeps all that comes back, by topic."""

    def __init__(self, node: Node, process: NodeProcess, parameters: Parameters) -> None:
        self.node, self.process, self.parameters = node, process, parameters
        # First of all: a node that knows the clients, because it has answered, knows what was there before them, too.
        self.advertise()
        self.lifecycle = LifecycleClient(node, "/event_detector")
        self._reload_model = node.create_client(Trigger, "/event_detector/reload_model")
        self._enable = node.create_client(SetBool, "/event_detector/enable")
        self._set_parameters = node.create_client(SetParameters, "/event_detector/set_parameters")
        self.received: dict[str, list[Any]] = {}
        for topic, kind in (
            ("detections", Detection2DArray),
            ("classification", Classification),
            ("markers", MarkerArray),
            ("annotated_image", Image),
        ):
            self.listen(f"/event_detector/{topic}", kind)
        self.listen("/diagnostics", DiagnosticArray)

    def advertise(self) -> None:
        """Become a publisher of events, as at the beginning."""
        self.publisher = self.node.create_publisher(EventPacket, "/event_detector/events", DRIVER_QOS)

    def peer(self, name: str) -> LifecycleClient:
        """The life cycle of another node of the process."""
        client = LifecycleClient(self.node, name)
        self.wait(partial(client.wait, 0.1))
        return client

    def listen(self, topic: str, kind: type, qos: Any = 1000) -> None:
        """Keep the messages of a topic in ``received`` under the last part of its name."""
        messages = self.received.setdefault(topic.rpartition("/")[2], [])
        self.node.create_subscription(kind, topic, messages.append, qos)

    def wait(self, condition: Callable[[], object], timeout_s: float = 60.0) -> None:
        """Return once the condition holds; fail with the detector's log where it does not."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            self.process.check()
            assert time.monotonic() < deadline, f"waited {timeout_s} s in vain; the node's log:\n{self.process.log()}"
            time.sleep(0.02)

    def configure(self) -> bool:
        """Ask for the transition and return whether it succeeded."""
        self.wait(partial(self.lifecycle.wait, 0.1))
        return self.lifecycle.change_state(Transition.TRANSITION_CONFIGURE)

    def activate(self) -> None:
        """Bring an inactive detector to active and wait until it listens."""
        earlier = self._subscriptions()  # we may not have heard yet that they are gone
        assert self.lifecycle.change_state(Transition.TRANSITION_ACTIVATE)
        self.wait(lambda: self._subscriptions() - earlier)
        self.wait(self.publisher.get_subscription_count)

    def wait_for_publishers(self, topic: str, number: int) -> list[Any]:
        """Those of one of the detector's topics, as soon as there are so many: one hears of changes some time after."""
        name = f"/event_detector/{topic}"
        self.wait(lambda: len(self.node.get_publishers_info_by_topic(name)) == number)
        found: list[Any] = self.node.get_publishers_info_by_topic(name)
        return found

    def _subscriptions(self) -> set[bytes]:
        """Those to our events, each with a name that none had before."""
        found = self.node.get_subscriptions_info_by_topic("/event_detector/events")
        return {bytes(subscription.endpoint_gid) for subscription in found}

    def clean_up(self) -> None:
        """Bring an active or inactive detector to unconfigured."""
        if self.lifecycle.state() == "active":
            assert self.lifecycle.change_state(Transition.TRANSITION_DEACTIVATE)
        if self.lifecycle.state() == "inactive":
            assert self.lifecycle.change_state(Transition.TRANSITION_CLEANUP)

    @contextmanager
    def unconfigured(self, **parameters: str | int | float) -> Iterator[None]:
        """An active detector is unconfigured, with all parameters at their defaults but these and the model.

        After the block it is active again, with the parameters that it was started with.
        """
        self.clean_up()
        self.forget()
        defaults = default_parameters() | {"model": self.parameters["model"]} | TALKATIVE
        self._set_parameters_to(defaults | parameters)
        try:
            yield
        finally:
            self.clean_up()
            self._set_parameters_to(defaults | self.parameters)
            assert self.configure()
            self.activate()

    def _set_parameters_to(self, parameters: Mapping[str, Any]) -> None:
        for result in self._set(**parameters):
            assert result.successful, result.reason

    def forget(self) -> None:
        """Empty ``received``."""
        for messages in self.received.values():
            messages.clear()

    def play(self, packets: Iterable[RecordedPacket]) -> None:
        """Publish packets with their own timing and stamps of now."""
        for _ in publish_in_time(packets, self.publisher, self.node.get_clock().now().nanoseconds):
            self.process.check()

    def play_one(self, packet: RecordedPacket, stamp: int | None = None) -> None:
        """Publish one packet at once, with a stamp [ns] or that of now."""
        now = self.node.get_clock().now().nanoseconds
        self.publisher.publish(packet_message(packet, now if stamp is None else stamp))

    def diagnostics(self) -> dict[str, str]:
        """The values of a status that is made after this call began."""
        begin, messages = self.node.get_clock().now().nanoseconds, self.received["diagnostics"]
        self.wait(lambda: messages and nanoseconds(messages[-1].header.stamp) > begin)
        return {value.key: value.value for value in messages[-1].status[0].values}

    def counts(self) -> dict[str, int]:
        """The counts of packets and events, once everything is worked off."""
        values = self.settle()
        return {name: int(values[name]) for name in COUNTS}

    def settle(self) -> dict[str, str]:
        """Wait until the detector has worked off what was sent, and return the values of its status.

        That is when nothing waits, and nothing has changed for half a second.
        """
        now, last_change = self.diagnostics(), time.monotonic()
        while time.monotonic() < last_change + SETTLED_S:
            before, now = now, self.diagnostics()
            if any(now[name] != before[name] for name in (*COUNTS, "resets")) or float(now["queue_kb"]):
                last_change = time.monotonic()
        return now

    def set_parameter(self, name: str, value: Any) -> SetParametersResult:
        """What ``ros2 param set`` does."""
        return self._set(**{name: value})[0]

    def _set(self, **parameters: Any) -> Sequence[SetParametersResult]:
        messages = [Parameter(name, value=value).to_parameter_msg() for name, value in parameters.items()]
        return self._call(self._set_parameters, SetParameters.Request(parameters=messages)).results

    def reload_model(self) -> Trigger.Response:
        """What ``ros2 service call …/reload_model`` does."""
        return self._call(self._reload_model, Trigger.Request())

    def enable(self, data: bool) -> SetBool.Response:
        """What ``ros2 service call …/enable`` does."""
        return self._call(self._enable, SetBool.Request(data=data))

    def _call(self, client: Client, request: Any) -> Any:
        self.wait(partial(client.wait_for_service, 0.1))
        return ask(client, request, self.process.check)


def ask(client: Client, request: Any, check: Callable[[], None] = lambda: None) -> Any:
    """Ask a service that is there, and again if no answer comes: one gets lost if the service does not know us yet."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answered = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _, answered=answered: answered.set())
        if answered.wait(ASK_AGAIN_S):
            return future.result()
        check()
    raise TimeoutError(f"{client.srv_name} did not answer")


def start_player(*arguments: object) -> subprocess.Popen[str]:
    """Start ``play_events`` with these arguments, on the topic of the detector ``/event_detector``."""
    command = [sys.executable, "-m", "aegnn_ros.playback.bag_player", *map(str, arguments)]
    remapping = ["--ros-args", "-r", "/event_camera/events:=/event_detector/events"]
    return subprocess.Popen([*command, *remapping], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@contextmanager
def spinning_node() -> Iterator[Node]:
    """A node in a ROS domain of its own, whose callbacks run in another thread."""
    with pytest.MonkeyPatch.context() as environment, claimed_ros_domain(environment):
        for name, value in large_packet_profile().items():
            environment.setenv(name, value)
        context = rclpy.Context()
        rclpy.init(context=context)
        node = Node("test", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin)
        thread.start()
        try:
            yield node
        finally:
            executor.shutdown()
            thread.join()
            node.destroy_node()
            rclpy.try_shutdown(context=context)


@contextmanager
def conversation(
    parameters: Parameters, names: Sequence[str] = (), program: str = node_process.__name__
) -> Iterator[Conversation]:
    """Start a detector, and a node to talk to it."""
    parameters = TALKATIVE | parameters
    with spinning_node() as node, NodeProcess(parameters, names, program) as process:
        yield Conversation(node, process, parameters)
