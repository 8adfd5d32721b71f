# SPDX-License-Identifier: Apache-2.0
"""How launch ends with a process: launch itself goes on. Needs ROS's ``launch``, as the launch files do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from launch.actions import Shutdown

__all__ = ["ends_with"]


def ends_with(executable: str, reason: str) -> Callable[[Any, Any], list[Any]]:
    """What to do ``on_exit`` of a node: end launch, with exit code 1 where the process failed.

    Args:
        executable: of the node, for the message.
        reason: why launch ends where it did not fail.
    """

    def end(event: Any, context: Any) -> list[Any]:
        if context.is_shutdown:  # launch is ending already, and cannot do that twice
            return []
        if event.returncode:
            raise RuntimeError(f"{executable} has failed with exit code {event.returncode}")
        return [Shutdown(reason=reason)]

    return end
