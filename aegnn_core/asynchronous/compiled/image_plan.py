# SPDX-License-Identifier: Apache-2.0
"""What a head does with an image, found by going through its ``forward`` once: a plan of layers for compiled code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import elu, interpolate, relu

from aegnn_core.asynchronous.compiled.image_layers import (
    CONVOLUTION,
    ELU,
    LARGE_TILES,
    MOVE,
    NO_ACTIVATION,
    RELU,
    SMALL_TILES,
)
from aegnn_core.asynchronous.compiled.image_tiles import TILE_POINT
from aegnn_core.asynchronous.torch_internals import stand_in
from aegnn_core.simd import REGISTER_BITS

__all__ = ["BEFORE_IMAGE", "BEHIND_IMAGE", "Image", "Layer", "Plan", "TracedAnswer", "trace"]

#: Zeros around every image: as many pixels before it, and behind it.
BEFORE_IMAGE, BEHIND_IMAGE = 1, 4

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
class Image:
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
        return self.columns + BEFORE_IMAGE + BEHIND_IMAGE

    @property
    def pitch(self) -> int:
        """Floats from a pixel to the one below it."""
        return self.line * self.width

    @property
    def pixels(self) -> int:
        """Their number, the margins included."""
        return (self.rows + BEFORE_IMAGE + BEHIND_IMAGE) * self.line

    @property
    def first(self) -> int:
        """Number of its own first pixel."""
        return BEFORE_IMAGE * (self.line + 1)

    def numbers(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Of the pixels at all combinations of rows and columns, by rows; the margins included."""
        numbers: np.ndarray = (rows[:, None] + BEFORE_IMAGE) * self.line + columns + BEFORE_IMAGE
        return numbers.ravel()

    def grid(self, step: int = 1) -> np.ndarray:
        """Numbers of all its own pixels, or of those so far apart."""
        return self.numbers(np.arange(0, self.rows, step), np.arange(0, self.columns, step))


@dataclass(eq=False)
class Layer:
    """One step of the plan: it computes an image, or some of its floats.

    ``needs`` and ``gives`` are the numbers of the first pixels that its places need and give; into the result's pixels
    it writes ``outputs`` floats from ``offset`` on.
    """

    kind: int
    source: Image
    result: Image
    needs: np.ndarray
    gives: np.ndarray
    outputs: int
    offset: int = 0
    side: int = 1
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    skip: Image | None = None
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
class Plan:
    """Layers in the order in which they are to be run, of floats of one type."""

    dtype: type
    layers: list[Layer] = field(default_factory=list)
    size: int = 0
    marks: int = 0

    @property
    def lanes(self) -> int:
        """Floats in a register, of which a convolution's results fill whole ones."""
        return REGISTER_BITS // 8 // np.dtype(self.dtype).itemsize

    def image(self, columns: int, rows: int, position: np.ndarray, width: int) -> Image:
        """A new image."""
        image = Image(columns, rows, position, width, self.size, self.marks)
        self.size += image.pixels * width
        self.marks += image.pixels
        return image

    def enlarge(self, image: Image, size: tuple[int, int]) -> Image:
        """The image with every pixel repeated, as torch does it."""
        result = self.image(size[1], size[0], image.position, image.width)
        # In double precision, so that the numbers are exact.
        numbers = torch.from_numpy(image.grid()).double().view(1, 1, image.rows, image.columns)
        needs = interpolate(numbers, size=size, mode="nearest").long().numpy().ravel()
        self.layers.append(Layer(MOVE, image, result, needs, result.grid(), image.width))
        return result

    def concatenate(self, images: list[Image]) -> Image:
        """One image with the channels of all."""
        offsets = np.cumsum([0, *(image.width for image in images)])
        position = np.concatenate([image.position + offset for image, offset in zip(images, offsets, strict=False)])
        result = self.image(images[0].columns, images[0].rows, position, int(offsets[-1]))
        for image, offset in zip(images, offsets, strict=False):
            self.layers.append(Layer(MOVE, image, result, image.grid(), result.grid(), image.width, int(offset)))
        return result

    def convolve(
        self,
        image: Image,
        own: Tensor,
        own_bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Image:
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
            Layer(kind, image, result, needs, result.grid(step), width, side=side, weight=weight, bias=bias)
        )
        return result

    def layer_of(self, image: Image) -> Layer | None:
        """The layer that computes an image, if it is one alone and more can be done in the same pass."""
        layers = [layer for layer in self.layers if layer.result is image]
        return layers[0] if len(layers) == 1 and layers[0].activation == NO_ACTIVATION else None


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

    def __init__(self, plan: Plan, image: Image) -> None:
        self.plan, self._image = plan, image
        self._is_read = self.is_gone = False

    @property
    def shape(self) -> tuple[int, int, int, int]:  # type: ignore[override]
        return 1, len(self._image.position), self._image.rows, self._image.columns

    def read(self) -> Image:
        """The image as it is now, and from here on."""
        if self.is_gone:
            raise NotImplementedError("an image that is used again after it was changed in place")
        self._is_read = True
        return self._image

    def finished(self, change: Callable[[Layer], None]) -> _Value:
        """The image after a change that is made in the same pass."""
        layer = self.plan.layer_of(self._image)
        if layer is None or self._is_read or self.is_gone:
            raise NotImplementedError("something done with an image that is not the result of a convolution")
        change(layer)
        self.is_gone = True
        return _Value(self.plan, self._image)


class TracedAnswer(_Traced):
    """An image, with its channels last or not."""

    def __init__(self, image: Image, channels_last: bool = True) -> None:
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

    def add(layer: Layer) -> None:
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


def _permute(value: Any, *order: int) -> TracedAnswer:
    if order != (0, 2, 3, 1) or not isinstance(value, _Value):
        raise NotImplementedError(f"{type(value).__name__} whose axes are in the order {order}")
    return TracedAnswer(value.read())


_OPERATIONS: dict[Any, Callable[..., _Traced]] = {
    torch.conv2d: _convolve,
    elu: _elu,
    relu: _relu,
    Tensor.add: _add,
    interpolate: _enlarge,
    torch.cat: _concatenate,
    Tensor.permute: _permute,
}


def trace(head: nn.Module, plan: Plan, image: Image) -> TracedAnswer:
    """What a head makes of an image; its layers are then in the plan, which has none yet."""
    answer = head(_Value(plan, image))
    if isinstance(answer, _Value):
        answer = TracedAnswer(answer.read(), channels_last=False)
    if not isinstance(answer, TracedAnswer):
        raise NotImplementedError("an answer that is no image")
    if not plan.layers:
        raise NotImplementedError("a head that does nothing with its image")
    return answer
