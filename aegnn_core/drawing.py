# SPDX-License-Identifier: Apache-2.0
"""Pictures of events, boxes and class names, as RGB arrays that a ROS image or a PNG file can carry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["EventSurface", "box_captions", "class_color", "class_name", "draw_boxes", "draw_moment", "draw_title"]

Color = tuple[int, int, int]

BACKGROUND: Color = (20, 24, 34)
OFF_COLOR: Color = (64, 120, 200)
ON_COLOR: Color = (238, 241, 248)

#: Colours of the first classes; more classes than colours start again from the first.
CLASS_COLORS: tuple[Color, ...] = (
    (255, 159, 28),
    (46, 230, 148),
    (255, 92, 138),
    (255, 233, 94),
    (174, 129, 255),
    (77, 225, 255),
    (255, 112, 67),
    (190, 242, 100),
)

#: Share of its colour that an event still has just before it leaves the picture.
_OLDEST_SHARE = 0.25

#: Earlier than any sensor time: a pixel that has had no event yet.
_NEVER = np.iinfo(np.int64).min // 2


class EventSurface:
    """The last event of every pixel, from which a picture of the present can be drawn; memory is that of one image.

    Args:
        width: sensor width [px].
        height: sensor height [px].
    """

    def __init__(self, width: int, height: int) -> None:
        self._time = np.full((height, width), _NEVER, np.int64)
        self._polarity = np.zeros((height, width), np.uint8)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height [px]."""
        height, width = self._time.shape
        return width, height

    def update(self, events: np.ndarray) -> None:
        """Remember ``events``: structured array ``[N]`` with t [µs], x, y [px], p, in time order and on this sensor."""
        # NumPy assigns repeated indices in order, so the most recent event of a pixel stays.
        self._time[events["y"], events["x"]] = events["t"]
        self._polarity[events["y"], events["x"]] = events["p"] > 0

    def image(self, time: int, duration: int) -> np.ndarray:
        """The events younger than ``duration`` [µs] at sensor time ``time`` [µs], older ones darker.

        Returns:
            uint8 RGB array ``[height, width, 3]``.
        """
        age = time - self._time
        shown = (age >= 0) & (age < duration)
        share = 1.0 - (1.0 - _OLDEST_SHARE) * age[shown, None] / duration
        color = np.where(self._polarity[shown, None] > 0, ON_COLOR, OFF_COLOR)
        image = np.empty((*age.shape, 3), np.uint8)
        image[:] = BACKGROUND
        image[shown] = np.rint(BACKGROUND + share * (color - np.array(BACKGROUND)))
        return image


def class_color(class_id: int) -> Color:
    """The colour in which everything about a class is drawn."""
    return CLASS_COLORS[class_id % len(CLASS_COLORS)]


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    colors: Sequence[Color],
    captions: Sequence[str] = (),
    *,
    line_width: int = 2,
    font_size: int = 12,
) -> np.ndarray:
    """Draw rectangles and, where there are any, captions above them.

    Args:
        image: uint8 RGB array ``[H, W, 3]``; it is left as it is.
        boxes: structured array ``[N]`` with fields x, y (upper left corner), w, h, all in pixels of ``image``. Those
            that are no rectangles, with infinite or negative numbers in a label, are left out.
        colors: one per box.
        captions: one per box, or none at all.
        line_width: of the rectangle [px].
        font_size: of the captions [px].

    Returns:
        A new array like ``image``.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for box, color in zip(boxes, colors, strict=True):
        if _is_rectangle(box):
            left, top = float(box["x"]), float(box["y"])
            draw.rectangle((left, top, left + float(box["w"]), top + float(box["h"])), outline=color, width=line_width)
    if captions:
        # After all rectangles, so that no line crosses a text.
        for box, color, caption in zip(boxes, colors, captions, strict=True):
            if _is_rectangle(box):
                _paste_caption(picture, _tag(caption, color, font_size), float(box["x"]), float(box["y"]))
    return np.asarray(picture)


def _is_rectangle(box: np.void) -> bool:
    return all(math.isfinite(box[name]) for name in "xywh") and box["w"] >= 0 and box["h"] >= 0


def draw_title(image: np.ndarray, text: str, color: Color = ON_COLOR, *, font_size: int = 12) -> np.ndarray:
    """Write ``text`` into the upper left corner of a uint8 RGB array ``[H, W, 3]``; returns a new array."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(font_size)
    left, top, right, bottom = font.getbbox(text)
    margin = font_size // 3
    draw.rectangle((0, 0, math.ceil(right - left) + 2 * margin, math.ceil(bottom - top) + 2 * margin), fill=BACKGROUND)
    draw.text((margin - left, margin - top), text, fill=color, font=font)
    return np.asarray(picture)


def draw_moment(
    image: np.ndarray,
    title: str,
    labels: Sequence[str],
    *,
    boxes: np.ndarray,
    truth: np.ndarray | None = None,
    scale: int = 1,
    font_size: int = 15,
) -> np.ndarray:
    """Draw one moment of a recording: its events, true boxes thin and white, and coloured ones with captions.

    Args:
        image: of the events, uint8 RGB array ``[H, W, 3]``.
        title: for the upper left corner.
        labels: names of the classes.
        boxes: structured array ``[N]`` with fields x, y, w, h [px], class_id and, of a model's answers, score.
        truth: the same without score; None where nobody knows.
        scale: pixels of the picture per pixel of the image.
        font_size: of title and captions [px].

    Returns:
        uint8 RGB array ``[scale * H, scale * W, 3]``.
    """
    picture = draw_title(image.repeat(scale, 0).repeat(scale, 1), title, font_size=font_size)
    if truth is not None:
        picture = draw_boxes(picture, _scaled(truth, scale), [ON_COLOR] * len(truth), line_width=1)
    colors = [class_color(class_id) for class_id in boxes["class_id"]]
    return draw_boxes(picture, _scaled(boxes, scale), colors, box_captions(labels, boxes), font_size=font_size)


def class_name(labels: Sequence[str], class_id: int) -> str:
    """The name of a class, or its number where nobody says the name."""
    return labels[class_id] if class_id < len(labels) else f"class {class_id}"


def box_captions(labels: Sequence[str], boxes: np.ndarray) -> list[str]:
    """The class of every box ``[N]`` by name, and of a model's answers the score."""
    captions = [class_name(labels, class_id) for class_id in boxes["class_id"]]
    if "score" not in (boxes.dtype.names or ()):
        return captions
    return [f"{caption} {score:.2f}" for caption, score in zip(captions, boxes["score"], strict=True)]


def _scaled(boxes: np.ndarray, scale: int) -> np.ndarray:
    scaled = boxes.copy()
    for name in "xywh":
        scaled[name] *= scale
    return scaled


@lru_cache(maxsize=1024)
def _tag(caption: str, color: Color, font_size: int) -> Image.Image:
    """A filled tag with dark text; cached, because a stream of detections repeats the same few."""
    font = ImageFont.load_default(font_size)
    ascent, descent = font.getmetrics()  # type: ignore[union-attr]  # a FreeType font, because a size was given
    tag = Image.new("RGB", (math.ceil(font.getlength(caption)) + 4, ascent + descent), color)
    ImageDraw.Draw(tag).text((2, 0), caption, fill=BACKGROUND, font=font)
    return tag


def _paste_caption(picture: Image.Image, tag: Image.Image, left: float, top: float) -> None:
    """Put a tag on the upper edge of a box; inside the box where the image ends above it."""
    column = max(0, min(round(left), picture.width - tag.width))
    row = round(top) - tag.height if top >= tag.height else max(0, round(top))
    picture.paste(tag, (column, row))
