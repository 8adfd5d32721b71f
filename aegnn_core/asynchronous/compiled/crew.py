# SPDX-License-Identifier: Apache-2.0
"""The threads that help a live model with its packets or its answers.

They begin with the first job that is large enough to be shared, sleep between jobs, and end with the model.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import warnings
import weakref
from collections.abc import Callable
from functools import cache

import numpy as np

from aegnn_core.asynchronous.compiled.memory import aligned
from aegnn_core.asynchronous.compiled.pipeline import (
    ASLEEP,
    AWAKE_NS,
    FAILED,
    PATIENCE_NS,
    SEMAPHORE,
    SPINS,
    STAGES,
    STOP,
    THREADS,
    TOLD,
    WORDS,
    end_jobs,
)
from aegnn_core.cores import usable_cores

__all__ = ["Crew", "check_sleep"]

#: Looks at a word before a wait lets other threads run: some 20 µs.
_SPINS = 500
#: How long a thread that has nothing to do looks out for the next job before it sleeps [ns].
_AWAKE_NS = 50_000
#: How long the job's thread waits for others, with one block, before it works alone [ns]; many times what one takes.
_PATIENCE_NS = 1_000_000


@cache
def _library() -> ctypes.CDLL:
    """The system's C library."""
    return ctypes.CDLL(None, use_errno=True)


class Crew:
    """The threads of one live model; the caller's own is one of them.

    Args:
        threads: how many.
        stages: of a block of a packet, see ``pipeline``.
        work: what a thread does until it is told to end, given the words and its number. It holds nothing but these.

    Attributes:
        words: what they share, see ``pipeline``.
    """

    def __init__(self, threads: int, stages: int, work: Callable[[np.ndarray, int], None]) -> None:
        self._threads, self._work = threads, work
        self._process = 0
        self._helpers: list[int] = []  # by their native numbers
        self._avoided = -1  # core of the caller, from which they are kept away
        self.words = aligned(WORDS, np.int64)
        self.words[:] = 0
        self.words[THREADS], self.words[STAGES], self.words[PATIENCE_NS] = threads, stages, _PATIENCE_NS
        if threads > 1:
            self._make_semaphore()
        self._end = weakref.finalize(self, _end, self.words, threads - 1)

    def begin(self) -> None:
        """Start the threads, no more than cores, unless they are there. A fork of the process has none yet.

        A thread that is alone calls it too before a job whose blocks are counted: of one that another thread was at
        work on when the process was forked, the count is too low.
        """
        if self._process != os.getpid():
            self._start()
        self._leave_core()

    def _start(self) -> None:
        end_jobs(self.words)  # of another process: its memory may be gone, and so are those who were at work on it
        if self._process and self._threads > 1:
            self._make_semaphore()
        self._process = os.getpid()
        self.words[SPINS], self.words[AWAKE_NS] = _SPINS, _AWAKE_NS
        self._helpers, self._avoided = [], -1
        # Threads that take turns on a core only wait for each other.
        for member in range(1, min(self._threads, usable_cores())):
            arguments = self.words, member
            helper = threading.Thread(target=self._work, args=arguments, name=f"aegnn-{member}", daemon=True)
            try:
                helper.start()
            except RuntimeError as error:  # the caller's own thread does what nobody else takes
                text = f"threads: {member} of {self._threads} work, no more could be started ({error})"
                warnings.warn(text, stacklevel=5)
                return
            assert helper.native_id is not None  # it has begun
            self._helpers.append(helper.native_id)

    def _leave_core(self) -> None:
        """Keep the threads off the core on which the caller is.

        Linux often wakes a thread on the core that it is woken from and, where cores are few, does not look for another
        that is idle. The two would then take turns for the whole job.
        """
        if not self._helpers or (core := _library().sched_getcpu()) == self._avoided:
            return
        self._avoided = core
        if others := os.sched_getaffinity(0) - {core}:
            for helper in self._helpers:
                with contextlib.suppress(OSError):  # it has ended, or the cores have just been taken from the process
                    os.sched_setaffinity(helper, others)

    def _make_semaphore(self) -> None:
        """A new semaphore, on which nobody waits."""
        self.words[SEMAPHORE : SEMAPHORE + 16] = 0
        self.words[ASLEEP] = self.words[FAILED] = self.words[TOLD] = 0
        if _library().sem_init(ctypes.c_void_p(self.words[SEMAPHORE:].ctypes.data), 0, 0):
            reason = os.strerror(ctypes.get_errno())
            raise ValueError(f"threads: this system has no semaphores for them ({reason}), expected threads=1")


def check_sleep(words: np.ndarray) -> None:
    """Raise ``OSError`` in the first thread that ends after one could not sleep; others do its work from then on."""
    if (error := int(words[FAILED])) and not words[TOLD]:
        words[TOLD] = 1
        text = f"threads: one of them ends, because it cannot wait on its semaphore ({os.strerror(error)})"
        raise OSError(error, text)


def _end(words: np.ndarray, helpers: int) -> None:
    """Tell the threads to end."""
    words[STOP] = 1
    semaphore = ctypes.c_void_p(words[SEMAPHORE:].ctypes.data)
    for _ in range(helpers):
        _library().sem_post(semaphore)
