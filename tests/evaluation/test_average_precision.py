# SPDX-License-Identifier: Apache-2.0
"""Average precision is COCO's."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from aegnn_core.evaluation import average_precision
from aegnn_core.nn import DETECTION_DTYPE

LABELS = ("car", "pedestrian")


def boxes(*rows: tuple[float, float, float, float, float, int]) -> np.ndarray:
    return np.array(list(rows), DETECTION_DTYPE)


TRUTH = [boxes((10, 10, 20, 20, 0, 0), (50, 50, 10, 30, 0, 1)), boxes((0, 0, 40, 20, 0, 0)), boxes()]


def test_perfect_detections_have_precision_1() -> None:
    found = average_precision(
        TRUTH, [boxes(*((*tuple(box)[:4], 0.9, box["class_id"]) for box in row)) for row in TRUTH], LABELS
    )
    assert (found.ap, found.ap50, found.ap75) == pytest.approx((1, 1, 1))
    assert found.per_class == pytest.approx({"car": 1, "pedestrian": 1})


def test_a_case_by_hand() -> None:
    """One of two cars found at IoU 0.6, after a false alarm that is surer; the pedestrian has the wrong class."""
    predictions = [boxes((10, 10, 20, 12, 0.5, 0), (50, 50, 10, 30, 0.8, 0)), boxes(), boxes()]
    found = average_precision(TRUTH, predictions, LABELS)
    # Precision 1/2 up to recall 1/2, that is at 51 of COCO's 101 recalls, for cars at IoU 0.50, 0.55 and 0.60 only.
    assert found.ap50 == pytest.approx(0.5 * 51 / 101 / 2)
    assert found.ap75 == 0
    assert found.ap == pytest.approx(0.5 * 51 / 101 / 2 * 3 / 10)
    assert found.per_class["pedestrian"] == 0
    # The 1 Mpx data set has classes that do not count in the mean.
    cars = average_precision(TRUTH, predictions, LABELS, ["car"])
    assert (cars.ap, cars.ap50, cars.per_class) == (pytest.approx(2 * found.ap), 2 * found.ap50, found.per_class)


@pytest.mark.parametrize("seed", range(5))
def test_random_boxes_give_what_pycocotools_prints(seed: int, tmp_path: Path) -> None:
    """Through COCO's own files and summary: many images, three classes, boxes that more or less overlap true ones."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(30):
        count = int(rng.integers(0, 6))
        low, size = rng.uniform(0, 200, (count, 2)), rng.uniform(5, 120, (count, 2))
        true = boxes(*((*low[n], *size[n], 0, rng.integers(3)) for n in range(count)))
        seen = [box for box in true if rng.random() < 0.8]
        guesses = [(*rng.uniform(0, 200, 2), *rng.uniform(5, 120, 2), rng.integers(3)) for _ in range(rng.integers(4))]
        moved = [(*(np.array(tuple(box)[:4]) * rng.uniform(0.85, 1.15, 4)), box["class_id"]) for box in seen]
        truth.append(true)
        found.append(boxes(*((*box[:4], rng.random(), box[4]) for box in moved + guesses)))
    for name, images in (("truth", truth), ("found", found)):
        rows = [
            {
                "image_id": image,
                "category_id": int(box["class_id"]),
                "bbox": [float(box[side]) for side in "xywh"],
                "score": float(box["score"]),
                "area": float(box["w"] * box["h"]),
                "iscrowd": 0,
            }
            for image, row in enumerate(images)
            for box in row
        ]
        rows = [{**row, "id": n + 1} for n, row in enumerate(rows)]
        images_ = [{"id": n} for n in range(30)]
        document = {"images": images_, "categories": [{"id": n} for n in range(3)], "annotations": rows}
        (tmp_path / f"{name}.json").write_text(json.dumps(document if name == "truth" else rows))
    coco = COCO(tmp_path / "truth.json")
    evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "found.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ours = average_precision(truth, found, ("a", "b", "c"))
    assert 0.05 < ours.ap < ours.ap50 < 0.95
    assert (ours.ap, ours.ap50, ours.ap75) == pytest.approx(tuple(evaluation.stats[:3]), abs=1e-12)
    assert np.mean([curve.mean() for curve in ours.curves.values()]) == pytest.approx(ours.ap50)


def test_nothing_found_is_0_and_nothing_to_find_is_nan() -> None:
    assert average_precision(TRUTH, [boxes()] * 3, LABELS).ap == 0
    assert np.isnan(average_precision([boxes()], [boxes((0, 0, 5, 5, 0.5, 0))], LABELS).ap)


def test_a_class_without_true_boxes_does_not_count() -> None:
    truth = [boxes((0, 0, 40, 20, 0, 0))]
    found = average_precision(truth, [boxes((0, 0, 40, 20, 0.9, 0), (5, 5, 9, 9, 0.9, 1))], LABELS)
    assert found.ap == pytest.approx(1)
    assert np.isnan(found.per_class["pedestrian"])


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="3 images with true boxes and 1 with predictions"):
        average_precision(TRUTH, [boxes()], LABELS)
    with pytest.raises(ValueError, match="class_id is 5, there are labels for 0 to 1"):
        average_precision([boxes((0, 0, 1, 1, 0, 5))], [boxes()], LABELS)
