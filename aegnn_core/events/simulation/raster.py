# SPDX-License-Identifier: Apache-2.0
"""Anti-aliased rendering of rounded polygons and a moving backdrop into a log intensity image."""

from __future__ import annotations

import math

import numpy as np

from aegnn_core.machine_code import kernel

__all__ = ["OPACITY", "SOLID", "TEXTURE", "TEXTURE_GAIN", "TONE", "fill_backdrop", "paint_polygons"]

#: Columns of a style array ``[P, 5]``: log intensity, how much of it covers what is behind (0 to 1), texture index,
#: standard deviation of the texture [log intensity], and 1 where the polygon belongs to its owner's silhouette.
TONE, OPACITY, TEXTURE, TEXTURE_GAIN, SOLID = range(5)


@kernel
def fill_backdrop(image, tile, affine):
    """Fill ``image [H, W]`` with a periodic ``tile [h, w]``, sampled at ``affine [2, 3] @ (x, y, 1)`` [texel]."""
    height, width = image.shape
    tile_height, tile_width = tile.shape
    for y in range(height):
        for x in range(width):
            u = affine[0, 0] * x + affine[0, 1] * y + affine[0, 2]
            v = affine[1, 0] * x + affine[1, 1] * y + affine[1, 2]
            image[y, x] = _sample(tile, u, v, tile_height, tile_width)


@kernel
def paint_polygons(image, owner, vertices, starts, styles, owners, frames, textures):
    """Paint rounded polygons in order, each over what is there, with coverage from the distance to the outline.

    A polygon with one vertex is a disc, one with two a capsule. Each vertex has a radius by which the outline
    is grown; along an edge it changes linearly.

    Args:
        image: log intensity ``[H, W]`` float32, painted in place.
        owner: owner of each pixel ``[H, W]`` int32; set where a solid polygon covers at least half of it.
        vertices: x, y, radius ``[V, 3]`` [px].
        starts: first vertex of each polygon and the end ``[P + 1]``.
        styles: ``[P, 5]``, see :data:`TONE` and following.
        owners: ``[P]`` int32.
        frames: texture coordinates ``[P, 2, 3]`` of a pixel: ``frames[p] @ (x, y, 1)`` [texel].
        textures: periodic tiles ``[K, S, S]``, zero mean and unit deviation.
    """
    height, width = image.shape
    size = textures.shape[1]
    for k in range(len(starts) - 1):
        first, last = starts[k], starts[k + 1]
        left, right, top, bottom = 1e9, -1e9, 1e9, -1e9
        for i in range(first, last):
            radius = vertices[i, 2]
            left = min(left, vertices[i, 0] - radius)
            right = max(right, vertices[i, 0] + radius)
            top = min(top, vertices[i, 1] - radius)
            bottom = max(bottom, vertices[i, 1] + radius)
        x0, x1 = max(0, math.floor(left)), min(width - 1, math.ceil(right))
        y0, y1 = max(0, math.floor(top)), min(height - 1, math.ceil(bottom))
        tone, opacity, gain = styles[k, 0], styles[k, 1], styles[k, 3]
        tile = textures[int(styles[k, 2])]
        solid = styles[k, 4] > 0
        # What is thinner than a pixel covers a part of it only.
        thickness = min(1.0, right - left) * min(1.0, bottom - top)
        if last - first == 2:
            thickness = min(1.0, vertices[first, 2] + vertices[first + 1, 2])
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                covered = min(max(0.5 - _distance(vertices, first, last, x, y), 0.0), thickness)
                if covered <= 0.0:
                    continue
                value = tone
                if gain > 0.0:
                    u = frames[k, 0, 0] * x + frames[k, 0, 1] * y + frames[k, 0, 2]
                    v = frames[k, 1, 0] * x + frames[k, 1, 1] * y + frames[k, 1, 2]
                    value += gain * _sample(tile, u, v, size, size)
                image[y, x] += covered * opacity * (value - image[y, x])
                if solid and covered >= 0.5:
                    owner[y, x] = owners[k]


@kernel
def _distance(vertices, first, last, x, y):
    """Signed distance [px] of a point from the grown outline; negative inside."""
    inside = False
    nearest = 1e9
    reach = 0.0
    j = last - 1
    for i in range(first, last):
        xi, yi = vertices[i, 0], vertices[i, 1]
        xj, yj = vertices[j, 0], vertices[j, 1]
        ex, ey = xi - xj, yi - yj
        length = ex * ex + ey * ey
        along = 0.0
        if length > 0.0:
            along = min(max(((x - xj) * ex + (y - yj) * ey) / length, 0.0), 1.0)
        dx, dy = x - xj - along * ex, y - yj - along * ey
        radius = vertices[j, 2] + along * (vertices[i, 2] - vertices[j, 2])
        distance = math.sqrt(dx * dx + dy * dy)
        if distance - radius < nearest - reach:
            nearest, reach = distance, radius
        if (yi > y) != (yj > y) and x < xj + (y - yj) * ex / ey:
            inside = not inside
        j = i
    return -nearest - reach if inside else nearest - reach


@kernel
def _sample(tile, u, v, height, width):
    """Bilinear value of a periodic tile at column u, row v [texel]."""
    left, top = math.floor(u), math.floor(v)
    a, b = u - left, v - top
    x0, y0 = int(left) % width, int(top) % height
    x1 = x0 + 1 if x0 + 1 < width else 0
    y1 = y0 + 1 if y0 + 1 < height else 0
    upper = tile[y0, x0] + a * (tile[y0, x1] - tile[y0, x0])
    lower = tile[y1, x0] + a * (tile[y1, x1] - tile[y1, x0])
    return np.float32(upper + b * (lower - upper))
