# SPDX-License-Identifier: Apache-2.0
"""The console commands; if ROS or another package is missing, they say so in a sentence."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["aegnn", "aegnn_demo", "evaluate_bag", "event_detector", "play_events"]

#: How a command ends that Ctrl-C interrupts, as the shell reports it.
_INTERRUPTED = 130


def aegnn() -> int:
    """See :mod:`aegnn_core.cli`; the process ends as Python has it end, since loggers wait for that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a background job of a script
        return int(import_module("aegnn_core.cli").main())
    main = _imported_main("aegnn_core.cli", _INTERRUPTED)
    _end_where_an_interrupt_is_dropped()
    return int(main())


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
    """Call the module's ``main`` and end the process with what it returns; 1 where a package of others is missing."""
    try:
        main = _imported_main(module, interrupted)
        # A background job of a script, such as launch, has SIGINT ignored, and launch ends its processes by it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if interrupted:  # otherwise the command has handlers of its own
            _end_where_an_interrupt_is_dropped()
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
    _end(code)


def _imported_main(module: str, interrupted: int) -> Callable[[], Any]:
    """The module's ``main``.

    ``interrupted`` is the exit code for a SIGINT that comes while torch and others are imported, which takes seconds:
    there is nothing yet to put in order.
    """
    before = signal.signal(signal.SIGINT, lambda number, frame: os._exit(interrupted))
    try:
        main: Callable[[], Any] = import_module(module).main
    finally:
        signal.signal(signal.SIGINT, before)
    return main


def _end_where_an_interrupt_is_dropped() -> None:
    """End the process also where Python drops what Ctrl-C raises: in what compilers in C call, and in finalizers."""
    show = sys.unraisablehook

    def end(dropped: Any) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            _end(_INTERRUPTED)
        show(dropped)

    sys.unraisablehook = end


def _end(code: Any) -> None:
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
