# SPDX-License-Identifier: Apache-2.0
"""How threads share a packet: in blocks of nodes that pass through stages one behind the other; compiled kernels.

A packet is cut into blocks, always the same ones however many threads there are. A thread takes the next block that
nobody has and leads it through all stages. Before some of them it waits until the blocks before have come so far: since
those were begun earlier, it seldom has to. A thread that sleeps has no block, so nobody ever waits for it.

Blocks are numbered on and on, from packet to packet, and so is how far each of them has come. All of this lies in an
array of ``words``, of which those that different threads write are on different lines of the cache.
"""

from __future__ import annotations

from errno import EINTR
from typing import Annotated, NamedTuple

import numpy as np

from aegnn_core.asynchronous.array_table import address_of
from aegnn_core.asynchronous.compiled.clock import nanoseconds
from aegnn_core.atomics import (
    add,
    exchange,
    load_acquire,
    pause,
    replace,
    semaphore_post,
    semaphore_wait,
    store_release,
    yield_processor,
)
from aegnn_core.events.array import EVENT_DTYPE
from aegnn_core.machine_code import inlined, kernel

__all__ = [
    "ASLEEP",
    "AWAKE_NS",
    "BLOCK_SIZE",
    "DONE",
    "FAILED",
    "FIRST_BLOCK",
    "FIRST_NODE",
    "IS_NEW",
    "LEAVING",
    "MOST_THREADS",
    "OLDEST",
    "PACKET",
    "PATIENCE_NS",
    "SEMAPHORE",
    "SPINS",
    "STAGES",
    "STOP",
    "TAKEN",
    "THREADS",
    "TOLD",
    "WORDS",
    "Packet",
    "Words",
    "await_done",
    "await_end",
    "await_older",
    "begin_job",
    "claim",
    "count_done",
    "end_jobs",
    "finish",
    "is_too_long",
    "lose_patience",
    "next_block",
    "note_patience",
    "publish",
    "wait_for_block",
]

#: Most threads of a live model, a power of two.
MOST_THREADS = 64

#: Words between those that different threads write: processors fetch two lines of the cache at a time.
_APART = 16
#: What every thread needs to know of a packet, see ``publish``; of an image, also whether all of it is new.
PACKET, FIRST_NODE, FIRST_BLOCK, IS_NEW = 0, 4, 5, 6
#: What does not change: how many threads, stages of a block, looks before a wait lets others run, how long [ns] a
#: thread without work stays awake, and how long [ns] the packet's thread waits before it would rather work alone.
THREADS, STAGES, SPINS, AWAKE_NS, PATIENCE_NS = 7, 8, 9, 10, 11
#: For how many packets it still does so, and how many it was the last time.
_ALONE, _ALONE_BEFORE = 12, 13
#: Events in a block of the packet.
BLOCK_SIZE = 14
#: Blocks that there are, that are taken, threads that sleep, and whether they shall end.
_LIMIT, _NEXT, ASLEEP, STOP = (_APART * n for n in range(1, 5))
#: What the stages that blocks pass in order hand on: the oldest node in the cells; the oldest that is live, and how
#: many events of the packet were taken.
OLDEST, LEAVING = 5 * _APART, 6 * _APART
TAKEN = LEAVING + 1
#: Where a ``sem_t`` lies.
SEMAPHORE = 7 * _APART
_PROGRESS = 8 * _APART
#: Blocks that were done since the threads began, of jobs whose blocks come to their end in any order.
DONE = _PROGRESS + MOST_THREADS * _APART
#: The number of the error for which a thread could not sleep, 0 if none, and whether somebody has been told.
FAILED, TOLD = STOP + 1, STOP + 2
#: How many words there are.
WORDS = DONE + _APART

#: Packets of fewer blocks stay on the thread that they came to: waking others would cost more than it saves.
_LEAST_BLOCKS = 3
#: Most packets on one thread before others are asked again.
_LONGEST_ALONE = 128


class Words(NamedTuple):
    """What the threads of a live model share."""

    words: Annotated[np.ndarray, np.int64]


class Packet(NamedTuple):
    """The events at work, and the table of arrays; read by ``parts_at(words, 0, Packet, …)``."""

    events: Annotated[np.ndarray, EVENT_DTYPE]
    table: Annotated[np.ndarray, np.int64]


