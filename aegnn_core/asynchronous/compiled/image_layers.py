# SPDX-License-Identifier: Apache-2.0
"""Compiled layers on images: convolutions with bias, sum and activation, and moves of pixels.

Several networks, each with an image of its own, can be run together, a layer of each at a time.

An image lies in a flat array of features pixel by pixel, rows one after the other, in a margin of zeros. A layer is a
list of *places*: where the features begin that a place's result is computed from, and where that result begins. Only
places are computed that something has changed for since the last time, and each of them in the same way whatever else
is: which they are does not change a bit.

A place is one pixel; or, in the minimal filtering of Winograd (Lavin & Gray, CVPR 2016), a tile of 2 x 2 or 4 x 4
pixels. For these, a convolution of 3 x 3 takes 16 products per feature instead of 36, or 36 instead of 144. The larger
tiles have more weights to be read, and in float32 err by 2e-6 of the largest value, eight times as much as plain sums.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from aegnn_core.asynchronous.array_table import KIND, address_of, first_rows, parts_at
from aegnn_core.asynchronous.compiled.clock import nanoseconds
from aegnn_core.asynchronous.compiled.convolution import elu, elu_of_vector
from aegnn_core.asynchronous.compiled.counts import logarithm
from aegnn_core.asynchronous.compiled.image_tiles import (
    gather_large_tile,
    gather_small_tile,
    sum_of,
    transform_large,
    transform_small,
)
from aegnn_core.asynchronous.compiled.pipeline import (
    FIRST_BLOCK,
    IS_NEW,
    PACKET,
    Words,
    await_done,
    begin_job,
    count_done,
    next_block,
    note_patience,
    wait_for_block,
)
from aegnn_core.machine_code import kernel
from aegnn_core.simd import (
    REGISTER_BITS,
    filled,
    load,
    maximum,
    multiply_rows,
    register_of,
    store,
)

__all__ = [
    "CONVOLUTION", "ELU", "IMAGE_LAYER", "IMAGE_PART", "LARGE_TILES", "MOST_AT_ONCE", "MOVE", "NO_ACTIVATION", "RELU",
    "SMALL_TILES", "TAKE", "TILES_AT_ONCE", "ImageParts", "Workspace", "run_image_layers",
]  # fmt: skip

#: Kinds of layers: the first takes the image in; tiles are of 2 x 2 or 4 x 4 pixels.
TAKE, MOVE, CONVOLUTION, SMALL_TILES, LARGE_TILES = range(5)

#: What can follow a convolution.
NO_ACTIVATION, ELU, RELU = range(3)

#: Tiles of a kind that are transformed together: few enough to stay in the cache, enough to read every weight seldom.
TILES_AT_ONCE = {SMALL_TILES: 48, LARGE_TILES: 20}
_SMALL_AT_ONCE, _LARGE_AT_ONCE = TILES_AT_ONCE[SMALL_TILES], TILES_AT_ONCE[LARGE_TILES]
_ZERO = np.float32(0)
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
            "activation",  # that follows
            "joins",  # whether an earlier layer computes other floats of the same pixels
            "side",  # of the square of pixels that a place needs
            "block",  # side of the square of pixels that a place is
            "source_line",  # marks from a pixel of the source to the one below
            "line",  # marks from a pixel of the result to the one below
            "skip_mark",  # from the result's marks to those of the image that is added
            "corner",  # the result's first pixel
            "corner_mark",  # and that pixel's mark
            "columns",  # of the result
            "lines",  # rows of pixels of the result
            "taken_at",  # where the bits of the image that is taken in begin
            "source_at",  # the source's first pixel, the margin included
            "source_mark",  # and that pixel's mark
            "sparse",  # whether its source is an image that is taken in, many of whose pixels may be zeros
        )
    ]
)


#: A part of a layer, for one thread: ``count`` places from ``first`` on, of their floats those from ``lane`` to
#: ``until - 1``. Before it, ``after`` parts must be done. For the layer that takes the image in, places are rows.
IMAGE_PART = np.dtype([(name, np.int64) for name in ("layer", "first", "count", "lane", "until", "after")])


class ImageParts(NamedTuple):
    """What threads share.

    ``layers`` in the order in which they are to be run, and their ``parts``; ``features`` of all images; ``constants``:
    weights and biases, behind as many zeros as the widest layer has outputs; ``marks`` of the pixels of all images,
    whether they have changed; ``occupied``: which pixels of the images that are taken in, which lie before all others,
    are not zeros. The places of all layers: where they are computed from, where their results begin, and the marks of
    both. ``computed [parts]``: how many places were. ``counts``: the image before as numbers of events, of which the
    features are ``logarithms``; none where images are taken as they are.
    """

    layers: Annotated[np.ndarray, IMAGE_LAYER]
    parts: Annotated[np.ndarray, IMAGE_PART]
    features: Annotated[np.ndarray, KIND]
    constants: Annotated[np.ndarray, KIND]
    marks: Annotated[np.ndarray, np.bool_]
    occupied: Annotated[np.ndarray, np.bool_]
    read_at: Annotated[np.ndarray, np.int64]
    write_at: Annotated[np.ndarray, np.int64]
    seen_at: Annotated[np.ndarray, np.int64]
    mark_at: Annotated[np.ndarray, np.int64]
    computed: Annotated[np.ndarray, np.int64]
    counts: Annotated[np.ndarray, np.uint32]
    logarithms: Annotated[np.ndarray, KIND]


class Workspace(NamedTuple):
    """A thread's lists of the places to be computed, and of tiles; tiles and their sums as Winograd transforms them."""

    read_at: Annotated[np.ndarray, np.int64]
    write_at: Annotated[np.ndarray, np.int64]
    tile_at: Annotated[np.ndarray, np.int64]
    sums_at: Annotated[np.ndarray, np.int64]
    tiles: Annotated[np.ndarray, KIND]
    sums: Annotated[np.ndarray, KIND]


