# SPDX-License-Identifier: Apache-2.0
"""Compiled layers on images: convolutions with bias, sum and activation, and moves of pixels.

An image lies in a flat array of features pixel by pixel, rows one after the other, in a margin of zeros. A layer is a
list of *places*: where the features begin that a place's result is computed from, and where that result begins. Only
places are computed that something has changed for since the last time, and each of them in the same way whatever else
is: which they are does not change a bit.

A place is one pixel; or, in the minimal filtering of Winograd (Lavin & Gray, CVPR 2016), a tile of 2 x 2 or 4 x 4
pixels. For these, a convolution of 3 x 3 takes 16 products per feature instead of 36, or 36 instead of 144. The larger
tiles have more weights to be read, and in float32 err by 2e-6 of the largest value, eight times as much as plain sums.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from aegnn_core.asynchronous.compiled.convolution import elu, elu_of_vector
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
    "CONVOLUTION", "IMAGE_LAYER", "LARGE_TILES", "MOST_AT_ONCE", "MOVE", "SMALL_TILES", "TILES_AT_ONCE",
    "TILE_POINT", "Places", "Workspace", "run_image_layers", "take_image",
]  # fmt: skip

#: Kinds of layers: tiles are of 2 x 2 or 4 x 4 pixels.
MOVE, CONVOLUTION, SMALL_TILES, LARGE_TILES = range(4)

#: Tiles of a kind that are transformed together: few enough to stay in the cache, enough to read every weight seldom.
TILES_AT_ONCE = {SMALL_TILES: 48, LARGE_TILES: 20}
_SMALL_AT_ONCE, _LARGE_AT_ONCE = TILES_AT_ONCE[SMALL_TILES], TILES_AT_ONCE[LARGE_TILES]
#: The scheme for large tiles multiplies polynomials at 0, these, their negatives and infinity. With these, errors are a
#: quarter of those with the usual 1 and 2, and all factors are exact.
TILE_POINT = (0.75, 1.5)
_P1, _Q1 = (np.float32(point) for point in TILE_POINT)
_P2, _Q2, _P3, _Q3 = (np.float32(point**power) for power in (2, 3) for point in TILE_POINT)
_PRODUCT, _TOTAL = np.float32(_P2 * _Q2), np.float32(_P2 + _Q2)
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
            "block",  # side of the square of pixels that a place is
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
def take_image(image, held, is_new, columns, features, first, pitch, marks, first_mark, line):
    """Bring an image in, and mark the pixels in which it differs from the one before.

    Args:
        image, held: ``[pixels, channels]`` the image, and the one before, which is brought up to date; their bits.
        is_new: there is none before, or nobody knows what has become of it.
        columns: of the image.
        features, first, pitch: its first pixel begins there; so many floats to the one below. Their bits, too.
        marks, first_mark, line: the first pixel's mark, and how many marks lie to the one below.
    """
    pixels, channels = image.shape
    for row in range(pixels // columns):
        mark = marks[first_mark + row * line : first_mark + row * line + columns]
        for column in range(columns):
            pixel = row * columns + column
            difference = image[pixel, 0] ^ held[pixel, 0]
            for channel in range(1, channels):
                difference |= image[pixel, channel] ^ held[pixel, channel]
            mark[column] = is_new or difference != 0
            if mark[column]:
                at = first + row * pitch + column * channels
                for channel in range(channels):
                    held[pixel, channel] = features[at + channel] = image[pixel, channel]


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
    block = layer.block
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
def _even_share(count, most):
    """How many there are in each of as few equal parts as possible, if at most ``most`` may be in one."""
    parts = (count + most - 1) // most
    return (count + parts - 1) // parts


@kernel(error_model="numpy")
def _multiply(out, out_at, source, source_at, first, last, parts, step, weight, weight_at, bias_at, rows, outputs):
    """Products of the rows ``first`` to ``last - 1`` of a list that is filled up, see ``multiply_rows``."""
    lanes = REGISTER_BITS // 8 // out.itemsize
    lane = 0
    while lane < outputs:
        left = (outputs - lane) // lanes
        to, at, bias = out[lane:], weight_at + lane, bias_at + lane
        # As few more than there are as possible are multiplied.
        if left >= 4 and left != 6:
            if _even_share(last - first, 6) == 6:
                for k in range(first, last, 6):
                    multiply_rows(to, out_at, source, source_at, k, parts, step, weight, at, bias, rows, outputs, 6, 4)
            else:
                for k in range(first, last, 5):
                    multiply_rows(to, out_at, source, source_at, k, parts, step, weight, at, bias, rows, outputs, 5, 4)
            lane += 4 * lanes
        elif left >= 3:
            if _even_share(last - first, 8) == 8:
                for k in range(first, last, 8):
                    multiply_rows(to, out_at, source, source_at, k, parts, step, weight, at, bias, rows, outputs, 8, 3)
            else:
                for k in range(first, last, 7):
                    multiply_rows(to, out_at, source, source_at, k, parts, step, weight, at, bias, rows, outputs, 7, 3)
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
def _scaled(factor, a, b):
    return multiply_add(np.float32(factor), a, b)


@kernel(error_model="numpy")
def _spread(a, b, c, d):
    """One axis of the transform of a small tile's pixels."""
    return _difference(a, c), _sum(b, c), _difference(c, b), _difference(b, d)


