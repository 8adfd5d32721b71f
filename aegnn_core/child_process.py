# SPDX-License-Identifier: Apache-2.0
"""How a worker process of :mod:`multiprocessing` starts, so that it ends when the process that it works for does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading

__all__ = ["begin_child_process"]


def begin_child_process() -> None:
    """Leave Ctrl-C to the process that started this one, and end with it even where it is killed.

    Neither torch's loaders nor :mod:`concurrent.futures` do that where a fork server starts them, which is what Python
    does since 3.14: the fork server is their parent, and lives as long as they do.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, name="end with parent", daemon=True).start()
