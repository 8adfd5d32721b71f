# SPDX-License-Identifier: Apache-2.0
"""Compiled layers on images: convolutions with bias, sum and activation, and moves of pixels.

An image lies in a flat array of features pixel by pixel, rows one after the other, in a margin of zeros. A layer is a
list of *places*: where the features begin that a place's result is computed from, and where that result begins. Only
places are computed that something has changed for since the last time, and each of them in the same way whatever else
is: which they are does not change a bit.

A place is one pixel; or, in the minimal filtering of Winograd (Lavin & Gray, CVPR 2016, F(2 x 2, 3 x 3)), a tile of 2 x
2 pixels, for which a convolution of 3 x 3 takes 16 products per feature instead of 36.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from aegnn_core.asynchronous.compiled.convolution import elu
from aegnn_core.asynchronous.compiled.vectors import (
    REGISTER_BITS,
    load,
    multiply_add,
    multiply_rows,
    register_of,
    store,
)
from aegnn_core.machine_code import kernel

__all__ = [
    "CONVOLUTION", "IMAGE_LAYER", "MOST_AT_ONCE", "MOVE", "SUMS", "TILES", "WINOGRAD", "Places", "Workspace",
    "run_image_layers", "take_image",
]  # fmt: skip

#: Kinds of layers.
MOVE, CONVOLUTION, WINOGRAD = range(3)

#: Tiles that are transformed together: few enough to stay in the cache, enough to read every weight seldom.
TILES = 48
#: Products per tile and pair of features.
SUMS = 16
#: Pixels that are finished while they are in the cache.
_PIXELS = 48
#: Places that are multiplied together at most; lists are filled up so far.
MOST_AT_ONCE = 8

#: One layer.
IMAGE_LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "kind",
            "first",  # of its places
            "count",  # of its places
            "weight",  # in the constants: [parts, rows, outputs]
            "bias",  # in the constants: [outputs]
            "parts",  # runs of features that a place needs
            "step",  # from the beginning of a run to that of the next
            "rows",  # features in a run
            "inputs",  # floats from a pixel of the source to the next
            "outputs",  # floats that a pixel of the result gets
            "width",  # floats from a pixel of the result to the next
            "pitch",  # floats from a pixel of the result to the one below
            "skip",  # from the result to an image that is added; 0: none
            "active",  # whether ELU follows
            "side",  # of the square of pixels that a place needs
            "source_line",  # marks from a pixel of the source to the one below
            "line",  # marks from a pixel of the result to the one below
            "skip_mark",  # from the result's marks to those of the image that is added
            "corner",  # the result's first pixel
            "columns",  # of the result
            "lines",  # rows of pixels of the result
        )
    ]
)


class Places(NamedTuple):
    """The places of all layers: where they are computed from, where their results begin, and the marks of both."""

    read_at: np.ndarray
    write_at: np.ndarray
    seen_at: np.ndarray
    mark_at: np.ndarray


class Workspace(NamedTuple):
    """Lists of the places to be computed, and of tiles; tiles and their sums as Winograd transforms them."""

    read_at: np.ndarray
    write_at: np.ndarray
    tile_at: np.ndarray
    sums_at: np.ndarray
    tiles: np.ndarray
    sums: np.ndarray


@kernel(error_model="numpy")
def take_image(image, held, columns, features, first, width, pitch, marks, first_mark, line):
    """Bring an image in, and mark the pixels in which it differs from the one before.

    Args:
        image, held: ``[channels, pixels]`` the image, and the one before, which is brought up to date.
        columns: of the image.
        features, first, width, pitch: its first pixel begins there; so many floats to the next, and to the one below.
        marks, first_mark, line: the first pixel's mark, and how many marks lie to the one below.
    """
    channels, pixels = image.shape
    for row in range(pixels // columns):
        mark = marks[first_mark + row * line : first_mark + row * line + columns]
        begin, end = row * columns, (row + 1) * columns
        mark[:] = False
        for channel in range(channels):
            new, old = image[channel, begin:end], held[channel, begin:end]
            for column in range(columns):
                mark[column] |= new[column] != old[column]
        for column in range(columns):
            if mark[column]:
                at = first + row * pitch + column * width
                for channel in range(channels):
                    held[channel, begin + column] = features[at + channel] = image[channel, begin + column]


@kernel(error_model="numpy")
def _is_marked(marks, at, side, line):
    """Whether any pixel of a square is marked."""
    for row in range(side):
        for column in range(side):
            if marks[np.uintp(at + row * line + column)]:
                return True
    return False


@kernel(error_model="numpy")
def _select(layer, places, marks, workspace):
    """List the places of a layer for which something has changed, mark what they will change, and count them."""
    block = 2 if layer.kind == WINOGRAD else 1
    read_at, write_at = workspace.read_at, workspace.write_at
    count = 0
    for k in range(layer.first, layer.first + layer.count):
        mark = places.mark_at[k]
        changes = _is_marked(marks, places.seen_at[k], layer.side, layer.source_line)
        if layer.skip != 0 and not changes:
            changes = _is_marked(marks, mark + layer.skip_mark, block, layer.line)
        for row in range(block):
            for column in range(block):
                marks[mark + row * layer.line + column] = changes
        if changes:
            read_at[count], write_at[count] = places.read_at[k], places.write_at[k]
            count += 1
    for k in range(count, count + MOST_AT_ONCE if count else 0):
        read_at[k], write_at[k] = read_at[count - 1], write_at[count - 1]
    return count


@kernel(error_model="numpy")
def _multiply(out, out_at, source, source_at, first, last, parts, step, weight, weight_at, bias_at, rows, outputs):
    """Products of the rows ``first`` to ``last - 1`` of a list that is filled up, see ``multiply_rows``."""
    lanes = REGISTER_BITS // 8 // out.itemsize
    lane = 0
    while lane < outputs:
        left = (outputs - lane) // lanes
        to, at, bias = out[lane:], weight_at + lane, bias_at + lane
        if left >= 4 and left != 6:
            for k in range(first, last, 6):
                multiply_rows(to, out_at, source, source_at, k, parts, step, weight, at, bias, rows, outputs, 6, 4)
            lane += 4 * lanes
        elif left >= 3:
            for k in range(first, last, 8):
                multiply_rows(to, out_at, source, source_at, k, parts, step, weight, at, bias, rows, outputs, 8, 3)
            lane += 3 * lanes
        elif left == 2:
            for k in range(first, last, 8):
                multiply_rows(to, out_at, source, source_at, k, parts, step, weight, at, bias, rows, outputs, 8, 2)
            lane += 2 * lanes
        else:
            for k in range(first, last, 8):
                multiply_rows(to, out_at, source, source_at, k, parts, step, weight, at, bias, rows, outputs, 8, 1)
            lane += lanes


@kernel(error_model="numpy")
def _sum(a, b):
    return multiply_add(np.float32(1), a, b)


@kernel(error_model="numpy")
def _difference(a, b):
    return multiply_add(np.float32(-1), b, a)


@kernel(error_model="numpy")
def _spread(a, b, c, d):
    """One axis of the transform of a tile."""
    return _difference(a, c), _sum(b, c), _difference(c, b), _difference(b, d)


@kernel(error_model="numpy")
def _gather(a, b, c, d):
    """One axis of the transform of a tile's sums."""
    return _sum(_sum(a, b), c), _difference(_difference(b, c), d)


