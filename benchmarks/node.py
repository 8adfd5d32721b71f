# SPDX-License-Identifier: Apache-2.0
"""How the node fares under load, in a process of its own: `python benchmarks/node.py [--json FILE] [--minutes 10]`."""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aegnn_core.events.array import make_events
from aegnn_core.events.downsampling import DOWNSAMPLING
from aegnn_core.events.evt3_encoder import encode_evt3
from aegnn_core.events.rosbag import RecordedPacket
from aegnn_core.option_types import count, positive
from aegnn_ros.playback.bag_run import BagRun, BagRunner, isolate_ros
from aegnn_ros.playback.timed_answers import answers_of, packet_latencies_ms

RATES_HZ = (100_000, 500_000, 1_000_000, 5_000_000)
WIDTH, HEIGHT = 640, 480
PACKET_US = 2048
#: The stream repeats after this time [µs], a multiple of EVT3's steps of TIME_HIGH.
ROUND_US = 1 << 19
#: What is measured before is the node's start [s].
SETTLING_S = 1.0
PERCENTILES = (50, 95, 99)


class EndlessEvents:
    """Edges that sweep over a 640 x 480 sensor, and noise, as evt3 packets that can go on for ever.

    Args:
        rate_hz: events per second.
        packet_us: duration of a packet [µs], a power of two.
    """

    def __init__(self, rate_hz: float, packet_us: int = PACKET_US) -> None:
        self._packet_us = packet_us
        rng = np.random.default_rng(0)
        count = round(rate_hz * ROUND_US / 1e6)
        t = np.sort(rng.integers(0, ROUND_US, count))
        edge = rng.integers(0, 8, count)
        y = rng.integers(0, HEIGHT, count)
        x = (80 * edge + t // 6000 + y // 8 + rng.integers(0, 4, count)) % WIDTH
        noise = rng.random(count) < 0.05
        x = np.where(noise, rng.integers(0, WIDTH, count), x)
        # The sensor reads out rows: events of one time and row are sorted by column.
        order = np.lexsort((x, y, t // 64))
        events = make_events(t // 64 * 64, x, y, edge % 2)[order]
        ends = np.searchsorted(events["t"], np.arange(packet_us, ROUND_US + 1, packet_us))
        self.counts = np.diff(ends, prepend=0)
        self._payloads = [
            np.frombuffer(encode_evt3(part), "<u2").copy() for part in np.split(events, ends)[:-1] if len(part)
        ]
        self._first_us = [int(part["t"][0]) for part in np.split(events, ends)[:-1] if len(part)]

    def packets(self, seconds: float) -> Iterator[RecordedPacket]:
        """Packets for so long; the time in them goes on from round to round."""
        steps = ROUND_US // 4096
        for seq in range(round(seconds * 1e6 / self._packet_us)):
            turn, k = divmod(seq, len(self._payloads))
            words = self._payloads[k].copy()
            high = words >> 12 == 8
            words[high] = 8 << 12 | (words[high] + (turn * steps & 0xFFF) & 0xFFF)
            begin = turn * ROUND_US + k * self._packet_us
            yield RecordedPacket(
                events=words.view(np.uint8),
                encoding="evt3",
                width=WIDTH,
                height=HEIGHT,
                seq=seq,
                time_base=0,
                is_bigendian=False,
                stamp=1000 * (turn * ROUND_US + self._first_us[k]),
                frame_id="camera",
                received=1000 * (begin + self._packet_us),
            )


@dataclass(frozen=True)
class Result:
    """What came of one rate.

    Attributes:
        offered_hz: events per second.
        threads: that the node was told to use, 0 for its default.
        seconds: how long.
        packets_lost: that the node did not get, or dropped.
        processed_share: part of the events that the network got.
        result_latency_ms: from a result's last packet, when it is published, to the result in another process.
        packet_latency_ms: from every packet to the first result with it; the wait for the trigger is part of it.
        results_hz: results per second.
        answered_share: results per packet.
        cpu_percent: of one core, mean.
        memory_mb: of the node at the beginning, at the end and at its peak.
        us_per_event: decoding, filters and network per processed event, mean.
    """

    offered_hz: int
    threads: int
    seconds: float
    packets_lost: int
    processed_share: float
    result_latency_ms: dict[str, float]
    packet_latency_ms: dict[str, float]
    results_hz: float
    answered_share: float
    cpu_percent: float
    memory_mb: dict[str, float]
    us_per_event: float


def measure(
    runner: BagRunner, rate_hz: int, packet_us: int, seconds: float, parameters: dict[str, str | int | float]
) -> Result:
    """Offer ``rate_hz`` events per second for so long."""
    source = EndlessEvents(rate_hz, packet_us)
    total = round(seconds * 1e6 / packet_us)
    packets = track(source.packets(seconds), f"{rate_hz:,} events/s", total=total, transient=True)
    run = runner.run(packets, parameters)
    return evaluate(run, rate_hz, seconds, int(parameters["threads"]))


def evaluate(run: BagRun, rate_hz: int, seconds: float, threads: int) -> Result:
    """The figures of a run."""
    answers = answers_of(run)
    begin = run.sent[0].published + 1e9 * SETTLING_S
    settled = [answer for answer in answers if run.sent[answer.packet].published > begin]
    waits = packet_latencies_ms(run, answers)[-round(len(run.sent) * (1 - SETTLING_S / seconds)) :]
    last = run.diagnostics
    processed, thinned = int(last["events_processed"]), int(last["events_thinned"])
    memory = [float(values["memory_mb"]) for values in run.history]
    busy = [values for values in run.history if int(values["event_rate_per_s"]) > rate_hz / 2] or run.history
    return Result(
        offered_hz=rate_hz,
        threads=threads,
        seconds=seconds,
        packets_lost=len(run.sent) - int(last["packets"]) + int(last["packets_dropped"]),
        processed_share=processed / (processed + thinned),
        result_latency_ms=percentiles([answer.latency_ms for answer in settled]),
        packet_latency_ms=percentiles(waits),
        results_hz=len(answers) / seconds,
        answered_share=len(answers) / len(run.sent),
        cpu_percent=float(np.mean([float(values["cpu_percent"]) for values in busy])),
        memory_mb={"begin": float(busy[0]["memory_mb"]), "end": float(busy[-1]["memory_mb"]), "peak": max(memory)},
        us_per_event=1000 * float(last["processing_ms"]) / processed,
    )


def percentiles(values: list[float] | np.ndarray) -> dict[str, float]:
    return {f"p{p}": float(value) for p, value in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)}


def show(results: list[Result], title: str) -> Table:
    table = Table(title=title)
    for name in (
        "events/s",
        "threads",
        "s",
        "share",
        "lost",
        "result p50 p95 p99 [ms]",
        "packet p50 p95 p99 [ms]",
        "answered",
        "CPU",
        "MB",
    ):
        table.add_column(name, justify="right")
    for row in results:
        table.add_row(
            f"{row.offered_hz:,}",
            f"{row.threads}" if row.threads else "default",
            f"{row.seconds:g}",
            f"{row.processed_share:.1%}",
            f"{row.packets_lost}",
            " ".join(f"{value:.1f}" for value in row.result_latency_ms.values()),
            " ".join(f"{value:.1f}" for value in row.packet_latency_ms.values()),
            f"{row.answered_share:.1%}",
            f"{row.cpu_percent:.0f} %",
            "{begin:.0f} → {end:.0f}, {peak:.0f}".format(**row.memory_mb),
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--seconds", type=positive, default=20.0, help="for each rate")
    parser.add_argument("--rates", type=count, nargs="+", default=RATES_HZ, metavar="HZ", help="events per second")
    parser.add_argument(
        "--packet-us", type=int, default=PACKET_US, choices=[1 << n for n in range(9, 16)], help="duration of a packet"
    )
    parser.add_argument("--minutes", type=float, default=0.0, help="of 500 000 events/s besides, for the memory")
    parser.add_argument("--trigger", default="rate", choices=("rate", "packet"), help="of results; a rate of 30 Hz")
    parser.add_argument("--device", default="cpu", help="where the network runs")
    parser.add_argument("--threads", type=int, default=0, help="that work on the events; 0: the node's default")
    parser.add_argument("--model", default="scenes_detector", help="name of a packaged model, or a .safetensors file")
    parser.add_argument(
        "--downsampling",
        default="coordinates",
        choices=DOWNSAMPLING,
        help="to the model's sensor; coordinates gives the network every event",
    )
    arguments = parser.parse_args()

    gc.freeze()  # a look through all that imports have made would be measured as well
    isolate_ros()
    parameters: dict[str, str | int | float] = {
        "model": arguments.model,
        "device": arguments.device,
        "trigger": arguments.trigger,
        "downsampling": arguments.downsampling,
        "threads": arguments.threads,
    }
    with BagRunner() as runner:
        results = [
            measure(runner, rate_hz, arguments.packet_us, arguments.seconds, parameters) for rate_hz in arguments.rates
        ]
        if arguments.minutes:
            results.append(measure(runner, 500_000, arguments.packet_us, 60 * arguments.minutes, parameters))
    Console().print(show(results, f"{arguments.model} on {arguments.device}, results by {arguments.trigger}"))
    if arguments.json:
        figures = {
            "trigger": arguments.trigger,
            "downsampling": arguments.downsampling,
            "node": [asdict(result) for result in results],
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
