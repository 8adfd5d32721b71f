# SPDX-License-Identifier: Apache-2.0
"""Stored graphs are those that would be built anew, to the last bit, and none of another rule or recording is taken."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from torch_geometric.data import Data

from aegnn_core import GraphConfig
from aegnn_core.cli import main
from aegnn_core.datasets import MissingFilesError, open_dataset
from aegnn_core.datasets.dataset_format import BOX_DTYPE
from aegnn_core.datasets.default_graphs import DEFAULT_GRAPHS
from aegnn_core.datasets.graph_file import GraphFileError, read_graph, write_graphs
from aegnn_core.datasets.preprocessing import preprocess
from aegnn_core.datasets.samples import EventSample, EventSamples, labelled_graph
from aegnn_core.datasets.stored_graphs import open_graphs
from aegnn_core.events import make_events
from tests.datasets.tiny_datasets import (
    write_gen1,
    write_ncaltech101,
    write_ncars,
    write_nmnist,
    write_rosbag_detection,
    write_rosbag_recognition,
)
from tests.graph.reference import graph_configs, streams

#: Of the graphs of a larger camera.
RULE = GraphConfig(max_neighbors=4, time_scale=1e-5, window=300_000)


def assert_same(found: Data, expected: Data) -> None:
    assert found.keys() == expected.keys()
    for name in expected.keys():  # noqa: SIM118
        assert found[name].dtype == expected[name].dtype, name
        assert found[name].equal(expected[name]), name


@st.composite
def samples(draw: st.DrawFn, boxes: bool) -> EventSample:
    events = draw(streams(max_events=40))
    if not boxes:
        return EventSample(events, draw(st.integers(0, 300)), None)
    found = np.zeros(draw(st.integers(1, 4)), BOX_DTYPE)
    for name in "xywh":
        found[name] = draw(st.integers(-3, 90)) / 4
    found["class_id"] = draw(st.integers(0, 255))
    last = int(events["t"][-1]) if len(events) else 0
    return EventSample(events, None, found, draw(st.none() | st.integers(last, last + 200_000)))


@settings(max_examples=100)
@given(data=st.data(), graph=graph_configs(), boxes=st.booleans())
def test_a_file_gives_back_every_graph(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, graph: GraphConfig, boxes: bool
) -> None:
    path = tmp_path_factory.mktemp("graphs") / "graphs.safetensors"
    stored = data.draw(st.lists(samples(boxes), max_size=3))
    assert write_graphs(path, stored, graph) == sum(len(sample.events) for sample in stored)
    for number, sample in enumerate(stored):
        assert_same(read_graph(path, number, graph), labelled_graph(sample, graph))


def test_a_file_holds_sensors_and_spans_of_any_size(tmp_path: Path) -> None:
    """An hour and a half between events, pixels beyond 255, more than 255 neighbours, and one 65 536 events back."""
    number = np.arange(70_000)
    x, y = number % 1000 + 200, number // 1000
    x[:300], y[:300] = 1279, 719
    x[[0, -1]] = 7
    t = number.astype(np.int64)
    t[-1] += 5_400_000_000
    events = make_events(t, x, y, number % 2)
    events["y"][[0, -1]] = 719
    graph = GraphConfig(max_neighbors=299, time_scale=1e-12)
    sample = EventSample(events, 2, None)
    data = labelled_graph(sample, graph)
    assert [0, 69_999] in data.edge_index.t()[-9:].tolist()
    assert data.edge_index[1].bincount().max() > 255
    write_graphs(tmp_path / "graphs", [EventSample(events[:5], 1, None), sample], graph)
    assert_same(read_graph(tmp_path / "graphs", 1, graph), data)


@pytest.mark.parametrize(
    ("write", "name", "task", "count"),
    [
        (write_nmnist, "nmnist", "recognition", 10),
        (write_ncars, "ncars", "recognition", 2),
        (write_ncaltech101, "ncaltech101", "recognition", 101),
        (write_ncaltech101, "ncaltech101", "detection", 100),
        (write_gen1, "gen1", "detection", 6),
        (write_rosbag_recognition, "rosbag", "recognition", 3),
        (write_rosbag_detection, "rosbag", "detection", 4),
    ],
)
@pytest.mark.parametrize("directed", [True, False])
def test_stored_graphs_of_a_data_set_are_those_of_its_samples(
    tmp_path: Path, write: Callable[[Path], None], name: str, task: str, count: int, directed: bool
) -> None:
    write(tmp_path)
    dataset = open_dataset(name, "training", task=task, root=tmp_path)
    graph = GraphConfig(radius=8.0, time_scale=1e-4, window=150_000, directed=directed)
    done = preprocess(dataset, graph, task)
    graphs, fresh = open_graphs(dataset, graph, task), EventSamples(dataset, graph, task)
    assert len(graphs) == len(fresh) == count
    assert sum(graphs[index].num_edges for index in range(count)) > 0
    for index in range(count):
        assert_same(graphs[index], labelled_graph(fresh[index], graph))
    assert (done.recordings, done.built) == (len(dataset), len(dataset))
    assert done.events == sum(len(fresh[index].events) for index in range(count))


def test_graphs_of_another_rule_task_or_recording_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the command that makes what is missing."""
    monkeypatch.setenv("AEGNN_DATA_DIR", str(tmp_path))
    write_ncaltech101(tmp_path)
    output = tmp_path / "a folder"

    def missing(graph: GraphConfig, task: str = "detection") -> int:
        dataset = open_dataset("ncaltech101", "training", task=task)
        try:
            open_graphs(dataset, graph, task, output)
        except MissingFilesError as error:
            count, command = str(error).split(" ", 1)[0], str(error).rpartition("make them by: aegnn ")[2]
            assert main([*shlex.split(command), "--num-workers", "0"]) == 0
            open_graphs(dataset, graph, task, output)
            return int(count)
        return 0

    rules = [GraphConfig(), GraphConfig(radius=2.5), GraphConfig(max_neighbors=7), GraphConfig(time_scale=1 / 3e5)]
    rules += [
        GraphConfig(window=99),
        GraphConfig(max_nodes=3),
        GraphConfig(time_horizon=9),
        GraphConfig(directed=False),
    ]
    rules += [GraphConfig(expiry="graph"), DEFAULT_GRAPHS["detection"]]
    assert [missing(rule) for rule in rules] == [100] * len(rules)
    assert missing(GraphConfig(), "recognition") == 101
    assert [missing(rule) for rule in rules] == [0] * len(rules)
    folder = tmp_path / "ncaltech101"
    events = next((folder / "training" / "anchor").iterdir())
    events.write_bytes(events.read_bytes()[:-5])
    assert missing(GraphConfig()) == 1
    boxes = next((folder / "annotations" / "ant").iterdir())
    os.utime(boxes, (1, 1))
    assert missing(GraphConfig()) == 1
    assert missing(GraphConfig(), "recognition") == 1  # which has no boxes
    assert missing(GraphConfig()) == 0