@kernel(error_model="numpy")
def _gather(a, b, c, d):
    """One axis of the transform of a small tile's sums."""
    return _sum(_sum(a, b), c), _difference(_difference(b, c), d)


@kernel(error_model="numpy")
def _spread_large(a, b, c, d, e, f):
    """One axis of the transform of a large tile's pixels."""
    even_q, odd_q = _scaled(-_Q2, c, e), _scaled(-_Q2, b, d)
    even_p, odd_p = _scaled(-_P2, c, e), _scaled(-_P2, b, d)
    return (
        _scaled(_PRODUCT, a, _scaled(-_TOTAL, c, e)),
        _scaled(_P1, odd_q, even_q),
        _scaled(-_P1, odd_q, even_q),
        _scaled(_Q1, odd_p, even_p),
        _scaled(-_Q1, odd_p, even_p),
        _scaled(_PRODUCT, b, _scaled(-_TOTAL, d, f)),
    )


@kernel(error_model="numpy")
def _gather_large(a, b, c, d, e, f):
    """One axis of the transform of a large tile's sums."""
    sum_p, difference_p, sum_q, difference_q = _sum(b, c), _difference(b, c), _sum(d, e), _difference(d, e)
    zero = _difference(a, a)
    return (
        _sum(_sum(a, sum_p), sum_q),
        _scaled(_P1, difference_p, _scaled(_Q1, difference_q, zero)),
        _scaled(_P2, sum_p, _scaled(_Q2, sum_q, zero)),
        _scaled(_P3, difference_p, _scaled(_Q3, difference_q, f)),
    )


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
def _load_six(source, at, apart, like):
    a, b, c, d = _load_apart(source, at, apart, like)
    return a, b, c, d, load(source, at + 4 * apart, like), load(source, at + 5 * apart, like)


@kernel(error_model="numpy")
def _store_six(target, at, apart, values):
    _store_apart(target, at, apart, values[:4])
    store(target, at + 4 * apart, values[4])
    store(target, at + 5 * apart, values[5])