@kernel(error_model="numpy")
def _discount(words):
    """Count one less of the threads that sleep and that nobody wakes yet; False if there is none."""
    asleep = add(words, ASLEEP, 0)
    while asleep > 0 and not replace(words, ASLEEP, asleep, asleep - 1):
        asleep = load_acquire(words, ASLEEP)
    return asleep > 0


@kernel(error_model="numpy")
def _wake_two(words):
    """Wake two of the threads that sleep, if there are so many. They wake others: it takes a while for each."""
    for _ in range(2):
        if _discount(words):
            semaphore_post(words, SEMAPHORE)


@inlined(error_model="numpy")
def publish(words, events, size, oldest, table, room):
    """Begin a packet; all packets before it have been finished.

    Args:
        words: shared.
        events: of the packet.
        size: nodes so far.
        oldest: number of the oldest that is in the cells.
        table: of arrays.
        room: most events in a block.

    Returns:
        The first block, the one behind the last that is kept for the caller, and whether there are others, which any
        thread may take.
    """
    words[PACKET], words[PACKET + 1] = address_of(events), len(events)
    words[PACKET + 2], words[PACKET + 3] = address_of(table), table.size
    words[FIRST_NODE] = size
    words[OLDEST] = words[LEAVING] = oldest
    words[TAKEN] = len(events)
    # As many of one size as two or four threads can share; four nodes are multiplied at a time.
    least = max(1, (len(events) + room - 1) // room)
    if least >= _LEAST_BLOCKS:
        least = (least + 3) // 4 * 4
    block_size = max(1, min(room, ((len(events) + least - 1) // least + 3) // 4 * 4))
    words[BLOCK_SIZE] = block_size
    return begin_job(words, (len(events) + block_size - 1) // block_size)


@inlined(error_model="numpy")
def begin_job(words, blocks):
    """Begin a job of so many blocks. Its other words have been written, and all jobs before it have been finished.

    Returns:
        As :func:`publish`.
    """
    first = words[_LIMIT]
    words[FIRST_BLOCK] = first
    kept = blocks
    if words[THREADS] > 1 and blocks >= _LEAST_BLOCKS:
        if words[_ALONE] > 0:
            words[_ALONE] -= 1
        else:
            kept = 1
    store_release(words, _NEXT, first + kept)
    if kept == blocks:
        store_release(words, _LIMIT, first + blocks)
        return first, first + kept, False
    # A thread that falls asleep counts itself first, and then looks at the limit once more: one of the two sees.
    exchange(words, _LIMIT, first + blocks)
    _wake_two(words)
    return first, first + kept, True


def end_jobs(words: np.ndarray) -> None:
    """Take all jobs for finished; nobody is at work on them."""
    words[_NEXT] = words[DONE] = words[_LIMIT]


@inlined(error_model="numpy")
def claim(words):
    """The number of a block that is the caller's from now on, -1 if there is none."""
    while True:
        block = load_acquire(words, _NEXT)
        if block >= load_acquire(words, _LIMIT):
            return np.int64(-1)
        if replace(words, _NEXT, block, block + 1):
            return block


@kernel(error_model="numpy")
def lose_patience(words):
    """Take all blocks that nobody has, and keep the next packets too.

    Returns:
        The first of these blocks, and the one behind the last.
    """
    words[_ALONE] = words[_ALONE_BEFORE] = min(2 * words[_ALONE_BEFORE] + 1, _LONGEST_ALONE)
    return exchange(words, _NEXT, words[_LIMIT]), words[_LIMIT]


@kernel(error_model="numpy")
def wait_for_block(words):
    """Wait for a block and claim it: awake for a while, then asleep. -1 if the thread has to end or cannot sleep."""
    begin = nanoseconds()
    has_slept = False
    while True:
        block = claim(words)
        if block >= 0:
            if has_slept and load_acquire(words, _NEXT) < load_acquire(words, _LIMIT):
                _wake_two(words)
            return block
        if load_acquire(words, STOP) != 0:
            return np.int64(-1)
        if nanoseconds() - begin < words[AWAKE_NS]:
            pause()
            continue
        add(words, ASLEEP, 1)
        wanted = add(words, _NEXT, 0) < add(words, _LIMIT, 0) or add(words, STOP, 0) != 0
        # Every post of the semaphore has to be waited for by a thread that counted itself as asleep.
        if not wanted or not _discount(words):
            error = semaphore_wait(words, SEMAPHORE)
            while error == EINTR:
                error = semaphore_wait(words, SEMAPHORE)
            if error != 0:
                store_release(words, FAILED, error)
                return np.int64(-1)
            has_slept = True
        begin = nanoseconds()


@inlined(error_model="numpy")
def next_block(words, block, kept, patient, member, waited, begin, own):
    """What a thread works on behind a block.

    Args:
        words: shared.
        block: that it has done.
        kept: see :func:`publish`; 0 for a thread that is not the job's.
        patient: whether the job's thread lets others take blocks.
        member: number of the thread, 0 for the job's.
        waited, begin, own: see :func:`is_too_long`.

    Returns:
        The next block, -1 if there is none; the new ``kept`` and ``patient``.
    """
    if block + 1 < kept:
        return block + 1, kept, patient
    if member > 0:
        return wait_for_block(words), kept, patient
    if patient and is_too_long(words, waited, begin, own):
        first, behind = lose_patience(words)
        return (first if first < behind else np.int64(-1)), behind, False
    return claim(words), kept, patient


@inlined(error_model="numpy")
def count_done(words):
    """Say that a block is done, of a job whose blocks may be finished in any order."""
    add(words, DONE, 1)


@inlined(error_model="numpy")
def await_done(words, blocks):
    """Wait until so many blocks were done since the threads began; how long that took [ns]."""
    return _await_word(words, DONE, blocks)


@inlined(error_model="numpy")
def _await_word(words, at, least):
    """Wait until a word is at least so much; how long that took [ns]."""
    if load_acquire(words, at) >= least:
        return np.int64(0)
    begin = nanoseconds()
    looks = 0
    while load_acquire(words, at) < least:
        looks += 1
        if looks < words[SPINS]:
            pause()
        else:
            yield_processor()
    return nanoseconds() - begin


@inlined(error_model="numpy")
def finish(words, block, stage):
    """Say that a block has come through a stage, 1 … ``STAGES - 1``."""
    store_release(words, _PROGRESS + (block & (MOST_THREADS - 1)) * _APART, block * words[STAGES] + stage)


@inlined(error_model="numpy")
def _await(words, block, stage):
    """Wait until a block has come through a stage; how long that took [ns]."""
    at = _PROGRESS + (block & (MOST_THREADS - 1)) * _APART
    return _await_word(words, at, block * words[STAGES] + stage)


@inlined(error_model="numpy")
def await_older(words, block, stage, most):
    """Wait until the ``most`` blocks before this one have come through a stage; how long that took [ns].

    Since blocks are finished in order, no more of them are at work than there are threads.
    """
    waited = np.int64(0)
    for older in range(max(words[FIRST_BLOCK], block - most), block):
        waited += _await(words, older, stage)
    return waited


@inlined(error_model="numpy")
def is_too_long(words, waited, begin, own):
    """Whether the job's thread has ``waited`` [ns] so long for others that it would be faster alone.

    It has if that is longer than any block takes, and longer than a quarter of what one thread would take for the whole
    job, estimated from its ``own`` blocks since ``begin``: two threads would save half of that.
    """
    alone = (nanoseconds() - begin - waited) // max(own, 1) * (words[_LIMIT] - words[FIRST_BLOCK])
    return waited > words[PATIENCE_NS] and waited > alone // 4


@inlined(error_model="numpy")
def await_end(words, waited, begin, own, patient):
    """Wait until all blocks are finished, and remember whether it was worth it to share them.

    ``patient``: other threads had blocks, and the job's thread has not lost patience; the others as for
    :func:`is_too_long`.
    """
    note_patience(words, waited + _await(words, words[_LIMIT] - 1, words[STAGES] - 1), begin, own, patient)


@inlined(error_model="numpy")
def note_patience(words, waited, begin, own, patient):
    """Remember whether it was worth it to share a job that is over; see :func:`await_end`."""
    if patient and is_too_long(words, waited, begin, own):
        lose_patience(words)
    elif patient and words[_ALONE] == 0:
        words[_ALONE_BEFORE] = 0
