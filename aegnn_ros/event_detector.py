"""The executable ``event_detector``: one detector, or several by name in one process, until SIGINT or SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the node, or one for each name that stands before ``--ros-args``; returns the exit code.

    ``event_detector left right --ros-args -r left:__ns:=/robot …`` gives two nodes with states of their own.
    """
    # What follows takes seconds to import, and there is nothing yet that a signal would have to put in order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    from aegnn_ros.detector_process import run

    return run(sys.argv if arguments is None else arguments)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
