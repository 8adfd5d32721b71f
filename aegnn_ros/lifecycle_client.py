"""Drives the life cycle of a node in another process through its services."""

from __future__ import annotations

import threading
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.node import Node

__all__ = ["LifecycleClient"]


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
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(_call(self._change_state, request, timeout_s).success)

    def state(self, timeout_s: float = 10.0) -> str:
        """The name of the node's state, such as ``inactive``.

        Raises:
            TimeoutError: no answer within ``timeout_s``.
        """
        return str(_call(self._get_state, GetState.Request(), timeout_s).current_state.label)


def _call(client: Client[Any, Any], request: Any, timeout_s: float) -> Any:
    """The response of a service, waited for in this thread while another one spins."""
    done = threading.Event()
    future = client.call_async(request)
    future.add_done_callback(lambda _: done.set())
    if not done.wait(timeout_s):
        raise TimeoutError(f"{client.srv_name} did not answer within {timeout_s:g} s")
    return future.result()
