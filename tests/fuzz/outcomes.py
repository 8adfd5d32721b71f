# SPDX-License-Identifier: Apache-2.0
"""What may come of an input: the right answer, or a documented refusal. Everything else is a fault."""

from __future__ import annotations

import re

__all__ = ["DOCUMENTED", "Fault", "check_refusal", "require"]

#: The exceptions by which the package refuses what it is given, with their subclasses.
DOCUMENTED = (ValueError, OSError)

_LONGEST_MESSAGE = 2_000


class Fault(Exception):
    """An outcome that is not allowed."""


def require(condition: bool, what: str) -> None:
    """Raise a :class:`Fault` unless the condition holds."""
    if not condition:
        raise Fault(what)


def check_refusal(error: BaseException, named: str) -> None:
    """Raise a :class:`Fault` unless an exception is a refusal as documented.

    It is one of :data:`DOCUMENTED`, its message names what was refused (a regular expression), is no longer than a
    screen, and the refusal was not for want of memory: what would have filled the memory has to be seen before.
    """
    require(isinstance(error, DOCUMENTED), f"{type(error).__name__}: {error}")
    message = str(error)
    require(re.search(named, message) is not None, f"the message does not name {named}: {message[:500]}")
    require(len(message) <= _LONGEST_MESSAGE, f"the message has {len(message)} characters: {message[:500]}")
    cause: BaseException | None = error
    while cause is not None:
        require(not isinstance(cause, MemoryError), f"more than the memory was asked for: {message[:500]}")
        cause = cause.__cause__
