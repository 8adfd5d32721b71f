# SPDX-License-Identifier: Apache-2.0
"""Functions of other packages that are replaced while a forward runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

__all__ = ["Replacement"]


class Replacement:
    """Other functions in a module or class while forwards run, in any thread: the first puts them there, the last back.

    Args:
        owner: the module or class.
        functions: what is there instead, by name.
    """

    def __init__(self, owner: Any, functions: Mapping[str, Any]) -> None:
        self._owner, self._functions = owner, functions
        self._originals = {name: getattr(owner, name) for name in functions}
        self._running = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._running += 1
            if self._running == 1:
                self._set(self._functions)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0:
                self._set(self._originals)

    def _set(self, functions: Mapping[str, Any]) -> None:
        for name, function in functions.items():
            setattr(self._owner, name, function)
