# SPDX-License-Identifier: Apache-2.0
"""ROS around one or several detectors: start, spin, end."""

from __future__ import annotations

import argparse
import gc
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

import rclpy
import torch
from rclpy.exceptions import InvalidNodeNameException, ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger
from rclpy.utilities import remove_ros_args

from aegnn_ros.detector.detector_node import EventDetector

__all__ = ["run"]

_SWITCH_INTERVAL_S = 0.0001
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class _CannotStartError(Exception):
    """A node cannot be made, because a name or a setting is wrong."""


def run(arguments: Sequence[str]) -> int:
    """Spin a node for each name in the command line until ROS is shut down; returns the exit code."""
    names = _parser().parse_args(remove_ros_args(list(arguments))[1:]).names
    # The network's steps are small: a second thread costs many times what it saves, above all on a busy machine.
    torch.set_num_threads(1)
    # The worker releases the interpreter in every compiled step; up to 5 ms each until it gets it back would add up.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # A look for garbage among the hundreds of thousands of objects that imports have made would hold the interpreter
    # for some tenths of a second, in which packets get lost.
    gc.freeze()
    # rclpy's handlers take over between these two lines; what it finds is what it falls back on.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    interrupted = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        rclpy.init(args=list(arguments))
    except rclpy_implementation.RCLError as error:
        get_logger("event_detector").fatal(f"cannot start: {error}")
        return 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        _spin(names)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except _CannotStartError as error:
        if not interrupted.is_set():
            get_logger("event_detector").fatal(f"cannot start: {error}")
            return 1
    except (RuntimeError, rclpy_implementation.InvalidHandle):
        # A signal shuts ROS down between any two lines of a callback, and what the callback then publishes fails; or it
        # interrupts rclpy while that makes a message, which becomes an error of its own.
        if rclpy.ok() and not interrupted.is_set():
            raise
    finally:
        interrupted.set()  # from here on there is nothing left to interrupt
        rclpy.try_shutdown()
        # Collecting the last reference to a node removes it from the ROS graph and frees its shared memory.
        gc.collect()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="event_detector",
        description="Detect objects in the packets of event cameras: a lifecycle node for each, until Ctrl-C.",
        epilog="Parameters and topics are set behind --ros-args, as for every node: -p model:=scenes_detector"
        " -p autostart:=true -r '~/events:=/event_camera/events'.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a node; without any, one called event_detector")
    return parser


def _spin(names: Sequence[str]) -> None:
    """Run the nodes of these names, or one of the default name, until ROS is shut down."""
    nodes: list[EventDetector] = []
    # Of one thread, also for several nodes: rclpy's others fail where a callback destroys what they wait for.
    executor = SingleThreadedExecutor()
    try:
        for name in names or ["event_detector"]:
            nodes.append(_node(name))
        for node in nodes:
            executor.add_node(node)
            executor.create_task(node.start)
        executor.spin()
    finally:
        for node in nodes:
            node.end()
            node.destroy_node()
        executor.shutdown()


def _node(name: str) -> EventDetector:
    try:
        return EventDetector(name)
    except (ParameterException, InvalidNodeNameException) as error:
        raise _CannotStartError(str(error)) from error
    except RuntimeError as error:  # of rclpy, as where a quality of service is overridden by what is none
        if not rclpy.ok():
            raise
        raise _CannotStartError(str(error)) from error
