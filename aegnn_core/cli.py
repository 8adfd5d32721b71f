"""The command ``aegnn``: a thin wrapper over functions that a notebook could call."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from aegnn_core.evaluation.flops_command import add_flops_command

if TYPE_CHECKING:
    from aegnn_core.evaluation.over_events import SeenAccuracy
    from aegnn_core.evaluation.threshold_search import ThresholdResult

__all__ = ["main"]

#: A confusion matrix of more classes does not fit on a screen.
_PRINTED_CLASSES = 12
_PRINTED_PAIRS = 10


def _train(arguments: argparse.Namespace) -> None:
    import torch

    from aegnn_core.training.train import train

    # The processes that simulate need cores too.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - arguments.num_workers))
    train(
        arguments.network,
        task=arguments.task,
        dataset=arguments.dataset,
        output=arguments.output,
        dim=arguments.dim,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        workers=arguments.num_workers,
        event_layers=arguments.event_layers,
        recordings=arguments.recordings,
        device="cpu" if arguments.gpu is None else f"cuda:{arguments.gpu}",
    )


def _evaluate(arguments: argparse.Namespace) -> None:
    import torch

    from aegnn_core.datasets import open_dataset
    from aegnn_core.evaluation import dataset_moments, evaluate, simulated_moments
    from aegnn_core.evaluation.over_events import accuracy_over_events
    from aegnn_core.evaluation.threshold_search import search_thresholds
    from aegnn_core.nn import load_model

    torch.set_num_threads(1)  # a packet's tensors are small: threads would only wait for each other
    model = load_model(arguments.model, device=arguments.device)
    if arguments.dataset == "simulated":
        recordings = simulated_moments(model.task, arguments.samples, arguments.seed)
    else:
        dataset = open_dataset(arguments.dataset, arguments.split, task=model.task)
        recordings = dataset_moments(dataset, model.task)
    through = [name for name in ("dense", "asynchronous") if getattr(arguments, name)] or ["dense"]
    evaluation = evaluate(model, recordings, through)
    figures: dict[str, dict[str, Any]] = {name: result.to_dict() for name, result in evaluation.figures.items()}
    table = Table(title=f"{model.name} on {recordings.name}, {recordings.part}, {recordings.count} recordings")
    for column in ("figure", *through):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for name in figures[through[0]]:
        if name != "confusion":
            values = (figures[column][name] for column in through)
            table.add_row(name, *("no true box" if value is None else f"{value:.4f}" for value in values))
    console = Console()
    console.print(table)
    if "confusion" in figures[through[-1]] and len(model.labels) <= _PRINTED_CLASSES:
        console.print(_confusion_table(model.labels, figures[through[-1]]["confusion"]))
    document: dict[str, Any] = {"model": model.name, "dataset": recordings.name, "part": recordings.part}
    document |= {"recordings": recordings.count, **figures[through[-1]], **figures}
    if (agreement := evaluation.agreement) is not None:
        console.print(
            f"{agreement.equal} of {agreement.answers} answers are equal,"
            f" scores differ by at most {agreement.largest_difference:.1e}"
        )
        document["agreement"] = asdict(agreement)
    if arguments.over_events:
        steps = accuracy_over_events(model, recordings)
        console.print(_over_events_table(steps))
        document["over_events"] = [asdict(step) for step in steps]
    if arguments.search:
        found = search_thresholds(model, recordings, through[-1])
        console.print(_search_table(found))
        document["search"] = [
            {"score_threshold": one.score_threshold, "iou_threshold": one.iou_threshold, **one.precision.to_dict()}
            for one in found
        ]
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


def _replay(arguments: argparse.Namespace) -> None:
    import torch

    from aegnn_core.evaluation.replay import replay
    from aegnn_core.nn import load_model

    torch.set_num_threads(1)  # a packet's tensors are small: threads would only wait for each other
    result = replay(
        arguments.recording,
        load_model(arguments.model, device=arguments.device),
        arguments.output,
        period_us=round(1000 * arguments.period_ms),
        score_threshold=arguments.score_threshold,
    )
    figures: dict[str, Any] = {"events": result.events, "answers": result.answers, "seconds": result.seconds}
    figures["us_per_event"] = 1e6 * result.seconds / result.events
    figures["labelled"] = result.labelled
    figures |= result.figures.to_dict() if result.figures else {}
    table = Table("figure", "value", title=f"{arguments.model} on {arguments.recording}")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


def _bag(arguments: argparse.Namespace) -> None:
    from aegnn_core.datasets.bag_conversion import convert_to_bag

    for recording in arguments.recording:
        bag = convert_to_bag(recording, arguments.output, arguments.storage)
        print(f"{bag.path}: {bag.events} events in {bag.packets} packets, boxes at {bag.labels} times")


def _over_events_table(steps: Sequence[SeenAccuracy]) -> Table:
    table = Table("share", "events", "accuracy", title="after a part of the events, live")
    for step in steps:
        table.add_row(f"{step.share:g}", f"{step.events:.0f}", f"{step.accuracy:.4f}")
    return table


def _search_table(found: Sequence[ThresholdResult]) -> Table:
    table = Table(
        "score threshold", "IoU threshold", "ap", "ap50", title=f"the best of {len(found)} pairs of thresholds"
    )
    for one in found[:_PRINTED_PAIRS]:
        thresholds = (f"{one.score_threshold:g}", f"{one.iou_threshold:g}")
        table.add_row(*thresholds, f"{one.precision.ap:.4f}", f"{one.precision.ap50:.4f}")
    return table


def _confusion_table(labels: Sequence[str], confusion: list[list[int]]) -> Table:
    table = Table(title="recordings by true class (row) and answer (column)")
    for column in ("", *labels):
        table.add_column(column, justify="right")
    for label, row in zip(labels, confusion, strict=True):
        table.add_row(label, *(str(count) for count in row))
    return table


def _parser() -> argparse.ArgumentParser:
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(prog="aegnn", description="Asynchronous, event-based graph neural networks.")
    commands = parser.add_subparsers(title="commands", required=True)

    train = commands.add_parser("train", help="train a network", formatter_class=formatter)
    train.set_defaults(run=_train)
    train.add_argument("network", help="graph_res, graph_wen or graph_grid")
    train.add_argument("--task", required=True, choices=("recognition", "detection"), help="what to learn")
    train.add_argument(
        "--dataset",
        default="simulated",
        help="simulated, or for recognition ncars, nmnist, ncaltech101 below AEGNN_DATA_DIR",
    )
    train.add_argument("--output", type=Path, required=True, help="model file to write (.safetensors)")
    train.add_argument("--steps", type=int, default=4000, help="optimiser steps")
    train.add_argument("--batch-size", type=int, default=16, help="samples per step")
    train.add_argument("--learning-rate", type=float, default=4e-3, help="highest learning rate")
    train.add_argument("--dim", type=int, default=3, choices=(2, 3), help="components of the edge attributes")
    train.add_argument("--seed", type=int, default=1, help="of weights and samples")
    train.add_argument("--num-workers", type=int, default=1, help="processes that simulate or read")
    train.add_argument("--event-layers", default=None, help="model whose layers on events to take over")
    train.add_argument(
        "--recordings", type=int, default=None, help="learn behind --event-layers from so many, computed once"
    )
    train.add_argument("--gpu", type=int, default=None, help="number of the CUDA device, the CPU if not given")

    evaluate = commands.add_parser(
        "evaluate", help="measure a model on recordings it has not seen", formatter_class=formatter
    )
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument("model", help="name of a packaged model, or a .safetensors file")
    evaluate.add_argument(
        "--dataset", default="simulated", help="simulated, or ncars, nmnist, ncaltech101, gen1 below AEGNN_DATA_DIR"
    )
    evaluate.add_argument("--split", default="test", help="training, validation or test; not for simulated")
    evaluate.add_argument("--samples", type=int, default=200, help="simulated scenes or recordings")
    evaluate.add_argument("--seed", type=int, default=1_000_000, help="of the first of them")
    evaluate.add_argument("--asynchronous", action="store_true", help="through the live model")
    evaluate.add_argument("--dense", action="store_true", help="through the dense network, the default; or both")
    evaluate.add_argument(
        "--over-events", action="store_true", help="also accuracy over the number of events seen, live"
    )
    evaluate.add_argument(
        "--search", action="store_true", help="also average precision over score and overlap thresholds"
    )
    evaluate.add_argument("--device", default="cpu", help="where the network runs, such as cpu or cuda:0")
    evaluate.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    replay = commands.add_parser(
        "replay", help="run a recording through the live model at full speed", formatter_class=formatter
    )
    replay.set_defaults(run=_replay)
    replay.add_argument("recording", type=Path, help="rosbag2, with labels or without, or any recording of events")
    replay.add_argument("--model", default="scenes_detector", help="name of a packaged model, or a .safetensors file")
    replay.add_argument("--output", type=Path, default=None, help="rosbag2 to write with the answers (mcap)")
    replay.add_argument("--period-ms", type=float, default=20.0, help="sensor time between answers")
    replay.add_argument("--score-threshold", type=float, default=0.3, help="least score of boxes in the rosbag2")
    replay.add_argument("--device", default="cpu", help="where the network runs, such as cpu or cuda:0")
    replay.add_argument("--json", type=Path, default=None, help="also write the figures to this file")

    bag = commands.add_parser(
        "bag", help="convert recordings to rosbag2 with event packets and labels", formatter_class=formatter
    )
    bag.set_defaults(run=_bag)
    bag.add_argument(
        "recording", type=Path, nargs="+", help="any recording of events, with boxes if of Gen1, N-Caltech101"
    )
    bag.add_argument("--output", type=Path, default=Path("."), help="folder that gets a bag per recording")
    bag.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="storage of the bags")
    add_flops_command(commands, formatter)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; errors in the input are one sentence and exit status 2."""
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        print(f"aegnn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
