# SPDX-License-Identifier: Apache-2.0
"""Graphs in a file of typed arrays, from which each can be read alone.

It is a safetensors file with the events and their neighbours, from which everything else in a graph is computed. In the
order of the graphs, and in each in the order of its events, these are

- ``event_offsets [G + 1]``: where each graph's events begin, and where the last one's end;
- ``t [N]`` [µs] since the graph's first event, ``x [N]``, ``y [N]`` [px], and ``p``, eight events a byte and a new byte
  for each graph;
- ``neighbor_offsets [G + 1]``, ``counts [N]`` neighbours of each event, and ``back [M]``, how many events before it
  each of them is;
- for recognition ``label [G]``; for detection ``moment [G]``, at which a node is live or not [µs since the first
  event, 0 without one], ``box_offsets [G + 1]``, ``corners [B, 4]`` (x0, y0, x1, y1 px) and ``classes [B]``.

Whole numbers have the smallest unsigned type that holds them all.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch_geometric.data import Data

from aegnn_core.datasets.samples import EventSample, corners_of, with_boxes, with_label
from aegnn_core.events.array import check_events, make_events
from aegnn_core.graph import GraphConfig
from aegnn_core.graph.build import Neighbors, check_neighbors, find_neighbors, join_neighbors
from aegnn_core.whole_files import whole_file

__all__ = ["FORMAT_VERSION", "PART_SUFFIX", "GraphFileError", "read_graph", "write_graphs"]

#: Changes whenever files that were written before would be read differently, or would hold other samples now.
FORMAT_VERSION = 2

#: Suffix of files that are still being written.
PART_SUFFIX = ".part"


class GraphFileError(ValueError):
    """A file of graphs is not whole."""


def write_graphs(path: Path, samples: Iterable[EventSample], graph: GraphConfig) -> int:
    """Build the graphs of samples and write them; the file appears at ``path`` when all of it is on the disk.

    Args:
        path: the file to write, in a folder that is there.
        samples: of one task. What is written of them is in memory at once.
        graph: the rule.

    Returns:
        The number of events in all graphs.

    Raises:
        OSError: the file cannot be written; nothing is left of it.
    """
    parts: defaultdict[str, list[np.ndarray]] = defaultdict(list)
    sizes: defaultdict[str, list[int]] = defaultdict(lambda: [0])
    for sample in samples:
        events, boxes = sample.events, sample.boxes
        counts, sources = find_neighbors(events, graph)
        numbers = {
            "t": events["t"] - events["t"][:1],
            "x": events["x"],
            "y": events["y"],
            "p": np.packbits(events["p"] > 0),
            "counts": counts,
            "back": np.repeat(np.arange(len(events)), counts) - sources,
        }
        sizes["event"].append(len(events))
        sizes["neighbor"].append(len(sources))
        if boxes is None:
            numbers["label"] = np.array([sample.label])
        else:
            numbers["moment"] = sample.moment - events["t"][:1] if len(events) else np.zeros(1, np.int64)
            numbers["classes"] = boxes["class_id"]
            parts["corners"].append(corners_of(boxes))
            sizes["box"].append(len(boxes))
        for name, values in numbers.items():
            parts[name].append(values.astype(np.min_scalar_type(values.max(initial=0))))
    # Joining arrays of several unsigned types gives the largest of these.
    arrays = {name: np.concatenate(values) for name, values in parts.items()}
    arrays |= {f"{name}_offsets": np.cumsum(size, dtype=np.int64) for name, size in sizes.items()}
    _write_at_once(path, save(arrays))
    return sum(sizes["event"])


def _write_at_once(path: Path, content: bytes) -> None:
    # Several machines may share the folder, so that the process number alone is not a name.
    part = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}{PART_SUFFIX}")
    with whole_file(path, part) as file:
        file.write(content)


def read_graph(path: Path, number: int, graph: GraphConfig) -> Data:
    """The graph with a number from a file, exactly as :func:`aegnn_core.datasets.samples.labelled_graph` makes it.

    Args:
        path: a file by :func:`write_graphs`.
        number: of the graph in it.
        graph: the rule that the file was written with.

    Raises:
        FileNotFoundError: there is no such file.
        GraphFileError: the file is not whole, has fewer graphs, or neighbours that the rule does not give.
    """
    try:
        with safe_open(path, framework="np") as file:
            return _read(file, number, graph)
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise GraphFileError(
            f"{path}: {str(error)[:300]}, expected a whole file of at least {number + 1} graphs; delete it, and aegnn"
            " preprocess makes it again"
        ) from error


def _read(file: Any, number: int, graph: GraphConfig) -> Data:
    def section(name: str, begin: int, end: int, kind: str = "u") -> np.ndarray:
        if begin == end:
            return np.empty((0, 4) if name == "corners" else 0, np.uint8)
        values: np.ndarray = file.get_slice(name)[begin:end]
        shape = (end - begin, 4) if name == "corners" else (end - begin,)
        if values.shape != shape or values.dtype.kind != kind:
            raise ValueError(f"{name} is {values.dtype} {list(values.shape)} where {list(shape)} numbers should be")
        return values

    def bounds(of: str) -> tuple[int, int]:
        begin, end = file.get_slice(f"{of}_offsets")[number : number + 2].tolist()
        if not 0 <= begin <= end:
            raise ValueError(f"graph {number} has its {of}s from {begin} to {end}")
        return begin, end

    first, last = bounds("event")
    count = last - first
    t, x, y, counts = (section(name, first, last) for name in ("t", "x", "y", "counts"))
    offsets = file.get_slice("event_offsets")[: number + 1]
    byte = int((-(-np.diff(offsets) // 8)).sum())
    p = np.unpackbits(section("p", byte, byte + -(-count // 8)), count=count)
    if len(counts) and counts.max() > graph.max_neighbors:
        raise ValueError(f"an event has {counts.max()} neighbours, the graph rule gives up to {graph.max_neighbors}")
    counts = counts.astype(np.int32)
    back = section("back", *bounds("neighbor"))
    if int(counts.sum()) != len(back):
        raise ValueError(f"the events have {counts.sum()} neighbours, found {len(back)}")
    sources = np.repeat(np.arange(count), counts) - back.astype(np.int64)
    if len(sources) and not 0 <= sources.min() <= sources.max() < count:
        raise ValueError(f"neighbours are events {sources.min()} to {sources.max()} of {count}")
    sources = sources.astype(np.int32)
    events, neighbors = check_events(make_events(t, x, y, p)), Neighbors(counts, sources)
    check_neighbors(events, neighbors, graph)
    if "label" in file.keys():  # noqa: SIM118
        label = int(section("label", number, number + 1)[0])
        return with_label(join_neighbors(events, neighbors, graph), label)
    data = join_neighbors(events, neighbors, graph, time=int(section("moment", number, number + 1)[0]))
    begin, end = bounds("box")
    return with_boxes(data, section("corners", begin, end, "f"), section("classes", begin, end))
