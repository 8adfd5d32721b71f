# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C at a moment of the test's choice."""

import signal
from collections.abc import Callable
from typing import Any


def interrupted_behind(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, and when it has done its work, somebody presses Ctrl-C."""

    def interrupted(*args: Any) -> None:
        function(*args)
        signal.raise_signal(signal.SIGINT)

    return interrupted
