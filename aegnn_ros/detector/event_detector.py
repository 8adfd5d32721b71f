# SPDX-License-Identifier: Apache-2.0
"""The executable ``event_detector``: one detector, or several by name in one process, until SIGINT or SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the node, or one for each name that stands before ``--ros-args``, and end the process with its exit code.

    ``event_detector left right --ros-args -r left:__ns:=/robot …`` gives two nodes with states of their own.
    """
    # What follows takes seconds to import, and there is nothing yet that a signal would have to put in order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    from aegnn_ros.detector.detector_process import run

    code = run(sys.argv if arguments is None else arguments)
    # Python would take torch and Numba apart piece by piece, for seconds on a busy machine.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(0)


if __name__ == "__main__":
    main()
