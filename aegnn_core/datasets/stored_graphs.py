# SPDX-License-Identifier: Apache-2.0
"""Where the stored graphs of a data set lie, and the graphs as samples to train with.

Every graph rule has a folder of its own, named after a digest of all that the graphs depend on but the recordings;
``graph.json`` in it says what that is. By split there is a file per recording in it, named after a digest of its label
and of its files' places, sizes and times: graphs of a recording that has changed since are not found. Of a recording
that could not be read there is a file with the reason instead (:data:`UNREADABLE_SUFFIX`).
"""

from __future__ import annotations

import hashlib
import json
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset
from torch_geometric.data import Data

from aegnn_core.datasets.dataset_format import MissingFilesError
from aegnn_core.datasets.event_dataset import EventDataset
from aegnn_core.datasets.graph_file import FORMAT_VERSION, read_graph
from aegnn_core.datasets.samples import sample_moments
from aegnn_core.events.array import EventFormatError
from aegnn_core.graph import GraphConfig
from aegnn_core.graph.options import graph_options

__all__ = ["UNREADABLE_SUFFIX", "StoredGraphs", "description", "graph_files", "graph_folder", "open_graphs"]

#: Suffix of what is there instead of the graphs of a recording that cannot be read.
UNREADABLE_SUFFIX = ".unreadable"

_DIGITS = 12
#: So many can be named in a sentence.
_NAMED_RECORDINGS = 10


class StoredGraphs(Dataset[Data]):
    """The graphs of :class:`aegnn_core.datasets.samples.EventSamples`, in their order, read when they are asked for.

    Args:
        graph: the rule that they were built with.
        places: of each graph, its file and its number in it.
    """

    def __init__(self, graph: GraphConfig, places: list[tuple[Path, int]]) -> None:
        self.graph, self._places = graph, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Data:
        path, number = self._places[index]
        return read_graph(path, number, self.graph)


def open_graphs(dataset: EventDataset, graph: GraphConfig, task: str, root: Path | None = None) -> StoredGraphs:
    """The stored graphs of all samples of a data set.

    Recordings that ``aegnn preprocess`` could not read are left out, and a warning names them.

    Args:
        dataset: recordings, opened for the task; possibly several splits, joined.
        graph: the rule.
        task: ``"recognition"`` or ``"detection"``.
        root: what ``aegnn preprocess`` had as ``--output``; by default the folder ``processed`` of the data set.

    Raises:
        MissingFilesError: recordings have no stored graphs; the message says which command makes them.
        EventFormatError: none of the recordings can be read.
    """
    files = graph_files(dataset, graph_folder(dataset, graph, task, root))
    unreadable = {n for n, file in enumerate(files) if not file.exists() and _says_why_not(file).exists()}
    missing = [n for n, file in enumerate(files) if n not in unreadable and not file.exists()]
    if missing:
        topic = dataset.recordings[missing[0]].topic
        output = [] if root is None else ["--output", str(root)]
        splits = [part.split for part in dataset.parts]
        command = ["aegnn", "preprocess", "--dataset", dataset.form.name, "--split", *splits, "--task", task]
        if (downsampler := dataset.downsampler) is not None:
            command += ["--sensor", "{}x{}".format(*dataset.form.sensor), "--downsampling", downsampler.way]
        if topic is not None:
            command += ["--topic", topic]
        raise MissingFilesError(
            f"{len(missing)} of {len(files)} recordings of {dataset.form.name}, {dataset.split}, have no stored graphs"
            f" of this rule, or have changed since; the first is {dataset.recordings[missing[0]].events}; make them by:"
            f" {shlex.join([*command, *graph_options(graph), *output])}"
        )
    _tell_left_out(dataset, files, sorted(unreadable))
    places = [
        (file, index)
        for number, file in enumerate(files)
        if number not in unreadable
        for index in range(len(sample_moments(dataset, number, task)))
    ]
    return StoredGraphs(graph, places)


def _says_why_not(file: Path) -> Path:
    """What is there instead of a file of graphs if the recording cannot be read."""
    return file.with_suffix(UNREADABLE_SUFFIX)


def _tell_left_out(dataset: EventDataset, files: list[Path], unreadable: list[int]) -> None:
    """Warn of recordings that cannot be read; these must not be all."""
    if not unreadable:
        return
    found = f"{len(unreadable)} of {len(files)} recordings of {dataset.form.name}, {dataset.split}, cannot be read"
    if len(unreadable) == len(files):
        raise EventFormatError(f"{found}; the first: {_says_why_not(files[unreadable[0]]).read_text('utf8')}")
    named = [str(dataset.recordings[number].events) for number in unreadable[:_NAMED_RECORDINGS]]
    if (more := len(unreadable) - len(named)) > 0:
        named.append(f"and {more} more")
    warnings.warn(f"{found} and are left out: {', '.join(named)}", stacklevel=3)


def graph_folder(dataset: EventDataset, graph: GraphConfig, task: str, root: Path | None = None) -> Path:
    """The folder of a data set's stored graphs of one rule."""
    digest = _digest(description(dataset, graph, task))
    root = dataset.folder / "processed" if root is None else root
    return root / f"{dataset.form.name}-{task}-{digest}"


def description(dataset: EventDataset, graph: GraphConfig, task: str) -> dict[str, Any]:
    """Everything that stored graphs depend on but the recordings, as plain values."""
    values = {
        "format": FORMAT_VERSION,
        "dataset": dataset.form.name,
        "task": task,
        "sensor": list(dataset.form.sensor),
        "labels": list(dataset.form.labels),
        "graph": graph.resolved().to_dict(),
    }
    if (downsampler := dataset.downsampler) is not None:
        values |= {
            "camera": list(downsampler.letterbox.camera),
            "downsampling": downsampler.way,
            "threshold": downsampler.threshold_rule,
        }
    return values


def graph_files(dataset: EventDataset, folder: Path) -> list[Path]:
    """The file of each recording's graphs below :func:`graph_folder`, whether it is there or not."""
    files = []
    for split, recording in ((part.split, recording) for part in dataset.parts for recording in part.recordings):
        sources = {source for source in (recording.events, recording.boxes) if source is not None}
        states = [
            (str(file.relative_to(dataset.folder)), (state := file.stat()).st_size, state.st_mtime_ns)
            for source in sources
            for file in _files(source)
        ]
        part = [value for value in (recording.topic, recording.span) if value is not None]
        digest = _digest([recording.label, sorted(states), *part])
        files.append(folder / split / f"{recording.events.stem}-{digest}.safetensors")
    return files


def _files(source: Path) -> Iterator[Path]:
    return (file for file in source.rglob("*") if file.is_file()) if source.is_dir() else iter([source])


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:_DIGITS]
