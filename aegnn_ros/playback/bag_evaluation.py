# SPDX-License-Identifier: Apache-2.0
"""The command ``evaluate_bag``: how good, how late and how complete the node's answers are on a recorded stream."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rclpy.utilities import remove_ros_args
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from aegnn_core.evaluation.camera_options import add_camera_options
from aegnn_core.evaluation.command_output import plain_console
from aegnn_core.events.label_topics import LABEL_TOPIC, Label
from aegnn_core.events.rosbag import read_event_packets
from aegnn_core.nn.checkpoint import TrainedModel, load_model, trained_downsampling
from aegnn_core.nn.trust_option import add_trust_option
from aegnn_core.option_types import playing_rate, positive
from aegnn_ros.playback.bag_run import BagRun, BagRunner, isolate_ros
from aegnn_ros.playback.exit_status import exit_status
from aegnn_ros.playback.output_files import output_files
from aegnn_ros.playback.timed_answers import Answer, answers_of, packet_latencies_ms
from aegnn_ros.playback.true_labels import judged_answers, precision_of_boxes, read_true_labels, why_not_judged

__all__ = ["Figures", "main"]

RATES = (1.0, 2.0, 5.0, 10.0)
#: The average precision takes all boxes from this score on.
_PUBLISHED_SCORE = 0.05
_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Figures:
    """The figures of a recording played at one rate.

    Attributes:
        rate: how many times as fast as recorded.
        packets: that were sent.
        packets_lost: that the node did not get or had no room for.
        events: that the node decoded.
        processed_share: part of these that the network got.
        results: that came.
        result_latency_ms: percentiles from the last packet of a result to the result.
        packet_latency_ms: percentiles from every packet to its first result, the wait for its turn included.
        ap, ap50: COCO average precision; None without true boxes at any result.
        accuracy: share of results with the right class; None without a class at any result.
        labelled: results that there was a label for, which these figures are of.
    """

    rate: float
    packets: int
    packets_lost: int
    events: int
    processed_share: float
    results: int
    result_latency_ms: dict[str, float]
    packet_latency_ms: dict[str, float]
    ap: float | None
    ap50: float | None
    accuracy: float | None
    labelled: int


def main(arguments: list[str] | None = None) -> int:
    """Evaluate a bag; its :func:`.exit_status`."""
    arguments = sys.argv if arguments is None else arguments
    parsed = _parser().parse_args(remove_ros_args(arguments)[1:])
    return exit_status("evaluate_bag", lambda: _evaluate(parsed, plain_console()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evaluate_bag",
        description="Play a rosbag2 with event packets to the event detector at several rates, and measure answers.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("bag", type=Path, help="folder of the bag")
    parser.add_argument("--topic", help="event topic in the bag, where it has several")
    parser.add_argument(
        "--labels", help=f"topic with true boxes or classes; if None, {LABEL_TOPIC} where the bag has it"
    )
    parser.add_argument("--model", default="scenes_detector", help="name of a packaged model, or a .safetensors file")
    parser.add_argument("--device", default="cpu", help="where the network runs")
    parser.add_argument(
        "--rates", type=playing_rate, nargs="+", default=list(RATES), help="how many times as fast as recorded"
    )
    add_camera_options(parser)
    add_trust_option(parser)
    parser.add_argument("--max-latency-ms", type=positive, default=50.0, help="latency budget of the node")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder for evaluation.json and evaluation.png")
    return parser


def _evaluate(parsed: argparse.Namespace, console: Console) -> None:
    model = load_model(parsed.model, device=parsed.device, trust_code=parsed.trust_code)
    packets = list(read_event_packets(parsed.bag, parsed.topic))
    if not packets:
        raise ValueError(f"{parsed.bag}: no event packets, expected at least one")
    labels = read_true_labels(parsed.bag, packets, model, parsed.labels)
    figures, plot = output_files(parsed.output, "evaluation.json", "evaluation.png")
    downsampling = parsed.downsampling or trained_downsampling(model)
    parameters = {
        "model": parsed.model,
        "device": parsed.device,
        "trust_code": bool(parsed.trust_code),  # as far as the model file needs it, which has been read
        "downsampling": downsampling,
        "model_sensor": parsed.model_sensor,
        "score_threshold": _PUBLISHED_SCORE,
        "max_latency_ms": parsed.max_latency_ms,
    }
    isolate_ros()
    rows: list[Figures] = []
    latencies: dict[float, np.ndarray] = {}
    with BagRunner(model.task) as runner, Progress(console=console, transient=True) as progress:
        task = progress.add_task("", total=len(packets) * len(parsed.rates))
        for number, rate in enumerate(parsed.rates):
            progress.update(task, description=f"Playing at x{rate:g}")

            def advance(played: int, before: int = number * len(packets)) -> None:
                progress.update(task, completed=before + played)

            run = runner.run(packets, parameters, advance, rate)
            answers = answers_of(run, model.graph.window)
            latencies[rate] = packet_latencies_ms(run, answers)
            rows.append(_figures(rate, run, answers, latencies[rate], labels, model))
    report = {
        "bag": str(parsed.bag),
        "model": model.name,
        "device": parsed.device,
        "downsampling": downsampling,
        "model_sensor": parsed.model_sensor,
        "max_latency_ms": parsed.max_latency_ms,
        "rates": [asdict(row) for row in rows],
    }
    console.print(_table(rows, labels, model))
    figures.write_text(json.dumps(report, indent=2) + "\n")
    _plot(rows, latencies, f"{model.name} on {parsed.bag.name}").savefig(plot)
    console.print(f"Saved {figures} and {plot}", soft_wrap=True)


def _figures(
    rate: float,
    run: BagRun,
    answers: Sequence[Answer],
    latencies: np.ndarray,
    labels: Sequence[Label],
    model: TrainedModel,
) -> Figures:
    values = run.diagnostics
    events, processed = int(values["events"]), int(values["events_processed"])
    offered = processed + int(values["events_thinned"])
    ap, ap50, accuracy, labelled = _quality(answers, labels, run, model)
    return Figures(
        rate=rate,
        packets=len(run.sent),
        packets_lost=len(run.sent) - int(values["packets"]) + int(values["packets_dropped"]),
        events=events,
        processed_share=processed / offered if offered else 1.0,
        results=len(answers),
        result_latency_ms=_percentiles([answer.latency_ms for answer in answers]),
        packet_latency_ms=_percentiles(latencies),
        ap=ap,
        ap50=ap50,
        accuracy=accuracy,
        labelled=labelled,
    )


def _percentiles(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    if len(values) == 0:
        return {}
    return {f"p{p}": float(value) for p, value in zip(_PERCENTILES, np.percentile(values, _PERCENTILES), strict=True)}


def _quality(
    answers: Sequence[Answer], labels: Sequence[Label], run: BagRun, model: TrainedModel
) -> tuple[float | None, float | None, float | None, int]:
    """Average precision, that at IoU 0.5, accuracy, and the number of answers that they cover."""
    judged = judged_answers(run, answers, labels)
    if model.task == "detection":
        return *precision_of_boxes(judged, model.labels), None, len(judged)
    right = [int(answer.scores.argmax()) == label.class_id for answer, label in judged]
    return None, None, float(np.mean(right)) if right else None, len(judged)


def _table(rows: Sequence[Figures], labels: Sequence[Label], model: TrainedModel) -> Table:
    quality = "AP, AP50" if model.task == "detection" else "accuracy"
    table = Table(
        title=f"{model.name} through ROS 2",
        caption="share: of the events that the network got; latency p50, p95, p99 from a result's last packet, and from"
        " every packet to its first result; judged: results with a label",
    )
    for name in ("rate", "events", "share", "lost", "result [ms]", "packet [ms]", "judged", quality):
        table.add_column(name, justify="right")
    for row in rows:
        known = [figure for figure in (row.ap, row.ap50, row.accuracy) if figure is not None]
        table.add_row(
            f"x{row.rate:g}",
            f"{row.events:,}",
            f"{row.processed_share:.1%}",
            f"{row.packets_lost}",
            " ".join(f"{value:.0f}" for value in row.result_latency_ms.values()),
            " ".join(f"{value:.0f}" for value in row.packet_latency_ms.values()),
            f"{row.labelled:,}",
            ", ".join(f"{figure:.3f}" for figure in known) or why_not_judged(model.task, labels, row.labelled),
        )
    return table


def _plot(rows: Sequence[Figures], latencies: dict[float, np.ndarray], title: str) -> Figure:
    """Latency of all packets as a distribution per rate, and the share of events processed over the rate."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for rate, values in latencies.items():
        left.plot(np.sort(values), np.linspace(0, 1, len(values)), label=f"×{rate:g}")
    left.set(xlabel="packet to first result [ms]", ylabel="share of packets", ylim=(0, 1))
    left.set_xlim(left=0)
    left.legend(title="rate")
    left.grid(alpha=0.3)
    rates = [row.rate for row in rows]
    right.plot(rates, [row.processed_share for row in rows], marker="o", label="events processed")
    for name, label in (("ap", "AP"), ("ap50", "AP50"), ("accuracy", "accuracy")):
        quality = [getattr(row, name) for row in rows]
        if None not in quality:
            right.plot(rates, quality, marker="o", label=label)
    right.set(xlabel="rate", ylim=(0, 1.05), xscale="log")
    right.set_xticks(rates, [f"×{rate:g}" for rate in rates])
    right.minorticks_off()
    right.legend()
    right.grid(alpha=0.3)
    figure.suptitle(title)
    return figure


if __name__ == "__main__":
    sys.exit(main())