@kernel(error_model="numpy")
def _transform_small(source, at, width, pitch, target, to, apart, like):
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
def _transform_large(source, at, width, pitch, target, to, apart, like):
    """Transform 6 x 6 pixels, as ``_transform_small`` does 4 x 4: at first by columns, then by rows."""
    for c in range(0, width, REGISTER_BITS // 8 // source.itemsize):
        for column in range(6):
            values = _spread_large(*_load_six(source, at + c + column * width, pitch, like))
            _store_six(target, to + c + column * apart, 6 * apart, values)
        for row in range(6):
            values = _spread_large(*_load_six(target, to + c + 6 * row * apart, apart, like))
            _store_six(target, to + c + 6 * row * apart, apart, values)


@kernel(error_model="numpy")
def _gather_small_tile(sums, at, apart, constants, bias, outputs, target, to, width, pitch, like):
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
def _gather_large_tile(sums, at, apart, constants, bias, outputs, target, to, width, pitch, like):
    """Write the 4 x 4 pixels to which 36 sums belong, with their bias."""
    for c in range(0, outputs, REGISTER_BITS // 8 // sums.itemsize):
        for column in range(6):
            values = _gather_large(*_load_six(sums, at + c + column * apart, 6 * apart, like))
            _store_apart(sums, at + c + column * apart, 6 * apart, values)
        own = load(constants, bias + c, like)
        for row in range(4):
            values = _gather_large(*_load_six(sums, at + c + 6 * row * apart, apart, like))
            pixel = to + c + row * pitch
            store(target, pixel, _sum(values[0], own))
            store(target, pixel + width, _sum(values[1], own))
            store(target, pixel + 2 * width, _sum(values[2], own))
            store(target, pixel + 3 * width, _sum(values[3], own))


@kernel(error_model="numpy")
def _convolve_tiles(layer, features, constants, count, workspace):
    """The convolution of the tiles that are listed, without what follows."""
    tiles, sums = workspace.tiles, workspace.sums
    inputs, outputs = layer.inputs, layer.outputs
    like = register_of(features)
    is_large = layer.kind == LARGE_TILES
    at_once = _LARGE_AT_ONCE if is_large else _SMALL_AT_ONCE
    # Not a multiple of what the cache has for the same place.
    apart = at_once + 1
    for k in range(at_once + MOST_AT_ONCE):
        workspace.tile_at[k] = min(k, at_once - 1) * inputs
        workspace.sums_at[k] = min(k, at_once - 1) * outputs
    for start in range(0, count, at_once):
        together = min(at_once, count - start)
        for k in range(together):
            at, to = workspace.read_at[start + k], k * inputs
            if is_large:
                _transform_large(features, at, inputs, layer.step, tiles, to, apart * inputs, like)
            else:
                _transform_small(features, at, inputs, layer.step, tiles, to, apart * inputs, like)
        for n in range(layer.side**2):
            _multiply(
                sums[n * apart * outputs :], workspace.sums_at, tiles[n * apart * inputs :], workspace.tile_at, 0,
                together, 1, 0, constants, layer.weight + n * inputs * outputs, 0, inputs, outputs,
            )  # fmt: skip
        for k in range(together):
            at, to, bias = k * outputs, workspace.write_at[start + k], layer.bias
            width, pitch = layer.width, layer.pitch
            if is_large:
                _gather_large_tile(
                    sums, at, apart * outputs, constants, bias, outputs, features, to, width, pitch, like
                )
            else:
                _gather_small_tile(
                    sums, at, apart * outputs, constants, bias, outputs, features, to, width, pitch, like
                )


@kernel(error_model="numpy")
def _finish_scalars(features, begin, end, skip, active):
    for at in range(begin, end):
        value = features[at]
        if skip != 0:
            value += features[at + skip]
        features[at] = elu(value) if active else value


@kernel(error_model="numpy")
def _finish_vectors(features, at, end, skip, active):
    """As many whole vectors as there are; where the rest begins."""
    like = register_of(features)
    lanes = REGISTER_BITS // 8 // features.itemsize
    while at + lanes <= end:
        value = load(features, at, like)
        if skip != 0:
            value = _sum(value, load(features, at + skip, like))
        if active:
            value = elu_of_vector(value)
        store(features, at, value)
        at += lanes
    return at


def _finish(features, at, length, skip, active):
    """What follows a convolution, for so many of its results: an image is added, ELU."""
    raise NotImplementedError("compiled code only")


@overload(_finish)
def _finish_by_type(features, at, length, skip, active):
    if features.dtype == types.float32:

        def finish_float32(features, at, length, skip, active):
            rest = _finish_vectors(features, at, at + length, skip, active)
            _finish_scalars(features, rest, at + length, skip, active)

        return finish_float32
    return lambda features, at, length, skip, active: _finish_scalars(features, at, at + length, skip, active)


@kernel(error_model="numpy")
def _copy(features, at, to, length):
    """Copy so many floats."""
    like = register_of(features)
    lanes = REGISTER_BITS // 8 // features.itemsize
    whole = length // lanes * lanes
    for c in range(0, whole, lanes):
        store(features, to + c, load(features, at + c, like))
    for c in range(whole, length):
        features[to + c] = features[at + c]


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
        for row in range(layer.block):
            length = layer.block * layer.outputs
            _finish(features, write_at[k] + row * layer.pitch, length, layer.skip, layer.active)
    # The tiles may be larger than the image: its margin is to be zeros again.
    right, below = -layer.columns % layer.block, -layer.lines % layer.block
    for row in range(layer.lines):
        at = layer.corner + row * layer.pitch + layer.columns * layer.width
        features[at : at + right * layer.width] = 0
    for row in range(layer.lines, layer.lines + below):
        at = layer.corner + row * layer.pitch
        features[at : at + (layer.columns + right) * layer.width] = 0


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
        if layer.kind == SMALL_TILES or layer.kind == LARGE_TILES:
            _convolve_tiles(layer, features, constants, count, workspace)
            _finish_tiles(layer, features, count, workspace.write_at)
        elif layer.kind == CONVOLUTION:
            _convolve_pixels(layer, features, constants, count, workspace)
        else:
            for k in range(count):
                at, to = workspace.read_at[k], workspace.write_at[k]
                _copy(features, at, to, layer.outputs)
                if layer.skip != 0 or layer.active:
                    _finish(features, to, layer.outputs, layer.skip, layer.active)
