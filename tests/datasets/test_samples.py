# SPDX-License-Identifier: Apache-2.0
"""Samples are what a live model would have seen until a moment, with what is true then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from aegnn_core import GraphConfig, build_graph
from aegnn_core.datasets import open_dataset
from aegnn_core.datasets.dataset_format import BOX_DTYPE, DatasetFormat
from aegnn_core.datasets.default_graphs import DEFAULT_GRAPHS
from aegnn_core.datasets.event_dataset import EventDataset
from aegnn_core.datasets.samples import EventSample, EventSamples, labelled_graph, labelled_nodes, sample_events
from aegnn_core.events import make_events
from tests.datasets.tiny_datasets import write_gen1, write_ncaltech101, write_nmnist
from tests.graph.reference import graph_configs, live_nodes, streams


@given(events=streams(), graph=graph_configs(), moment=st.floats(-0.1, 1.1))
def test_the_events_of_a_moment_hold_all_that_are_live_then(
    events: np.ndarray, graph: GraphConfig, moment: float
) -> None:
    first, last = (int(events["t"][k]) if len(events) else 0 for k in (0, -1))
    time = first + round(moment * (last - first))
    chosen = sample_events(events, time, graph)
    past = events[events["t"] <= time]
    assert_array_equal(chosen, past[len(past) - len(chosen) :])
    live = live_nodes(past, graph, time)
    assert len(chosen) >= len(live)
    if graph.resolved_expiry == "graph":
        assert len(chosen) == len(live)
    else:
        longest = int(1.5 * graph.window) + 1 if graph.window is not None else None
        assert longest is None or len(chosen) == 0 or time - chosen["t"][0] <= longest
        assert graph.max_nodes is None or len(chosen) <= int(1.5 * graph.max_nodes) + 1


def test_detection_has_a_sample_for_every_moment_with_boxes_that_count(tmp_path: Path) -> None:
    write_gen1(tmp_path)
    dataset = open_dataset("gen1", "training", task="detection", root=tmp_path)
    graph = GraphConfig(window=100_000)
    samples = EventSamples(dataset, graph, "detection")
    assert len(samples) == 6
    for index, (moment, boxes) in enumerate(
        [(600_000, [(1, 2, 60, 40, 1)]), (900_000, [(5, 6, 33.5, 44.5, 0), (100, 90, 20, 50, 1)])]
    ):
        sample = samples[3 + index]
        t = dataset[1].stream.events["t"]
        assert_array_equal(sample.events["t"], t[(t > moment - 150_000) & (t <= moment)])
        assert sample.boxes[[*"xywh", "class_id"]].tolist() == boxes
        assert (sample.boxes["t"] == moment).all()
    assert len(samples[5].events) == 0  # the recording has ended long before
    data = labelled_graph(samples[1], graph)
    assert data.boxes.tolist() == [[5, 6, 38.5, 50.5], [100, 90, 120, 140]]
    assert (data.classes.tolist(), data.num_boxes.tolist()) == ([0, 1], [2])


def test_the_box_of_a_whole_recording_is_one_sample_at_its_end(tmp_path: Path) -> None:
    write_ncaltech101(tmp_path)
    dataset = open_dataset("ncaltech101", "training", task="detection", root=tmp_path)
    samples = EventSamples(dataset, GraphConfig(), "detection")
    assert len(samples) == 100
    assert_array_equal(samples[7].events, dataset[7].stream.events)
    assert samples[7].label == samples[7].boxes["class_id"][0] == dataset[7].label


def test_recognition_has_a_sample_for_every_recording(tmp_path: Path) -> None:
    write_nmnist(tmp_path)
    dataset = open_dataset("nmnist", "training", task="recognition", root=tmp_path)
    samples = EventSamples(dataset, GraphConfig(window=1000), "recognition")
    assert len(samples) == 10
    assert_array_equal(samples[4].events, dataset[4].stream.events)
    assert (samples[4].label, samples[4].boxes) == (4, None)
    data = labelled_graph(samples[4], GraphConfig())
    assert data.y.tolist() == [4]
    assert data.edge_index.equal(build_graph(samples[4].events, GraphConfig()).edge_index)
    with pytest.raises(ValueError, match=r"00000.bin has no labels for detection, expected a data set opened for det"):
        EventSamples(dataset, GraphConfig(), "detection")
    with pytest.raises(IndexError):
        samples[10]


def test_samples_of_one_recording_read_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gen1(tmp_path)
    samples = EventSamples(
        open_dataset("gen1", "training", task="detection", root=tmp_path), GraphConfig(window=1000), "detection"
    )
    read: list[int] = []
    read_recording = EventDataset.__getitem__

    def counted(dataset: EventDataset, number: int):
        read.append(number)
        return read_recording(dataset, number)

    monkeypatch.setattr(EventDataset, "__getitem__", counted)
    for index in range(len(samples)):
        samples[index]
    assert read == [0, 1]


@pytest.mark.parametrize("expiry", ["readout", "graph"])
def test_nodes_of_a_sample_with_boxes_are_live_at_its_moment(expiry: str) -> None:
    """As in an evaluation, and in the live model: not at the last event, which may be long ago."""
    graph = replace(DEFAULT_GRAPHS["detection"], window=50_000, expiry=expiry)
    events = make_events(1000 * np.arange(100), np.arange(100) % 40, np.arange(100) % 30, np.ones(100))
    sample = EventSample(sample_events(events, 120_000, graph), None, np.zeros(1, BOX_DTYPE), 120_000)
    whole = build_graph(sample.events, graph, time=120_000)
    for data in (labelled_graph(sample, graph), labelled_nodes(sample, graph)):
        assert data.pos.equal(whole.pos)
        assert int(data.live.sum() if expiry == "readout" else len(data.x)) == 29
    assert labelled_graph(sample, graph).edge_attr.equal(whole.edge_attr)
    assert "edge_attr" not in labelled_nodes(sample, graph)


def test_samples_of_boxes_know_their_moment_and_those_of_classes_end_with_their_events(tmp_path: Path) -> None:
    write_gen1(tmp_path)
    write_nmnist(tmp_path)
    graph = GraphConfig(window=100_000)
    dataset = open_dataset("gen1", "training", task="detection", root=tmp_path)
    samples = EventSamples(dataset, graph, "detection")
    assert [samples[index].moment for index in range(3)] == [600_000, 900_000, 5_000_000]
    dataset = open_dataset("nmnist", "training", task="recognition", root=tmp_path)
    sample = EventSamples(dataset, graph, "recognition")[0]
    assert (sample.time, sample.moment) == (None, sample.events["t"][-1])
    assert EventSample(sample.events[:0], 1, None).moment == 0


def test_the_boxes_of_a_recording_are_parted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gen1(tmp_path)
    dataset = open_dataset("gen1", "training", task="detection", root=tmp_path)
    samples = EventSamples(dataset, GraphConfig(window=1000), "detection")
    part, parted = DatasetFormat.boxes_by_moment, []

    def counted(form: DatasetFormat, boxes: np.ndarray) -> dict[int, np.ndarray]:
        parted.append(len(boxes))
        return part(form, boxes)

    monkeypatch.setattr(DatasetFormat, "boxes_by_moment", counted)
    for index in range(len(samples)):
        samples[index]
    assert len(parted) == 2
