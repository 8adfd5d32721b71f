# SPDX-License-Identifier: Apache-2.0
"""A camera's picture on a model's sensor: as large as it fits, in its shape, and back to the camera's pixels."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from aegnn_core.events import Letterbox
from aegnn_core.events.letterbox import read_size
from aegnn_core.nn import DETECTION_DTYPE

sides = st.integers(1, 300)
sensors = st.tuples(sides, sides)


@pytest.mark.parametrize(
    ("camera", "scale", "offset"),
    [
        ((160, 120), 1, (0, 0)),
        ((640, 480), 4, (0, 0)),
        ((1280, 720), 8, (0, 15)),
        ((346, 260), 13 / 6, (0, 0)),
        ((480, 640), 16 / 3, (35, 0)),
        ((80, 60), 0.5, (0, 0)),
        ((200, 100), 1.25, (0, 20)),  # larger in one direction only
        ((100, 130), 13 / 12, (33, 0)),
        ((1, 1), 1 / 120, (20, 0)),
    ],
)
def test_the_picture_keeps_its_shape_and_lies_in_the_middle(
    camera: tuple[int, int], scale: float, offset: tuple[int, int]
) -> None:
    letterbox = Letterbox(camera, (160, 120))
    assert letterbox.scale == pytest.approx(scale)
    assert letterbox.offset == offset
    assert letterbox.shrinks == (scale > 1)


@given(camera=sensors, model=sensors)
def test_every_pixel_of_the_camera_belongs_to_the_pixel_of_the_model_that_its_centre_falls_into(
    camera: tuple[int, int], model: tuple[int, int]
) -> None:
    letterbox = Letterbox(camera, model)
    scale = max(Fraction(camera[0], model[0]), Fraction(camera[1], model[1]))
    for axis, found in enumerate((letterbox.columns, letterbox.rows)):
        offset = math.floor((model[axis] - camera[axis] / scale) / 2)
        expected = [math.floor((pixel + Fraction(1, 2)) / scale) + offset for pixel in range(camera[axis])]
        assert found.tolist() == expected
        assert 0 <= expected[0] <= expected[-1] < model[axis]
    assert letterbox.pixels.sum() == camera[0] * camera[1]
    assert_array_equal(letterbox.pixels[letterbox.rows[0], letterbox.columns[0]] > 0, True)
    if letterbox.shrinks:  # no holes in the picture
        assert set(np.diff(letterbox.columns)) <= {0, 1}
        assert set(np.diff(letterbox.rows)) <= {0, 1}


@given(camera=sensors, model=sensors, seed=st.integers(0, 9))
def test_boxes_come_back_where_they_were(camera: tuple[int, int], model: tuple[int, int], seed: int) -> None:
    letterbox = Letterbox(camera, model)
    corners = np.sort(np.random.default_rng(seed).uniform(0, 1, (2, 8, 2)), axis=0) * camera
    boxes = np.zeros(8, DETECTION_DTYPE)
    boxes["x"], boxes["y"] = corners[0].T
    boxes["w"], boxes["h"] = (corners[1] - corners[0]).T
    boxes["score"] = 0.5
    there = letterbox.to_model(boxes)
    back = letterbox.to_camera(there)
    for name in "xywh":
        assert_allclose(back[name], boxes[name], rtol=1e-4, atol=1e-4 * max(1, *camera, *model))
    assert (back["score"] == boxes["score"]).all()
    assert (there["x"] + there["w"] <= model[0] + 1e-3).all()
    assert (there["y"] + there["h"] <= model[1] + 1e-3).all()


def test_boxes_are_clipped_at_the_cameras_picture() -> None:
    """1280 x 720 px fill rows 15 to 105 of the model's 120."""
    boxes = np.array([(-3, 5, 20, 30, 0.9, 0), (150, 100, 20, 20, 0.8, 1), (0, 0, 9, 9, 0.7, 1)], DETECTION_DTYPE)
    found = Letterbox((1280, 720), (160, 120)).to_camera(boxes)
    assert found[["x", "y", "w", "h"]].tolist() == [(0, 0, 136, 160), (1200, 680, 80, 40), (0, 0, 72, 0)]
    assert found["class_id"].tolist() == [0, 1, 1]
    assert boxes["x"].tolist() == [-3, 150, 0]


@pytest.mark.parametrize("wrong", [(0, 120), (160, -1), (160, 70_000)])
def test_sizes_that_no_sensor_has_are_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"the camera's sensor is .*expected a width and a height of 1 to 65536 px"):
        Letterbox(wrong, (160, 120))
    with pytest.raises(ValueError, match="the model's sensor is"):
        Letterbox((160, 120), wrong)


def test_a_size_is_read_from_text() -> None:
    assert read_size(" 640 x 480") == read_size("640X480") == read_size("640×480") == (640, 480)


@pytest.mark.parametrize("text", ["640", "640x", "x480", "640x480x2", "0x480", "640x00", "-1x480", "640.5x480", ""])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^camera is '{text}', expected a width and a height of at least 1 px"):
        read_size(text, "camera")
