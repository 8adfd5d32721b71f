# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn_demo``: send a recording through ROS to the detector in another process, compare and draw."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aegnn_core.datasets.simulated import HELD_OUT_SEED
from aegnn_core.evaluation.command_output import plain_console
from aegnn_core.events.array import EventStream
from aegnn_core.events.files import read_events
from aegnn_core.events.label_topics import Label
from aegnn_core.events.rosbag import is_bag, read_event_packets, write_event_bag
from aegnn_core.events.simulation import SceneConfig, simulate_scene
from aegnn_core.nn.checkpoint import TrainedModel, load_model
from aegnn_core.nn.trust_option import add_trust_option
from aegnn_core.option_types import refuse_unused, seconds, seed
from aegnn_ros.playback.bag_run import BagRun, BagRunner, isolate_ros
from aegnn_ros.playback.demo_picture import Moment, draw_moments
from aegnn_ros.playback.exit_status import exit_status
from aegnn_ros.playback.output_files import output_files
from aegnn_ros.playback.timed_answers import Answer, answers_of
from aegnn_ros.playback.true_labels import (
    judged_answers,
    labels_at_answers,
    precision_of_boxes,
    read_true_labels,
    why_not_judged,
)

__all__ = ["main"]

#: The average precision takes all boxes from the first score on; those from the second on are counted and drawn.
_PUBLISHED_SCORE, _SHOWN_SCORE = 0.05, 0.3
#: How busy a moment is, is seen from the events so long before it [µs].
_RECENT_US = 100_000
_PANELS = 6
#: No model has been trained on this scene, and both classes are visible throughout.
_BUSY_SCENE = HELD_OUT_SEED + 16


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; its :func:`.exit_status`."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    return exit_status("aegnn_demo", lambda: _run(parser, parsed, plain_console(stderr=parsed.json)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aegnn_demo",
        description="Play a recording through ROS 2 to the event detector and show what it finds.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--bag", type=Path, help="rosbag2 with event packets; without it, a simulated scene")
    parser.add_argument("--topic", help="event topic in the bag, where it has several")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder for demo.png and demo.json")
    parser.add_argument("--seed", type=seed, default=_BUSY_SCENE, help="of the simulated scene")
    parser.add_argument("--duration", type=seconds, default=8.0, help="of the simulated scene [s]")
    parser.add_argument(
        "--model", default="scenes_detector", help="name of a packaged detector, or a .safetensors file"
    )
    parser.add_argument("--device", default="cpu", help="where the network runs")
    add_trust_option(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of a table")
    return parser


def _run(parser: argparse.ArgumentParser, parsed: argparse.Namespace, console: Console) -> None:
    if parsed.bag is None:
        refuse_unused(parser, parsed, ["topic"], "without --bag")
    else:
        refuse_unused(parser, parsed, ("seed", "duration"), "on a bag")
    model = load_model(parsed.model, device=parsed.device, trust_code=parsed.trust_code)
    if model.task != "detection":
        raise ValueError(f"model {model.name} is for {model.task}, the demo needs one for detection")
    picture, report = output_files(parsed.output, "demo.png", "demo.json")
    bag = parsed.bag
    if bag is None:
        bag = parsed.output / "demo_bag"
        _simulate(bag, parsed.seed, parsed.duration, console)
    stream = read_events(bag, topic=parsed.topic)
    packets = list(read_event_packets(bag, parsed.topic))
    labels = read_true_labels(bag, packets, model)

    isolate_ros()
    parameters = {
        "model": parsed.model,
        "device": parsed.device,
        "trust_code": bool(parsed.trust_code),  # as far as the model file needs it, which has been read
        "score_threshold": _PUBLISHED_SCORE,
    }
    with BagRunner() as runner, Progress(console=console, transient=True) as progress:
        task = progress.add_task("Starting the node", total=len(packets))
        run = runner.run(
            packets,
            parameters,
            lambda played: progress.update(task, completed=played, description="Playing in real time"),
        )
    answers = answers_of(run, model.graph.window)
    if not answers:
        raise ValueError(f"{bag}: the node found no events in {len(packets)} packets, expected a recording with events")

    judged = judged_answers(run, answers, labels)
    figures = _figures(run, answers, judged, model)
    text = json.dumps(figures, indent=2)
    console.print(_table(figures, run, model, why_not_judged(model.task, labels, len(judged))))
    if parsed.json:
        print(text)
    Image.fromarray(draw_moments(stream, _choose_moments(stream, answers, labels), model.labels)).save(picture)
    report.write_text(text + "\n")
    console.print(f"Saved {picture} and {report}", soft_wrap=True)


def _simulate(bag: Path, seed: int, duration_s: float, console: Console) -> None:
    """Write a simulated scene with its labels as a bag, in place of an earlier one."""
    if bag.is_dir() and is_bag(bag):
        shutil.rmtree(bag)
    config = SceneConfig(duration_us=round(1e6 * duration_s))
    scene = simulate_scene(seed, config)
    moments = range(config.box_period_us, config.duration_us, config.box_period_us)
    labels = [Label(1000 * moment, boxes=scene.boxes[scene.boxes["t"] == moment]) for moment in moments]
    count = write_event_bag(bag, scene.stream, labels=labels)
    console.print(
        f"Simulated {duration_s:g} s, {len(scene.stream)} events (seed {seed}): {count} packets in {bag}",
        soft_wrap=True,
    )


def _figures(
    run: BagRun, answers: Sequence[Answer], judged: Sequence[tuple[Answer, Label]], model: TrainedModel
) -> dict[str, Any]:
    """What ``demo.json`` holds; ``ap`` and ``ap50`` are null without true boxes."""
    ap, ap50 = precision_of_boxes(judged, model.labels)
    events = int(run.diagnostics["events_processed"])
    p50, p95 = np.percentile([answer.latency_ms for answer in answers], [50, 95])
    return {
        "events": events,
        "packets": int(run.diagnostics["packets"]),
        "detections": int(sum((answer.boxes["score"] >= _SHOWN_SCORE).sum() for answer in answers)),
        "ap": ap,
        "ap50": ap50,
        "latency_ms": {"p50": float(p50), "p95": float(p95)},
        # Measured inside the node, in CameraStream.decode and update.
        "us_per_event": 1000 * float(run.diagnostics["processing_ms"]) / max(1, events),
    }


def _table(figures: dict[str, Any], run: BagRun, model: TrainedModel, not_judged: str) -> Table:
    table = Table(title=f"{model.name} on {run.diagnostics['device']}, through ROS 2 in real time", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("events", f"{figures['events']:,}")
    table.add_row("packets received, lost", f"{figures['packets']:,}, {len(run.sent) - figures['packets']:,}")
    table.add_row("messages, detections", f"{len(run.results):,}, {figures['detections']:,}")
    latency = figures["latency_ms"]
    table.add_row("latency packet → detections, p50, p95", f"{latency['p50']:.1f} ms, {latency['p95']:.1f} ms")
    table.add_row("decoding and network", f"{figures['us_per_event']:.2f} µs per event")
    for name, label in (("ap", "mAP (COCO, IoU 0.5 to 0.95)"), ("ap50", "mAP at IoU 0.5")):
        table.add_row(label, not_judged if figures[name] is None else f"{figures[name]:.3f}")
    return table


def _choose_moments(stream: EventStream, answers: Sequence[Answer], labels: Sequence[Label]) -> list[Moment]:
    """From each sixth of the recording, the answer at the busiest time: most true boxes, and of these most events."""
    truth = [None if label is None else label.boxes for label in labels_at_answers(answers, labels)]
    times = np.array([answer.time for answer in answers])
    first, last = np.searchsorted(stream.events["t"], [times - _RECENT_US, times])
    recent = (last - first).tolist()

    def to_see(k: int) -> tuple[int, int]:
        boxes = truth[k]
        return 0 if boxes is None else len(boxes), recent[k]

    moments = []
    for part in np.array_split(np.arange(len(answers)), min(_PANELS, len(answers))):
        busiest = max(part.tolist(), key=to_see)
        boxes = answers[busiest].boxes
        moments.append(Moment(answers[busiest].time, boxes[boxes["score"] >= _SHOWN_SCORE], truth[busiest]))
    return moments


if __name__ == "__main__":
    sys.exit(main())
