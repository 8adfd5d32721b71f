# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn evaluate``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from aegnn_core.datasets.event_dataset import dataset_names, open_dataset
from aegnn_core.datasets.scene_options import add_scene_options, chosen_scene_options, scene_camera, scene_config
from aegnn_core.datasets.simulated import HELD_OUT_SEED
from aegnn_core.evaluation.camera_options import add_camera_options
from aegnn_core.evaluation.command_output import plain_console, write_figures
from aegnn_core.events.simulation import RECOGNITION_SCENE, SceneConfig
from aegnn_core.nn.trust_option import add_trust_option
from aegnn_core.option_types import count, refuse_unused, seed

if TYPE_CHECKING:
    from aegnn_core.evaluation import Accuracy, AveragePrecision, Evaluation, LabelledRecordings
    from aegnn_core.evaluation.seen_accuracy import SeenAccuracy
    from aegnn_core.evaluation.threshold_search import ThresholdResult

__all__ = ["add_evaluate_command"]

#: A confusion matrix of more classes does not fit on a screen.
_PRINTED_CLASSES = 12
_PRINTED_PAIRS = 10

#: So many recordings are simulated unless it is said.
_SIMULATED = 200


def add_evaluate_command(commands: Any, formatter: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "evaluate", help="measure a model on recordings it has not seen", formatter_class=formatter
    )
    parser.set_defaults(run=partial(_run, parser))
    parser.add_argument("model", help="name of a packaged model, or a .safetensors file")
    parser.add_argument(
        "--dataset",
        default="simulated",
        help=f"simulated, or one of {', '.join(dataset_names())} below AEGNN_DATA_DIR",
    )
    parser.add_argument("--split", default="test", help="training, validation or test; not for simulated")
    parser.add_argument("--topic", default=None, help="event topic of bags that have several")
    parser.add_argument(
        "--samples",
        type=count,
        default=None,
        help=f"how many recordings: simulated ones, {_SIMULATED} if None, or at most so many of a data set, evenly"
        " spread over it, all if None",
    )
    parser.add_argument("--seed", type=seed, default=HELD_OUT_SEED, help="of the first simulated one")
    add_scene_options(parser)
    add_camera_options(parser)
    add_trust_option(parser)
    parser.add_argument("--asynchronous", action="store_true", help="through the live model")
    parser.add_argument("--dense", action="store_true", help="through the dense network, the default; or both")
    parser.add_argument("--over-events", action="store_true", help="also accuracy over the number of events seen, live")
    parser.add_argument(
        "--search", action="store_true", help="also average precision over score and overlap thresholds"
    )
    parser.add_argument(
        "--plots",
        type=Path,
        default=None,
        help="folder for precision over recall or confusion, and with --over-events the accuracy, as PNG",
    )
    parser.add_argument("--device", default="cpu", help="where the network runs, such as cpu or cuda:0")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    import torch

    from aegnn_core.evaluation import evaluate
    from aegnn_core.evaluation.seen_accuracy import accuracy_over_events
    from aegnn_core.evaluation.threshold_search import search_thresholds
    from aegnn_core.nn import load_model
    from aegnn_core.nn.checkpoint import trained_downsampling

    torch.set_num_threads(1)  # a packet's tensors are small: threads would only wait for each other
    model = load_model(arguments.model, device=arguments.device, trust_code=arguments.trust_code)
    for option, asked, task in (
        ("--over-events", arguments.over_events, "recognition"),
        ("--search", arguments.search, "detection"),
    ):
        if asked and model.task != task:
            raise ValueError(f"{option} is for {task}, the model {model.name} is for {model.task}")
    recordings = _recordings(parser, arguments, model.task)
    through = [name for name in ("dense", "asynchronous") if getattr(arguments, name)] or ["dense"]
    downsampling = trained_downsampling(model) if arguments.downsampling is None else arguments.downsampling
    way = {"downsampling": downsampling, "model_sensor": arguments.model_sensor}
    evaluation = evaluate(model, recordings, through, **way)
    steps = accuracy_over_events(model, recordings, **way) if arguments.over_events else None
    found = search_thresholds(model, recordings, through[-1], **way) if arguments.search else None

    title = f"{model.name} on {recordings.name}, {recordings.part}, {recordings.count} recordings"
    figures: dict[str, dict[str, Any]] = {name: result.to_dict() for name, result in evaluation.figures.items()}
    main = figures[through[-1]]
    document: dict[str, Any] = {"model": model.name, "dataset": recordings.name, "part": recordings.part}
    document |= {"recordings": recordings.count, **main, **figures}
    for name in ("agreement", "rates", "costs"):
        if (part := getattr(evaluation, name)) is not None:
            document[name] = asdict(part)
    document |= {"camera": list(recordings.sensor), **way}
    if steps is not None:
        document["over_events"] = [asdict(step) for step in steps]
    if found is not None:
        document["search"] = [
            {"score_threshold": one.score_threshold, "iou_threshold": one.iou_threshold, **one.precision.to_dict()}
            for one in found
        ]
    write_figures(arguments.json, document)

    console = plain_console()
    console.print(_figures_table(figures, title))
    if "confusion" in main and len(model.labels) <= _PRINTED_CLASSES:
        console.print(_confusion_table(model.labels, main["confusion"]))
    for sentence in _sentences(evaluation, recordings.sensor):
        console.print(sentence)
    if steps is not None:
        console.print(_over_events_table(steps))
    if found is not None:
        console.print(_search_table(found))
    if arguments.plots:
        _save_plots(arguments.plots, title, model.labels, evaluation.figures[through[-1]], steps)


