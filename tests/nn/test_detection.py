# SPDX-License-Identifier: Apache-2.0
"""Boxes out of a grid: decoding, suppression, and a loss that leads to the true boxes."""

import numpy as np
import pytest
import torch

from aegnn_core.nn.detection import (
    GridPrediction,
    best_scores,
    cell_scores,
    decode_grid,
    detect,
    detection_loss,
    intersection_over_union,
    suppress,
)

SENSOR = (80, 60)


def test_a_cell_decodes_by_hand() -> None:
    output = torch.zeros(1, 6, 8, 7)
    output[0, 2, 3, :4] = torch.tensor([0.0, 0.0, np.log(2.0), np.log(3.0)])
    boxes = decode_grid(output, SENSOR).boxes.view(6, 8, 4)
    # Cells are 10 x 10 px; σ(0) puts the centre into the middle of the cell.
    assert boxes[2, 3].tolist() == pytest.approx([25, 10, 45, 40])
    assert boxes[0, 0].tolist() == pytest.approx([0, 0, 10, 10])


def test_overlap_by_hand() -> None:
    a = torch.tensor([0.0, 0, 10, 10])
    b = torch.tensor([[5.0, 0, 15, 10], [0, 0, 10, 10], [20, 0, 30, 10]])
    assert intersection_over_union(a, b).tolist() == pytest.approx([1 / 3, 1, 0])
    assert intersection_over_union(a, b, generalized=True).tolist() == pytest.approx([1 / 3, 1, -1 / 3])


def prediction(boxes: list[list[float]], scores: list[float], classes: list[int]) -> GridPrediction:
    objectness = torch.logit(torch.tensor([scores], dtype=torch.float64))
    logits = torch.full((1, len(boxes), 2), -50.0, dtype=torch.float64)
    logits[0, torch.arange(len(boxes)), torch.tensor(classes)] = 50.0
    return GridPrediction(torch.tensor([boxes], dtype=torch.float64), objectness, logits)


def test_suppression_keeps_the_best_of_each_class_and_clips_to_the_sensor() -> None:
    boxes = [[0, 0, 20, 20], [1, 1, 21, 21], [1, 1, 21, 21], [70, 50, 90, 70], [40, 40, 50, 50]]
    (found,) = suppress(prediction(boxes, [0.9, 0.8, 0.7, 0.6, 0.1], [0, 0, 1, 1, 0]), SENSOR)
    assert found["score"].tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert found["class_id"].tolist() == [0, 1, 1]
    assert found[2][["x", "y", "w", "h"]].tolist() == (70, 50, 10, 10)
    (found,) = suppress(prediction(boxes, [0.9, 0.8, 0.7, 0.6, 0.1], [0, 0, 1, 1, 0]), SENSOR, max_detections=1)
    assert len(found) == 1


