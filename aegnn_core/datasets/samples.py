# SPDX-License-Identifier: Apache-2.0
"""Training samples: whole recordings with their class, or the events before a moment with its boxes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Data

from aegnn_core.datasets.dataset_format import AT_THE_END, LabelledStream
from aegnn_core.datasets.event_dataset import EventDataset
from aegnn_core.events.array import check_events
from aegnn_core.graph import GraphConfig, build_graph
from aegnn_core.graph.build import Neighbors, join_neighbors

__all__ = [
    "EventSample",
    "EventSamples",
    "GraphMaker",
    "corners_of",
    "labelled_graph",
    "labelled_nodes",
    "sample_events",
    "sample_moments",
    "with_boxes",
    "with_label",
]


@dataclass(frozen=True)
class EventSample:
    """Events, and the truth at a moment.

    Attributes:
        events: array ``[N]`` of :data:`aegnn_core.events.EVENT_DTYPE`.
        label: class, None where only boxes are known.
        boxes: array ``[M]`` of :data:`aegnn_core.datasets.dataset_format.BOX_DTYPE`, all of one time; None for
            recognition.
        time: that of the truth [µs], after which there is no event: nodes are live then, or not. None is the last
            event's.
    """

    events: np.ndarray
    label: int | None
    boxes: np.ndarray | None
    time: int | None = None

    @property
    def moment(self) -> int:
        """The time of the truth [µs]; 0 if nobody says it and there are no events."""
        if self.time is not None:
            return self.time
        return int(self.events["t"][-1]) if len(self.events) else 0


#: Makes what a network gets of a sample: :func:`labelled_graph` or :func:`labelled_nodes`.
GraphMaker = Callable[[EventSample, GraphConfig], Data]


class EventSamples:
    """The samples of a data set, in the order of its recordings and of time.

    For recognition a sample is a recording with all its events. For detection it is a moment with boxes that count
    (:meth:`aegnn_core.datasets.dataset_format.DatasetFormat.boxes_by_moment`) and the events of :func:`sample_events`.
    The recording that was read last stays in memory, so ask for samples of one recording in a row, or keep all.

    Args:
        dataset: recordings, opened for the task.
        graph: the rule, which says how far back the events of a moment reach.
        task: ``"recognition"`` or ``"detection"``.
        in_memory: keep all recordings that have been read, 13 bytes an event.

    Raises:
        ValueError: the recordings have no labels for the task.
    """

    def __init__(self, dataset: EventDataset, graph: GraphConfig, task: str, in_memory: bool = False) -> None:
        self.dataset, self.graph, self.task, self._in_memory = dataset, graph, task, in_memory
        self._places = [
            (number, moment) for number in range(len(dataset)) for moment in sample_moments(dataset, number, task)
        ]
        self._read: dict[int, tuple[LabelledStream, dict[int, np.ndarray]]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> EventSample:
        number, moment = self._places[index]
        if number not in self._read:
            if not self._in_memory:
                self._read.clear()
            self._read[number] = self._read_recording(number)
        recording, boxes = self._read[number]
        events = recording.stream.events
        if self.task == "recognition":
            return EventSample(events, recording.label, None)
        if moment == AT_THE_END:
            moment = max(boxes)
        return EventSample(sample_events(events, moment, self.graph), recording.label, boxes[moment], moment)

    def _read_recording(self, number: int) -> tuple[LabelledStream, dict[int, np.ndarray]]:
        """A recording, and its boxes that count by their time, which are parted once."""
        recording = self.dataset[number]
        if recording.boxes is None:
            return recording, {}
        return recording, self.dataset.form.boxes_by_moment(recording.boxes)


def sample_moments(dataset: EventDataset, number: int, task: str) -> list[int]:
    """The times [µs] of a recording's samples, found without reading its events; possibly :data:`AT_THE_END`.

    Raises:
        ValueError: the recordings have no labels for the task.
    """
    recording = dataset.recordings[number]
    found = recording.label if task == "recognition" else recording.boxes
    if found is None:
        raise ValueError(f"{recording.events} has no labels for {task}, expected a data set opened for {task}")
    if task == "recognition":
        return [AT_THE_END]
    boxes = dataset.boxes(number)
    assert boxes is not None
    return list(dataset.form.boxes_by_moment(boxes))


def sample_events(events: np.ndarray, moment: int, graph: GraphConfig) -> np.ndarray:
    """The events that a graph at ``moment`` [µs] is made of.

    These are the events that are live then, and half as many (or half as much time) before them, because a live model's
    nodes have had neighbours that have left since. If the rule removes these neighbours too (``expiry="graph"``), only
    live events; if nothing ever leaves, all until then.
    """
    t = events["t"]  # which np.searchsorted would copy, every time
    last = bisect_right(t, moment)
    first, more = 0, 0 if graph.resolved_expiry == "graph" else 1
    if graph.max_nodes is not None:
        first = max(first, last - graph.max_nodes - more * graph.max_nodes // 2)
    if graph.window is not None:
        first = max(first, bisect_right(t, moment - graph.window - more * graph.window // 2))
    return events[first:last]


def labelled_graph(sample: EventSample, graph: GraphConfig) -> Data:
    """The graph of a sample with its labels: for recognition ``y [1]``.

    For detection ``boxes [M, 4]`` (x0, y0, x1, y1 px), ``classes [M]`` and their number, ``num_boxes [1]``.
    """
    return _labelled(build_graph(sample.events, graph, time=sample.time), sample)


def labelled_nodes(sample: EventSample, graph: GraphConfig) -> Data:
    """As :func:`labelled_graph`, without edges."""
    events = check_events(sample.events)
    nobody = Neighbors(np.zeros(len(events), np.int32), np.empty(0, np.int32))
    nodes = join_neighbors(events, nobody, graph, time=sample.time)
    del nodes.edge_index, nodes.edge_attr
    return _labelled(nodes, sample)


def _labelled(data: Data, sample: EventSample) -> Data:
    if sample.boxes is not None:
        return with_boxes(data, corners_of(sample.boxes), sample.boxes["class_id"])
    assert sample.label is not None
    return with_label(data, sample.label)


def corners_of(boxes: np.ndarray) -> NDArray[np.float32]:
    """Left, upper, right and lower side ``[M, 4]`` [px] of boxes with the fields x, y, w and h."""
    sides = [boxes["x"], boxes["y"], boxes["x"] + boxes["w"], boxes["y"] + boxes["h"]]
    return np.stack(sides, 1).astype(np.float32)


def with_label(data: Data, label: int) -> Data:
    """The graph with ``y [1]``."""
    data.y = torch.tensor([label])
    return data


def with_boxes(data: Data, corners: np.ndarray, classes: np.ndarray) -> Data:
    """The graph with ``boxes [M, 4]`` (x0, y0, x1, y1 px), ``classes [M]`` and their number, ``num_boxes [1]``."""
    data.boxes = torch.from_numpy(corners.astype(np.float32))
    data.classes = torch.from_numpy(classes.astype(np.int64))
    data.num_boxes = torch.tensor([len(corners)])
    return data