def _sentences(evaluation: Evaluation, camera: tuple[int, int]) -> Iterator[str]:
    """How dense and live answers compare, what the camera sent, and what the live model's work has cost."""
    if (agreement := evaluation.agreement) is not None:
        yield (
            f"{agreement.equal} of {agreement.answers} answers are equal,"
            f" scores differ by at most {agreement.largest_difference:.1e}"
        )
    if (rates := evaluation.rates) is not None:
        yield (
            f"{rates.camera_per_s / 1e3:.1f} k events/s of a camera of {camera[0]} x {camera[1]}"
            f" px, {rates.network_per_s / 1e3:.1f} k of them into the network"
        )
    if (costs := evaluation.costs) is not None:
        yield (
            f"live: {costs.us_per_event:.2f} µs and {costs.flops_per_event / 1e3:.1f} kFLOP per event,"
            f" {costs.us_per_answer / 1e3:.2f} ms and {costs.flops_per_answer / 1e6:.1f} MFLOP per answer"
        )


def _recordings(parser: argparse.ArgumentParser, arguments: argparse.Namespace, task: str) -> LabelledRecordings:
    from aegnn_core.evaluation import dataset_moments, simulated_moments

    options = chosen_scene_options(arguments)
    if arguments.dataset == "simulated":
        refuse_unused(parser, arguments, ("split", "topic"), "on simulated recordings")
        config = scene_config(arguments, RECOGNITION_SCENE if task == "recognition" else SceneConfig())
        recordings = simulated_moments(
            task, arguments.samples or _SIMULATED, arguments.seed, config, scene_camera(arguments)
        )
        options.pop("--camera", None)
        changes = [name if value is True else f"{name} {value:g}" for name, value in options.items()]
        return replace(recordings, part=", ".join([recordings.part, *changes]))
    if options:
        are = "is" if len(options) == 1 else "are"
        raise ValueError(
            f"{', '.join(options)} {are} for simulated scenes, the recordings of {arguments.dataset} have their own"
        )
    refuse_unused(parser, arguments, ["seed"], f"on the data set {arguments.dataset}")
    dataset = open_dataset(arguments.dataset, arguments.split, task=task, topic=arguments.topic)
    return dataset_moments(dataset, task, arguments.samples)


def _save_plots(
    folder: Path,
    title: str,
    labels: Sequence[str],
    figures: Accuracy | AveragePrecision,
    steps: Sequence[SeenAccuracy] | None,
) -> None:
    from aegnn_core.evaluation import Accuracy
    from aegnn_core.evaluation.plots import plot_confusion, plot_over_events, plot_precision_recall

    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(figures, Accuracy):
        plot_confusion(figures.confusion, labels, title).savefig(folder / "confusion.png")
    else:
        plot_precision_recall(figures, title).savefig(folder / "precision_recall.png")
    if steps is not None:
        plot_over_events(steps, title).savefig(folder / "over_events.png")


def _figures_table(figures: dict[str, dict[str, Any]], title: str) -> Table:
    table = Table("figure", title=title)
    for name in figures:
        table.add_column(name, justify="right")
    for figure in next(iter(figures.values())):
        if figure != "confusion":
            values = (column[figure] for column in figures.values())
            table.add_row(figure, *("no true box" if value is None else f"{value:.4f}" for value in values))
    return table


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