@pytest.mark.parametrize("stride", [None, (10, 12)])
@pytest.mark.parametrize(
    ("score_threshold", "iou_threshold", "most"), [(0.0, 0.3, 100), (0.3, 0.5, 100), (0.1, 0.9, 7)]
)
def test_detections_of_an_output_are_those_of_its_decoded_grid(
    stride: tuple[float, float] | None, score_threshold: float, iou_threshold: float, most: int
) -> None:
    output = 3 * torch.randn(2, 6, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    output[0, 0, 0], output[0, 1, 1, 4], output[0, 1, 2, :4] = torch.nan, -1_000, 1_000
    output[1, 5, 7, 4], output[1, 5, 7, 5] = -1_000, torch.nan  # a class alone, where nobody looks for boxes
    best = cell_scores(output[..., 4], output[..., 5:]).flatten(1, 2).amax(1).numpy()
    np.testing.assert_allclose(best_scores(output), best, rtol=1e-12)
    options = (score_threshold, iou_threshold, most)
    expected = suppress(decode_grid(output, SENSOR, stride), SENSOR, *options)
    for found, reference in zip(detect(output, SENSOR, stride, *options), expected, strict=True):
        assert len(found) > 3
        for name in found.dtype.names or ():
            np.testing.assert_allclose(found[name], reference[name], rtol=1e-6, atol=1e-5)


def test_nothing_above_the_threshold_is_an_empty_array() -> None:
    (found,) = suppress(prediction([[0, 0, 9, 9]], [0.2], [0]), SENSOR, score_threshold=0.3)
    assert len(found) == 0


def test_descending_the_loss_finds_the_boxes() -> None:
    torch.manual_seed(0)
    boxes = torch.tensor([[5.0, 5, 35, 25], [30, 20, 42, 58], [60, 10, 70, 18], [55, 5, 79, 40]])
    classes, sample = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 1, 1])
    output = torch.zeros(3, 6, 8, 7, requires_grad=True)
    optimizer = torch.optim.Adam([output], lr=0.2)
    for _ in range(300):
        optimizer.zero_grad()
        loss = torch.stack(list(detection_loss(output, SENSOR, boxes, classes, sample).values())).sum()
        loss.backward()
        optimizer.step()
    found = suppress(decode_grid(output.detach(), SENSOR), SENSOR)
    assert len(found[2]) == 0
    for row in (0, 1):
        order = np.argsort(found[row]["x"])
        expected = boxes[sample == row][torch.argsort(boxes[sample == row][:, 0])]
        corners = np.stack([found[row][order][name] for name in "xywh"], 1)
        corners[:, 2:] += corners[:, :2]
        np.testing.assert_allclose(corners, expected, atol=1.0)
        assert found[row]["score"].min() > 0.9


def test_a_batch_without_boxes_has_a_loss_of_objectness_alone() -> None:
    output = torch.zeros(2, 6, 8, 7, requires_grad=True)
    none = torch.zeros(0, dtype=torch.long)
    parts = detection_loss(output, SENSOR, torch.zeros(0, 4), none, none)
    assert float(parts["objectness"].detach()) == pytest.approx(96 * np.log(2), rel=1e-5)
    assert float(parts["box"].detach()) == float(parts["class"].detach()) == 0


def test_a_box_whose_center_is_on_the_rim_has_a_cell() -> None:
    parts = detection_loss(
        torch.zeros(1, 6, 8, 7), SENSOR, torch.tensor([[70.0, 50, 90, 70]]), torch.tensor([1]), torch.tensor([0])
    )
    assert float(parts["box"]) > 0


def test_cells_of_a_given_stride_may_reach_beyond_the_sensor() -> None:
    """77 x 57 px in cells of 10 px: the last ones are cut by the rim, the others stay where they are."""
    output = torch.zeros(1, 6, 8, 7)
    boxes = decode_grid(output, (77, 57), (10, 10)).boxes.view(6, 8, 4)
    assert boxes[2, 3].tolist() == [30, 20, 40, 30]
    assert boxes[5, 7].tolist() == [70, 50, 80, 60]
    assert torch.equal(boxes, decode_grid(output, (80, 60)).boxes.view(6, 8, 4))
    true = torch.tensor([[31.0, 21, 39, 29], [68, 48, 77, 57]])
    classes, sample = torch.tensor([0, 1]), torch.tensor([0, 0])
    given = detection_loss(output, (77, 57), true, classes, sample, (10, 10))
    even = detection_loss(output, (80, 60), true, classes, sample)
    for name, value in given.items():
        assert float(value) == pytest.approx(float(even[name]))


@pytest.mark.parametrize("box", [[20.0, -40, 60, 8], [-50, 20, 18, 40], [20, 70, 60, 110]])
def test_a_box_whose_center_is_far_outside_is_learned_by_no_cell(box: list[float]) -> None:
    output = torch.zeros(1, 6, 8, 7)
    one = torch.zeros(1, dtype=torch.long)
    parts = detection_loss(output, SENSOR, torch.tensor([box]), one, one)
    none = detection_loss(output, SENSOR, torch.zeros(0, 4), one[:0], one[:0])
    assert {name: float(value) for name, value in parts.items()} == {name: float(value) for name, value in none.items()}
