# SPDX-License-Identifier: Apache-2.0
"""Networks of convolutions on images, as compiled code: norms folded, sums and activations in the same pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from itertools import accumulate, pairwise, zip_longest
from math import gcd
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import elu, interpolate, relu

from aegnn_core.asynchronous.array_table import addresses, array_table
from aegnn_core.asynchronous.compiled.counts import log_table
from aegnn_core.asynchronous.compiled.crew import Crew, check_sleep
from aegnn_core.asynchronous.compiled.image_layers import (
    CONVOLUTION,
    ELU,
    IMAGE_LAYER,
    IMAGE_PART,
    LARGE_TILES,
    MOST_AT_ONCE,
    MOVE,
    NO_ACTIVATION,
    RELU,
    SMALL_TILES,
    TAKE,
    TILE_POINT,
    TILES_AT_ONCE,
    ImageParts,
    Workspace,
    run_image_layers,
)
from aegnn_core.asynchronous.compiled.memory import aligned
from aegnn_core.asynchronous.compiled.pipeline import Words
from aegnn_core.asynchronous.torch_internals import stand_in
from aegnn_core.simd import REGISTER_BITS

__all__ = ["ImageHead", "channels_last"]

#: Zeros around every image: as many pixels before it, and behind it.
_BEFORE, _BEHIND = 1, 4
#: The fewest places, and the fewest registers of results, that make a part of a layer worth a thread of its own.
_LEAST_PLACES, _LEAST_REGISTERS = 96, 3
#: Most parts of a layer for each thread: the more parts, the shorter the wait for the last one.
_MOST_PARTS = 4
#: Fewer tiles than this are not worth it: Winograd's weights, of which there are more, would be read for too few.
_LEAST_TILES = 16
#: Pixels along a tile's side, and the 3 weights along an axis as Winograd's algorithm has them for tiles of a kind.
_TILE_SIDES = {SMALL_TILES: 2, LARGE_TILES: 4}
#: Operations per feature of a tile's pixels, and of its sums, when they are transformed.
_TRANSFORM_FLOPS = {SMALL_TILES: (32, 24), LARGE_TILES: (12 * 24, 10 * 16)}


def _weights_along(finite: Sequence[float]) -> np.ndarray:
    """The weights' polynomial at points and at infinity, divided by what the pixels' transform is multiplied by."""
    rows = [np.array([1, x, x * x]) / np.prod([x - other for other in finite if other != x]) for x in finite]
    return np.array([*rows, [0, 0, 1]])


_P, _Q = TILE_POINT
_WINOGRAD_WEIGHTS = {
    SMALL_TILES: np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    LARGE_TILES: _weights_along([0, _P, -_P, _Q, -_Q]),
}


@dataclass(frozen=True, eq=False)
class _Image:
    """Pixels of ``width`` floats from ``begin`` on in the features, and their marks from ``first_mark`` on.

    ``position [channels]`` says which of a pixel's floats are its channels; the others are zeros.
    """

    columns: int
    rows: int
    position: np.ndarray
    width: int
    begin: int
    first_mark: int

    @property
    def line(self) -> int:
        """Pixels from one to that below it, the margins included."""
        return self.columns + _BEFORE + _BEHIND

    @property
    def pitch(self) -> int:
        """Floats from a pixel to the one below it."""
        return self.line * self.width

    @property
    def pixels(self) -> int:
        """Their number, the margins included."""
        return (self.rows + _BEFORE + _BEHIND) * self.line

    @property
    def first(self) -> int:
        """Number of its own first pixel."""
        return _BEFORE * (self.line + 1)

    def numbers(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Of the pixels at all combinations of rows and columns, by rows; the margins included."""
        numbers: np.ndarray = (rows[:, None] + _BEFORE) * self.line + columns + _BEFORE
        return numbers.ravel()

    def grid(self, step: int = 1) -> np.ndarray:
        """Numbers of all its own pixels, or of those so far apart."""
        return self.numbers(np.arange(0, self.rows, step), np.arange(0, self.columns, step))


