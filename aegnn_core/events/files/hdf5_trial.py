# SPDX-License-Identifier: Apache-2.0
"""Whether the HDF5 library survives a file: on a damaged one it can crash, and take its process with it."""

from __future__ import annotations

import atexit
import os
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

from aegnn_core.events.array import EventFormatError

__all__ = ["check_survivable"]

_SCRIPT = Path(__file__).with_name("hdf5_trial_process.py")


def check_survivable(path: Path) -> None:
    """Open a file in another process first, which takes some milliseconds, and half a second the first time.

    Where no other process can be started, nothing is checked.

    Raises:
        EventFormatError: that process has crashed, or did not come to an end.
    """
    try:
        ended = _TRIALS.ended(path)
    except (OSError, struct.error):
        return
    if ended < 0:
        raise EventFormatError(
            f"{path}: the HDF5 library crashes on it or never returns ({signal.Signals(-ended).name}), expected a"
            " complete HDF5 file"
        )


class _Trials:
    """The process that tries files; it is started when it is needed, and ends with this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self._end)
        os.register_at_fork(after_in_child=self._forget)

    def ended(self, path: Path) -> int:
        """How the trial of a file ended: 0, or minus the signal that has ended it."""
        name = os.fsencode(path.absolute())
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = self._start()
            questions, answers = self._process.stdin, self._process.stdout
            assert questions is not None
            assert answers is not None
            questions.write(struct.pack("<I", len(name)) + name)
            questions.flush()
            (code,) = struct.unpack("<i", answers.read(4))
            return int(code)

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is for this process
        )

    def _forget(self) -> None:
        """A forked process starts one of its own: answers to its parent are not for it."""
        self._lock = threading.Lock()
        self._close()
        if self._process is not None:
            self._process.returncode = 0  # it is no child of this process, which need not wait for it
        self._process = None

    def _end(self) -> None:
        if self._process is not None:
            self._close()
            self._process.wait()

    def _close(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()


_TRIALS = _Trials()
