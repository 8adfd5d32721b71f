# SPDX-License-Identifier: Apache-2.0
"""A head of convolutions with fewer launches: bias, sum and activation in the same kernel as the convolution.

The head's own ``forward`` runs on :class:`_Image`, which puts off a convolution until it is known what comes behind it.
What it does otherwise with an image, torch does.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import elu
from torch.utils._pytree import tree_leaves, tree_map

from aegnn_core.asynchronous.cuda.launching import Kernels
from aegnn_core.asynchronous.folded_head import TorchHead
from aegnn_core.asynchronous.torch_internals import stand_in

__all__ = ["FusedHead"]


class FusedHead(TorchHead):
    """A head with its norms folded, in evaluation mode, whose weights are float32 and stay what they are."""

    description = "convolutions with bias, sum and activation in Triton, all else in torch"

    def __init__(self, head: nn.Module, kernels: Kernels) -> None:
        super().__init__(head)
        self._fusion = _Fusion(kernels)

    def _run(self, image: Tensor) -> Tensor:
        self._fusion.put_off.clear()  # of an answer before, whose images are gone
        with torch.no_grad():
            answer: Tensor = _value(self._head(_Image(self._fusion, image)))
        return answer


@dataclass
class _Convolution:
    """A convolution of one image, and what is done with its result."""

    image: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    skip: Tensor | None = None
    active: bool = False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the result."""
        axes = zip(self.image.shape[2:], self.padding, self.weight.shape[2:], self.stride, strict=True)
        rows, columns = ((size + 2 * padding - side) // stride + 1 for size, padding, side, stride in axes)
        return 1, len(self.weight), rows, columns


@dataclass
class _Fusion:
    """Runs convolutions, and knows which have been put off."""

    kernels: Kernels
    put_off: list[weakref.ref[_Image]] = field(default_factory=list)
    #: By the number of a weight: it, and the same as the kernel reads it.
    weights: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def run(self, work: _Convolution) -> Tensor:
        """The result."""
        if id(work.weight) not in self.weights:
            rows = work.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()
            self.weights[id(work.weight)] = work.weight, rows
        like = work.image
        out = torch.empty(work.shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
        skip = None if work.skip is None else work.skip.contiguous(memory_format=torch.channels_last)
        weight, side = self.weights[id(work.weight)][1], (work.weight.shape[2], work.weight.shape[3])
        self.kernels.convolve_image(
            work.image, weight, side, work.bias, skip, out, work.stride, work.padding, active=work.active
        )
        return out

    def run_all(self) -> None:
        """Run what has been put off, before torch does something that may change what it reads."""
        for reference in self.put_off:
            if (image := reference()) is not None:
                image.value()
        self.put_off.clear()


class _Image(Tensor):
    """An image ``[1, channels, rows, columns]``, or the convolution that makes it; or anything else of torch's."""

    @staticmethod
    def __new__(cls, *_: Any) -> _Image:
        return stand_in(cls)

    def __init__(self, fusion: _Fusion, content: Tensor | _Convolution) -> None:
        self.fusion, self.content = fusion, content
        if isinstance(content, _Convolution):
            fusion.put_off.append(weakref.ref(self))

    @property
    def shape(self) -> Any:  # type: ignore[override]
        return torch.Size(self.content.shape)

    def value(self) -> Tensor:
        """The image itself."""
        if isinstance(self.content, _Convolution):
            self.content = self.fusion.run(self.content)
        return self.content

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        fused = _FUSED[function](*args, **kwargs) if function in _FUSED else None
        if fused is not None:
            return fused
        fusion = next(one.fusion for one in tree_leaves((args, kwargs)) if isinstance(one, _Image))
        fusion.run_all()
        result = function(*tree_map(_value, args), **tree_map(_value, kwargs))
        return _Image(fusion, result) if isinstance(result, Tensor) else result


def _value(one: Any) -> Any:
    return one.value() if isinstance(one, _Image) else one


def _open(one: Any) -> _Convolution | None:
    """The convolution behind which something can be done in the same pass, or None."""
    content = one.content if isinstance(one, _Image) else None
    return content if isinstance(content, _Convolution) and not content.active else None


def _convolve(
    image: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> _Image | None:
    stride, padding, dilation = (_pair(value) for value in (stride, padding, dilation))
    if not isinstance(image, _Image) or isinstance(weight, _Image) or isinstance(bias, _Image):
        return None
    value = image.value()
    if isinstance(padding, str) or tuple(dilation) != (1, 1) or groups != 1 or value.dim() != 4 or len(value) != 1:
        return None
    return _Image(image.fusion, _Convolution(value, weight, bias, tuple(stride), tuple(padding)))


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


def _activate(image: Any, alpha: float = 1.0, inplace: bool = False) -> _Image | None:
    work = _open(image)
    if work is None or alpha != 1:
        return None
    if not inplace:
        return _Image(image.fusion, replace(work, active=True))
    work.active = True
    return image  # type: ignore[no-any-return]


def _add(one: Any, other: Any, alpha: float = 1) -> _Image | None:
    for image, added in ((other, one), (one, other)):
        work = _open(image)
        is_image = isinstance(added, Tensor) and added.shape == (work and work.shape)
        if work is not None and work.skip is None and is_image and alpha == 1:
            skip = _value(added)
            # To bring the sum up to date may have run the convolution itself.
            return None if _open(image) is None else _Image(image.fusion, replace(work, skip=skip))
    return None


_FUSED: dict[Any, Callable[..., _Image | None]] = {
    torch.conv2d: _convolve,
    elu: _activate,
    Tensor.add: _add,
    torch.add: _add,
}
