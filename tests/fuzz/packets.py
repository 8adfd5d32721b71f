# SPDX-License-Identifier: Apache-2.0
"""Messages of a camera, and settings of the node, as no camera and no user should send them."""

from __future__ import annotations

import array
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from builtin_interfaces.msg import Time
from event_camera_msgs.msg import EventPacket
from rclpy.parameter import Parameter
from std_msgs.msg import Header

from aegnn_core.events.decoders import PACKET_DECODERS
from aegnn_core.events.downsampling import DOWNSAMPLING
from aegnn_core.graph import GraphConfig
from aegnn_core.nn.checkpoint import TrainedModel, save_model
from aegnn_core.nn.networks import network
from aegnn_ros.conversions import time_message
from aegnn_ros.detector.box_messages import DetectionMessages
from aegnn_ros.detector.camera_stream import CameraStream
from aegnn_ros.detector.parameters import DetectorParameters, check_changes
from aegnn_ros.detector.ready_model import ReadyModel, prepare_model
from tests.fuzz.decoder_inputs import TIME_BASES, payloads
from tests.fuzz.mutations import mutated_value
from tests.fuzz.outcomes import require

__all__ = ["Packets", "Parameters", "small_detector"]

_PACKETS = 100
_ENCODINGS = [*PACKET_DECODERS, "evt3", "evt3", "", "evt9"]
_SIDES = [0, 1, 15, 160, 120, 346, 260, 640, 480, 1280, 4096, 65_535, 2**31, 2**32 - 1]
_HUGE_BYTES = 100_000_000
_SECONDS = [-(2**31), -1, 0, 1, 1_700_000_000, 2**31 - 1]


def small_detector() -> TrainedModel:
    """An untrained network for boxes on 160 x 120 px."""
    torch.manual_seed(0)
    architecture = {"name": "graph_grid", "dataset": "simulated", "task": "detection"}
    graph = GraphConfig(radius=3.0, max_neighbors=4, time_scale=6e-5, window=50_000)
    return TrainedModel(network(**architecture), graph, ("a", "b"), "fuzzed", architecture)


class Packets:
    """Packets into :class:`CameraStream`: none stops it, and every one is counted."""

    name = "packets"
    named = "nothing"  # a stream refuses no packet

    def __init__(self, folder: Path) -> None:
        path = folder / "fuzzed.safetensors"
        save_model(path, small_detector())
        self._models = [prepare_model(str(path), "cpu"), prepare_model(str(path), "cpu", "camera")]
        # A message copies what it is given, for which there may be no memory later.
        self._huge = EventPacket(events=array.array("B", bytes(_HUGE_BYTES)))
        self._messages = DetectionMessages()

    def attempts(self, rng: np.random.Generator) -> Iterator[Callable[[], None]]:
        """A camera that sends nonsense among packets that may be right."""
        model = self._models[int(rng.random() < 0.2)]
        stream = self._stream(model, rng)
        word_bytes = int(rng.choice([2, 4, 8]))
        data, places = payloads(_PACKETS, word_bytes, rng)
        # Something stays the same for a while, or no packet would follow another.
        camera = (_ENCODINGS[rng.integers(len(_ENCODINGS))], 160, 120)
        seq = now = base = 0
        for number in range(_PACKETS):
            if rng.random() < 0.05:
                camera = (
                    _ENCODINGS[rng.integers(len(_ENCODINGS))],
                    _SIDES[rng.integers(len(_SIDES))],
                    _SIDES[rng.integers(len(_SIDES))],
                )
            seq = int(rng.integers(2**63)) * 2 if rng.random() < 0.02 else (seq + int(rng.random() < 0.95)) % 2**64
            base = TIME_BASES[rng.integers(len(TIME_BASES))] if rng.random() < 0.1 else min(base + 10**6, 2**64 - 1)
            now = _SECONDS[rng.integers(len(_SECONDS))] * 10**9 if rng.random() < 0.05 else now + 10**6
            fields = {
                "header": Header(stamp=_time(now), frame_id="camera"),
                "encoding": camera[0], "width": camera[1], "height": camera[2], "seq": seq, "time_base": base,
                "is_bigendian": bool(rng.random() < 0.02),
            }  # fmt: skip
            packet = self._huge if rng.random() < 0.0002 else EventPacket()
            for name, value in fields.items():
                setattr(packet, name, value)
            if packet is not self._huge:
                packet.events = array.array("B", data[places[number] : places[number + 1]])
            yield partial(self._take, stream, packet, number, rng)

    @staticmethod
    def _stream(model: ReadyModel, rng: np.random.Generator) -> CameraStream:
        region = tuple(_SIDES[rng.integers(11)] for _ in range(4))
        return CameraStream(
            model,
            region=region if rng.random() < 0.3 and region[2] and region[3] else None,  # type: ignore[arg-type]
            downsampling=DOWNSAMPLING[rng.integers(len(DOWNSAMPLING))],
            every_nth=int(rng.integers(1, 4)),
            refractory_us=int(rng.choice([0, 1, 1_000_000])),
            on_malformed=lambda reason: None,
            on_reset=lambda reason: None,
        )

    def _take(self, stream: CameraStream, packet: EventPacket, number: int, rng: np.random.Generator) -> None:
        events = stream.decode(packet, int(rng.integers(-(2**62), 2**62)) if rng.random() < 0.02 else 10**18)
        require(bool((np.diff(events["t"]) >= 0).all()), "events are not in time order")
        if stream.waiting:
            stream.update(float(rng.choice([1.0, 1.5, 1e6])))
        counts = stream.counts
        require(counts.packets == number + 1, f"{number + 1} packets are {counts}")
        require(counts.packets_malformed <= counts.packets, f"malformed twice: {counts}")
        require(
            counts.events_processed + counts.events_thinned <= counts.events_downsampled,
            f"events from nowhere: {counts}",
        )
        if rng.random() < 0.1 and (moment := stream.next_readout()) is not None:
            readout = stream.read_out(moment, 0.0, 0.5, 5)
            require(bool(np.isfinite(readout.scores).all()), f"scores are {readout.scores}")
            assert readout.detections is not None
            header = Header(stamp=time_message(readout.stamp), frame_id="camera")
            self._messages.message(header, readout.detections)


