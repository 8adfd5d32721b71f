# SPDX-License-Identifier: Apache-2.0
"""How well a detector finds the cars of a real street: average precision on a public recording, labelled by hand.

    python benchmarks/street.py RECORDING [--model NAME] [--model-sensor double] [--score-threshold 0.1] [--json FILE]

The recording is ``tests/data/test_data.aedat4`` of the source distribution of the package ``aedat``, version 2.3.0
(MIT, International Centre for Neuromorphic Systems): a DAVIS346 looks down on a road for 2.4 s, 33,000 events per
second. Its cars were labelled by hand for this project, in ``street_labels.csv``, on the frames of the same camera.
Boxes hold a car's body and wheels, not its shadow, of which the events are as clear. Cars in deep shade, and
pedestrians, who make fewer than ten events each, count neither as found nor as missed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from pycocotools.mask import iou
from rich.console import Console

from aegnn_core.evaluation import average_precision
from aegnn_core.evaluation.camera_options import add_camera_options
from aegnn_core.evaluation.model_answers import LiveAnswers
from aegnn_core.evaluation.model_on_camera import ModelOnCamera
from aegnn_core.events import read_events
from aegnn_core.events.boxes import BOX_DTYPE
from aegnn_core.nn import load_model
from aegnn_core.option_types import existing_file

LABELS = Path(__file__).parent / "street_labels.csv"
SHA256 = "b383462d72122c69fd96ebf095c384e3f1a2f092cc1b2681be52ebc1d260cf8a"
CAR = "car"
#: Detections from this score on make the average precision.
LEAST_SCORE = 0.01
#: Before this time after the first event, a network that remembers 100 ms has not seen enough [µs].
FIRST_US = 100_000
#: A detection that overlaps by this share with a box that does not count, and with no other, is left out.
OVERLAP = 0.3


def read_labels(first_us: int) -> dict[int, list[np.ndarray]]:
    """By moment from ``first_us`` on [µs]: boxes of the cars that count, and the others."""
    moments: dict[int, tuple[list[tuple[float, ...]], ...]] = {}
    with LABELS.open(newline="") as file:
        for row in csv.DictReader(file):
            box = tuple(float(row[name]) for name in "xywh")
            moments.setdefault(int(row["t_us"]), ([], []))[1 - int(row["counts"])].append(box)
    return {t: [_boxes(t, part) for part in parts] for t, parts in sorted(moments.items()) if t >= first_us}


def _boxes(t: int, corners: list[tuple[float, ...]]) -> np.ndarray:
    boxes = np.zeros(len(corners), BOX_DTYPE)
    boxes["t"] = t
    for name, values in zip("xywh", np.array(corners).reshape(-1, 4).T, strict=True):
        boxes[name] = values
    return boxes


def counted(found: np.ndarray, cars: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The detections without those of what does not count."""
    on_cars, on_others = (_overlaps(found, boxes).max(1, initial=0) >= OVERLAP for boxes in (cars, others))
    return found[on_cars | ~on_others]


def found_and_false(truth: list[np.ndarray], detections: list[np.ndarray], score: float) -> tuple[int, int]:
    """Cars that a detection of at least this score overlaps by a half, and such detections that overlap none."""
    found = false = 0
    for cars, all_detections in zip(truth, detections, strict=True):
        overlaps = _overlaps(all_detections[all_detections["score"] >= score], cars)
        found += int(np.count_nonzero(overlaps.max(0, initial=0) >= 0.5))
        false += int(np.count_nonzero(overlaps.max(1, initial=0) < 0.5))
    return found, false


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes ``[A, B]``."""
    one, other = (np.stack([boxes[name] for name in "xywh"], 1).astype(float) for boxes in (a, b))
    shares: np.ndarray = np.asarray(iou(one, other, [0] * len(b))).reshape(len(a), len(b))
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=existing_file)
    parser.add_argument("--model", default="scenes_detector", help="name of a packaged model, or a .safetensors file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument(
        "--score-threshold", type=float, default=0.3, help="score from which detections are counted; 0.3 is the node's"
    )
    add_camera_options(parser)
    arguments = parser.parse_args()
    if hashlib.sha256(arguments.recording.read_bytes()).hexdigest() != SHA256:
        parser.error(f"{arguments.recording}: it is not the recording that was labelled, see --help")

    torch.set_num_threads(1)
    stream, model = read_events(arguments.recording), load_model(arguments.model)
    fitted = ModelOnCamera(model, (stream.width, stream.height), arguments.downsampling, arguments.model_sensor)
    labels = read_labels(int(stream.events["t"][0]) + FIRST_US)
    events = fitted.events(stream.events)
    car, truth, detections = model.labels.index(CAR), [], []
    answers = LiveAnswers(fitted.model)(events, list(labels))
    for output, (cars, others) in zip(answers, labels.values(), strict=True):
        found = fitted.boxes(output, LEAST_SCORE)
        cars["class_id"] = car
        truth.append(cars)
        detections.append(counted(found[found["class_id"] == car], cars, others))
    figures = average_precision(truth, detections, model.labels, [CAR])
    rate = len(events) / (stream.events["t"][-1] - stream.events["t"][0]) * 1e3
    size = "{} x {} px".format(*fitted.letterbox.model)
    Console().print(
        f"{model.name} on {size}: AP {figures.ap:.3f}, AP50 {figures.ap50:.3f}, AP75 {figures.ap75:.3f} of"
        f" {sum(map(len, truth))} cars at {len(truth)} moments; {rate:.1f} k events/s into the network"
    )
    found, false = found_and_false(truth, detections, arguments.score_threshold)
    Console().print(f"of score {arguments.score_threshold:g} or more: {found} cars found, {false} other detections")
    if arguments.json:
        document = {"model": model.name, "sensor": fitted.letterbox.model, "rate_per_s": 1e3 * float(rate)}
        document |= {"found": found, "false": false}
        arguments.json.write_text(json.dumps(document | figures.to_dict(), indent=2) + "\n")


if __name__ == "__main__":
    main()
