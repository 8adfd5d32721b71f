# SPDX-License-Identifier: Apache-2.0
"""The console commands; if ROS or another package is missing, they say so in a sentence."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Any

__all__ = ["aegnn_demo", "evaluate_bag", "event_detector", "play_events"]

#: How a command ends that Ctrl-C interrupts, as the shell reports it.
_INTERRUPTED = 130


def aegnn_demo() -> Any:
    """See :mod:`aegnn_ros.playback.demo`."""
    return _run("aegnn_demo", "aegnn_ros.playback.demo")


def evaluate_bag() -> Any:
    """See :mod:`aegnn_ros.playback.bag_evaluation`."""
    return _run("evaluate_bag", "aegnn_ros.playback.bag_evaluation")


def event_detector() -> Any:
    """See :mod:`aegnn_ros.detector.event_detector`."""
    return _run("event_detector", "aegnn_ros.detector.event_detector", interrupted=0)


def play_events() -> Any:
    """See :mod:`aegnn_ros.playback.bag_player`."""
    return _run("play_events", "aegnn_ros.playback.bag_player", interrupted=0)


def _run(command: str, module: str, interrupted: int = _INTERRUPTED) -> Any:
    """Call the module's ``main`` and end the process with what it returns; 1 where a package of others is missing.

    ``interrupted`` is the exit code for a SIGINT that comes while torch and others are imported, which takes seconds:
    there is nothing yet to put in order.
    """
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(interrupted))
    try:
        main = import_module(module).main
        # A background job of a script, such as launch, has SIGINT ignored, and launch ends its processes by it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = main()
    except KeyboardInterrupt:
        code = interrupted
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing in ("aegnn_core", "aegnn_ros"):
            raise
        print(f"{command}: {_sentence(missing)}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Python would take torch and Numba apart piece by piece; launch waits five seconds for a process to end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _sentence(missing: str) -> str:
    """What to do about a package that is missing."""
    if missing.startswith(("rcl", "ament_")) or missing.endswith(("_msgs", "_interfaces", "_srvs")):
        help_ = "source ROS 2's setup.bash, or take the environment that `make setup` makes"
        return f"the Python package {missing} is missing here: {help_}"
    from aegnn_core.extras import missing_package  # with torch, which takes seconds

    return missing_package(missing)