def test_a_file_that_is_not_whole_is_named(tmp_path: Path) -> None:
    write_nmnist(tmp_path)
    dataset = open_dataset("nmnist", "training", task="recognition", root=tmp_path)
    preprocess(dataset, GraphConfig(), "recognition")
    graphs = open_graphs(dataset, GraphConfig(), "recognition")
    file, *_ = (tmp_path / "nmnist" / "processed").rglob("*.safetensors")
    content = file.read_bytes()
    for length in (0, 5, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(GraphFileError, match=rf"{file.name}: .*expected a whole file .*delete it, and aegnn prep"):
            [graphs[index] for index in range(10)]


def test_graphs_of_a_larger_camera_are_those_of_the_models_sensor(tmp_path: Path) -> None:
    write_gen1(tmp_path, area=(16, 12))
    options = {"task": "detection", "root": tmp_path}
    dataset = open_dataset("gen1", "training", **options, sensor=(152, 120))
    with pytest.raises(MissingFilesError, match="--sensor 152x120 --downsampling integrate"):
        open_graphs(dataset, RULE, "detection")
    preprocess(dataset, RULE, "detection")
    graphs = open_graphs(dataset, RULE, "detection")
    assert len(graphs) == 6
    columns = np.concatenate([data.pos[:, 0].numpy() for data in graphs])
    assert 0 < len(columns) < 2 * 900
    assert columns.max() < 8
    for other in (
        open_dataset("gen1", "training", **options),
        open_dataset("gen1", "training", **options, sensor=(152, 120), downsampling="coordinates"),
    ):
        with pytest.raises(MissingFilesError):
            open_graphs(other, RULE, "detection")


@pytest.mark.parametrize("boxes", [False, True])
def test_a_tampered_file_is_refused_by_name_or_gives_a_graph_of_the_rule(tmp_path: Path, boxes: bool) -> None:
    """One number, or one array, becomes another: what is read obeys the rule, or is refused."""
    graph = GraphConfig(max_neighbors=4, window=50_000)
    rng = np.random.default_rng(0)
    events = make_events(np.sort(rng.integers(0, 90_000, 60)), *rng.integers(0, 9, (2, 60)), rng.integers(0, 2, 60))
    label = None if boxes else 3
    found = np.ones(3, BOX_DTYPE) if boxes else None
    path = tmp_path / "graphs.safetensors"
    write_graphs(path, [EventSample(part, label, found) for part in (events, events[:30])], graph)
    good = load_file(path)
    refused = 0
    for name in [*good, "back", "counts", "t", "event_offsets", "neighbor_offsets"] * 12:
        arrays = {key: value.copy() for key, value in good.items()}
        kind = rng.integers(5)
        if kind < 3 and arrays[name].size:
            at = rng.integers(arrays[name].size)
            info = np.iinfo(arrays[name].dtype) if arrays[name].dtype.kind != "f" else None
            other = rng.integers(info.min, info.max, dtype=arrays[name].dtype) if info else np.nan
            arrays[name].flat[at] = [0, other, arrays[name].flat[at] + 1][kind]
        elif kind == 3:
            arrays[name] = arrays[name][:-1]
        else:
            arrays[name] = arrays[name].astype([np.float64, np.int8][rng.integers(2)])
        save_file(arrays, path)
        for number in range(2):
            try:
                data = read_graph(path, number, graph)
            except GraphFileError as error:
                refused += 1
                message = str(error)
            else:
                message = path.name
                assert (
                    0 <= data.edge_index.numpy().min(initial=0) <= data.edge_index.numpy().max(initial=0) < len(data.x)
                )
                assert bool((data.edge_index[0] < data.edge_index[1]).all())
                assert bool((data.edge_attr >= 0).all() & (data.edge_attr <= 1).all())
            assert path.name in message
    assert refused > 50


def test_a_neighbour_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    graph = GraphConfig()
    path = tmp_path / "graphs.safetensors"
    events = make_events(np.arange(5), np.arange(5), np.zeros(5), np.ones(5))
    write_graphs(path, [EventSample(events, 0, None)], graph)
    good = load_file(path)
    for value, message in ((0, "event 1 has a neighbour"), (2, "neighbours are events -1 to 3 of 5")):
        back = good["back"].copy()
        back[0] = value
        save_file({**good, "back": back}, path)
        with pytest.raises(GraphFileError, match=rf"graphs\.safetensors: {message}"):
            read_graph(path, 0, graph)


def test_graphs_of_joined_splits_are_those_of_either(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        write_gen1(tmp_path, split)
    training, validation = (
        open_dataset("gen1", split, task="detection", root=tmp_path) for split in ("training", "validation")
    )
    both = training.joined(validation)
    preprocess(training, RULE, "detection")
    with pytest.raises(MissingFilesError, match=r"^2 of 4 recordings .* --split training validation --task detection"):
        open_graphs(both, RULE, "detection")
    preprocess(validation, RULE, "detection")
    graphs, fresh = open_graphs(both, RULE, "detection"), EventSamples(both, RULE, "detection")
    assert len(graphs) == len(fresh) == 12
    for index in range(12):
        assert_same(graphs[index], labelled_graph(fresh[index], RULE))
    assert preprocess(both, RULE, "detection").built == 0
    preprocess(both.on_sensor((152, 120)), RULE, "detection")
    assert len(open_graphs(training.on_sensor((152, 120)), RULE, "detection")) == 6