class _Job(NamedTuple):
    """The bits of the images at work, and the table of arrays; read by ``parts_at(words, 0, _Job, …)``."""

    image: Annotated[np.ndarray, np.uint32]
    table: Annotated[np.ndarray, np.int64]


_WORDS, _PARTS, _WORKSPACE = first_rows((Words, ImageParts, Workspace))
_ROWS_OF_WORKSPACE = len(Workspace._fields)


@kernel(error_model="numpy")
def _take_rows(layer, part, image, is_new, features, marks, occupied):
    """Bring rows of an image in, and mark the pixels in which they differ from those of the image before.

    Args:
        layer: of the kind ``TAKE``.
        part: its rows.
        image: the bits of all images' floats, pixels one behind the other.
        is_new: there is no image before, or nobody knows what has become of it.
        features, marks: of all images.
        occupied: which of the pixels are not zeros.
    """
    words = layer.lines * layer.columns * layer.outputs * features.itemsize // 4
    image = image[layer.taken_at : layer.taken_at + words]
    if layer.outputs * features.itemsize % 8 == 0:
        _take_words(layer, part, image.view(np.uint64), is_new, features.view(np.uint64), marks, occupied)
    else:
        _take_words(layer, part, image, is_new, features.view(np.uint32), marks, occupied)


@kernel(error_model="numpy")
def _take_words(layer, part, image, is_new, held, marks, occupied):
    """The same with words of a pixel's size or a part of it; ``held`` are the features as such words."""
    size = len(image) // (layer.lines * layer.columns)
    length = layer.columns * size
    begin, pitch = layer.corner * size // layer.outputs, layer.pitch * size // layer.outputs
    for row in range(part.first, part.first + part.count):
        new, old = image[row * length : (row + 1) * length], held[begin + row * pitch : begin + row * pitch + length]
        first, at = layer.corner_mark + row * layer.line, np.uintp(0)
        for column in range(layer.columns):
            difference, bits = np.uint64(is_new), np.uint64(0)
            for _ in range(size):
                bits |= new[at]
                difference |= new[at] ^ old[at]
                at += np.uintp(1)
            marks[first + column], occupied[first + column] = difference != 0, bits != 0
        for n in range(length):
            old[np.uintp(n)] = new[np.uintp(n)]


