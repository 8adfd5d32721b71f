# SPDX-License-Identifier: Apache-2.0
"""The demo's picture: moments of a recording with what the detector found and, where known, what was there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from aegnn_core.drawing import BACKGROUND, ON_COLOR, EventSurface, class_color, draw_moment
from aegnn_core.events.array import EventStream

__all__ = ["Moment", "draw_moments"]

_COLUMNS = 3
_PANEL_WIDTH = 480
_GAP = 8
_FONT_SIZE = 15
#: How long an event is to be seen [µs].
_EVENTS_US = 40_000


@dataclass(frozen=True)
class Moment:
    """One time in a recording.

    Attributes:
        time: sensor time [µs].
        predicted: ``DETECTION_DTYPE [N]``.
        truth: boxes with x, y, w, h, class_id; None where nobody knows.
    """

    time: int
    predicted: np.ndarray
    truth: np.ndarray | None


def draw_moments(stream: EventStream, moments: Sequence[Moment], labels: Sequence[str]) -> np.ndarray:
    """Draw moments side by side, three in a row, with a legend below.

    Returns:
        uint8 RGB array ``[H, W, 3]``.
    """
    panels = [_draw_panel(stream, moment, labels) for moment in moments]
    height, width, _ = panels[0].shape
    columns, rows = min(_COLUMNS, len(panels)), -(-len(panels) // _COLUMNS)
    legend_height = 2 * _FONT_SIZE
    picture = np.empty((rows * (height + _GAP) + legend_height + _GAP, columns * (width + _GAP) + _GAP, 3), np.uint8)
    picture[:] = np.array(BACKGROUND) // 2
    for k, panel in enumerate(panels):
        top, left = k // columns * (height + _GAP) + _GAP, k % columns * (width + _GAP) + _GAP
        picture[top : top + height, left : left + width] = panel
    return _draw_legend(picture, labels, any(moment.truth is not None for moment in moments))


def _draw_panel(stream: EventStream, moment: Moment, labels: Sequence[str]) -> np.ndarray:
    t = stream.events["t"]
    first, last = np.searchsorted(t, [moment.time - _EVENTS_US, moment.time + 1])
    surface = EventSurface(stream.width, stream.height)
    surface.update(stream.events[first:last])
    return draw_moment(
        surface.image(moment.time, _EVENTS_US),
        f"{(moment.time - int(t[0])) / 1e6:.2f} s",
        labels,
        boxes=moment.predicted,
        truth=moment.truth,
        scale=max(1, _PANEL_WIDTH // stream.width),
        font_size=_FONT_SIZE,
    )


def _draw_legend(picture: np.ndarray, labels: Sequence[str], truth: bool) -> np.ndarray:
    """Explain the colours of the boxes in the free stripe at the bottom."""
    entries = [(f"detected {label}", class_color(k), 3) for k, label in enumerate(labels)]
    if truth:
        entries.append(("true box", ON_COLOR, 1))
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(_FONT_SIZE)
    left, top = 2 * _GAP, canvas.height - 2 * _FONT_SIZE
    for text, color, line_width in entries:
        draw.rectangle((left, top, left + 2 * _FONT_SIZE, top + _FONT_SIZE), outline=color, width=line_width)
        left += 2 * _FONT_SIZE + _GAP
        draw.text((left, top - 2), text, fill=ON_COLOR, font=font)
        left += int(font.getlength(text)) + 4 * _GAP
    return np.asarray(canvas)