def _time(nanoseconds: int) -> Time:
    sec, nanosec = divmod(nanoseconds, 10**9)
    return Time(sec=min(max(sec, -(2**31)), 2**31 - 1), nanosec=nanosec)


class Parameters:
    """Settings of the node: each is taken, or refused with a sentence that names the parameter or the model."""

    name = "parameters"
    named = r"fuzzed|model|device|labels"

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "fuzzed-models"
        self._folder.mkdir()
        os.mkfifo(self._folder / "pipe.safetensors")
        (self._folder / "zero.safetensors").symlink_to("/dev/zero")
        (self._folder / "folder.safetensors").mkdir()
        (self._folder / "empty.safetensors").touch()
        (self._folder / "hole.safetensors").touch()
        os.truncate(self._folder / "hole.safetensors", 10 << 30)
        (self._folder / "nothing.safetensors").symlink_to("nowhere")
        self._sources = [
            *map(str, self._folder.iterdir()),
            "/dev/zero",
            "/",
            "",
            "\0",
            "a" * 5_000,
            "nmnist.safetensors",
        ]
        self._defaults = vars(DetectorParameters())

    def attempts(self, rng: np.random.Generator) -> Iterator[Callable[[], None]]:
        """Changes of single parameters, and a model that is none."""
        for _ in range(50):
            name = list(self._defaults)[rng.integers(len(self._defaults))]
            default = self._defaults[name]
            yield partial(_change, name, mutated_value(list(default) if isinstance(default, tuple) else default, rng))
        source = self._sources[rng.integers(len(self._sources))]
        device = ["cpu", "", "cuda:99", "gpu", "cpu:7", "\0", "meta"][rng.integers(7)]
        yield partial(prepare_model, source, device)


def _change(name: str, value: Any) -> None:
    try:
        parameter = Parameter(name, value=value)
    except (TypeError, AssertionError, ValueError, OverflowError):
        return  # rclpy cannot carry such a value
    result = check_changes([parameter], in_use=None)
    if not result.successful:
        require(name in result.reason and len(result.reason) < 10_000, f"{name} = {value!r}: {result.reason}")