@kernel(error_model="numpy")
def _take_counts(layer, part, image, is_new, shared):
    """Bring rows of an image of counts in: as ``_take_rows``, but features are the logarithms of what has changed."""
    size = layer.outputs // 2  # words of eight bytes that a pixel has
    new, old = image.view(np.uint64), shared.counts.view(np.uint64)
    for row in range(part.first, part.first + part.count):
        first, at = layer.corner_mark + row * layer.line, np.uintp(row * layer.columns * size)
        to = layer.corner + row * layer.pitch
        for column in range(layer.columns):
            difference, bits = np.uint64(is_new), np.uint64(0)
            for n in range(np.uintp(size)):
                bits |= new[at + n]
                difference |= new[at + n] ^ old[at + n]
            shared.marks[first + column], shared.occupied[first + column] = difference != 0, bits != 0
            if difference != 0:
                for n in range(np.uintp(size)):
                    old[at + n] = new[at + n]
                for n in range(layer.outputs):
                    count = np.int64(image[(row * layer.columns + column) * layer.outputs + n])
                    shared.features[to + column * layer.width + n] = logarithm(count, shared.logarithms)
            at += np.uintp(size)


@kernel(error_model="numpy")
def _is_marked(marks, at, side, line):
    """Whether any pixel of a square is marked."""
    for row in range(side):
        for column in range(side):
            if marks[np.uintp(at + row * line + column)]:
                return True
    return False


@kernel(error_model="numpy")
def _select(layer, part, shared, workspace):
    """List the places of a part for which something has changed, mark what they will change, and count them."""
    block, marks = layer.block, shared.marks
    read_at, write_at = workspace.read_at, workspace.write_at
    count = 0
    for k in range(part.first, part.first + part.count):
        mark = shared.mark_at[k]
        changes = _is_marked(marks, shared.seen_at[k], layer.side, layer.source_line)
        if layer.skip != 0 and not changes:
            changes = _is_marked(marks, mark + layer.skip_mark, block, layer.line)
        for row in range(block):
            for column in range(block):
                at = mark + row * layer.line + column
                marks[at] = changes or (layer.joins and marks[at])
        if changes:
            read_at[count], write_at[count] = shared.read_at[k], shared.write_at[k]
            count += 1
    _fill_up(read_at, write_at, count)
    return count


@kernel(error_model="numpy")
def _fill_up(read_at, write_at, count):
    """Lengthen lists of so many places by their last one."""
    for k in range(count, count + MOST_AT_ONCE if count else 0):
        read_at[k], write_at[k] = read_at[count - 1], write_at[count - 1]


@kernel(error_model="numpy")
def _even_share(count, most):
    """The size of each part if ``count`` is divided into as few equal parts of at most ``most`` as possible."""
    parts = (count + most - 1) // most
    return (count + parts - 1) // parts


