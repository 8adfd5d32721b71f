# SPDX-License-Identifier: Apache-2.0
"""Recordings as cameras make them, for tests of whole recordings: made here of a simulated street, and real ones.

The real ones lie beside the repository, where they do; the made ones are small and always there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from aegnn_core.events.array import EventStream
from aegnn_core.events.evt3_encoder import encode_evt3
from aegnn_core.events.simulation import SceneConfig, simulate_scene

if TYPE_CHECKING:
    from aegnn_core.events import RecordedPacket

#: Real recordings, beside the repository.
REAL = Path(__file__).parents[2] / "shared" / "data"

#: What is made: an EVT3 file, and a bag for each of these encodings and sensor sizes.
MADE_RAW = "made/street.raw"
MADE_BAGS = {
    "made/evt3_640x480": ("evt3", (640, 480)),
    "made/libcaer_cmp_346x260": ("libcaer_cmp", (346, 260)),
    "made/libcaer_640x480": ("libcaer", (640, 480)),
    "made/mono_346x260": ("mono", (346, 260)),
}


def recordings(*names: str) -> list[Any]:
    """Parameters of a test, for the fixture ``recording``: those that are made, and real ones, skipped where absent."""
    absent = pytest.mark.skipif(not REAL.is_dir(), reason="real recordings are not at ../shared/data")
    return [name if name.startswith("made/") else pytest.param(name, marks=absent) for name in names]


def street(size: tuple[int, int], duration_us: int = 20_000) -> EventStream:
    """What a camera of this size [px] sees of a street in 20 ms: some ten thousand events."""
    return simulate_scene(7, replace(SceneConfig(), duration_us=duration_us).for_camera(size)).stream


def make_recording(folder: Path, name: str) -> Path:
    """Write the recording of this name below the folder, where it is not there yet."""
    from aegnn_core.events import write_event_bag  # which needs rosbags; tests of the engines do not

    path = folder / name
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        return path
    if name == MADE_RAW:
        stream = street((160, 120), 100_000)
        header = f"% evt 3.0\n% format EVT3;height={stream.height};width={stream.width}\n% end\n"
        path.write_bytes(header.encode() + encode_evt3(stream.events))
    else:
        encoding, size = MADE_BAGS[name]
        write_event_bag(path, camera_packets(street(size), encoding))
    return path


def camera_packets(stream: EventStream, encoding: str, packet_us: int = 1_000) -> Iterator[RecordedPacket]:
    """The stream as the packets of a driver that uses this encoding."""
    from aegnn_core.events import event_packets

    packets = event_packets(stream, packet_us)
    if encoding == "evt3":
        yield from packets
        return
    stop = 0
    for packet in packets:
        start, stop = stop, int(np.searchsorted(stream.events["t"], packet.received // 1000))
        events = stream.events[start:stop]
        time_base = int(events["t"][0])
        payload = _ENCODERS[encoding](events, time_base)
        yield replace(packet, encoding=encoding, time_base=1000 * time_base, events=payload.view(np.uint8).ravel())


def _libcaer(events: np.ndarray, time_base: int) -> np.ndarray:
    x, y, p = (events[name].astype("<u4") for name in "xyp")
    return np.stack([x << 17 | y << 2 | p << 1 | 1, (events["t"] - time_base).astype("<u4")], 1)


def _libcaer_cmp(events: np.ndarray, time_base: int) -> np.ndarray:
    """Times and columns are stated when they change; every third event is the only one of a vector of eight rows."""
    words: list[int] = []
    high = low = column = -1
    for number, (t, x, y, p) in enumerate(events.tolist()):
        t -= time_base
        if t >> 12 != high:
            high = t >> 12
            words.append(high)
        if t & 0xFFF != low:
            low = t & 0xFFF
            words.append(0x1000 | low)
        if x != column:
            column = x
            words.append(0x2000 | x)
        base = max(y - 5, 0)
        words += [0x3000 | p << 11 | y] if number % 3 else [0x4000 | p << 11 | base, 0x5000 | 1 << (y - base)]
    return np.array(words, "<u2")


def _mono(events: np.ndarray, time_base: int) -> np.ndarray:
    x, y, p = (events[name].astype("<u8") for name in "xyp")
    return p << np.uint64(63) | y << np.uint64(48) | x << np.uint64(32) | (events["t"] - time_base).astype("<u8") * 1000


_ENCODERS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "libcaer": _libcaer,
    "libcaer_cmp": _libcaer_cmp,
    "mono": _mono,
}
