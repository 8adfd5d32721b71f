# SPDX-License-Identifier: Apache-2.0
"""A life cycle transition succeeds though the response to it is lost, and a node that stays silent is an error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.service import Service

from tests.ros import lifecycle_client
from tests.ros.lifecycle_client import LifecycleClient


class _Target(LifecycleNode):
    """Counts how often it is configured, and fails the first ``failures`` times."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__("target")
        self.failures, self.configured = failures, 0

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.configured += 1
        return (
            TransitionCallbackReturn.FAILURE if self.configured <= self.failures else TransitionCallbackReturn.SUCCESS
        )


@pytest.fixture(autouse=True)
def quickly_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle_client, "_ASK_AGAIN_S", 0.3)


@pytest.fixture
def context() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


def _lose_responses(monkeypatch: pytest.MonkeyPatch, name: str, count: float) -> None:
    """Let the first ``count`` responses of all services of that name get lost on their way."""
    send, lost = Service.send_response, 0

    def send_or_lose(service: Service[Any, Any], response: Any, header: Any) -> None:
        nonlocal lost
        if service.service_name.endswith(name) and lost < count:
            lost += 1
            return
        send(service, response, header)

    monkeypatch.setattr(Service, "send_response", send_or_lose)


@pytest.fixture
def client(context: None) -> Iterator[LifecycleClient]:
    node = rclpy.create_node("driver")
    client = LifecycleClient(node, "/target")
    executor = MultiThreadedExecutor(2)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    yield client
    executor.shutdown()
    thread.join()


@pytest.fixture
def target(context: None) -> Iterator[_Target]:
    yield from _spun(_Target())


@pytest.fixture
def failing_target(context: None) -> Iterator[_Target]:
    yield from _spun(_Target(failures=2))


def _spun(node: _Target) -> Iterator[_Target]:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    yield node
    executor.shutdown()
    thread.join()


@pytest.mark.parametrize("lost", ["change_state", "get_state"])
def test_a_transition_whose_response_is_lost_has_succeeded_once(
    target: _Target, client: LifecycleClient, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    _lose_responses(monkeypatch, lost, 2)
    assert client.wait(20)
    assert client.change_state(Transition.TRANSITION_CONFIGURE, 20)
    assert client.state(20) == "inactive"
    assert target.configured == 1


def test_a_failed_transition_whose_response_is_lost_is_asked_for_again(
    failing_target: _Target, client: LifecycleClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lose_responses(monkeypatch, "change_state", 1)
    assert client.wait(20)
    assert not client.change_state(Transition.TRANSITION_CONFIGURE, 20)
    assert (failing_target.configured, client.state(20)) == (2, "unconfigured")


def test_a_node_that_stays_silent_is_an_error(
    target: _Target, client: LifecycleClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lose_responses(monkeypatch, "_state", float("inf"))
    assert client.wait(20)
    with pytest.raises(TimeoutError, match="/target/get_state did not answer in time"):
        client.change_state(Transition.TRANSITION_CONFIGURE, 1.0)
