# SPDX-License-Identifier: Apache-2.0
"""Drives the life cycle of a node in another process through its services.

A response can get lost: a server that answers before it has discovered the reader of the client's responses drops the
answer, and nothing on the client's side tells whether it has been discovered. So a request that stays without an answer
is made again, a transition only after a look at the state that the first request led to.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future

__all__ = ["LifecycleClient"]

#: How long an answer may take before we look what became of the request [s].
_ASK_AGAIN_S = 5.0

#: For each transition the states that it starts from, and the one that it leads to.
_TRANSITIONS: dict[int, tuple[set[str], str]] = {
    Transition.TRANSITION_CONFIGURE: ({"unconfigured"}, "inactive"),
    Transition.TRANSITION_ACTIVATE: ({"inactive"}, "active"),
    Transition.TRANSITION_DEACTIVATE: ({"active"}, "inactive"),
    Transition.TRANSITION_CLEANUP: ({"inactive"}, "unconfigured"),
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: ({"unconfigured"}, "finalized"),
    Transition.TRANSITION_INACTIVE_SHUTDOWN: ({"inactive"}, "finalized"),
    Transition.TRANSITION_ACTIVE_SHUTDOWN: ({"active"}, "finalized"),
}
_PRIMARY_STATES = {"unconfigured", "inactive", "active", "finalized"}


class LifecycleClient:
    """Calls the life cycle services of one node.

    Args:
        node: owns the clients; it has to be spinning in another thread.
        target: full name of the node to drive, such as ``/event_detector``.
    """

    def __init__(self, node: Node, target: str) -> None:
        self._change_state: Client[Any, Any] = node.create_client(ChangeState, f"{target}/change_state")
        self._get_state: Client[Any, Any] = node.create_client(GetState, f"{target}/get_state")

    def wait(self, timeout_s: float) -> bool:
        """Whether the node's services are there within this time [s]."""
        return self._change_state.wait_for_service(timeout_s) and self._get_state.wait_for_service(timeout_s)

    def change_state(self, transition: int, timeout_s: float = 60.0) -> bool:
        """Ask for a transition, one of the constants of ``lifecycle_msgs/Transition``; returns whether it succeeded.

        Raises:
            TimeoutError: no answer within ``timeout_s``.
        """
        starts, goal = _TRANSITIONS[transition]
        request = ChangeState.Request(transition=Transition(id=transition))
        deadline = time.monotonic() + timeout_s
        answer = self._change_state.call_async(request)
        while (response := _answered(answer, self._change_state, deadline)) is None:
            state = self._state(deadline)
            if answer.done() or state not in _PRIMARY_STATES:
                continue
            if state not in starts:
                return state == goal
            answer = self._change_state.call_async(request)
        return bool(response.success)

    def state(self, timeout_s: float = 10.0) -> str:
        """The name of the node's state, such as ``inactive``.

        Raises:
            TimeoutError: no answer within ``timeout_s``.
        """
        return self._state(time.monotonic() + timeout_s)

    def _state(self, deadline: float) -> str:
        answer = self._get_state.call_async(GetState.Request())
        while (response := _answered(answer, self._get_state, deadline)) is None:
            answer = self._get_state.call_async(GetState.Request())
        return str(response.current_state.label)


def _answered(answer: Future[Any], client: Client[Any, Any], deadline: float) -> Any:
    """Wait for a response in this thread while another one spins; None if it should be there by now and is not.

    Raises:
        TimeoutError: there is none at the deadline [s, of the monotonic clock].
    """
    done = threading.Event()
    answer.add_done_callback(lambda _: done.set())
    if done.wait(max(0.0, min(_ASK_AGAIN_S, deadline - time.monotonic()))):
        return answer.result()
    if time.monotonic() >= deadline:
        raise TimeoutError(f"{client.srv_name} did not answer in time")
    return None
