# SPDX-License-Identifier: Apache-2.0
"""A camera's packets reach the network as events in order on its sensor, and what is wrong with them is counted."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import numpy as np
import pytest
import torch
from rosbags.typesys import Stores

from aegnn_core.asynchronous import LiveModel, make_model_asynchronous
from aegnn_core.asynchronous.device_choice import DeviceChoice
from aegnn_core.events import Downsampler, Letterbox
from aegnn_core.events.array import EventFormatError, EventStream, make_events
from aegnn_core.events.decoders import make_decoder
from aegnn_core.events.evt3_encoder import Evt3EncoderState, encode_evt3
from aegnn_core.events.filters import (
    PixelRateLimit,
    background_activity,
    every_nth,
    refractory_period,
    region_of_interest,
)
from aegnn_core.events.rosbag import RecordedPacket, event_packets
from aegnn_core.graph import GraphConfig, build_graph
from aegnn_core.nn.checkpoint import TrainedModel, for_sensor, load_model, save_model
from aegnn_core.nn.networks import NETWORKS, network
from aegnn_ros.conversions import packet_message
from aegnn_ros.detector import ready_model, stream_time
from aegnn_ros.detector.camera_filters import Region
from aegnn_ros.detector.camera_stream import CameraStream
from aegnn_ros.detector.event_arrays import SerializedArray
from aegnn_ros.detector.parameters import DetectorParameters
from aegnn_ros.detector.ready_model import Bound, ReadyModel, prepare_model
from tests.events.foreign_formats import make_message, make_store
from tests.nn.random_networks import randomize
from tests.nn.user_package import forget_user_package, install_user_package

STAMP = 1_700_000_000_000_000_000


@pytest.fixture(scope="module")
def detector(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> ReadyModel:
    """A detector whose scores differ, so that rounding does not decide which boxes are the best."""
    model = load_model(models["detection"])
    file = tmp_path_factory.mktemp("random") / "detection.safetensors"
    save_model(file, replace(model, network=randomize(model.network, 0)))
    return prepare_model(str(file), "cpu")


class Log:
    """What a stream has complained about."""

    def __init__(self) -> None:
        self.malformed: list[str] = []
        self.resets: list[str] = []


def stream_of(
    model: ReadyModel,
    log: Log | None = None,
    every: int = 1,
    refractory_us: int = 0,
    region: Region | None = None,
    downsampling: str = "integrate",
) -> CameraStream:
    log = log or Log()
    live = make_model_asynchronous(model.trained.network, graph=model.trained.graph)
    return CameraStream(
        replace(model, live=live),
        region=region,
        downsampling=downsampling,
        every_nth=every,
        refractory_us=refractory_us,
        on_malformed=log.malformed.append,
        on_reset=log.resets.append,
    )


def recording(seed: int, width: int = 160, height: int = 120, count: int = 3000, on: float = 0.5) -> EventStream:
    """Events everywhere, a share ``on`` of them ON."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 120_000, count))
    x, y, p = rng.integers(0, width, count), rng.integers(0, height, count), rng.random(count) < on
    return EventStream(make_events(t, x, y, p), width, height)


def take(stream: CameraStream, packet: RecordedPacket, stamp: int) -> np.ndarray:
    events = stream.decode(packet_message(packet, stamp), STAMP)
    if stream.waiting:
        stream.update(1.0)
    return events


def feed(stream: CameraStream, packets: Iterable[RecordedPacket]) -> np.ndarray:
    return np.concatenate([take(stream, packet, STAMP + packet.stamp) for packet in packets])