@kernel(error_model="numpy")
def _multiply(
    out, out_at, source, source_at, first, last, parts, step, weight, weight_at, bias_at, rows, outputs, lane, until
):  # fmt: skip
    """Products of the rows ``first`` to ``last - 1`` of a list that is filled up, see ``multiply_rows``.

    Of the ``outputs``, those from ``lane`` to ``until - 1``.
    """
    lanes = REGISTER_BITS // 8 // out.itemsize
    # Every product brings some of the weights that come next into the cache, as many in all as there are: those of the
    # next list where there is one part, which lie behind these, or else those of the next registers.
    behind = weight_at + rows * outputs
    while lane < until:
        left = (until - lane) // lanes
        to, at, bias = out[lane:], weight_at + lane, bias_at + lane
        # Lists are filled up: the fewer rows too many, the better.
        if left >= 4 and left != 6:
            wide, many = 4, 6 if _even_share(last - first, 6) == 6 else 5
        elif left >= 3:
            wide, many = 3, 8 if _even_share(last - first, 8) == 8 else 7
        else:
            wide, many = left, 8
        for k in range(first, last, many):
            if parts == 1:
                soon, soon_step = min(behind, weight_at + 2 * rows * outputs), lanes
                behind += rows * lanes
            else:
                soon, soon_step = at + (wide + (k - first) // many) * lanes, outputs
            if wide == 4 and many == 6:
                multiply_rows(
                    to, out_at, source, source_at, k, parts, step, weight, at, bias, rows, outputs, soon, soon_step,
                    6, 4,
                )  # fmt: skip
            elif wide == 4:
                multiply_rows(
                    to, out_at, source, source_at, k, parts, step, weight, at, bias, rows, outputs, soon, soon_step,
                    5, 4,
                )  # fmt: skip
            elif wide == 3 and many == 8:
                multiply_rows(
                    to, out_at, source, source_at, k, parts, step, weight, at, bias, rows, outputs, soon, soon_step,
                    8, 3,
                )  # fmt: skip
            elif wide == 3:
                multiply_rows(
                    to, out_at, source, source_at, k, parts, step, weight, at, bias, rows, outputs, soon, soon_step,
                    7, 3,
                )  # fmt: skip
            elif wide == 2:
                multiply_rows(
                    to, out_at, source, source_at, k, parts, step, weight, at, bias, rows, outputs, soon, soon_step,
                    8, 2,
                )  # fmt: skip
            else:
                multiply_rows(
                    to, out_at, source, source_at, k, parts, step, weight, at, bias, rows, outputs, soon, soon_step,
                    8, 1,
                )  # fmt: skip
        lane += wide * lanes


@kernel(error_model="numpy")
def _convolve_tiles(layer, part, features, constants, count, workspace):
    """The convolution of the tiles that are listed, without what follows."""
    tiles, sums = workspace.tiles, workspace.sums
    inputs, outputs, lane, until = layer.inputs, layer.outputs, part.lane, part.until
    bias, width, pitch = layer.bias, layer.width, layer.pitch
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
                transform_large(features, at, inputs, layer.step, tiles, to, apart * inputs, like)
            else:
                transform_small(features, at, inputs, layer.step, tiles, to, apart * inputs, like)
        for n in range(layer.side**2):
            _multiply(
                sums[n * apart * outputs :], workspace.sums_at, tiles[n * apart * inputs :], workspace.tile_at, 0,
                together, 1, 0, constants, layer.weight + n * inputs * outputs, 0, inputs, outputs, lane, until,
            )  # fmt: skip
        for k in range(together):
            at, to = k * outputs, workspace.write_at[start + k]
            if is_large:
                gather_large_tile(
                    sums, at, apart * outputs, constants, bias, lane, until, features, to, width, pitch, like
                )
            else:
                gather_small_tile(
                    sums, at, apart * outputs, constants, bias, lane, until, features, to, width, pitch, like
                )


@kernel(error_model="numpy")
def _finish_scalars(features, begin, end, skip, activation):
    for at in range(begin, end):
        value = features[at]
        if skip != 0:
            value += features[at + skip]
        if activation == ELU:
            value = elu(value)
        elif activation == RELU and value < 0:
            value = features.dtype.type(0)
        features[at] = value


@kernel(error_model="numpy")
def _finish_vectors(features, at, end, skip, activation):
    """As many whole vectors as there are; where the rest begins."""
    like = register_of(features)
    lanes = REGISTER_BITS // 8 // features.itemsize
    while at + lanes <= end:
        value = load(features, at, like)
        if skip != 0:
            value = sum_of(value, load(features, at + skip, like))
        if activation == ELU:
            value = elu_of_vector(value)
        elif activation == RELU:
            value = maximum(filled(_ZERO, value), value)
        store(features, at, value)
        at += lanes
    return at


def _finish(features: np.ndarray, at: int, length: int, skip: int, activation: int) -> None:
    """What follows a convolution, for so many of its results: an image is added, an activation."""
    raise NotImplementedError("compiled code only")


@overload(_finish)
def _finish_by_type(features, at, length, skip, activation):
    if features.dtype == types.float32:

        def finish_float32(features, at, length, skip, activation):
            rest = _finish_vectors(features, at, at + length, skip, activation)
            _finish_scalars(features, rest, at + length, skip, activation)

        return finish_float32
    return lambda features, at, length, skip, activation: _finish_scalars(features, at, at + length, skip, activation)


@kernel(error_model="numpy")
def _copy(source, at, features, to, length):
    """Copy so many floats."""
    like = register_of(features)
    lanes = REGISTER_BITS // 8 // features.itemsize
    whole = length // lanes * lanes
    for c in range(0, whole, lanes):
        store(features, to + c, load(source, at + c, like))
    for c in range(whole, length):
        features[to + c] = source[at + c]


@kernel(error_model="numpy")
def _fill_empty(layer, part, features, constants, occupied, count, workspace):
    """Write the results of the listed pixels that see zeros alone, which are all the same; how many others are left.

    A product with zero adds nothing, so the bits are the same as if they had been multiplied.
    """
    read_at, write_at = workspace.read_at, workspace.write_at
    length, left, first = part.until - part.lane, 0, -1
    for k in range(count):
        at, to = read_at[k], write_at[k] + part.lane
        pixel = layer.source_mark + np.int64(np.uintp(at - layer.source_at) // np.uintp(layer.inputs))
        if _is_marked(occupied, pixel, layer.side, layer.source_line):
            read_at[left], write_at[left] = at, write_at[k]
            left += 1
        elif first < 0:
            _copy(constants, layer.bias + part.lane, features, to, length)
            _finish(features, to, length, 0, layer.activation)
            first = to
        else:
            _copy(features, first, features, to, length)
    _fill_up(read_at, write_at, left)
    return left


@kernel(error_model="numpy")
def _convolve_pixels(layer, part, features, constants, count, workspace):
    """A convolution of the pixels that are listed."""
    read_at, write_at = workspace.read_at, workspace.write_at
    outputs = layer.outputs
    for start in range(0, count, _PIXELS):
        last = min(start + _PIXELS, count)
        _multiply(
            features, write_at, features, read_at, start, last, layer.parts, layer.step, constants, layer.weight,
            layer.bias, layer.rows, outputs, part.lane, part.until,
        )  # fmt: skip
        k = start
        while k < last:
            length = part.until - part.lane
            # Pixels that lie side by side are one row.
            while length % outputs == 0 and k + 1 < last and write_at[k + 1] == write_at[k] + outputs:
                length += outputs
                k += 1
            k += 1
            begin = write_at[k - 1] + part.until - length
            _finish(features, begin, length, layer.skip, layer.activation)


@kernel(error_model="numpy")
def _finish_tiles(layer, part, features, count, write_at):
    for k in range(count):
        for row in range(layer.block):
            at = write_at[k] + row * layer.pitch
            if part.until - part.lane == layer.width:
                _finish(features, at, layer.block * layer.width, layer.skip, layer.activation)
            else:
                for column in range(layer.block):
                    begin = at + column * layer.width + part.lane
                    _finish(features, begin, part.until - part.lane, layer.skip, layer.activation)
        _clear_margin(layer, features, write_at[k], part.lane, part.until)


@kernel(error_model="numpy")
def _clear_margin(layer, features, at, lane, until):
    """Where a tile that begins there is larger than the image, the image's margin is to be zeros again."""
    row, column = divmod(at - layer.corner, layer.pitch)
    column //= layer.width
    right, below = max(column + layer.block - layer.columns, 0), max(row + layer.block - layer.lines, 0)
    for n in range(layer.block**2 if right + below else 0):
        down, aside = divmod(n, layer.block)
        if down >= layer.block - below or aside >= layer.block - right:
            begin = at + down * layer.pitch + aside * layer.width
            features[begin + lane : begin + until] = 0


@kernel(error_model="numpy")
def _run_part(number, image, is_new, shared, workspace):
    """Bring a part of a layer up to date."""
    part, features, constants = shared.parts[number], shared.features, shared.constants
    layer = shared.layers[part.layer]
    if layer.kind == TAKE and len(shared.counts) > 0:
        _take_counts(layer, part, image, is_new, shared)
        return
    if layer.kind == TAKE:
        _take_rows(layer, part, image, is_new, features, shared.marks, shared.occupied)
        return
    count = _select(layer, part, shared, workspace)
    shared.computed[number] = count
    if layer.kind == SMALL_TILES or layer.kind == LARGE_TILES:
        _convolve_tiles(layer, part, features, constants, count, workspace)
        _finish_tiles(layer, part, features, count, workspace.write_at)
    elif layer.kind == CONVOLUTION:
        if layer.sparse:
            count = _fill_empty(layer, part, features, constants, shared.occupied, count, workspace)
        _convolve_pixels(layer, part, features, constants, count, workspace)
    else:
        for k in range(count):
            at, to = workspace.read_at[k], workspace.write_at[k]
            _copy(features, at, features, to, layer.outputs)
            if layer.skip != 0 or layer.activation != NO_ACTIVATION:
                _finish(features, to, layer.outputs, layer.skip, layer.activation)


@kernel(error_model="numpy")
def run_image_layers(image, is_new, table, kind, member):
    """Take one image or several in, and bring all others up to date one after the other.

    The caller's thread does this with ``member`` 0 for every image. The others call it once, with a table that has the
    shared words only: they take part in every image, until they are told to end.

    Args:
        image: the bits of the floats, pixels one behind the other, and images as well.
        is_new: see ``_take_rows``.
        table: of the words, :class:`ImageParts`, and a :class:`Workspace` for every thread.
        kind: a float of the kernels' type.
        member: number of the thread.
    """
    words = parts_at(table, _WORDS, Words, kind).words
    if member == 0:
        words[PACKET], words[PACKET + 1] = address_of(image), len(image)
        words[PACKET + 2], words[PACKET + 3] = address_of(table), table.size
        words[IS_NEW] = is_new
        block, kept, patient = begin_job(words, len(parts_at(table, _PARTS, ImageParts, kind).parts))
        is_shared = patient
    else:
        block, kept, patient, is_shared = wait_for_block(words), np.int64(0), True, True
    end = words[FIRST_BLOCK]
    begin, waited, own = nanoseconds(), np.int64(0), 0
    while block >= 0:
        job = parts_at(words, 0, _Job, kind)
        shared = parts_at(job.table, _PARTS, ImageParts, kind)
        workspace = parts_at(job.table, _WORKSPACE + member * _ROWS_OF_WORKSPACE, Workspace, kind)
        number, end = block - words[FIRST_BLOCK], words[FIRST_BLOCK] + len(shared.parts)
        waited += await_done(words, words[FIRST_BLOCK] + shared.parts[number].after)
        _run_part(number, job.image, words[IS_NEW] != 0, shared, workspace)
        # With this the job may be finished and the arrays gone: only the words may be used below.
        count_done(words)
        own += 1
        block, kept, patient = next_block(words, block, kept, patient, member, waited, begin, own)
    if member == 0 and is_shared:
        note_patience(words, waited + await_done(words, end), begin, own, patient)