@kernel(error_model="numpy")
def _load_apart(source, at, apart, like):
    return (
        load(source, at, like),
        load(source, at + apart, like),
        load(source, at + 2 * apart, like),
        load(source, at + 3 * apart, like),
    )


@kernel(error_model="numpy")
def _store_apart(target, at, apart, values):
    store(target, at, values[0])
    store(target, at + apart, values[1])
    store(target, at + 2 * apart, values[2])
    store(target, at + 3 * apart, values[3])


@kernel(error_model="numpy")
def _transform_tile(source, at, width, pitch, target, to, apart, like):
    """Transform 4 x 4 pixels that begin at ``source[at]``; the results lie ``apart`` from ``target[to]`` on."""
    for c in range(0, width, REGISTER_BITS // 8 // source.itemsize):
        a = _spread(*_load_apart(source, at + c, width, like))
        b = _spread(*_load_apart(source, at + c + pitch, width, like))
        d = _spread(*_load_apart(source, at + c + 2 * pitch, width, like))
        e = _spread(*_load_apart(source, at + c + 3 * pitch, width, like))
        _store_apart(target, to + c, 4 * apart, _spread(a[0], b[0], d[0], e[0]))
        _store_apart(target, to + c + apart, 4 * apart, _spread(a[1], b[1], d[1], e[1]))
        _store_apart(target, to + c + 2 * apart, 4 * apart, _spread(a[2], b[2], d[2], e[2]))
        _store_apart(target, to + c + 3 * apart, 4 * apart, _spread(a[3], b[3], d[3], e[3]))


@kernel(error_model="numpy")
def _transform_sums(sums, at, apart, constants, bias, outputs, target, to, width, pitch, like):
    """Write the 2 x 2 pixels to which 16 sums belong, with their bias."""
    for c in range(0, outputs, REGISTER_BITS // 8 // sums.itemsize):
        a = _gather(*_load_apart(sums, at + c, apart, like))
        b = _gather(*_load_apart(sums, at + c + 4 * apart, apart, like))
        d = _gather(*_load_apart(sums, at + c + 8 * apart, apart, like))
        e = _gather(*_load_apart(sums, at + c + 12 * apart, apart, like))
        own = load(constants, bias + c, like)
        left, right = _gather(a[0], b[0], d[0], e[0]), _gather(a[1], b[1], d[1], e[1])
        store(target, to + c, _sum(left[0], own))
        store(target, to + c + width, _sum(right[0], own))
        store(target, to + c + pitch, _sum(left[1], own))
        store(target, to + c + pitch + width, _sum(right[1], own))


@kernel(error_model="numpy")
def _convolve_tiles(layer, features, constants, count, workspace):
    """The convolution of the tiles that are listed, without what follows."""
    tiles, sums = workspace.tiles, workspace.sums
    inputs, outputs = layer.inputs, layer.outputs
    like = register_of(features)
    # Not a multiple of what the cache has for the same place.
    apart = TILES + 1
    for k in range(TILES + MOST_AT_ONCE):
        workspace.tile_at[k] = min(k, TILES - 1) * inputs
        workspace.sums_at[k] = min(k, TILES - 1) * outputs
    for start in range(0, count, TILES):
        together = min(TILES, count - start)
        for k in range(together):
            _transform_tile(
                features, workspace.read_at[start + k], inputs, layer.step, tiles, k * inputs, apart * inputs, like
            )
        for n in range(SUMS):
            _multiply(
                sums[n * apart * outputs :], workspace.sums_at, tiles[n * apart * inputs :], workspace.tile_at, 0,
                together, 1, 0, constants, layer.weight + n * inputs * outputs, 0, inputs, outputs,
            )  # fmt: skip
        for k in range(together):
            _transform_sums(
                sums, k * outputs, apart * outputs, constants, layer.bias, outputs, features,
                workspace.write_at[start + k], layer.width, layer.pitch, like,
            )  # fmt: skip


@kernel(error_model="numpy")
def _finish(features, at, length, skip, active):
    """What follows a convolution, for so many of its results."""
    row = features[at : at + length]
    if skip != 0:
        other = features[at + skip : at + skip + length]
        for c in range(length):
            row[c] += other[c]
    if active:
        for c in range(length):
            row[c] = elu(row[c])


@kernel(error_model="numpy")
def _convolve_pixels(layer, features, constants, count, workspace):
    """A convolution of the pixels that are listed."""
    read_at, write_at = workspace.read_at, workspace.write_at
    outputs = layer.outputs
    for start in range(0, count, _PIXELS):
        last = min(start + _PIXELS, count)
        _multiply(
            features, write_at, features, read_at, start, last, layer.parts, layer.step, constants, layer.weight,
            layer.bias, layer.rows, outputs,
        )  # fmt: skip
        k = start
        while k < last:
            # Pixels that lie side by side are one row.
            length = outputs
            while k + 1 < last and write_at[k + 1] == write_at[k] + outputs:
                length += outputs
                k += 1
            k += 1
            _finish(features, write_at[k - 1] + outputs - length, length, layer.skip, layer.active)


@kernel(error_model="numpy")
def _finish_tiles(layer, features, count, write_at):
    for k in range(count):
        for row in range(2):
            _finish(features, write_at[k] + row * layer.pitch, 2 * layer.outputs, layer.skip, layer.active)
    # The tiles may be larger than the image: its margin is to be zeros again.
    if layer.columns % 2:
        for row in range(layer.lines):
            at = layer.corner + row * layer.pitch + layer.columns * layer.width
            features[at : at + layer.width] = 0
    if layer.lines % 2:
        at = layer.corner + layer.lines * layer.pitch
        features[at : at + (layer.columns + 1) * layer.width] = 0


@kernel(error_model="numpy")
def run_image_layers(layers, features, constants, places, marks, workspace, computed):
    """Bring images up to date one after the other.

    Args:
        layers: records of :data:`IMAGE_LAYER`, in the order in which they are to be run.
        features: of all images.
        constants: weights and biases, behind as many zeros as the widest layer has outputs.
        places: of all layers.
        marks: of the pixels of all images, whether they have changed.
        workspace: memory for intermediate results.
        computed: output, ``[layers]`` how many places were computed.
    """
    for n in range(len(layers)):
        layer = layers[n]
        count = _select(layer, places, marks, workspace)
        computed[n] = count
        if layer.kind == WINOGRAD:
            _convolve_tiles(layer, features, constants, count, workspace)
            _finish_tiles(layer, features, count, workspace.write_at)
        elif layer.kind == CONVOLUTION:
            _convolve_pixels(layer, features, constants, count, workspace)
        else:
            for k in range(count):
                at, to = workspace.read_at[k], workspace.write_at[k]
                for c in range(layer.outputs):
                    features[to + c] = features[at + c]
                if layer.skip != 0 or layer.active:
                    _finish(features, to, layer.outputs, layer.skip, layer.active)
