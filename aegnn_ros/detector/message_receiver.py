# SPDX-License-Identifier: Apache-2.0
"""Takes the messages of one subscription in a thread of its own, beside the executor.

For every message, an executor of rclpy asks all timers, services, publishers and subscriptions of its nodes whether
they are ready. For a lifecycle node with a dozen publishers that takes half a millisecond of the interpreter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.context import Context
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.subscription import Subscription

__all__ = ["BesideExecutors", "MessageReceiver"]

_FOREVER_NS = -1


class BesideExecutors(CallbackGroup):
    """Keeps executors away from a subscription, whose messages and QoS events somebody else takes."""

    def can_execute(self, entity: Any) -> bool:
        """Whether an executor may wait for the entity."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Whether an executor may run its callback."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """The callback has run."""


class MessageReceiver:
    """Calls a subscription's callback with every message, and the callbacks of its QoS events, until it is stopped.

    Args:
        subscription: of a callback group :class:`BesideExecutors`.
        context: of its node.
        on_failure: called in the thread with the error that has ended it.
    """

    def __init__(
        self, subscription: Subscription[Any], context: Context, on_failure: Callable[[Exception], None]
    ) -> None:
        self._subscription, self._context, self._on_failure = subscription, context, on_failure
        self._stopped = False
        self._wake = GuardCondition(None, None, context)
        # A daemon: where ROS is shut down without a stop, it does not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the message that it is taking."""
        self._stopped = True
        self._wake.trigger()
        self._thread.join()
        self._wake.destroy()

    def _run(self) -> None:
        try:
            self._receive()
        except Exception as error:  # the thread would end silently
            self._on_failure(error)

    def _receive(self) -> None:
        subscription, context, wake = self._subscription, self._context.handle, self._wake.handle
        handle, events = subscription.handle, subscription.event_handlers
        callback: Any = subscription.callback
        assert context is not None  # of a node that there is
        with ExitStack() as held:  # what is in use is not destroyed
            used: tuple[Any, ...] = context, handle, wake, *events
            for one in used:
                held.enter_context(one)
            wait_set = rclpy_implementation.WaitSet(1, 1, 0, 0, 0, len(events), context)
            while not self._stopped and self._context.ok():
                wait_set.clear_entities()
                wait_set.add_subscription(handle)
                wait_set.add_guard_condition(wake)
                for event in events:
                    event.add_to_wait_set(wait_set)
                wait_set.wait(_FOREVER_NS)
                while not self._stopped and (taken := handle.take_message(subscription.msg_type, subscription.raw)):
                    callback(taken[0])
                for event in events:
                    if event.is_ready(wait_set) and (what := event.take_data()) is not None:
                        event.callback(what)
