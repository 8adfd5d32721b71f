# SPDX-License-Identifier: Apache-2.0
"""A time of fuzzing: processes that meet the inputs, one that watches them, and a report."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

__all__ = ["Campaign", "run", "run_side_by_side"]

#: Goes through the inputs: connection, progress, names of the kinds, seed, and the number of each kind's first batch.
Work = Callable[[Connection, Any, list[str], int, list[int]], None]

#: An input that takes longer is one that never ends: computing [s], or waiting [s].
_MOST_CPU_S, _MOST_WAIT_S = 20.0, 120.0
_START_S = 600.0
#: Whoever finds so many faults has found enough.
_MOST_FAULTS = 50


def _work(connection: Connection, progress: Any, names: list[str], seed: int, batches: list[int]) -> None:
    from tests.fuzz.worker import work  # which imports all of the package

    work(connection, progress, names, seed, batches)


@dataclass
class Campaign:
    """What a time of fuzzing has found.

    Attributes:
        seed: with which it can be repeated.
        counts: by kind, how many inputs were taken, were refused, and were faults.
        seconds: by kind, CPU time.
        faults: what each was, and how to repeat it.
    """

    seed: int
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    faults: list[str] = field(default_factory=list)

    def note(self, fault: str, tell: Callable[[str], None]) -> None:
        """Keep a fault, and tell it."""
        self.faults.append(fault)
        tell(fault)

    def add(self, other: Campaign) -> None:
        """Take over what another campaign has found."""
        for name, counts in other.counts.items():
            self.counts[name] += counts
            self.seconds[name] += other.seconds[name]
        self.faults += other.faults

    def inputs(self, name: str) -> int:
        """How many inputs of a kind there were."""
        return sum(self.counts[name].values())

    def __str__(self) -> str:
        lines = [
            f"{'seed ' + str(self.seed):20}{'inputs':>12}{'taken':>12}{'refused':>12}{'faults':>8}{'per CPU s':>12}"
        ]
        for name, counts in self.counts.items():
            total, speed = self.inputs(name), self.inputs(name) / max(self.seconds[name], 1e-9)
            columns = (counts["taken"], counts["refused"])
            lines.append(f"{name:20}{total:12,}{columns[0]:12,}{columns[1]:12,}{counts['faults']:8,}{speed:12,.0f}")
        return "\n".join(lines)


def run(
    seconds: float,
    seed: int,
    names: Sequence[str],
    batch: int | None = None,
    tell: Callable[[str], None] = lambda fault: None,
    work: Work = _work,
) -> Campaign:
    """Fuzz for a time, which begins when everything is loaded.

    Args:
        seconds: how long.
        seed: what the inputs are made from.
        names: kinds of inputs.
        batch: only this one, of the one kind.
        tell: is told each fault when it is found.
        work: what the other process does, as :func:`tests.fuzz.worker.work`.
    """
    campaign = Campaign(seed)
    batches = [batch or 0] * len(names)
    deadline: float | None = None
    while len(campaign.faults) < _MOST_FAULTS and (deadline is None or time.monotonic() < deadline):
        watched = _Watched(work, list(names), seed, batches)
        try:
            watched.wait_until_ready()
            deadline = deadline or time.monotonic() + seconds
            while time.monotonic() < deadline and len(campaign.faults) < _MOST_FAULTS:
                report = watched.next_report(deadline)
                if report is None:
                    continue
                name, number, spent, counts, faults = report
                campaign.counts[name] += counts
                campaign.seconds[name] += spent
                for fault in faults:
                    campaign.note(f"{_repeat(name, seed, number)} {fault}", tell)
                batches[names.index(name)] = number + 1
                if batch is not None:
                    return campaign
        except _GoneError as gone:
            name = names[gone.kind]
            campaign.counts[name]["faults"] += 1
            campaign.note(f"{_repeat(name, seed, gone.batch)} input {gone.input}: {gone}", tell)
            batches[gone.kind] = gone.batch + 1
            if batch is not None:
                return campaign
        finally:
            watched.end()
    return campaign


def run_side_by_side(
    jobs: int,
    seconds: float,
    seed: int,
    names: Sequence[str],
    tell: Callable[[str], None] = lambda fault: None,
    work: Work = _work,
) -> Campaign:
    """:func:`run` in so many processes at once, with the seeds from ``seed`` on; what they have found together."""
    with ThreadPoolExecutor(jobs) as threads:  # each does nothing but watch its process
        found = list(threads.map(lambda job: run(seconds, seed + job, names, tell=tell, work=work), range(jobs)))
    together = Campaign(seed)
    for campaign in found:
        together.add(campaign)
    return together


def _repeat(name: str, seed: int, batch: int) -> str:
    return f"python -m tests.fuzz --kind '{name}' --seed {seed} --batch {batch}:"


class _GoneError(Exception):
    """The process that met the inputs has crashed, or had to be ended."""

    def __init__(self, reason: str, progress: Any) -> None:
        super().__init__(reason)
        self.kind, self.batch, self.input = progress


class _Watched:
    """The process that meets the inputs, as this one sees it."""

    def __init__(self, work: Work, names: list[str], seed: int, batches: list[int]) -> None:
        context = multiprocessing.get_context("spawn")
        self._progress = context.RawArray("q", 3)
        self._connection, theirs = context.Pipe(duplex=False)
        self._process: BaseProcess = context.Process(
            target=work, args=(theirs, self._progress, names, seed, list(batches)), daemon=True
        )
        self._process.start()
        theirs.close()
        self._at: tuple[int, ...] = ()
        self._since = self._cpu_then = 0.0

    def wait_until_ready(self) -> None:
        """Return when everything is loaded."""
        if not self._connection.poll(_START_S):
            raise TimeoutError("the process with the inputs did not start")
        try:
            self._connection.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"the process with the inputs ended with {self._process.exitcode}") from None

    def next_report(self, deadline: float) -> Any:
        """What came of the next batch; None where that is not known yet. ``_GoneError`` where it never will be."""
        if self._connection.poll(max(0.0, min(1.0, deadline - time.monotonic()))):
            try:
                return self._connection.recv()
            except EOFError:
                self._process.join()
                raise _GoneError(f"the process ended with {self._process.exitcode}", self._progress) from None
        now, cpu, at = time.monotonic(), self._cpu_seconds(), tuple(self._progress)
        if at != self._at:
            self._at, self._since, self._cpu_then = at, now, cpu
        elif cpu - self._cpu_then > _MOST_CPU_S or now - self._since > _MOST_WAIT_S:
            reason = f"no end after {cpu - self._cpu_then:.0f} s of CPU time, {now - self._since:.0f} s in all"
            raise _GoneError(reason, self._progress)
        return None

    def _cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self._connection.close()
