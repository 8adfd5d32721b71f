# SPDX-License-Identifier: Apache-2.0
"""The process that meets the inputs: another one watches it, because it may crash or never return."""

from __future__ import annotations

import faulthandler
import os
import resource
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import torch

from tests.fuzz.decoder_inputs import DecoderInputs
from tests.fuzz.outcomes import Fault, check_refusal
from tests.fuzz.packets import Packets, Parameters
from tests.fuzz.recording_inputs import Recordings
from tests.fuzz.states import LiveStates, StoredModels

__all__ = ["KINDS", "work"]


class Kind(Protocol):
    """A kind of input.

    Attributes:
        name: for reports.
        named: regular expression of what every refusal's message has in it.
    """

    name: str
    named: str

    def attempts(self, rng: np.random.Generator) -> Iterator[Callable[[], None]]:
        """A batch: what each call does is one input. It returns, or raises a documented exception or a ``Fault``."""
        ...


#: Each kind with its share of the time, made with a folder for its files.
KINDS: dict[str, tuple[float, Callable[[Path], Kind]]] = {
    DecoderInputs.name: (0.2, DecoderInputs),
    Recordings.name: (0.25, Recordings),
    Packets.name: (0.1, Packets),
    LiveStates.name: (0.2, LiveStates),
    StoredModels.name: (0.2, StoredModels),
    Parameters.name: (0.05, Parameters),
}

#: What inputs may take beyond what the process has when it begins [bytes].
_MEMORY = 1 << 30


def work(connection: Connection, progress: Any, names: list[str], seed: int, batches: list[int]) -> None:
    """Go through batches of the kinds in turn until told to stop; tell of every fault, and of every batch.

    Args:
        connection: faults and counts go out.
        progress: array of three numbers that the other process sees: number of the kind, of the batch, of the input.
        names: of the kinds.
        seed: batch ``n`` of a kind depends on this and ``n`` alone.
        batches: for every kind the number of the first batch.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with TemporaryDirectory() as root:
        kinds = []
        for name in names:
            folder = Path(root, name.replace(" ", "-"))
            folder.mkdir()
            kinds.append(KINDS[name][1](folder))
        limit = _data_bytes() + _MEMORY
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        spent = [0.0] * len(kinds)
        _silence()
        connection.send(None)  # ready
        while True:
            number = min(range(len(kinds)), key=lambda n: spent[n] / KINDS[names[n]][0])
            began = time.process_time()
            counts, faults = _run_batch(kinds[number], number, seed, batches[number], progress)
            seconds = time.process_time() - began
            connection.send((names[number], batches[number], seconds, counts, faults))
            spent[number] += seconds
            batches[number] += 1


def _run_batch(kind: Kind, number: int, seed: int, batch: int, progress: Any) -> tuple[Counter[str], list[str]]:
    """What came of the inputs of a batch, counted, and what was wrong."""
    counts: Counter[str] = Counter()
    faults: list[str] = []
    progress[0], progress[1] = number, batch
    digits = list(kind.name.encode())
    for at, attempt in enumerate(kind.attempts(np.random.default_rng([seed, batch, *digits]))):
        progress[2] = at
        try:
            try:
                attempt()
            except Fault:
                raise
            except Exception as error:
                check_refusal(error, kind.named)
                counts["refused"] += 1
            else:
                counts["taken"] += 1
        except Fault as fault:
            counts["faults"] += 1
            faults.append(f"input {at}: {fault}\n{traceback.format_exc()}")
    return counts, faults


def _silence() -> None:
    """Libraries that refuse a file write about it to stderr; what remains there is where the process crashes."""
    faulthandler.enable(os.fdopen(os.dup(2), "w"))
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)


def _data_bytes() -> int:
    """What the process has asked for so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmData:"))