@pytest.mark.parametrize(
    ("width", "height", "downsampling"),
    [
        (160, 120, "integrate"),
        (346, 260, "integrate"),
        (346, 260, "coordinates"),
        (320, 130, "integrate"),
        (200, 100, "integrate"),
        (80, 70, "integrate"),
    ],
)
@pytest.mark.parametrize("packet_us", [2_000, 30_000])
@pytest.mark.parametrize(("every", "refractory_us"), [(1, 0), (3, 0), (1, 4000), (2, 2000)])
def test_a_readout_is_the_networks_answer_for_the_events(
    detector: ReadyModel, width: int, height: int, downsampling: str, packet_us: int, every: int, refractory_us: int
) -> None:
    source = recording(1, width, height, count=max(3000, width * height // 3), on=0.9)
    stream = stream_of(detector, every=every, refractory_us=refractory_us, downsampling=downsampling)
    decoded = feed(stream, event_packets(source, packet_us))
    np.testing.assert_array_equal(decoded, source.events)

    sensor, network = stream.model.sensor, stream.model.trained.network
    letterbox = Letterbox((width, height), sensor)
    seen = every_nth(source.events, every)
    fired = Downsampler(letterbox, downsampling)(seen)
    kept = refractory_period(fired, refractory_us, *sensor) if refractory_us else fired
    counts = stream.counts
    assert (counts.events_seen, counts.events_downsampled, counts.events_processed) == (
        len(seen),
        len(fired),
        len(kept),
    )
    assert counts.events_filtered == len(source.events) - len(seen) + len(fired) - len(kept)
    assert len(kept) > 50

    time = stream.next_readout()
    assert time == source.events["t"][-1]
    readout = stream.read_out(time, 0.0, 0.5, 10)
    with torch.no_grad():
        output = network(build_graph(kept, detector.trained.graph, time=time))
    torch.testing.assert_close(torch.from_numpy(readout.scores), network.class_scores(output)[0], rtol=1e-4, atol=1e-6)
    (expected,) = network.detections(output, 0.0, 0.5, 10)
    assert readout.detections is not None
    assert len(readout.detections) == len(expected) > 0
    for name in "xywh":
        np.testing.assert_allclose(readout.detections[name], letterbox.to_camera(expected)[name], rtol=1e-3, atol=0.05)
    assert (readout.detections["x"] + readout.detections["w"]).max() <= width + 1e-3
    assert (readout.detections["y"] + readout.detections["h"]).max() <= height + 1e-3


def test_boxes_are_given_in_the_cameras_pixels(detector: ReadyModel) -> None:
    """A camera with three times as many columns and rows sees the same, larger."""
    source = recording(2)
    large = EventStream(source.events.copy(), 480, 360)
    large.events["x"] *= 3
    large.events["y"] *= 3
    found = []
    for camera in (source, large):
        stream = stream_of(detector, downsampling="coordinates")
        feed(stream, event_packets(camera))
        found.append(stream.read_out(int(source.events["t"][-1]), 0.0, 0.5, 10).detections)
    small_boxes, large_boxes = found
    for name in "xywh":
        np.testing.assert_allclose(large_boxes[name], 3 * small_boxes[name], rtol=1e-5)


def test_events_come_to_the_model_as_those_of_its_training_did_unless_another_way_is_chosen(
    detector: ReadyModel,
) -> None:
    """Also where another model is loaded, or the choice changes, while the stream goes on."""
    packets = list(event_packets(recording(21, 320, 240, count=150_000, on=0.9), 10_000))
    trained = {
        way: replace(detector, trained=replace(detector.trained, training={"downsampling": way}))
        for way in ("integrate", "coordinates")
    }

    def share(stream: CameraStream, part: list[RecordedPacket]) -> float:
        """Of the camera's events, how many come to the model."""
        before = replace(stream.counts)
        feed(stream, part)
        counts = stream.counts
        return (counts.events_downsampled - before.events_downsampled) / (counts.events_seen - before.events_seen)

    stream = stream_of(trained["coordinates"], downsampling="trained")
    assert share(stream, packets[:3]) == 1
    stream.downsample("integrate")
    assert share(stream, packets[3:5]) < 0.4
    stream.downsample("trained")
    assert (stream.downsampling, share(stream, packets[5:7])) == ("trained", 1)
    stream.use_model(replace(trained["integrate"], live=stream.model.live))
    assert share(stream, packets[7:9]) < 0.4
    stream.use_model(replace(trained["coordinates"], live=stream.model.live))
    assert share(stream, packets[9:]) == 1


def test_a_models_file_may_begin_with_a_home(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a file of parameters, which no shell reads."""
    copyfile(models["detection"], tmp_path / "mine.safetensors")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prepare_model("~/mine.safetensors", "cpu").trained.name == "mine"
    with pytest.raises(ValueError, match=f"no model file at {tmp_path}/other.safetensors"):
        prepare_model("~/other.safetensors", "cpu")


def test_the_way_of_downsampling_changes_with_an_empty_graph(detector: ReadyModel) -> None:
    packets = list(event_packets(recording(21, 320, 240, count=150_000, on=0.9), 10_000))
    stream, fresh = stream_of(detector), stream_of(detector, downsampling="coordinates")
    feed(stream, packets[:6])
    integrated = stream.counts.events_downsampled
    assert 0 < integrated < stream.counts.events_seen / 3
    assert stream.downsampling == "integrate"
    with pytest.raises(ValueError, match="unknown downsampling 'mean', known are integrate, coordinates"):
        stream.downsample("mean")
    stream.downsample("coordinates")
    assert stream.downsampling == "coordinates"
    assert len(stream.model.live) == 0
    feed(stream, packets[6:])
    feed(fresh, packets[6:])
    assert stream.counts.events_downsampled - integrated == fresh.counts.events_seen > 1000
    time = stream.next_readout()
    assert time is not None
    np.testing.assert_array_equal(stream.read_out(time, 0, 0.5, 9).scores, fresh.read_out(time, 0, 0.5, 9).scores)
    # What has been summed up belongs to the graph: it goes with it.
    stream.downsample("integrate")
    again = stream_of(detector)
    for follower in (stream, again):
        follower.resume()
        feed(follower, packets[6:])
    assert len(stream.model.live) == len(again.model.live) > 0


@pytest.mark.parametrize("region", [None, (37, 21, 203, 150)])
def test_a_network_runs_on_the_cameras_own_sensor_where_it_is_to(detector: ReadyModel, region: Region | None) -> None:
    source = recording(22, 346, 260, count=6000)
    stream = stream_of(replace(detector, model_sensor="camera"), region=region)
    feed(stream, event_packets(source, 10_000))
    view, size = source.events, (346, 260)
    if region is not None:
        view, size = region_of_interest(source.events, *region), (203, 150)
    trained = stream.model.trained
    assert (trained.width, trained.height) == size
    assert stream.counts.events_processed == stream.counts.events_downsampled == len(view)
    time = int(source.events["t"][-1])
    found = stream.read_out(time, 0.0, 0.5, 5).detections
    network = for_sensor(detector.trained, size).network
    with torch.no_grad():
        (expected,) = network.detections(network(build_graph(view, trained.graph, time=time)), 0.0, 0.5, 5)
    assert found is not None
    left, top = (0, 0) if region is None else region[:2]
    np.testing.assert_allclose(found["x"], expected["x"] + left, atol=0.05)
    np.testing.assert_allclose(found["y"], expected["y"] + top, atol=0.05)
    # Another camera, another network; the model as it was trained comes back with another model.
    smaller = [replace(packet, seq=packet.seq + 100) for packet in event_packets(recording(23, 90, 66), 10_000)]
    feed(stream, smaller)
    assert stream.counts.resets == 1
    if region is None:
        assert (stream.model.trained.width, stream.model.trained.height) == (90, 66)
    stream.use_model(detector)
    assert (stream.model.trained.width, stream.model.trained.height) == (160, 120)


def test_a_network_is_made_longer_for_a_longer_picture_and_as_it_was_for_the_next(detector: ReadyModel) -> None:
    source = recording(24, 640, 360, count=6000)
    stream = stream_of(detector)
    feed(stream, event_packets(source, 10_000))
    assert stream.model.sensor == (216, 120)
    time = int(source.events["t"][-1])
    found = stream.read_out(time, 0.0, 0.5, 5).detections
    network = for_sensor(detector.trained, (216, 120)).network
    letterbox = Letterbox((640, 360), (216, 120))
    with torch.no_grad():
        graph = build_graph(Downsampler(letterbox)(source.events), stream.model.trained.graph, time=time)
        (expected,) = network.detections(network(graph), 0.0, 0.5, 5)
    assert found is not None
    expected = letterbox.to_camera(expected)
    for name in ("x", "y", "w", "h"):
        np.testing.assert_allclose(found[name], expected[name], atol=0.05)
    smaller = [replace(packet, seq=packet.seq + 100) for packet in event_packets(recording(25, 320, 240), 10_000)]
    feed(stream, smaller)
    assert (stream.counts.resets, stream.model.sensor) == (1, (160, 120))


@pytest.mark.parametrize("size", [(4_000, 4_000), (1, 65_535)])
def test_a_network_is_not_made_for_a_sensor_that_no_camera_has(detector: ReadyModel, size: tuple[int, int]) -> None:
    log = Log()
    stream = stream_of(replace(detector, model_sensor="camera"), log)
    feed(stream, [replace(libcaer([10], 0), width=size[0], height=size[1])])
    assert stream.counts.packets_malformed == 1
    assert "its sensor of {} x {} px is too large for a network of that size".format(*size) in log.malformed[0]
    feed(stream, [libcaer([20], 1)])
    assert stream.counts.events_processed == 1


def test_a_fully_connected_network_is_not_made_for_the_cameras_sensor(tmp_path: Path) -> None:
    architecture = {"name": "graph_res", "dataset": "simulated", "task": "recognition"}
    model = TrainedModel(network(**architecture), GraphConfig(), ("a", "b", "c"), "flat", architecture)
    save_model(tmp_path / "flat.safetensors", model)
    with pytest.raises(
        ValueError, match=r"model flat has a fully connected head.*expected model_sensor trained or filled"
    ):
        prepare_model(str(tmp_path / "flat.safetensors"), "cpu", "camera")


@pytest.mark.parametrize(("kind", "task"), [("Classifier", "recognition"), ("Detector", "detection")])
def test_a_network_of_another_package_answers_where_its_code_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, task: str
) -> None:
    install_user_package(tmp_path / "site", monkeypatch)
    architecture = {"name": f"their_package.models:{kind}", "dataset": "gen1", "task": task, "sensor": [160, 120]}
    NETWORKS.trust(architecture["name"])
    graph = GraphConfig(max_neighbors=8, window=30_000, expiry="graph")
    model = TrainedModel(network(**architecture), graph, ("car", "pedestrian"), "theirs", architecture)
    save_model(tmp_path / "theirs.safetensors", model)
    forget_user_package()
    with pytest.raises(ValueError, match="or set the node's parameter trust_code"):
        prepare_model(str(tmp_path / "theirs.safetensors"), "cpu")
    ready = prepare_model(str(tmp_path / "theirs.safetensors"), "auto", trust_code=True)
    assert (ready.live.engine_name, ready.device) == ("incremental", "cpu")
    stream, source = stream_of(ready), recording(3, count=800)
    feed(stream, event_packets(source))
    time = int(source.events["t"][-1])
    answer = stream.read_out(time, 0.0, 0.5, 5)
    with torch.no_grad():
        output = model.network(build_graph(source.events, graph))
    np.testing.assert_allclose(answer.scores, model.network.class_scores(output)[0], rtol=1e-4, atol=1e-6)
    late = stream.read_out(time + 10**6, 0.3, 0.5, 5)  # all events have left the graph
    assert np.isfinite(late.scores).all()
    assert late.detections is None or not len(late.detections)


def test_a_region_that_hangs_over_the_rim_is_the_part_on_the_sensor(detector: ReadyModel) -> None:
    source = recording(24, 320, 240, count=4000)
    hanging, cut = stream_of(detector, region=(200, 150, 4000, 4000)), stream_of(detector, region=(200, 150, 120, 90))
    outside = stream_of(detector, region=(900, 0, 10, 10))
    for stream in (hanging, cut, outside):
        feed(stream, event_packets(source))
    assert hanging.counts.events_seen == cut.counts.events_seen > 100
    time = int(source.events["t"][-1])
    boxes = [stream.read_out(time, 0.0, 0.5, 5).detections for stream in (hanging, cut)]
    np.testing.assert_array_equal(boxes[0], boxes[1])
    assert outside.counts.events_seen == 0
    outside.read_out(time, 0.0, 0.5, 5)


def test_a_region_of_interest_is_a_smaller_camera_at_its_place(detector: ReadyModel) -> None:
    source = recording(12, 346, 260, count=6000)
    region = (100, 80, 160, 120)
    t, x, y, p = (source.events[name].astype(int) for name in "txyp")
    inside = (x >= 100) & (x < 260) & (y >= 80) & (y < 200)
    alone = EventStream(make_events(t[inside], x[inside] - 100, y[inside] - 80, p[inside]), 160, 120)
    stream, small = stream_of(detector, region=region), stream_of(detector)
    feed(stream, event_packets(source))
    feed(small, event_packets(alone))
    assert stream.counts.events_processed == inside.sum()
    assert stream.counts.events_filtered == (~inside).sum()
    time = int(alone.events["t"][-1])
    expected = small.read_out(time, 0.0, 0.5, 10).detections
    found = stream.read_out(int(source.events["t"][-1]), 0.0, 0.5, 10).detections
    assert expected is not None
    assert found is not None
    np.testing.assert_allclose(found["x"], expected["x"] + 100, rtol=1e-2)
    np.testing.assert_allclose(found["y"], expected["y"] + 80, rtol=1e-2)

    stream.look_at(None)
    assert stream.region is None
    assert len(stream.model.live) == 0


def test_another_model_goes_on_with_the_same_camera(detector: ReadyModel) -> None:
    packets = list(event_packets(recording(13), 10_000))
    stream, fresh = stream_of(detector), stream_of(detector)
    feed(stream, packets[:5])
    other = replace(detector, live=make_model_asynchronous(detector.trained.network, graph=detector.trained.graph))
    stream.use_model(other)
    feed(stream, packets[5:])
    feed(fresh, packets[5:])
    time = stream.next_readout()
    assert time is not None
    np.testing.assert_array_equal(stream.read_out(time, 0, 0.5, 9).scores, fresh.read_out(time, 0, 0.5, 9).scores)
    assert stream.counts.packets == len(packets)


def test_thinned_events_are_counted(detector: ReadyModel) -> None:
    stream = stream_of(detector)
    (packet,) = event_packets(recording(14, count=1000), 200_000)
    stream.decode(packet_message(packet, STAMP), STAMP)
    assert stream.waiting == 1000
    assert stream.update(4.0) == 250
    assert (stream.counts.events, stream.counts.events_processed, stream.counts.events_thinned) == (1000, 250, 750)
    assert stream.waiting == 0


def test_readouts_carry_sensor_time_and_ros_time(detector: ReadyModel) -> None:
    stream = stream_of(detector)
    assert stream.next_readout() is None
    source = recording(3)
    feed(stream, event_packets(source, 10_000))
    last = int(source.events["t"][-1])
    readout = stream.read_out(last, 0.3, 0.5, 10)
    assert (readout.time, readout.stamp) == (last, STAMP + 1000 * last)
    assert stream.next_readout() is None


def test_a_long_silence_is_news_once(detector: ReadyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_time, "_LONGEST_PAUSE_S", 0.0)
    stream = stream_of(detector)
    source = recording(4, count=50)
    feed(stream, event_packets(source))
    last = int(source.events["t"][-1])
    stream.read_out(last, 0.0, 0.5, 10)
    window = detector.trained.graph.window
    assert window is not None
    while (time := stream.next_readout()) is None:
        pass
    assert time == last + window
    empty = stream.read_out(time, 0.0, 0.5, 10)
    with torch.no_grad():
        expected = detector.trained.network.class_scores(
            detector.trained.network(build_graph(source.events[:0], detector.trained.graph))
        )
    np.testing.assert_allclose(empty.scores, expected[0].numpy(), rtol=1e-5)
    assert stream.next_readout() is None
    # What comes then may be less than a window later: the silence was on our side.
    later = replace(source, events=source.events.copy())
    later.events["t"] += last + 1
    stream.resume()
    feed(stream, event_packets(later))
    assert stream.next_readout() == later.events["t"][-1]


def test_packets_missed_in_a_pause_change_nothing(detector: ReadyModel) -> None:
    packets = list(event_packets(recording(5), 10_000))
    stream = stream_of(detector)
    feed(stream, packets[:2])
    stream.resume()
    feed(stream, packets[6:])
    assert stream.counts.resets == 0


def test_a_sequence_that_starts_again_starts_the_graph_again(detector: ReadyModel) -> None:
    packets = list(event_packets(recording(6), 10_000))
    log = Log()
    stream = stream_of(detector, log)
    feed(stream, packets)
    feed(stream, packets)
    assert stream.counts.resets == 1
    assert log.resets == [f"packet number 0 follows {packets[-1].seq}: the driver or the bag has started again"]

    # As a fresh one would: evt3's 24-bit clock has not been taken for a wrap.
    fresh = stream_of(detector)
    feed(fresh, packets)
    time = stream.next_readout()
    assert time == fresh.next_readout()
    np.testing.assert_array_equal(stream.read_out(time, 0, 0.5, 9).scores, fresh.read_out(time, 0, 0.5, 9).scores)


def libcaer(times_us: Iterable[int], seq: int) -> RecordedPacket:
    """Events at pixel (5, 7)."""
    words = np.array([(5 << 17 | 7 << 2 | 3, t) for t in times_us], "<u4")
    return RecordedPacket(words.view(np.uint8).ravel(), "libcaer", 160, 120, seq, 0, False, STAMP, "camera", 0)


def test_sensor_time_that_jumps_back_between_packets_starts_the_graph_again(detector: ReadyModel) -> None:
    log = Log()
    stream = stream_of(detector, log)
    feed(stream, [libcaer([5_000_000, 5_000_100], 0), libcaer([100, 200], 1)])
    assert stream.counts.resets == 1
    assert stream.next_readout() == 200
    assert "sensor time: event 0 at 100 µs comes after an event at 5000100 µs" in log.resets[0]


def test_a_gap_in_sensor_time_starts_the_graph_again(detector: ReadyModel) -> None:
    log = Log()
    stream = stream_of(detector, log)
    take(stream, libcaer([100], 0), STAMP)
    take(stream, libcaer([900_000], 1), STAMP + 900_000_000)
    assert stream.counts.resets == 0
    take(stream, libcaer([1_950_000], 2), STAMP + 1_950_000_000)
    assert log.resets == ["no event for 1.050 s"]


@pytest.mark.parametrize("jump_ns", [-5_000_000_000, 5_000_000_000])
def test_stamps_that_jump_against_sensor_time_start_the_graph_again_once(detector: ReadyModel, jump_ns: int) -> None:
    log = Log()
    stream = stream_of(detector, log)
    for k in range(20):
        jumped = jump_ns if k >= 10 else 0
        take(stream, libcaer([10_000 * k + 5], k), STAMP + 10_000_000 * k + 5000 + jumped)
    assert log.resets == [f"the packets' stamps have jumped by {jump_ns / 1e9:+.3f} s against sensor time"]
    time = stream.next_readout()
    assert time == 190_005
    assert stream.read_out(time, 0.3, 0.5, 10).stamp == STAMP + 1000 * time + jump_ns


def test_packets_without_stamps_are_stamped_on_arrival(detector: ReadyModel) -> None:
    stream = stream_of(detector)
    take(stream, libcaer([100], 0), 0)
    assert stream.read_out(100, 0.3, 0.5, 10).stamp == STAMP
    assert stream.counts.resets == 0


def test_the_wrap_of_evt3s_clock_is_not_a_jump(detector: ReadyModel) -> None:
    """Its 24 bits of microseconds are over after 16.8 s."""
    count = 4000
    t = np.linspace(0, 40_000_000, count).astype(np.int64)
    rng = np.random.default_rng(0)
    events = make_events(t, rng.integers(0, 160, count), rng.integers(0, 120, count), rng.integers(0, 2, count))
    stream = stream_of(detector)
    decoded = feed(stream, event_packets(EventStream(events, 160, 120), 100_000))
    np.testing.assert_array_equal(decoded["t"], t)
    assert stream.counts.resets == 0
    assert stream.read_out(int(t[-1]), 0.3, 0.5, 10).stamp == STAMP + 1000 * int(t[-1])


def test_small_steps_back_are_put_up_with(detector: ReadyModel) -> None:
    stream = stream_of(detector)
    events = feed(stream, [libcaer([1000, 1010, 1005], 0), libcaer([1008, 1020], 1)])
    assert events["t"].tolist() == [1000, 1010, 1010, 1010, 1020]
    assert stream.counts.resets == 0
    assert stream.counts.packets_malformed == 0


def test_a_jump_back_within_a_packet_costs_that_packet(detector: ReadyModel) -> None:
    log = Log()
    stream = stream_of(detector, log)
    events = feed(stream, [libcaer([10], 0), libcaer([5_000_000, 20, 30], 1), libcaer([40], 2)])
    assert events["t"].tolist() == [10, 40]
    assert stream.counts.packets_malformed == 1
    assert stream.counts.resets == 0
    assert log.malformed[0].startswith("packet 1 is malformed: event 1 at 20 µs")


def test_a_camera_of_another_size_or_encoding_starts_the_graph_again(detector: ReadyModel) -> None:
    log = Log()
    stream = stream_of(detector, log)
    feed(stream, [libcaer([10], 0), replace(libcaer([20], 1), width=640, height=480)])
    feed(stream, [replace(packet, seq=2) for packet in event_packets(recording(7), 200_000)])
    assert stream.counts.resets == 2
    assert log.resets[0] == "the camera has changed from libcaer, 160 x 120 px to libcaer, 640 x 480 px"
    assert log.resets[1] == "the camera has changed from libcaer, 640 x 480 px to evt3, 160 x 120 px"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"encoding": "evt9"},
            "packet encoding is 'evt9', expected one of evt3, libcaer_cmp, libcaer, mono, trigger, event_array",
        ),
        ({"width": 0}, "sensor size of the evt3 stream is 0 x 120 px"),
        ({"events": np.zeros(3, np.uint8)}, "partial word"),
        ({"events": np.full(2, 0x10, np.uint8)}, "unknown words"),
        ({"width": 16}, "events outside the sensor"),
    ],
)
def test_a_malformed_packet_is_counted_and_described(
    detector: ReadyModel, changes: dict[str, object], reason: str
) -> None:
    log = Log()
    stream = stream_of(detector, log)
    packets = list(event_packets(recording(8), 10_000))
    feed(stream, [packets[0]])
    feed(stream, [replace(packets[1], **changes)])
    assert stream.counts.packets_malformed == 1
    assert reason in log.malformed[0]
    assert log.malformed[0].startswith("packet 1 is malformed: ")
    before = stream.counts.events
    feed(stream, packets[2:4])
    assert stream.counts.events > before
    assert stream.counts.packets_malformed == 1


def test_an_empty_packet_is_nothing_special(detector: ReadyModel) -> None:
    stream = stream_of(detector)
    (packet,) = event_packets(recording(9), 200_000)
    assert len(feed(stream, [replace(packet, events=np.empty(0, np.uint8))])) == 0
    assert stream.counts.packets_malformed == 0
    assert stream.next_readout() is None


def test_random_bytes_never_stop_the_stream(detector: ReadyModel) -> None:
    rng = np.random.default_rng(10)
    stream = stream_of(detector)
    for seq, encoding in enumerate(["evt3", "libcaer_cmp", "libcaer", "mono", "trigger"] * 5):
        payload = rng.integers(0, 256, rng.integers(1, 2000)).astype(np.uint8)
        packet = RecordedPacket(payload, encoding, 160, 120, seq, int(rng.integers(2**63)), False, 0, "", 0)
        feed(stream, [packet])
        if (time := stream.next_readout()) is not None:
            stream.read_out(time, 0.3, 0.5, 10)
    assert stream.counts.packets == 25
    assert stream.counts.packets_malformed > 10


def test_processing_time_is_measured(detector: ReadyModel) -> None:
    stream = stream_of(detector)
    feed(stream, event_packets(recording(11)))
    assert 0 < stream.counts.processing_ns / stream.counts.events_processed < 1e7


def test_a_packet_of_no_camera_costs_that_packet(detector: ReadyModel) -> None:
    """Each of these asked for gigabytes."""
    stream = stream_of(detector)
    packets = list(event_packets(recording(15), 10_000))
    everything = np.array([0x8000, 0x6000, 0x0001, 0x3800], "<u2").tobytes() + b"\xff\x4f" * 400_000
    refused = [
        replace(packets[1], seq=1, width=65535, height=65535),
        replace(packets[2], seq=2, events=np.zeros((1 << 24) + 2, np.uint8)),
        replace(packets[3], seq=3, width=4096, height=4096, events=np.frombuffer(everything, np.uint8)),
    ]
    feed(stream, [packets[0], *refused, replace(packets[4], seq=4)])
    assert stream.counts.packets == 5
    assert stream.counts.packets_malformed == 3
    assert stream.camera == ("evt3", 160, 120)


def test_a_packet_is_malformed_once_however_much_is_wrong_with_it(detector: ReadyModel) -> None:
    reasons: list[str] = []
    stream = stream_of(detector)
    stream._on_malformed = reasons.append
    words = np.array([[1 << 63 | 500 << 48, 0], [2_000_000_000, 0]], np.uint64).ravel()
    packet = RecordedPacket(words.view(np.uint8), "mono", 160, 120, 1, 10**9, False, 0, "", 0)
    feed(stream, [packet, replace(packet, seq=2)])
    assert stream.counts.packets_malformed <= stream.counts.packets
    assert len(reasons) >= stream.counts.packets_malformed


def test_after_lost_packets_the_graph_goes_on_with_events_that_are_right(detector: ReadyModel) -> None:
    """Cameras do not state row and time anew in every packet. What is refused as a whole is lost, too."""
    source = recording(16)
    words = encode_evt3(source.events)
    (packet,) = event_packets(EventStream(source.events[:1], source.width, source.height))
    packets = [
        replace(packet, events=np.frombuffer(words[start : start + 50], np.uint8), seq=number)
        for number, start in enumerate(range(0, len(words), 50))
    ]
    for refused in range(15, len(packets), 40):
        packets[refused] = replace(packets[refused], width=65_535, height=65_535)
    stream = stream_of(detector)
    decoded = feed(stream, [packet for packet in packets if packet.seq % 40 != 5])
    assert stream.counts.resets == 0
    assert stream.counts.packets_malformed == len(range(15, len(packets), 40))
    assert set(map(tuple, source.events.tolist())).issuperset(map(tuple, decoded.tolist()))
    assert len(decoded) > 0.5 * len(source.events)


def test_triggers_come_with_ros_time_and_sensor_time(detector: ReadyModel) -> None:
    """Edges between the events, before the first of them, and of packets without any."""
    log = Log()
    stream = stream_of(detector, log)
    high, low = 0x8000, 0x6000
    first = np.array([high | 1, low | 10, 0xA101, 0x0005, 0x2006, low | 20, 0xA100], "<u2")  # 4 106 µs, event, 4 116 µs
    second = np.array([low | 30, 0xAF01], "<u2")  # nothing but an edge of channel 15
    for seq, words in enumerate((first, second)):
        events = np.frombuffer(words.tobytes(), np.uint8)
        packet = RecordedPacket(events, "evt3", 160, 120, seq, 0, False, 0, "camera", 0)
        assert len(stream.decode(packet_message(packet, STAMP + 10_000 * seq), STAMP)) == 1 - seq
    edges = [(edge.time, edge.stamp - STAMP, edge.channel, edge.rising) for edge in stream.take_triggers()]
    # The packet with the last one came 10 µs after the one with the first: that one was late.
    assert edges == [(4106, 0, 1, True), (4116, 10_000, 1, False), (4126, 10_000, 15, True)]
    assert (stream.take_triggers(), stream.counts.triggers, log.malformed) == ([], 3, [])
    stream.decode(packet_message(replace(packet, width=1 << 13, height=1 << 13, seq=2), STAMP), STAMP)
    assert (len(log.malformed), stream.take_triggers()) == (1, [])


def edge(t: int, seq: int) -> RecordedPacket:
    """A packet of EVT3 with nothing but an edge on a trigger input."""
    words = np.array([0x8000 | t >> 12 & 0xFFF, 0x6000 | t & 0xFFF, 0xA001], "<u2")
    return RecordedPacket(words.view(np.uint8), "evt3", 160, 120, seq, 0, False, 0, "camera", 0)


def one_event(t: int, seq: int) -> RecordedPacket:
    return replace(edge(t, seq), events=np.frombuffer(encode_evt3(make_events([t], [1], [2], [1])), np.uint8))


@pytest.mark.parametrize("events_first", [False, True])
def test_edges_without_events_are_stamped_without_drift(detector: ReadyModel, events_first: bool) -> None:
    """A camera's clock that is slow by 50 µs per second, and a scene that is dark for twenty minutes."""
    stream = stream_of(detector)
    if events_first:
        take(stream, one_event(0, 0), STAMP)
    for second in range(1, 1201):
        stamp = STAMP + 1_000_000_000 * second
        take(stream, edge(second * 999_950, second), stamp)
        (trigger,) = stream.take_triggers()
        assert -1_000_000 < trigger.stamp - stamp <= 0
    assert stream.counts.resets == 0


@pytest.mark.parametrize("seq", [0, 3])
@pytest.mark.parametrize("next_packet", [edge, one_event])
def test_a_clock_that_was_set_before_the_first_event_resets_nothing_but_the_clock(
    detector: ReadyModel, seq: int, next_packet: Callable[[int, int], RecordedPacket]
) -> None:
    """By a driver that has started again, which numbers its packets from 0, or somebody who has set the clock."""
    log = Log()
    stream = stream_of(detector, log)
    for k in (1, 2):
        take(stream, edge(1_000_000 * k, k), STAMP + 1_000_000_000 * k)
    restarted = STAMP + 60_000_000_000
    take(stream, next_packet(2_500_000, seq), restarted)
    take(stream, edge(2_600_000, seq + 1), restarted + 100_000_000)
    take(stream, one_event(2_700_000, seq + 2), restarted + 200_000_000)
    stamps = [trigger.stamp for trigger in stream.take_triggers()]
    before, after = [STAMP + 1_000_000_000, STAMP + 2_000_000_000], [restarted, restarted + 100_000_000]
    assert stamps == before + (after if next_packet is edge else after[1:])
    assert stream.read_out(2_700_000, 0.3, 0.5, 10).stamp == restarted + 200_000_000
    assert (log.resets, log.malformed) == ([], [])


def test_stamps_that_jump_with_a_trigger_start_the_graph_again_once(detector: ReadyModel) -> None:
    log = Log()
    stream = stream_of(detector, log)
    take(stream, one_event(1000, 0), STAMP)
    take(stream, edge(2000, 1), STAMP + 60_000_000_000)
    (trigger,) = stream.take_triggers()
    assert trigger.stamp == STAMP + 60_000_000_000
    take(stream, one_event(3000, 2), STAMP + 60_001_000_000)
    assert log.resets == ["the packets' stamps have jumped by +59.999 s against sensor time"]


@pytest.mark.parametrize("own_clock", [False, True])
def test_event_arrays_are_packets_too(detector: ReadyModel, own_clock: bool) -> None:
    """Their events are in ROS time, or in a time of the camera's own; what does not fit costs one message."""
    kind = "dvs_msgs/msg/EventArray"
    store = make_store(Stores.ROS2_KILTED, kind)
    source = recording(3, count=500)
    source.events["t"] += 7 if own_clock else STAMP // 1000
    log = Log()
    stream = stream_of(detector, log)
    found = []
    for number, part in enumerate(np.array_split(source.events, 5)):
        table = [(int(t) // 10**6, int(t) % 10**6 * 1000, int(x), int(y), int(p)) for t, x, y, p in part.tolist()]
        message = make_message(store, kind, table, "dvs", (160, 120))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(
            STAMP + 1000 * int(part["t"][-1] - source.events["t"][0]), 10**9
        )
        packet = SerializedArray(bytes(store.serialize_cdr(message, kind)), number).packet()
        assert (packet.header.frame_id, packet.width, packet.height) == ("dvs", 160, 120)
        found.append(stream.decode(packet, 0))
    np.testing.assert_array_equal(np.concatenate(found), source.events)
    stream.update(1.0)
    readout = stream.read_out(int(source.events["t"][-1]), 0.5, 0.5, 10)
    late = readout.stamp - (STAMP + 1000 * int(source.events["t"][-1] - source.events["t"][0]))
    assert late >= 0 if own_clock else readout.stamp == 1000 * int(source.events["t"][-1])
    with pytest.raises(EventFormatError, match="an event array of 100 events has"):
        SerializedArray(bytes(store.serialize_cdr(message, kind))[:-1], 9).packet()
    stream.refuse(9, "cut off")
    assert (stream.counts.packets, stream.counts.packets_malformed, log.resets) == (6, 1, [])
    assert log.malformed == ["packet 9 is malformed: cut off"]


def test_noise_filters_come_before_everything_else_and_may_change(detector: ReadyModel) -> None:
    source = recording(8, 320, 240, count=6000)
    stream = stream_of(detector)
    stream.filter_noise(20_000, 2)
    packets = list(event_packets(source, 10_000))
    for number, packet in enumerate(packets):
        if number == len(packets) // 2:
            stream.filter_noise(0, 0)
        take(stream, packet, STAMP + packet.stamp)
    late = [make_decoder("evt3", 320, 240).decode(packet.events) for packet in packets[len(packets) // 2 :]]
    border = len(source.events) - sum(map(len, late))
    first = PixelRateLimit(2, 320, 240)(source.events[:border])
    kept = background_activity(first, 20_000, 320, 240)
    assert 0 < len(kept) < len(first)
    assert stream.counts.events_seen == len(kept) + len(source.events) - border
    assert stream.counts.events_filtered == border - len(kept)


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_the_best_boxes_of_the_named_classes_stay(detector: ReadyModel, most: int) -> None:
    """However many of other classes have better scores."""
    stream, source = stream_of(detector), recording(18)
    feed(stream, event_packets(source))

    def boxes(most: int, *classes: str) -> np.ndarray:
        found = stream.read_out(int(source.events["t"][-1]), 0.0, 0.5, most, frozenset(classes)).detections
        assert found is not None
        return found

    everything = boxes(1000)
    for number, label in enumerate(detector.trained.labels):
        expected = everything[everything["class_id"] == number][:most]
        assert len(expected) >= min(most, 3)
        np.testing.assert_array_equal(boxes(most, label, "bus"), expected)
    np.testing.assert_array_equal(boxes(most, *detector.trained.labels), everything[:most])
    assert len(boxes(most, "bus")) == 0
    assert DetectorParameters(classes=" car ,pedestrian,").class_names == {"car", "pedestrian"}


# Streams without end


def test_a_model_without_a_bound_gets_one_from_the_node() -> None:
    """Trained on whole recordings, it would keep every event that a camera sends."""
    parameters = DetectorParameters(model="nmnist", max_nodes=2_000)
    model = prepare_model(parameters.model, "cpu", bound=parameters.bound)
    assert re.search(r"without a window or max_nodes.* last, 2000 of them; .*window_ms and max_nodes", model.warning)
    source = recording(17, 34, 34, count=40_000)
    stream, memory = stream_of(model), []
    for packet in event_packets(source, 5_000):
        take(stream, packet, STAMP + packet.stamp)
        memory.append(sum(stream.model.live.memory().values()))
    assert memory[-1] == memory[len(memory) // 2] < 2**23
    with torch.no_grad():
        whole = build_graph(source.events, replace(model.trained.graph, max_nodes=2_000))
        expected = model.trained.network(whole).softmax(-1)[0]
    found = stream.read_out(int(source.events["t"][-1]), 0.0, 0.5, 10).scores
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-6)

    windowed = DetectorParameters(model="nmnist", window_ms=80.0)
    model = prepare_model("nmnist", "cpu", bound=windowed.bound)
    assert (model.trained.graph.window, model.trained.graph.max_nodes) == (80_000, None)
    assert "the events of the last 80 ms" in model.warning
    assert prepare_model("nmnist", "cpu").trained.graph.max_nodes == DetectorParameters().max_nodes
    assert not load_model("nmnist").graph.bounded  # the file's own rule, for recordings


def test_a_model_with_a_window_keeps_it_on_the_device_that_auto_takes(
    detector: ReadyModel, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_model, "choose_device", lambda network, graph: DeviceChoice("cpu", f"{graph.window} µs"))
    bounded = prepare_model(str(models["detection"]), "auto", bound=Bound(max_nodes=5, window=7))
    assert (bounded.device, bounded.device_choice) == ("cpu", f"{detector.trained.graph.window} µs")
    assert bounded.trained.graph == detector.trained.graph
    assert bounded.warning == ""


def test_what_is_done_once_after_a_reset_is_no_cost_of_an_update(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, launches are captured then."""
    now, fresh = 0.0, True
    reset, update = LiveModel.reset, LiveModel.update

    def reset_and_forget(self: LiveModel) -> None:
        nonlocal fresh
        reset(self)
        fresh = True

    def update_for_a_time(self: LiveModel, events: np.ndarray) -> None:
        nonlocal now, fresh
        update(self, events)
        now += 2e-3 + 1e-6 * len(events) + (0.5 if fresh else 0.0)
        fresh = False

    monkeypatch.setattr(LiveModel, "reset", reset_and_forget)
    monkeypatch.setattr(LiveModel, "update", update_for_a_time)
    monkeypatch.setattr(ready_model, "perf_counter", lambda: now)
    cost = prepare_model(str(models["detection"]), "cpu").cost
    assert (cost.fixed, cost.per_event) == pytest.approx((2e-3, 1e-6))


def a_month(encoding: str) -> Iterator[RecordedPacket]:
    """Two bursts of 40 events every other day, half a second apart; evt3's clock goes round 154,000 times meanwhile."""
    rng = np.random.default_rng(18)
    moments = 3_600_000_000 * (48 * np.arange(16) + rng.integers(0, 24, 16))
    state = Evt3EncoderState()
    for number, moment in enumerate(np.sort(np.concatenate([moments, moments + 500_000])).tolist()):
        t = moment + np.sort(rng.integers(0, 30_000, 40))
        x, y, p = rng.integers(40, 80, 40), rng.integers(40, 70, 40), rng.integers(0, 2, 40)
        if encoding == "evt3":
            payload, base = encode_evt3(make_events(t, x, y, p), state), 0
        else:
            words = np.stack([x << 17 | y << 2 | p << 1 | 1, t - moment], 1)
            payload, base = words.astype("<u4").tobytes(), 1000 * moment
        events = np.frombuffer(payload, np.uint8)
        yield RecordedPacket(events, encoding, 160, 120, number, base, False, 1000 * int(t[0]), "camera", 0)


@pytest.mark.parametrize(
    ("encoding", "name", "window"),
    [
        ("evt3", "graph", 50_000),
        ("evt3", "counts", 5 * 86_400_000_000),
        ("libcaer", "counts", 50_000),
        ("libcaer", "graph", 5 * 86_400_000_000),
    ],
)
def test_a_month_is_like_its_first_hour(detector: ReadyModel, encoding: str, name: str, window: int) -> None:
    """A short window empties the graph again and again; with a long one the graph is never new in all of the month."""
    trained = detector.trained if name == "graph" else load_model("scenes_detector")
    module = copy.deepcopy(trained.network).double()
    trained = replace(trained, network=module, graph=replace(trained.graph, window=window))
    stream, fresh = (stream_of(replace(detector, trained=trained)) for _ in range(2))
    decoded, memory = [], []
    for packet in a_month(encoding):
        decoded.append(take(stream, packet, STAMP + packet.stamp))
        first, last = decoded[-1]["t"][[0, -1]].tolist()
        while decoded[0]["t"][-1] <= last - window:
            decoded.pop(0)
        fresh.model.live.reset()
        fresh.model.live.update(np.concatenate(decoded))
        expected = fresh.model.live.output()
        torch.testing.assert_close(stream.model.live.output(), expected, rtol=1e-9, atol=1e-9)
        assert stream.read_out(last, 0.3, 0.5, 10).stamp == STAMP + packet.stamp + 1000 * (last - first)
        memory.append(sum(stream.model.live.memory().values()))
    assert last > 29 * 86_400_000_000
    assert stream.counts.events_processed == stream.counts.events == 32 * 40
    assert stream.counts.resets == (15 if window == 50_000 else 0)
    assert stream.counts.packets_malformed == 0
    assert max(memory) == max(memory[:10])
