# SPDX-License-Identifier: Apache-2.0
"""Work that takes seconds, beside the executor that a callback must not hold up."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from rclpy.executors import Executor
from rclpy.task import Future

__all__ = ["run_in_thread"]

_Result = TypeVar("_Result")


def run_in_thread(work: Callable[[], _Result], executor: Executor | None) -> Future[_Result]:
    """Call ``work`` in a thread that does not keep the process from ending; await what it returns or raises."""
    done: Future[_Result] = Future(executor=executor)

    def run() -> None:
        try:
            done.set_result(work())
        except Exception as error:  # whoever awaits is told
            done.set_exception(error)

    Thread(target=run, name="background", daemon=True).start()
    return done
