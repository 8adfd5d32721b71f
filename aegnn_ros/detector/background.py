# SPDX-License-Identifier: Apache-2.0
"""Work that takes seconds, in a thread of its own: callbacks go on, or a signal ends the process at once.

Compilers call Python back from C, where Python drops what a signal's handler raises, and says so in lines like
"Exception ignored on calling ctypes callback function". Handlers run in the main thread, so compilers run in others.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from rclpy.executors import Executor
from rclpy.task import Future

__all__ = ["run_in_thread", "wait_for_thread"]

_Result = TypeVar("_Result")


def run_in_thread(work: Callable[[], _Result], executor: Executor | None) -> Future[_Result]:
    """Call ``work`` in a thread that does not keep the process from ending; await what it returns or raises."""
    done: Future[_Result] = Future(executor=executor)
    _start(work, done)
    return done


def wait_for_thread(work: Callable[[], _Result]) -> _Result:
    """Call ``work`` in such a thread; return or raise what it does. What a signal's handler raises ends the waiting."""
    done: concurrent.futures.Future[_Result] = concurrent.futures.Future()
    _start(work, done)
    return done.result()


def _start(work: Callable[[], Any], done: Any) -> None:
    def run() -> None:
        try:
            done.set_result(work())
        except SystemExit as end:  # of a user's code: in a thread, nobody would hear of it
            done.set_exception(RuntimeError(f"it called sys.exit({end.code!r})"))
        except Exception as error:  # whoever waits is told
            done.set_exception(error)

    Thread(target=run, name="background", daemon=True).start()
