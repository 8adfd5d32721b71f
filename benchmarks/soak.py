# SPDX-License-Identifier: Apache-2.0
"""Long runs: `python benchmarks/soak.py [--events N] [--json FILE]`, by default 30 million simulated events.

The live model of `scenes_graph_detector` follows simulated scenes without end. Every million events, time per event and
memory are noted; at the end its output is compared with the dense network on the graph of the last events. The process
exits with 1 if memory grew by more than 2 % after the first tenth, or if the outputs differ.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from aegnn_core import build_graph, load_model, make_model_asynchronous
from aegnn_core.events.simulation import SceneConfig, simulate_scene

PACKET, PER_NOTE, SCENES = 1_000, 1_000_000, 8
#: With fewer events there is no first tenth to compare the memory with.
FEWEST = 10 * PER_NOTE
#: Layers on events: a feature looks back as many times the longest edge in time.
LAYERS = 5


@dataclass(frozen=True)
class Note:
    """What a million events took; ``us_per_event`` is the median over the packets."""

    events: int
    us_per_event: float
    state_bytes: int
    process_bytes: int


def process_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main(options: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--events", type=int, default=30_000_000, metavar="N", help=f"at least {FEWEST:,}, to compare tenths"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    arguments = parser.parse_args(options)
    if arguments.events < FEWEST:
        parser.error(f"--events {arguments.events}: expected at least {FEWEST}, as memory is compared by tenths")
    torch.set_num_threads(1)

    model = load_model("scenes_graph_detector")
    live = make_model_asynchronous(model.network, model.graph)
    config = SceneConfig(duration_us=1_000_000)
    scenes = cycle([simulate_scene(seed, config).stream.events for seed in range(SCENES)])
    recent: list[np.ndarray] = []
    notes: list[Note] = []
    times: list[float] = []
    begin = 0
    with Console().status("soaking") as status:
        while len(live) < arguments.events:
            scene = next(scenes).copy()
            scene["t"] += begin
            begin += config.duration_us
            recent = [*recent[-1:], scene]
            for start in range(0, len(scene), PACKET):
                packet = scene[start : start + PACKET]
                clock = perf_counter()
                live.update(packet)
                times.append((perf_counter() - clock) / len(packet))
            live.output()
            if len(live) // PER_NOTE > len(notes):
                state = sum(live.memory().values())
                notes.append(Note(len(live), float(np.median(times)) * 1e6, state, process_bytes()))
                times.clear()
                status.update(f"{len(live):,} events, {notes[-1].us_per_event:.2f} µs per event")

    graph = model.graph
    assert graph.window is not None
    last = np.concatenate(recent)
    longest_us = int(graph.radius / graph.time_scale)
    since = int(last["t"][-1]) - graph.window - LAYERS * longest_us
    with torch.no_grad():
        expected = model.network(build_graph(last[last["t"] > since], graph))
    difference = float((live.output() - expected).abs().max() / expected.abs().max())
    settled = notes[len(notes) // 10 :]
    growth = max(note.process_bytes for note in settled) / settled[0].process_bytes - 1

    table = Table("events", "µs per event", "state MiB", "process MiB")
    for note in notes[:: max(1, len(notes) // 10)]:
        table.add_row(
            f"{note.events:,}",
            f"{note.us_per_event:.2f}",
            f"{note.state_bytes / 2**20:.1f}",
            f"{note.process_bytes / 2**20:.0f}",
        )
    console = Console()
    console.print(table)
    console.print(f"largest difference from the dense network: {difference:.1e}; memory grew by {growth:.2%}")
    if arguments.json:
        figures = {"difference": difference, "memory_growth": growth, "notes": [asdict(note) for note in notes]}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(difference > 1e-4 or growth > 0.02)


if __name__ == "__main__":
    main()
