"""Average precision is COCO's."""

import numpy as np
import pytest

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
