# SPDX-License-Identifier: Apache-2.0
"""The console commands; if ROS or another package is missing, they say so in a sentence."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import Any

from aegnn_core.extras import missing_package

__all__ = ["aegnn_demo", "evaluate_bag", "event_detector", "play_events"]


def aegnn_demo() -> Any:
    """See :mod:`aegnn_ros.playback.demo`."""
    return _run("aegnn_demo", "aegnn_ros.playback.demo")


def evaluate_bag() -> Any:
    """See :mod:`aegnn_ros.playback.bag_evaluation`."""
    return _run("evaluate_bag", "aegnn_ros.playback.bag_evaluation")


def event_detector() -> Any:
    """See :mod:`aegnn_ros.detector.event_detector`."""
    return _run("event_detector", "aegnn_ros.detector.event_detector")


def play_events() -> Any:
    """See :mod:`aegnn_ros.playback.bag_player`."""
    return _run("play_events", "aegnn_ros.playback.bag_player")


def _run(command: str, module: str) -> Any:
    """Call the module's ``main``; 1 where a package of others is missing."""
    # What a script starts in the background, launch among it, has SIGINT ignored, and launch ends its processes by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return import_module(module).main()
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing in ("aegnn_core", "aegnn_ros"):
            raise
        sentence = missing_package(missing)
        if missing.startswith(("rcl", "ament_")) or missing.endswith(("_msgs", "_interfaces", "_srvs")):
            help_ = "source ROS 2's setup.bash, or take the environment that `make setup` makes"
            sentence = f"the Python package {missing} is missing here: {help_}"
        print(f"{command}: {sentence}", file=sys.stderr)
        return 1
