# SPDX-License-Identifier: Apache-2.0
"""The threads that help with the packets of a live model: they begin with the first that is large enough to be shared,
sleep between packets, and end with the model."""

from __future__ import annotations

import ctypes
import os
import threading
import warnings
import weakref

import numpy as np

from aegnn_core.asynchronous.compiled.memory import aligned
from aegnn_core.asynchronous.compiled.pipeline import (
    ASLEEP,
    AWAKE_NS,
    PATIENCE_NS,
    SEMAPHORE,
    SPINS,
    STAGES,
    STOP,
    THREADS,
    WORDS,
)
from aegnn_core.asynchronous.compiled.stream import append_events
from aegnn_core.asynchronous.handles import addresses
from aegnn_core.cores import usable_cores
from aegnn_core.events.array import EVENT_DTYPE

__all__ = ["Crew"]

#: Looks at a word before a wait lets other threads run: some 20 µs.
_SPINS = 500
#: How long a thread that has nothing to do looks out for the next packet before it sleeps [ns].
_AWAKE_NS = 50_000
#: What the packet's thread waits for others with one block, which takes about as long, before it works alone [ns].
_PATIENCE_NS = 200_000


class Crew:
    """The threads of one live model; the caller's own is one of them.

    Args:
        threads: how many.
        layers: on events.
        dtype: of the kernels.

    Attributes:
        words: what they share, see ``pipeline``.
    """

    def __init__(self, threads: int, layers: int, dtype: type) -> None:
        self._threads, self._dtype = threads, dtype
        self._process = 0
        self.words = aligned(WORDS, np.int64)
        self.words[:] = 0
        self.words[THREADS], self.words[STAGES], self.words[PATIENCE_NS] = threads, layers + 3, _PATIENCE_NS
        if threads > 1:
            self._make_semaphore()
        self._end = weakref.finalize(self, _end, self.words, threads - 1)

    def begin(self) -> None:
        """Start the threads, no more than cores, unless they are there. A fork of the process has none yet."""
        if self._process == os.getpid():
            return
        if self._process:
            self._make_semaphore()
        self._process = os.getpid()
        self.words[SPINS], self.words[AWAKE_NS] = _SPINS, _AWAKE_NS
        # Threads that take turns on a core only wait for each other.
        for member in range(1, min(self._threads, usable_cores())):
            arguments = self.words, self._dtype, member
            try:
                threading.Thread(target=_work, args=arguments, name=f"aegnn-{member}", daemon=True).start()
            except RuntimeError as error:  # the caller's own thread does what nobody else takes
                text = f"threads: {member} of {self._threads} work, no more could be started ({error})"
                warnings.warn(text, stacklevel=4)
                return

    def _make_semaphore(self) -> None:
        """A new semaphore, on which nobody waits."""
        self.words[SEMAPHORE : SEMAPHORE + 16] = 0
        self.words[ASLEEP] = 0
        library = ctypes.CDLL(None, use_errno=True)
        if library.sem_init(ctypes.c_void_p(self.words[SEMAPHORE:].ctypes.data), 0, 0):
            reason = os.strerror(ctypes.get_errno())
            raise ValueError(f"threads: this system has no semaphores for them ({reason}), expected threads=1")


def _work(words: np.ndarray, dtype: type, member: int) -> None:
    """What a thread does until it is told to end; it holds nothing but the words."""
    append_events(np.empty(0, EVENT_DTYPE), 0, 0, addresses([words]), dtype(0), False, member)


def _end(words: np.ndarray, helpers: int) -> None:
    """Tell the threads to end."""
    words[STOP] = 1
    semaphore = ctypes.c_void_p(words[SEMAPHORE:].ctypes.data)
    for _ in range(helpers):
        ctypes.CDLL(None).sem_post(semaphore)
