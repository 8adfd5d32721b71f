# SPDX-License-Identifier: Apache-2.0
"""How fast packets are decoded and encoded, on one core: `python benchmarks/decoding.py [--json FILE]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table

from aegnn_core.events import (
    EventStream,
    Evt3EncoderState,
    RecordedPacket,
    encode_evt3,
    event_packets,
    make_decoder,
    make_events,
    read_event_packets,
)
from aegnn_core.option_types import count

RECORDINGS = Path(__file__).parents[2] / "shared" / "data" / "rosbags"
REPEATS = 7


@dataclass(frozen=True)
class Result:
    """One row of the table; speeds in million events per second, the best of :data:`REPEATS` runs."""

    source: str
    encoding: str
    events: int
    packets: int
    bytes_per_event: float
    decoding_mev_s: float
    encoding_mev_s: float | None = None


def moving_edges(count: int) -> EventStream:
    """``count`` events of edges that sweep over a 640 x 480 sensor, read out in rows, and 5 % noise.

    Times are in steps of 10 µs and runs have 1 to 8 pixels, which is about what a sensor with row readout sends.
    """
    rng = np.random.default_rng(0)
    runs = count // 4
    t = np.sort(rng.integers(0, count // 5, runs)) * 10  # 0.5 Mev/s
    y = rng.integers(0, 480, runs)
    edge = rng.integers(0, 8, runs)
    start = (edge * 80 + t // 500 + y // 8) % 632
    length = rng.integers(1, 8, runs)
    run = np.repeat(np.arange(runs), length)
    within = np.arange(len(run)) - np.repeat(np.cumsum(length) - length, length)
    x = start[run] + within
    noise = rng.random(len(run)) < 0.05
    x = np.where(noise, rng.integers(0, 640, len(run)), x)
    return EventStream(make_events(t[run], x, y[run], edge[run] % 2)[:count], 640, 480)


def recode(packets: Sequence[RecordedPacket], encoding: str) -> list[RecordedPacket]:
    """The same events in the encodings that are one record per event."""
    decoder = make_decoder(packets[0].encoding, packets[0].width, packets[0].height)
    recoded = []
    for packet in packets:
        events = decoder.decode(packet.events)
        t, x, y, p = (events[name].astype(np.uint64) for name in "txyp")
        if encoding == "libcaer":
            pixels = x << np.uint64(17) | y << np.uint64(2) | p << np.uint64(1) | np.uint64(1)
            words = np.stack([pixels, t], axis=1).astype("<u4")
        else:
            words = p << np.uint64(63) | y << np.uint64(48) | x << np.uint64(32) | (t - t[0]) * np.uint64(1000)
        fields = packet.__dict__ | {"events": words.view(np.uint8).ravel(), "encoding": encoding}
        recoded.append(RecordedPacket(**fields))
    return recoded


def seconds(work: Callable[[], object]) -> float:
    """Time of the fastest of several runs, after one that compiles."""
    work()
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return min(times)


def measure(source: str, packets: Sequence[RecordedPacket], stream: EventStream | None = None) -> Result:
    """Decode the packets in a row with one decoder; encode ``stream`` as well where it is given."""
    first = packets[0]
    decoder = make_decoder(first.encoding, first.width, first.height)
    events = sum(len(decoder.decode(packet.events, packet.time_base)) for packet in packets)
    elapsed = seconds(lambda: [decoder.decode(packet.events, packet.time_base) for packet in packets])
    encoding_mev_s = None
    if stream is not None:
        encoding_mev_s = len(stream) / seconds(lambda: encode_evt3(stream.events, Evt3EncoderState())) * 1e-6
    return Result(
        source=source,
        encoding=first.encoding,
        events=events,
        packets=len(packets),
        bytes_per_event=sum(len(packet.events) for packet in packets) / events,
        decoding_mev_s=events / elapsed * 1e-6,
        encoding_mev_s=encoding_mev_s,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--events", type=count, default=1_000_000, help="length of the synthetic stream")
    arguments = parser.parse_args()

    stream = moving_edges(arguments.events)
    packets = list(event_packets(stream))
    results = [measure("moving edges", packets, stream)]
    results += [measure("moving edges", recode(packets, encoding)) for encoding in ("libcaer", "mono")]
    for bag in sorted(RECORDINGS.glob("*")):
        results.append(measure(bag.name, list(read_event_packets(bag))))

    table = Table("source", "encoding", "events", "packets", "B/event", "decode Mev/s", "encode Mev/s")
    for result in results:
        table.add_row(
            result.source,
            result.encoding,
            f"{result.events:,}",
            f"{result.packets:,}",
            f"{result.bytes_per_event:.2f}",
            f"{result.decoding_mev_s:.1f}",
            "" if result.encoding_mev_s is None else f"{result.encoding_mev_s:.1f}",
        )
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps({"decoding": [asdict(result) for result in results]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
