# SPDX-License-Identifier: Apache-2.0
"""How the processes that load samples start, and what is said where they fail."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from aegnn_core.child_process import begin_child_process

__all__ = ["loader_failures_named", "start_loader_process"]


def start_loader_process(_: int) -> None:
    """Compute in one thread, leave Ctrl-C and SIGTERM to the process that trains, which needs the next samples to stop
    well, and end with it."""
    begin_child_process()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which service managers send to all processes
    torch.set_num_threads(1)  # the graphs are small, threads would only wait for each other


@contextmanager
def loader_failures_named() -> Iterator[None]:
    """Where a recording cannot be read, say so in its one sentence, without the traceback that torch puts before it."""
    try:
        yield
    except (ValueError, OSError) as error:
        lines = str(error).strip().splitlines()
        if not lines or "in DataLoader worker process" not in lines[0]:
            raise
        raise type(error)(lines[-1].partition(": ")[2]) from error
