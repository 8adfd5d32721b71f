# SPDX-License-Identifier: Apache-2.0
"""How fast events come down to a model's sensor, on one core: `python benchmarks/downsampling.py [--json FILE]`."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table

from aegnn_core.events import DOWNSAMPLING, Downsampler, EventStream, Letterbox, make_events
from aegnn_core.events.simulation import SceneConfig, simulate_scene
from aegnn_core.option_types import count

MODEL = (160, 120)
CAMERAS = ((346, 260), (640, 480), (1280, 720))
PACKET = 10_000
REPEATS = 7


@dataclass(frozen=True)
class Result:
    """One row of the table: events in and out, and million events in per second, the best of :data:`REPEATS` runs."""

    source: str
    camera: tuple[int, int]
    way: str
    events: int
    fired: int
    mev_s: float


def noise(camera: tuple[int, int], count: int) -> EventStream:
    """Events at random places: the worst for the caches."""
    rng = np.random.default_rng(0)
    x, y, p = (rng.integers(0, top, count) for top in (*camera, 2))
    return EventStream(make_events(np.arange(count), x, y, p), *camera)


def scene(camera: tuple[int, int], count: int) -> EventStream:
    """A simulated scene, from its beginning."""
    return EventStream(simulate_scene(0, SceneConfig().for_camera(camera)).stream.events[:count], *camera)


def measure(source: str, stream: EventStream, way: str) -> Result:
    """Take a stream to the model's sensor in packets."""
    camera = (stream.width, stream.height)
    downsampler = Downsampler(Letterbox(camera, MODEL), way)
    packets = [stream.events[start : start + PACKET] for start in range(0, len(stream), PACKET)]
    fired = sum(len(downsampler(packet)) for packet in packets)
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        for packet in packets:
            downsampler(packet)
        times.append(perf_counter() - start)
    return Result(source, camera, way, len(stream), fired, len(stream) / min(times) * 1e-6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--events", type=count, default=2_000_000, help="length of the streams, at most")
    arguments = parser.parse_args()

    streams = [("noise", noise(camera, arguments.events)) for camera in CAMERAS]
    streams += [("scene", scene(camera, arguments.events)) for camera in CAMERAS]
    results = [measure(source, stream, way) for source, stream in streams for way in DOWNSAMPLING]
    table = Table("source", "camera", "way", "events", "fired", "Mev/s", title=f"to {MODEL[0]} x {MODEL[1]} px")
    for result in results:
        camera = "{} x {}".format(*result.camera)
        table.add_row(
            result.source, camera, result.way, f"{result.events:,}", f"{result.fired:,}", f"{result.mev_s:.0f}"
        )
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps({"downsampling": [asdict(result) for result in results]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