@dataclass(eq=False)
class _Layer:
    """One step of the plan: it computes an image, or some of its floats.

    ``needs`` and ``gives`` are the numbers of the first pixels that its places need and give; into the result's pixels
    it writes ``outputs`` floats from ``offset`` on.
    """

    kind: int
    source: _Image
    result: _Image
    needs: np.ndarray
    gives: np.ndarray
    outputs: int
    offset: int = 0
    side: int = 1
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    skip: _Image | None = None
    activation: int = NO_ACTIVATION

    def flops(self) -> int:
        """For one place, as docs/flops.md counts them; what is padding included."""
        values = self.block**2 * self.outputs
        flops = values * ((self.activation != NO_ACTIVATION) + (self.skip is not None))
        products = self.side**2 * 2 * self.source.width
        if self.kind == CONVOLUTION:
            flops += values * (products + 1)
        elif self.kind in _TRANSFORM_FLOPS:
            pixels, sums = _TRANSFORM_FLOPS[self.kind]
            flops += self.outputs * products + pixels * self.source.width + sums * self.outputs + values
        return flops

    @property
    def block(self) -> int:
        """Pixels along the side of a place."""
        return _TILE_SIDES.get(self.kind, 1)


def _tiling(rows: int, columns: int) -> int:
    """The kind of layer for a convolution of 3 x 3 with an image of such a size."""
    for kind in (LARGE_TILES, SMALL_TILES):
        side = _TILE_SIDES[kind]
        if -(-rows // side) * -(-columns // side) >= _LEAST_TILES:
            return kind
    return CONVOLUTION


@dataclass
class _Plan:
    """Layers in the order in which they are to be run, of floats of one type."""

    dtype: type
    layers: list[_Layer] = field(default_factory=list)
    size: int = 0
    marks: int = 0

    @property
    def lanes(self) -> int:
        """Floats in a register, of which a convolution's results fill whole ones."""
        return REGISTER_BITS // 8 // np.dtype(self.dtype).itemsize

    def image(self, columns: int, rows: int, position: np.ndarray, width: int) -> _Image:
        """A new image."""
        image = _Image(columns, rows, position, width, self.size, self.marks)
        self.size += image.pixels * width
        self.marks += image.pixels
        return image

    def enlarge(self, image: _Image, size: tuple[int, int]) -> _Image:
        """The image with every pixel repeated, as torch does it."""
        result = self.image(size[1], size[0], image.position, image.width)
        # In double precision, so that the numbers are exact.
        numbers = torch.from_numpy(image.grid()).double().view(1, 1, image.rows, image.columns)
        needs = interpolate(numbers, size=size, mode="nearest").long().numpy().ravel()
        self.layers.append(_Layer(MOVE, image, result, needs, result.grid(), image.width))
        return result

    def concatenate(self, images: list[_Image]) -> _Image:
        """One image with the channels of all."""
        offsets = np.cumsum([0, *(image.width for image in images)])
        position = np.concatenate([image.position + offset for image, offset in zip(images, offsets, strict=False)])
        result = self.image(images[0].columns, images[0].rows, position, int(offsets[-1]))
        for image, offset in zip(images, offsets, strict=False):
            self.layers.append(_Layer(MOVE, image, result, image.grid(), result.grid(), image.width, int(offset)))
        return result

    def convolve(
        self,
        image: _Image,
        own: Tensor,
        own_bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> _Image:
        """A convolution, as ``torch.conv2d`` does it."""
        outputs, _, side, _ = own.shape
        if (
            own.shape[2:] != (side, side)
            or (side, padding) not in ((3, (1, 1)), (1, (0, 0)))
            or stride != (stride[0], stride[0])
            or (dilation, groups) != ((1, 1), 1)
        ):
            raise NotImplementedError(f"a convolution with weights {tuple(own.shape)}, stride {stride}, ...")
        rows, columns = ((length - 1) // stride[0] + 1 for length in (image.rows, image.columns))
        width = -(-outputs // self.lanes) * self.lanes
        result = self.image(columns, rows, np.arange(outputs), width)
        weight: np.ndarray = np.zeros((side, side, image.width, width), self.dtype)
        weight[:, :, image.position, :outputs] = own.detach().permute(2, 3, 1, 0).numpy()
        bias: np.ndarray = np.zeros(width, self.dtype)
        if own_bias is not None:
            bias[:outputs] = own_bias.detach().numpy()
        is_fit = side == 3 and stride[0] == 1 and image.width % self.lanes == 0
        kind = _tiling(rows, columns) if is_fit else CONVOLUTION
        step = _TILE_SIDES.get(kind, 1)
        if kind in _WINOGRAD_WEIGHTS:
            along = _WINOGRAD_WEIGHTS[kind]
            weight = np.einsum("ik,jl,klco->ijco", along, along, weight.astype(np.float64)).astype(self.dtype)
        corner = side // 2
        needs = image.numbers(
            np.arange(0, rows, step) * stride[0] - corner, np.arange(0, columns, step) * stride[0] - corner
        )
        side += step - 1
        self.layers.append(
            _Layer(kind, image, result, needs, result.grid(step), width, side=side, weight=weight, bias=bias)
        )
        return result

    def layer_of(self, image: _Image) -> _Layer | None:
        """The layer that computes an image, if it is one alone and more can be done in the same pass."""
        layers = [layer for layer in self.layers if layer.result is image]
        return layers[0] if len(layers) == 1 and layers[0].activation == NO_ACTIVATION else None


def _follow_images(dtype: type, words: np.ndarray, member: int) -> None:
    """Work on parts of images, as one thread of several, until told to end."""
    run_image_layers(np.empty(0, np.uint32), False, addresses([words]), dtype(0), member)
    check_sleep(words)


def _workspace(layers: list[_Layer], dtype: type) -> Workspace:
    """What one thread needs for any part of any of the layers."""
    most = max(len(layer.gives) for layer in layers) + MOST_AT_ONCE
    tiles = [(TILES_AT_ONCE[layer.kind] + 1, layer) for layer in layers if layer.kind in TILES_AT_ONCE]
    most_tiles = max(TILES_AT_ONCE.values()) + MOST_AT_ONCE
    return Workspace(
        read_at=np.zeros(most, np.int64),
        write_at=np.zeros(most, np.int64),
        tile_at=np.zeros(most_tiles, np.int64),
        sums_at=np.zeros(most_tiles, np.int64),
        tiles=aligned(max([0, *(layer.side**2 * room * layer.source.width for room, layer in tiles)]), dtype),
        sums=aligned(max([0, *(layer.side**2 * room * layer.outputs for room, layer in tiles)]), dtype),
    )


def channels_last(image: Tensor) -> np.ndarray:
    """``image [1, channels, rows, columns]`` as an array ``[rows, columns, channels]``, copied if it lies otherwise."""
    return np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())


def _traced_answer(head: nn.Module, plan: _Plan, image: _Image) -> _Answer:
    """What a head makes of an image; its layers are then in the plan, which has none yet."""
    answer = head(_Value(plan, image))
    if isinstance(answer, _Value):
        answer = _Answer(answer.read(), channels_last=False)
    if not isinstance(answer, _Answer):
        raise NotImplementedError("an answer that is no image")
    if not plan.layers:
        raise NotImplementedError("a head that does nothing with its image")
    return answer


def _words(image: _Image, dtype: type) -> int:
    """Of four bytes, that an image without margins has; an even number."""
    size = image.rows * image.columns * image.width * np.dtype(dtype).itemsize // 4
    return size + size % 2


def _shares(count: int, parts: int) -> list[tuple[int, int]]:
    """Where each of as many equal parts as there can be begins, and how many are in it."""
    bounds = [count * part // parts for part in range(parts + 1)]
    return [(begin, end - begin) for begin, end in pairwise(bounds) if end > begin]


class _Traced(Tensor):
    """Stands for an image while a head's ``forward`` is gone through: writes down what would be done with a tensor.

    It holds no numbers. Whatever is asked of it and isn't known raises ``NotImplementedError``.
    """

    @staticmethod
    def __new__(cls, *_: Any, **__: Any) -> _Traced:
        return stand_in(cls)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function not in _OPERATIONS:
            raise NotImplementedError(f"{function}")
        operation = _OPERATIONS[function]
        try:
            given = signature(operation).bind(*args, **(kwargs or {}))
        except TypeError as error:
            raise NotImplementedError(f"{function}: {error}") from error
        return operation(*given.args, **given.kwargs)


class _Value(_Traced):
    """An image ``[1, channels, rows, columns]``."""

    def __init__(self, plan: _Plan, image: _Image) -> None:
        self.plan, self._image = plan, image
        self._is_read = self.is_gone = False

    @property
    def shape(self) -> tuple[int, int, int, int]:  # type: ignore[override]
        return 1, len(self._image.position), self._image.rows, self._image.columns

    def read(self) -> _Image:
        """The image as it is now, and from here on."""
        if self.is_gone:
            raise NotImplementedError("an image that is used again after it was changed in place")
        self._is_read = True
        return self._image

    def finished(self, change: Callable[[_Layer], None]) -> _Value:
        """The image after a change that is made in the same pass."""
        layer = self.plan.layer_of(self._image)
        if layer is None or self._is_read or self.is_gone:
            raise NotImplementedError("something done with an image that is not the result of a convolution")
        change(layer)
        self.is_gone = True
        return _Value(self.plan, self._image)


class _Answer(_Traced):
    """An image, with its channels last or not."""

    def __init__(self, image: _Image, channels_last: bool = True) -> None:
        if not np.array_equal(image.position, np.arange(len(image.position))):
            raise NotImplementedError("an answer whose channels do not lie side by side")
        self.image, self.channels_last = image, channels_last


def _convolve(
    value: Any, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> _Value:  # fmt: skip
    if not isinstance(value, _Value) or isinstance(weight, _Traced) or isinstance(bias, _Traced):
        raise NotImplementedError("a convolution with weights that are computed")
    geometry = _pair(stride), _pair(padding), _pair(dilation)
    return _Value(value.plan, value.plan.convolve(value.read(), weight, bias, *geometry, groups))


def _pair(value: Any) -> tuple[Any, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _elu(value: Any, alpha: float = 1.0, inplace: bool = False) -> _Value:
    if alpha != 1:
        raise NotImplementedError(f"ELU with alpha {alpha}")
    return _activate(value, ELU, inplace)


def _relu(value: Any, inplace: bool = False) -> _Value:
    return _activate(value, RELU, inplace)


def _activate(value: Any, activation: int, inplace: bool) -> _Value:
    if not isinstance(value, _Value):
        raise NotImplementedError(f"an activation of {type(value).__name__}")
    result = value.finished(lambda layer: setattr(layer, "activation", activation))
    value.is_gone = not inplace
    return value if inplace else result


def _add(one: Any, other: Any) -> _Value:
    if not (isinstance(one, _Value) and isinstance(other, _Value) and one.shape == other.shape):
        raise NotImplementedError("a sum of an image and something else")
    image = one.read()

    def add(layer: _Layer) -> None:
        if layer.skip is not None:
            raise NotImplementedError("a sum of several images")
        if layer.result.width != image.width or not np.array_equal(layer.result.position, image.position):
            raise NotImplementedError("a sum of images whose channels lie in other places of a pixel")
        if any(later.result is image for later in one.plan.layers[one.plan.layers.index(layer) :]):
            raise NotImplementedError("a sum with an image that is computed later")
        layer.skip = image

    return other.finished(add)


def _enlarge(value: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **others: Any) -> _Value:
    if size is None or mode != "nearest" or not isinstance(value, _Value):
        raise NotImplementedError(f"interpolation {mode} of {type(value).__name__} to the size {size}")
    return _Value(value.plan, value.plan.enlarge(value.read(), _pair(size)))


def _concatenate(values: Sequence[Any], dim: int = 0) -> _Value:
    if dim != 1 or not all(isinstance(value, _Value) for value in values):
        raise NotImplementedError(f"concatenation along axis {dim}")
    plan = values[0].plan
    return _Value(plan, plan.concatenate([value.read() for value in values]))


def _permute(value: Any, *order: int) -> _Answer:
    if order != (0, 2, 3, 1) or not isinstance(value, _Value):
        raise NotImplementedError(f"{type(value).__name__} whose axes are in the order {order}")
    return _Answer(value.read())


_OPERATIONS: dict[Any, Callable[..., _Traced]] = {
    torch.conv2d: _convolve,
    elu: _elu,
    relu: _relu,
    Tensor.add: _add,
    interpolate: _enlarge,
    torch.cat: _concatenate,
    Tensor.permute: _permute,
}


class ImageHead:
    """Computes networks' answers to images in compiled code, and of an image only what has changed since the last.

    Several networks, each with an image of its own, take turns layer by layer, so that threads share their work evenly.

    Args:
        heads: convolutions of 3 x 3 or 1 x 1 with the norms folded into them, ELU, ReLU, sums, nearest enlarging and
            concatenation, and perhaps channels last at the end; in evaluation mode, on the CPU. Weights are copied.
        shapes: channels, rows and columns of each head's image.
        dtype: of the weights.
        threads: that work on an answer.
        of_counts: whether the image, of a single head, has numbers of events (int32, an even number of channels) of
            which the head sees ``log(1 + n)``.

    Raises:
        NotImplementedError: a head does anything else with its image.
    """

    description = "compiled, changed pixels only"

    def __init__(
        self,
        heads: Sequence[nn.Module],
        shapes: Sequence[tuple[int, int, int]],
        dtype: type,
        threads: int = 1,
        of_counts: bool = False,
    ) -> None:
        assert not of_counts or (len(heads) == 1 and shapes[0][0] % 2 == 0), "counts are compared two at a time"
        plan = _Plan(dtype)
        taken = [plan.image(columns, rows, np.arange(channels), channels) for channels, rows, columns in shapes]
        answers: list[_Answer] = []
        ranks: list[list[_Layer]] = []
        for head, image in zip(heads, taken, strict=True):
            plan.layers = []
            answers.append(_traced_answer(head, plan, image))
            take = _Layer(TAKE, image, image, np.arange(image.rows), np.arange(image.rows), image.width)
            ranks.append([take, *plan.layers])
        self.threads: int = threads
        self._kind = dtype(0)
        self._crew: Crew = Crew(threads, 1, partial(_follow_images, dtype))
        self._is_unfinished = True
        self._write_down([list(filter(None, rank)) for rank in zip_longest(*ranks)], plan, taken, of_counts)
        self._answers = [self._answer(answer) for answer in answers]

    def _answer(self, answer: _Answer) -> Tensor:
        """The part of the features that is an answer."""
        image = answer.image
        pixels = self._shared.features[image.begin :][: image.pixels * image.width].reshape(-1, image.line, image.width)
        inside = pixels[_BEFORE:, _BEFORE:, : len(image.position)][: image.rows, : image.columns]
        seen = torch.from_numpy(inside[None])
        return seen if answer.channels_last else seen.permute(0, 3, 1, 2)

    def _write_down(self, ranks: list[list[_Layer]], plan: _Plan, taken: list[_Image], of_counts: bool) -> None:
        """Make the tables that the compiled code reads.

        Args:
            ranks: layers of as many heads as have so many; the layers of a rank need those of the ranks before.
            plan: of the images.
            taken: those that are taken in.
            of_counts: whether that one is of counts.
        """
        layers, dtype = [layer for rank in ranks for layer in rank], plan.dtype
        records = np.zeros(len(layers), IMAGE_LAYER)
        first = np.cumsum([0, *(len(layer.gives) for layer in layers)])
        constants = [part.ravel() for layer in layers for part in (layer.weight, layer.bias) if part is not None]
        constants.insert(0, np.zeros(max(layer.outputs for layer in layers), dtype))
        begin = iter(np.cumsum([*map(len, constants)]))
        words = [_words(image, dtype) for image in taken]
        # Where nobody writes there, it takes no memory.
        self._bits: np.ndarray = aligned(sum(words), np.uint32)
        self._taken: list[np.ndarray] = [
            self._bits[end - size : end].view(dtype)[: image.rows * image.columns * image.width]
            for image, size, end in zip(taken, words, accumulate(words), strict=True)
        ]
        for record, layer in zip(records, layers, strict=True):
            source, result, skip = layer.source, layer.result, layer.skip
            record["kind"] = layer.kind
            if layer.weight is not None:
                record["weight"], record["bias"] = next(begin), next(begin)
                record["parts"], record["rows"] = layer.side, layer.side * source.width
            record["step"], record["inputs"], record["outputs"] = source.pitch, source.width, layer.outputs
            record["width"], record["pitch"] = result.width, result.pitch
            if skip is not None:
                record["skip"], record["skip_mark"] = skip.begin - result.begin, skip.first_mark - result.first_mark
            record["activation"], record["side"], record["block"] = layer.activation, layer.side, layer.block
            record["joins"] = layer.offset > 0
            record["source_line"], record["line"] = source.line, result.line
            record["corner"] = result.begin + result.first * result.width
            record["corner_mark"] = result.first_mark + result.first
            record["columns"], record["lines"] = result.columns, result.rows
            record["source_at"], record["source_mark"] = source.begin, source.first_mark
            if layer.kind == TAKE:
                record["taken_at"] = sum(words[: taken.index(source)])
            # Counts of events are zeros in many places; what comes behind an activation seldom is.
            record["sparse"] = layer.kind == CONVOLUTION and source in taken and skip is None
        parts = self._parts(ranks, first.tolist(), plan.lanes)
        self._flops_of_place = np.array(
            [layers[n].flops() * (until - lane) // layers[n].outputs for n, _, _, lane, until, _ in parts], np.int64
        )
        self._shared = ImageParts(
            layers=records,
            parts=np.array(parts, IMAGE_PART),
            features=np.zeros(plan.size + plan.size % 2, dtype),  # whole words of eight bytes
            constants=np.concatenate(constants),
            marks=np.zeros(plan.marks, np.bool_),
            occupied=np.zeros(sum(image.pixels for image in taken), np.bool_),
            read_at=np.concatenate([layer.source.begin + layer.needs * layer.source.width for layer in layers]),
            write_at=np.concatenate(
                [layer.result.begin + layer.gives * layer.result.width + layer.offset for layer in layers]
            ),
            seen_at=np.concatenate([layer.source.first_mark + layer.needs for layer in layers]),
            mark_at=np.concatenate([layer.result.first_mark + layer.gives for layer in layers]),
            computed=np.zeros(len(parts), np.int64),
            counts=np.zeros(len(self._taken[0]) * of_counts, np.uint32),
            logarithms=log_table(dtype),
        )
        self._workspaces = [_workspace(layers, dtype) for _ in range(self.threads)]
        kinds = (Words, ImageParts, *[Workspace] * self.threads)
        self._arrays = array_table((Words(self._crew.words), self._shared, *self._workspaces), kinds, dtype)

    def _parts(self, ranks: list[list[_Layer]], first: list[int], lanes: int) -> list[tuple[int, ...]]:
        """Records of :data:`IMAGE_PART`: as many parts of every rank as threads can share, in the order of ranks."""
        parts: list[tuple[int, ...]] = []
        n = 0
        for rank in ranks:
            after = len(parts)
            # The fewest parts of each of so many layers of which every thread has as many.
            team = self.threads // gcd(self.threads, len(rank))
            for layer in rank:
                count, across, along = len(layer.gives), 1, 1
                if team > 1:
                    if layer.weight is not None and count <= _LEAST_PLACES:
                        # Few places: every thread reads a part of the weights only.
                        across = max(1, min(team, layer.outputs // (lanes * _LEAST_REGISTERS)))
                    along = -(-team // across) * max(1, min(_MOST_PARTS, count // (_LEAST_PLACES * team)))
                for begin, some in _shares(count, along):
                    for lane, wide in _shares(layer.outputs // lanes, across) if across > 1 else [(0, 0)]:
                        until = (lane + wide) * lanes if wide else layer.outputs
                        at = begin if layer.kind == TAKE else first[n] + begin
                        parts.append((n, at, some, lane * lanes, until, after))
                n += 1
        return parts

    @property
    def images(self) -> list[np.ndarray]:
        """Where the images are to be written that :meth:`answers` takes, pixels one behind the other."""
        return self._taken

    def __call__(self, image: Tensor) -> Tensor:
        """The answer of a single head to ``image [1, channels, rows, columns]``.

        It is copied if its channels do not come last; of the head's type, or of counts where the head is one of counts.
        """
        return self._run(channels_last(image).reshape(-1).view(np.uint32))[0]

    def answers(self) -> list[Tensor]:
        """The heads' answers to what has been written into :attr:`images`."""
        return self._run(self._bits)

    def _run(self, bits: np.ndarray) -> list[Tensor]:
        if self.threads > 1:
            self._crew.begin()
        # If the last answer was interrupted, pixels that were marked as changed have not been computed.
        is_new, self._is_unfinished = self._is_unfinished, True
        run_image_layers(bits, is_new, self._arrays, self._kind, 0)
        self._is_unfinished = False
        return [answer.clone() for answer in self._answers]

    @property
    def flops(self) -> int:
        """Of the last answer."""
        return int(self._flops_of_place @ self._shared.computed)

    @property
    def memory(self) -> int:
        """Bytes of the images."""
        return self._shared.features.nbytes + self._shared.counts.nbytes
