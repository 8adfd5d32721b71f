# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn label``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aegnn_core.option_types import milliseconds, share, shift_milliseconds

if TYPE_CHECKING:
    import numpy as np

__all__ = ["add_label_command"]


def add_label_command(commands: Any, formatter: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "label",
        help="turn the boxes of an image detector, recorded beside the events, into labels",
        description="Copy the events of bags to new bags and make labels of the boxes that an image detector has"
        " published beside them: at its images' times and between them, along tracks. Times at which an object is"
        " unclear get no label.",
        formatter_class=formatter,
    )
    parser.set_defaults(run=_run)
    parser.add_argument("recording", type=Path, nargs="+", help="bag with events and detections")
    parser.add_argument(
        "--detections", required=True, metavar="TOPIC", help="topic of vision_msgs/Detection2DArray in the bag"
    )
    parser.add_argument("--output", type=Path, default=Path("labelled"), help="folder that gets a bag per recording")
    parser.add_argument(
        "--classes",
        nargs="+",
        metavar="NAME[=THEIRS,...]",
        default=None,
        help="classes of the labels, and what the detector calls them, by name or number, such as car=car,truck"
        " pedestrian=person; all that it has found if None",
    )
    parser.add_argument(
        "--homography", type=Path, default=None, help="text file with 3 x 3 numbers that map its pixels to the events'"
    )
    parser.add_argument("--offset-ms", type=shift_milliseconds, default=0.0, help="added to the detector's stamps")
    parser.add_argument("--score", type=share, default=0.5, help="boxes from this score on are certain")
    parser.add_argument("--doubtful-score", type=share, default=0.25, help="boxes below this score are ignored")
    parser.add_argument("--period-ms", type=milliseconds, default=10.0, help="time between labels")
    parser.add_argument(
        "--max-gap-ms", type=milliseconds, default=200.0, help="longest time between images to label within"
    )
    parser.add_argument(
        "--overlap", type=share, default=0.3, help="overlap of an object's boxes in two images, if it has no track"
    )
    parser.add_argument("--topic", default=None, help="event topic of a bag with several")
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="storage of the bags")


def _run(arguments: argparse.Namespace) -> None:
    from aegnn_core.datasets.box_tracks import TrackRules
    from aegnn_core.datasets.labelling import label_bag

    rules = TrackRules(
        score=arguments.score,
        doubtful_score=arguments.doubtful_score,
        period_ns=round(1e6 * arguments.period_ms),
        longest_gap_ns=round(1e6 * arguments.max_gap_ms),
        overlap=arguments.overlap,
    )
    for recording in arguments.recording:
        bag = label_bag(
            recording,
            arguments.output,
            arguments.detections,
            classes=None if arguments.classes is None else _classes(arguments.classes),
            homography=None if arguments.homography is None else _homography(arguments.homography),
            offset_ns=round(1e6 * arguments.offset_ms),
            rules=rules,
            topic=arguments.topic,
            storage=arguments.storage,
        )
        made = bag.labelling
        boxes = ", ".join(f"{count} of {name}" for name, count in bag.boxes.items())
        print(
            f"{bag.path}: labels at {len(made.labels)} times, boxes: {boxes}; left out as unclear"
            f" {made.unclear_images} of {made.images} images, {made.unclear_intervals} of {made.intervals} gaps"
        )


def _classes(given: list[str]) -> dict[str, tuple[str, ...]]:
    """Our names, and theirs for each."""
    classes: dict[str, tuple[str, ...]] = {}
    for text in given:
        name, equals, theirs = text.partition("=")
        names = tuple(theirs.split(",")) if equals else (name,)
        if not name or name in classes or not all(names):
            raise ValueError(f"--classes has {text!r}, expected each name once, as NAME or NAME=THEIRS,...")
        classes[name] = names
    return classes


def _homography(path: Path) -> np.ndarray:
    import numpy as np

    try:
        matrix = np.loadtxt(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}, expected three lines of three numbers") from error
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise ValueError(f"{path}: its numbers {matrix.tolist()} are no homography, expected three lines of three")
    return matrix
