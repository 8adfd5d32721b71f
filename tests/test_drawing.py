# SPDX-License-Identifier: Apache-2.0
"""Pictures show the events and boxes that they were given, where they were given."""

from __future__ import annotations

import numpy as np
import pytest

from aegnn_core.drawing import BACKGROUND, OFF_COLOR, ON_COLOR, EventSurface, class_color, draw_boxes, draw_title
from aegnn_core.events.array import make_events

BOX = np.dtype([("x", np.float32), ("y", np.float32), ("w", np.float32), ("h", np.float32)])


def events_of(*rows: tuple[int, int, int, int]) -> np.ndarray:
    return make_events(*np.array(rows).T)


def blank(width: int = 60, height: int = 40) -> np.ndarray:
    return EventSurface(width, height).image(0, 1)


def test_a_fresh_surface_is_background() -> None:
    image = blank(7, 5)
    assert image.shape == (5, 7, 3)
    assert image.dtype == np.uint8
    assert (image == BACKGROUND).all()


def test_events_appear_at_their_pixel_in_the_colour_of_their_polarity() -> None:
    surface = EventSurface(4, 3)
    surface.update(events_of((10, 1, 0, 1), (10, 3, 2, 0)))
    image = surface.image(10, 1000)
    assert tuple(image[0, 1]) == ON_COLOR
    assert tuple(image[2, 3]) == OFF_COLOR
    assert (image != BACKGROUND).any(axis=2).sum() == 2


def test_the_most_recent_event_of_a_pixel_is_shown() -> None:
    surface = EventSurface(2, 2)
    surface.update(events_of((10, 0, 0, 1), (20, 0, 0, 0)))
    assert tuple(surface.image(20, 1000)[0, 0]) == OFF_COLOR


def test_events_fade_with_age_and_leave() -> None:
    surface = EventSurface(2, 2)
    surface.update(events_of((0, 0, 0, 1)))
    brightness = [int(surface.image(t, 100)[0, 0].sum()) for t in (0, 50, 99, 100)]
    assert brightness == sorted(brightness, reverse=True)
    assert brightness[2] > sum(BACKGROUND)
    assert brightness[3] == sum(BACKGROUND)


def test_events_of_the_future_are_not_shown() -> None:
    surface = EventSurface(2, 2)
    surface.update(events_of((50, 0, 0, 1)))
    assert (surface.image(49, 100) == BACKGROUND).all()


def test_boxes_are_outlined_in_their_colours_and_the_input_stays() -> None:
    image = blank()
    boxes = np.array([(5, 6, 10, 8), (30, 20, 12, 9)], BOX)
    drawn = draw_boxes(image, boxes, [class_color(0), class_color(1)], line_width=1)
    for box, class_id in zip(boxes, (0, 1), strict=True):
        x, y, w, h = (int(v) for v in box)
        for corner in ((y, x), (y, x + w), (y + h, x), (y + h, x + w)):
            assert tuple(drawn[corner]) == class_color(class_id)
        assert tuple(drawn[y + h // 2, x + w // 2]) == BACKGROUND
    assert (image == BACKGROUND).all()


def tag_width(image: np.ndarray) -> int:
    """How many columns hold the filled tag of a caption in the colour of class 2."""
    return int(((image == class_color(2)).all(axis=2).sum(axis=0) > 3).sum())


@pytest.mark.parametrize("corner", [(-20, -20), (50, 35), (20, 0), (20, 30)])
def test_captions_stay_inside_the_image(corner: tuple[int, int]) -> None:
    image = blank(120, 60)
    box = np.array([(*corner, 30, 25)], BOX)
    captioned = draw_boxes(image, box, [class_color(2)], ["car 0.93"])
    assert captioned.shape == image.shape
    whole = draw_boxes(image, np.array([(40, 30, 0, 0)], BOX), [class_color(2)], ["car 0.93"])
    assert tag_width(captioned) >= tag_width(whole) > 40


@pytest.mark.parametrize("numbers", [(np.nan, 5, 9, 9), (5, np.inf, 9, 9), (5, 5, np.inf, 9), (20, 5, -9, 9)])
def test_a_box_that_is_no_rectangle_is_left_out(numbers: tuple[float, ...]) -> None:
    red, green = (255, 0, 0), (0, 255, 0)
    boxes = np.array([numbers, (10, 20, 9, 9)], BOX)
    image = draw_boxes(blank(), boxes, [red, green], ["a", "b"])
    np.testing.assert_array_equal(image, draw_boxes(blank(), boxes[1:], [green], ["b"]))


def test_every_box_needs_its_colour_and_caption() -> None:
    boxes = np.zeros(2, BOX)
    with pytest.raises(ValueError, match="argument"):
        draw_boxes(blank(), boxes, [class_color(0)])
    with pytest.raises(ValueError, match="argument"):
        draw_boxes(blank(), boxes, [class_color(0)] * 2, ["one"])


def test_a_title_is_written_into_the_upper_left_corner() -> None:
    image = blank(120, 80)
    marked = (draw_title(image, "t = 1.5 s") != image).any(axis=2)
    assert marked[:20, :80].any()
    assert not marked[40:].any()
    assert not marked[:, 100:].any()


def test_classes_beyond_the_palette_start_again() -> None:
    assert class_color(0) != class_color(1)
    assert class_color(8) == class_color(0)
