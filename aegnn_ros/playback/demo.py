# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn_demo``: send a recording through ROS to the detector in another process, compare and draw."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aegnn_core.datasets.simulated import HELD_OUT_SEED
from aegnn_core.evaluation import average_precision
from aegnn_core.events.array import EventStream
from aegnn_core.events.files import read_events
from aegnn_core.events.label_topics import Label
from aegnn_core.events.rosbag import is_bag, read_event_packets, write_event_bag
from aegnn_core.events.simulation import SceneConfig, simulate_scene
from aegnn_core.nn.checkpoint import TrainedModel, load_model
from aegnn_core.nn.trust_option import add_trust_option
from aegnn_ros.playback.bag_run import BagRun, BagRunner, isolate_ros
from aegnn_ros.playback.demo_picture import Moment, draw_moments
from aegnn_ros.playback.exit_status import exit_status
from aegnn_ros.playback.timed_answers import Answer, answers_of

__all__ = ["main"]

#: The average precision takes all boxes from the first score on; those from the second on are counted and drawn.
_PUBLISHED_SCORE, _SHOWN_SCORE = 0.05, 0.3
#: The window has to fill before an answer counts [µs], as in ``aegnn evaluate``.
_FIRST_US = 100_000
_PANELS = 6
#: No model has been trained on this scene, and both classes are visible throughout.
_BUSY_SCENE = HELD_OUT_SEED + 16


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; its :func:`.exit_status`."""
    parsed = _parser().parse_args(arguments)

    def run() -> None:
        figures = _run(parsed, Console(stderr=parsed.json))
        if parsed.json:
            print(json.dumps(figures, indent=2))

    return exit_status("aegnn_demo", run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aegnn_demo",
        description="Play a recording through ROS 2 to the event detector and show what it finds.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--bag", type=Path, help="rosbag2 with event packets; without it, a simulated scene")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder for demo.png and demo.json")
    parser.add_argument("--seed", type=int, default=_BUSY_SCENE, help="of the simulated scene")
    parser.add_argument("--duration", type=float, default=8.0, help="of the simulated scene [s]")
    parser.add_argument(
        "--model", default="scenes_detector", help="name of a packaged detector, or a .safetensors file"
    )
    parser.add_argument("--device", default="cpu", help="where the network runs")
    add_trust_option(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of a table")
    return parser


def _run(parsed: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Do everything, and return the figures that are also in ``demo.json``."""
    model = load_model(parsed.model, device=parsed.device, trust_code=parsed.trust_code)
    if model.task != "detection":
        raise ValueError(f"model {model.name} is for {model.task}, the demo needs one for detection")
    parsed.output.mkdir(parents=True, exist_ok=True)
    bag, truth = parsed.bag, None
    if bag is None:
        bag = parsed.output / "demo_bag"
        truth = _simulate(bag, parsed.seed, parsed.duration, console)
    stream = read_events(bag)
    packets = list(read_event_packets(bag))

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

    figures = _figures(run, answers, truth, model)
    console.print(_table(figures, run, model))
    moments = _choose_moments(stream, answers, truth)
    Image.fromarray(draw_moments(stream, moments, model.labels)).save(parsed.output / "demo.png")
    (parsed.output / "demo.json").write_text(json.dumps(figures, indent=2) + "\n")
    console.print(f"Saved {parsed.output / 'demo.png'} and {parsed.output / 'demo.json'}", soft_wrap=True)
    return figures


def _simulate(bag: Path, seed: int, duration_s: float, console: Console) -> np.ndarray | None:
    """Write a simulated scene as a bag, in place of an earlier one; return its boxes, if there are any."""
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
    return scene.boxes if len(scene.boxes) else None


def _truth_at(time: int, truth: np.ndarray) -> np.ndarray:
    """The true boxes at the labelled time that is nearest to a sensor time [µs]."""
    times = np.unique(truth["t"])
    nearest: NDArray[np.bool_] = truth["t"] == times[np.abs(times - time).argmin()]
    return truth[nearest]


def _figures(run: BagRun, answers: Sequence[Answer], truth: np.ndarray | None, model: TrainedModel) -> dict[str, Any]:
    """What ``demo.json`` holds; ``ap`` and ``ap50`` are null without true boxes."""
    ap: float | None = None
    ap50: float | None = None
    if truth is not None:
        judged = [answer for answer in answers if answer.time >= _FIRST_US]
        true_boxes = [_truth_at(answer.time, truth) for answer in judged]
        result = average_precision(true_boxes, [answer.boxes for answer in judged], model.labels)
        ap, ap50 = (None if math.isnan(value) else value for value in (result.ap, result.ap50))
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


def _table(figures: dict[str, Any], run: BagRun, model: TrainedModel) -> Table:
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
        table.add_row(label, "no labels" if figures[name] is None else f"{figures[name]:.3f}")
    return table


def _choose_moments(stream: EventStream, answers: Sequence[Answer], truth: np.ndarray | None) -> list[Moment]:
    """From each sixth of the recording, the answer at the busiest time: most true boxes, or else most events."""
    t = stream.events["t"]

    def to_see(answer: Answer) -> float:
        if truth is not None:
            return float(_truth_at(answer.time, truth)["visible"].sum())
        first, last = np.searchsorted(t, [answer.time - _FIRST_US, answer.time])
        return float(last - first)

    moments = []
    for part in np.array_split(np.arange(len(answers)), min(_PANELS, len(answers))):
        busiest = max((answers[k] for k in part), key=to_see)
        shown = busiest.boxes[busiest.boxes["score"] >= _SHOWN_SCORE]
        moments.append(Moment(busiest.time, shown, None if truth is None else _truth_at(busiest.time, truth)))
    return moments


if __name__ == "__main__":
    sys.exit(main())
