# SPDX-License-Identifier: Apache-2.0
"""The event detector in a process of its own, for the demo and the tests; it ends when they end.

The child's side is this module as a program: its standard input is a pipe from the parent, and reaches its end when the
parent ends, even if the parent was killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NoReturn

from aegnn_ros.detector import event_detector

__all__ = ["NodeProcess", "NodeProcessError", "main"]

_SHOWN_LINES = 15
#: A node that does not end within this time [s] is killed.
_PATIENCE_S = 10.0


class NodeProcessError(RuntimeError):
    """The node has failed; the message ends with the last lines of its log."""


class NodeProcess:
    """A running ``event_detector``; a context manager that ends it. It also ends when this process does.

    Args:
        parameters: of the node.
        names: of the nodes in the process; one of the default name where there are none.
        program: the module to run, if not this one; it calls :func:`main`.
    """

    def __init__(
        self, parameters: Mapping[str, str | int | float], names: Sequence[str] = (), program: str = __name__
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - __exit__ closes it
        # JSON values are YAML values, which is what the ROS command line takes.
        settings = [part for name, value in parameters.items() for part in ("-p", f"{name}:={json.dumps(value)}")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", program, *names, "--ros-args", *settings],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            # A process group of its own: Ctrl-C in the terminal reaches the node through us, after its last messages.
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def log(self) -> str:
        """What the process has written so far."""
        end = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), end, 0).decode(errors="replace")

    def check(self) -> None:
        """Raise :class:`NodeProcessError` where the process has ended."""
        if (code := self._process.poll()) is not None:
            raise self.error(f"the node ended with exit code {code}")

    def error(self, what: str) -> NodeProcessError:
        """An error that says ``what`` has happened and shows the end of the log."""
        last_lines = "\n".join(self.log().splitlines()[-_SHOWN_LINES:])
        return NodeProcessError(f"{what}; its last words:\n{last_lines}")

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal, wait for the end, and return the exit code; after 10 s the process is killed."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            return self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._log.close()


def main() -> NoReturn:
    """Be the child: run the event detector until a signal or the parent's end."""
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    event_detector.main()


def _end_with_parent() -> None:
    """Wait for the end of standard input, and end this process as a user would, or at last by force."""
    # Signals are the main thread's, which blocks them at times.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
