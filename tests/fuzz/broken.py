# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for the process that meets the inputs, which fail as real ones do."""

from __future__ import annotations

import os
import time
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["aborts", "never_returns"]


def aborts(connection: Connection, progress: Any, names: list[str], seed: int, batches: list[int]) -> None:
    """Crash in the second batch."""
    _go_through(connection, progress, names[0], batches[0])
    os.abort()


def never_returns(connection: Connection, progress: Any, names: list[str], seed: int, batches: list[int]) -> None:
    """Wait for ever in the second batch."""
    _go_through(connection, progress, names[0], batches[0])
    time.sleep(3_600)


def _go_through(connection: Connection, progress: Any, name: str, batch: int) -> None:
    connection.send(None)
    connection.send((name, batch, 0.1, Counter(taken=10), []))
    progress[:] = 0, batch + 1, 5
