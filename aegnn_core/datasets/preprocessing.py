# SPDX-License-Identifier: Apache-2.0
"""Graphs of a data set built once and stored, by several processes or on a cluster of machines."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aegnn_core.child_process import begin_child_process
from aegnn_core.datasets.cluster import open_cluster
from aegnn_core.datasets.event_dataset import EventDataset
from aegnn_core.datasets.graph_file import PART_SUFFIX, write_graphs
from aegnn_core.datasets.samples import EventSamples
from aegnn_core.datasets.stored_graphs import UNREADABLE_SUFFIX, description, graph_files, graph_folder
from aegnn_core.events.array import EventFormatError
from aegnn_core.graph import GraphConfig

__all__ = ["Preprocessed", "preprocess", "store_recording"]

#: Recordings that are handed out at once, which bounds the memory of waiting tasks.
_AT_ONCE = 1024

_DESCRIPTION = "graph.json"
_LOCK = "lock"


@dataclass(frozen=True)
class Preprocessed:
    """What a run of :func:`preprocess` has done.

    Attributes:
        folder: of the stored graphs.
        recordings: of the split.
        built: of these, those whose graphs this run has built.
        events: in the graphs that this run has built.
        bytes: of all files of the split.
    """

    folder: Path
    recordings: int
    built: int
    events: int
    bytes: int


def preprocess(
    dataset: EventDataset,
    graph: GraphConfig,
    task: str,
    root: Path | None = None,
    *,
    workers: int = 0,
    cluster: str | None = None,
) -> Preprocessed:
    """Build and store the graphs of all samples, a file per recording, where they are not there yet.

    A run that was interrupted, however abruptly, goes on from where it was: a file appears when it is complete.

    Args:
        dataset: recordings, opened for the task.
        graph: the rule.
        task: ``"recognition"`` or ``"detection"``.
        root: folder that gets a folder per rule; by default ``processed`` in the data set's folder.
        workers: processes, each of which holds one recording in memory; 0 for none but this one.
        cluster: see :func:`aegnn_core.datasets.cluster.open_cluster`; used instead of processes of this machine.

    Raises:
        ValueError: recordings without labels for the task, or another run in the same folder.
        EventFormatError: recordings that cannot be read; all others are stored. A file says so instead of their graphs,
            so that training leaves them out; the next run tries them again.
        OSError: files cannot be written.
    """
    folder = graph_folder(dataset, graph, task, root).absolute()
    files = graph_files(dataset, folder)
    missing = [number for number, file in enumerate(files) if not file.exists()]
    events, unreadable = 0, []
    if missing:
        described = description(dataset, graph, task)
        with (
            _prepared(folder, {file.parent for file in files}, described),
            _open_executor(min(workers, len(missing)), cluster) as executor,
            _progress() as progress,
        ):
            bar = progress.add_task(
                f"{dataset.form.name}, {dataset.split}", total=len(files), completed=len(files) - len(missing), events=0
            )
            for done in _completed(executor, ((dataset.only(n), graph, task, files[n]) for n in missing)):
                try:
                    events += done.result()
                except EventFormatError as error:
                    unreadable.append(str(error))
                progress.update(bar, advance=1, events=events)
    if unreadable:
        raise EventFormatError(
            f"{len(unreadable)} of {len(files)} recordings of {dataset.form.name}, {dataset.split}, cannot be read, all"
            f" others are stored, and training from these leaves them out; the first: {min(unreadable)}"
        )
    return Preprocessed(folder, len(files), len(missing), events, sum(file.stat().st_size for file in files))


def store_recording(dataset: EventDataset, graph: GraphConfig, task: str, path: Path) -> int:
    """Build the graphs of all samples of a data set, here of one recording, and write them to one file.

    Returns:
        The number of events in the graphs.

    Raises:
        EventFormatError: the recording cannot be read; a file beside ``path`` has the reason.
    """
    reason = path.with_suffix(UNREADABLE_SUFFIX)
    try:
        samples = EventSamples(dataset, graph, task)
        events = write_graphs(path, (samples[number] for number in range(len(samples))), graph)
    except EventFormatError as error:
        reason.write_text(str(error), "utf8")
        raise
    reason.unlink(missing_ok=True)
    return events


def _completed(executor: Executor, tasks: Iterator[tuple[Any, ...]]) -> Iterator[Future[int]]:
    """The futures of :func:`store_recording` for all tasks, as they end; not all of them are handed out at once.

    ``concurrent.futures.wait`` locks all futures every time: Ctrl-C in between would leave some of them locked, and the
    executor would wait for these forever.
    """
    ended: SimpleQueue[Future[int]] = SimpleQueue()

    def hand_out(most: int) -> int:
        count = 0
        for task in islice(tasks, most):
            executor.submit(store_recording, *task).add_done_callback(ended.put)
            count += 1
        return count

    running = hand_out(_AT_ONCE)
    while running:
        yield ended.get()
        running += hand_out(1) - 1


@contextmanager
def _prepared(folder: Path, places: set[Path], described: dict[str, Any]) -> Iterator[None]:
    """The folder of a graph rule, locked and described, without what an interrupted run has left half written.

    The ``places`` in it, folders for the files, are made.
    """
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    with _locked(folder / _LOCK):
        for left in folder.rglob(f"*{PART_SUFFIX}"):
            left.unlink()
        (folder / _DESCRIPTION).write_text(json.dumps(described, indent=2) + "\n")
        yield


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other runs out; the lock ends with the process, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{path.parent}: another run is storing graphs there, wait until it has ended") from error
        yield


@contextmanager
def _open_executor(workers: int, cluster: str | None) -> Iterator[Executor]:
    """What runs the tasks; when closed, it waits for those that are running and drops the others."""
    if cluster is not None:
        with open_cluster(cluster, workers) as executor:
            yield executor
        return
    pool: Executor
    if workers == 0:
        pool = ThreadPoolExecutor(1)
    else:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        pool = ProcessPoolExecutor(workers, context, begin_child_process)
    try:
        yield pool
    except BrokenExecutor as error:
        raise ChildProcessError(
            "a process that built graphs was killed, perhaps for lack of memory: try fewer of them"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[events]:,} events"),
        TimeRemainingColumn(),
        transient=True,
    )
