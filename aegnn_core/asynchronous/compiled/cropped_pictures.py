# SPDX-License-Identifier: Apache-2.0
"""The pictures that cropped heads cut out of one image, in compiled code.

They do what :meth:`aegnn_core.nn.cropped_head.CroppedHead.picture` does in evaluation mode, to rounding. Where nothing
happened, the image is 0, and nothing is computed; a cell of a picture looks only at the few pixels of its triangle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aegnn_core.machine_code import kernel
from aegnn_core.nn.cropped_head import CROP_OF, CroppedHead

__all__ = ["Pictures"]

_COUNTS, _OCCURRENCE, _RECENCY = range(len(CROP_OF))


class Pictures:
    """What several cropped heads see of one image after the other.

    Args:
        heads: that look at the same image.
        shape: channels, rows and columns of the image.
        dtype: of the image and the pictures.

    Attributes:
        shapes: channels, rows and columns of every picture.
        flops: of the last pictures.
    """

    def __init__(self, heads: Sequence[CroppedHead], shape: tuple[int, int, int], dtype: type) -> None:
        channels, rows, columns = shape
        self.flops = 0
        self.shapes = [(channels if head.of == "counts" else 2, head.rows, head.columns) for head in heads]
        self._ways = [(CROP_OF.index(head.of), head.cell or 0.0) for head in heads]
        self._values: np.ndarray = np.empty((rows, columns, 2), dtype)
        self._between: list[np.ndarray] = [np.empty((height, columns, seen), dtype) for seen, height, _ in self.shapes]

    def take(self, image: np.ndarray, pictures: Sequence[np.ndarray]) -> None:
        """Write what every head sees of ``image [rows, columns, channels]`` into its array."""
        extent = _extent(image)
        self.flops = 0
        for way, (channels, rows, columns), between, picture in zip(
            self._ways, self.shapes, self._between, pictures, strict=True
        ):
            picture = picture.reshape(rows, columns, channels)
            self.flops += _take_picture(image, extent, *way, self._values, between, picture)


@kernel(error_model="numpy")
def _extent(image):
    """First and last row, first and last column with anything else than zeros; all of them where nothing is."""
    rows, columns, channels = image.shape
    top, bottom, left, right = rows, -1, columns, -1
    for row in range(rows):
        line = image[row].reshape(columns * channels)
        begin = 0
        while begin < len(line) and line[begin] == 0:
            begin += 1
        if begin == len(line):
            continue
        end = len(line) - 1
        while line[end] == 0:
            end -= 1
        top, bottom = min(top, row), row
        left, right = min(left, begin // channels), max(right, end // channels)
    if bottom < 0:
        return 0, rows - 1, 0, columns - 1
    return top, bottom, left, right


@kernel(error_model="numpy")
def _make_values(image, extent, of, values):
    """Write what a picture of occurrence or recency is made of, pixel by pixel, where there is anything."""
    top, bottom, left, right = extent
    parts = image.shape[2] // 2
    for row in range(top, bottom + 1):
        for column in range(left, right + 1):
            for polarity in range(2):
                part = 0
                while part < parts and image[row, column, 2 * part + polarity] == 0:
                    part += 1
                value = 0.0
                if part < parts:
                    value = math.exp(-part) if of == _RECENCY else 1.0
                values[row, column, polarity] = value


@kernel(error_model="numpy")
def _taps(cell, cells, first, last, side):
    """The pixels that a cell of a picture looks at, and its middle and the width of its triangle.

    Args:
        cell, cells: its number, and how many there are along the axis.
        first, last: of the pixels with anything, along the axis.
        side: pixels that a cell takes; 0: as many as make them fill the picture.
    """
    step = side if side > 0 else (last - first + 1) / cells
    middle = (first + last) / 2 + (cell + 0.5 - cells / 2) * step
    width = max(step, 1.0)
    return max(first, math.ceil(middle - width)), min(last, math.floor(middle + width)), middle, width


@kernel(error_model="numpy")
def _take_picture(image, extent, of, side, values, between, picture):
    """Write a picture: rows are resampled into ``between``, then columns; and it is divided by its own mean.

    Returns:
        FLOPs.
    """
    top, bottom, left, right = extent
    if of != _COUNTS:
        _make_values(image, extent, of, values)
    seen = image if of == _COUNTS else values
    rows, columns, channels = picture.shape
    length = (right - left + 1) * channels
    products = 0
    for row in range(rows):
        line = between[row, left : right + 1].reshape(length)
        line[:] = 0
        begin, end, middle, width = _taps(row, rows, top, bottom, side)
        products += max(end + 1 - begin, 0) * length
        for pixel in range(begin, end + 1):
            weight = picture.dtype.type((1 - abs(pixel - middle) / width) / width)
            other = seen[pixel, left : right + 1].reshape(length)
            for n in range(length):
                line[n] += weight * other[n]
    total = 0.0
    picture[:] = 0
    for column in range(columns):
        begin, end, middle, width = _taps(column, columns, left, right, side)
        products += max(end + 1 - begin, 0) * rows * channels
        for pixel in range(begin, end + 1):
            weight = picture.dtype.type((1 - abs(pixel - middle) / width) / width)
            for row in range(rows):
                for channel in range(channels):
                    picture[row, column, channel] += weight * between[row, pixel, channel]
    for row in range(rows):
        for value in picture[row].reshape(columns * channels):
            total += value
    divisor = picture.dtype.type(5 * total / picture.size + 1e-3)
    for row in range(rows):
        line = picture[row].reshape(columns * channels)
        for n in range(columns * channels):
            line[n] /= divisor
    return 2 * (products + picture.size)
