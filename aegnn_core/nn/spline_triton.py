# SPDX-License-Identifier: Apache-2.0
"""The spline convolution on a CUDA device, forwards and backwards in Triton kernels: for training and whole graphs.

The gradient of the features is the same convolution along the edges turned around, with the weights of every spline
kernel transposed. So the edges are brought into the order of either end, once for all layers of a network.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from aegnn_core.triton_support import interpreted, unavailable

__all__ = ["MOST_DIMENSIONS", "OrderedEdges", "convolve", "disagreement", "is_right", "refusal"]

#: Components of an edge's attribute, at most.
MOST_DIMENSIONS = 3
#: Nodes that a program works on side by side; the interpreter has a price per operation, however large.
_NODES, _INTERPRETED_NODES = 16, 128
#: Features read and written that a program works on at a time, and the numbers of a layer's weights.
_MOST_CHANNELS, _WEIGHTS_AT_ONCE = 64, 2048
_LEAST_SIDE, _MOST_ROWS = 16, 16
#: Programs that keep a device busy, and the most numbers of partial gradients for that.
_PROGRAMS, _MOST_PARTIAL = 1024, 1 << 26
#: What the self-check allows, of the largest number; sums of 16-bit numbers are of 32 bits, their results are not.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True, eq=False)
class _Order:
    """Edges in the order of one end: see :func:`.spline_triton_kernels.convolve`."""

    start: Tensor
    other: Tensor
    attr: Tensor


@dataclass(frozen=True, eq=False)
class OrderedEdges:
    """Edges of a graph as the kernels read them.

    Attributes:
        source, target: ``[E]`` rows of the features, and of the result.
        scale: ``[N]`` of every target's sum.
        attr: ``[E, dim]`` in [0, 1].
        sizes: spline kernels per component.
    """

    source: Tensor
    target: Tensor
    scale: Tensor
    attr: Tensor
    sizes: tuple[int, ...]
    _orders: dict[tuple[bool, int], _Order] = field(default_factory=dict, repr=False)

    def ordered(self, *, by_source: bool, nodes: int) -> _Order:
        """The edges of each of ``nodes`` nodes together, in their first order otherwise; made once."""
        if (by_source, nodes) not in self._orders:
            end, other = (self.source, self.target) if by_source else (self.target, self.source)
            end, order = torch.sort(end, stable=True)
            start = torch.searchsorted(end, torch.arange(nodes + 1, device=end.device))
            self._orders[by_source, nodes] = _Order(start, other[order].int(), self.attr[order].contiguous())
        return self._orders[by_source, nodes]


def refusal(device: torch.device, dim: int) -> str | None:
    """Why the kernels do not convolve along edges with attributes of ``dim`` components on a device, or None."""
    if dim > MOST_DIMENSIONS:
        return f"it knows edges of up to {MOST_DIMENSIONS} dimensions, found {dim}"
    return unavailable(device)


def convolve(features: Tensor, weight: Tensor, edges: OrderedEdges, kernels: Any = None) -> Tensor:
    """``out_i = scale_i Σ_e Σ_k b_k(attr_e) · features[source_e] · weight[k]``.

    Sums and products of 16-bit numbers are made in float32, of which the products keep TF32's ten bits, as many as
    float16 has; those of float32 and float64 in these. Two runs give the same bits.

    Args:
        features: ``[M, C]``.
        weight: ``[K, C, O]``.
        edges: with ``N`` targets.
        kernels: with ``convolve`` and ``weight_gradient``; :mod:`.spline_triton_kernels` if None.

    Returns:
        ``[N, O]``; gradients flow to features and weights.
    """
    out: Tensor = _Convolution.apply(features, weight, edges, kernels)  # type: ignore[no-untyped-call]
    return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, edges: OrderedEdges, kernels: Any) -> Tensor:
        launches = _Launches(edges.sizes, kernels)
        features, weight = features.contiguous(), weight.contiguous()
        order = edges.ordered(by_source=False, nodes=len(edges.scale))
        out = launches.convolve(order, features, weight, _precision(features)) * edges.scale[:, None]
        ctx.edges, ctx.launches = edges, launches
        ctx.save_for_backward(features, weight)
        return out.to(torch.promote_types(features.dtype, weight.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (features, weight), edges = ctx.saved_tensors, ctx.edges
        grad = (grad_out.to(_sum_type(grad_out.dtype)) * edges.scale[:, None]).contiguous()
        precision = _precision(features)
        grad_features = grad_weight = None
        if ctx.needs_input_grad[0]:
            order = edges.ordered(by_source=True, nodes=len(features))
            turned = weight.transpose(1, 2).contiguous()
            grad_features = ctx.launches.convolve(order, grad, turned, precision).to(features.dtype)
        if ctx.needs_input_grad[1]:
            order = edges.ordered(by_source=False, nodes=len(grad))
            grad_weight = ctx.launches.weight_gradient(order, features, grad, weight, precision)
            grad_weight = grad_weight.to(weight.dtype)
        return grad_features, grad_weight, None, None


@dataclass(frozen=True)
class _Blocks:
    """What a program of a kernel works on at a time."""

    nodes: int
    rows: int
    inputs: int
    outputs: int

    @classmethod
    def of(cls, kernels: int, inputs: int, outputs: int) -> _Blocks:
        block_inputs = min(_power_of_two(inputs), _MOST_CHANNELS)
        block_outputs = min(max(_power_of_two(outputs), _LEAST_SIDE), _MOST_CHANNELS)
        rows = min(_MOST_ROWS, _power_of_two(kernels), max(1, _WEIGHTS_AT_ONCE // (block_inputs * block_outputs)))
        rows = max(rows, _LEAST_SIDE // block_inputs)
        return cls(_INTERPRETED_NODES if interpreted() else _NODES, rows, block_inputs, block_outputs)

    @property
    def constants(self) -> dict[str, int]:
        """As the kernels name them."""
        return {"NODES": self.nodes, "ROWS": self.rows, "INPUTS": self.inputs, "OUTPUTS": self.outputs}


class _Launches:
    """Launches of the kernels with the right arguments and block sizes."""

    def __init__(self, sizes: tuple[int, ...], kernels: Any = None) -> None:
        if kernels is None:
            from aegnn_core.nn import spline_triton_kernels as kernels  # Triton may be missing where nobody needs it
        self._all, self._dim = kernels, len(sizes)
        self._sizes = (*sizes, *[1] * (MOST_DIMENSIONS - len(sizes)))

    def convolve(self, order: _Order, features: Tensor, weight: Tensor, precision: str) -> Tensor:
        """``[nodes, outputs]`` in the type of sums."""
        nodes, (kernels, inputs, outputs) = len(order.start) - 1, weight.shape
        out = features.new_empty(nodes, outputs, dtype=_sum_type(features.dtype, weight.dtype))
        if not nodes:
            return out
        blocks = _Blocks.of(kernels, inputs, outputs)
        with _on(features.device):
            self._all.convolve[_cdiv(nodes, blocks.nodes), _cdiv(outputs, blocks.outputs)](
                order.start, order.other, order.attr, features, weight, out, nodes, kernels, inputs, outputs,
                *self._sizes, **blocks.constants, DIM=self._dim, PRECISION=precision,
            )  # fmt: skip
        return out

    def weight_gradient(self, order: _Order, features: Tensor, grad: Tensor, weight: Tensor, precision: str) -> Tensor:
        """The gradient of the weights in the type of sums."""
        nodes, (kernels, inputs, outputs) = len(grad), weight.shape
        blocks = _Blocks.of(kernels, inputs, outputs)
        tiles = _cdiv(kernels, blocks.rows) * _cdiv(inputs, blocks.inputs), _cdiv(outputs, blocks.outputs)
        most = min(_cdiv(_PROGRAMS, tiles[0] * tiles[1]), _MOST_PARTIAL // weight.numel())
        parts = max(1, min(most, _cdiv(nodes, blocks.nodes)))
        out = features.new_empty(parts, *weight.shape, dtype=_sum_type(features.dtype, weight.dtype))
        with _on(features.device):
            self._all.weight_gradient[*tiles, parts](
                order.start, order.other, order.attr, features, grad, out, nodes, _cdiv(nodes, parts), kernels, inputs,
                outputs, *self._sizes, **blocks.constants, DIM=self._dim, PRECISION=precision,
            )  # fmt: skip
        return out.sum(0)


@cache
def is_right(device: torch.device, dtype: torch.dtype, sizes: tuple[int, ...], inputs: int, outputs: int) -> bool:
    """Whether the kernels have given what torch gives for a layer on a device; tried once, warns if they have not.

    Kernels can be wrong on a device on which nobody has tried them.

    Raises:
        torch.OutOfMemoryError: there is no memory to try them, or for the layer; the next call tries them again.
    """
    found = disagreement(device, dtype, sizes, inputs, outputs)
    if found is not None:
        layer = f"a spline convolution {inputs} → {outputs} with kernels {sizes}"
        warnings.warn(f"{layer} is computed in torch on {device}, and slower: {found}", stacklevel=3)
    return found is None


@torch.inference_mode(False)  # in which there are no gradients
def disagreement(
    device: torch.device,
    dtype: torch.dtype,
    sizes: tuple[int, ...],
    inputs: int,
    outputs: int,
    kernels: Any = None,
    nodes: int = 100,
) -> str | None:
    """How the kernels' output and gradients on a graph that is always the same differ from torch's, or None.

    Args:
        device: on which the kernels run; torch runs on the CPU.
        dtype: of features and weights.
        sizes: spline kernels per component.
        inputs, outputs: features of the layer.
        kernels: see :func:`convolve`.
        nodes: of the graph, which has 15 edges for each.

    Raises:
        torch.OutOfMemoryError: there is no memory for it, which says nothing about the kernels.
    """
    generator = torch.Generator().manual_seed(0)
    count = 15 * nodes

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    ends = torch.randint(nodes, (2, count), generator=generator)
    attr = torch.rand(count, len(sizes), generator=generator)
    scale = 1 / torch.bincount(ends[1], minlength=nodes).clamp(min=1).double()
    given = random(nodes, inputs), random(math.prod(sizes), inputs, outputs), random(nodes, outputs)
    exact = [tensor.double() for tensor in given]
    source, target = ends
    expected = _results(_convolve_in_torch, OrderedEdges(source, target, scale, attr.double(), sizes), *exact)
    try:
        source, target, scale, attr = (end.to(device) for end in (source, target, scale.to(_sum_type(dtype)), attr))
        there = OrderedEdges(source, target, scale, attr, sizes)
        found = _results(partial(convolve, kernels=kernels), there, *(tensor.to(device) for tensor in given))
        for name, right, result in zip(("output", "features", "weights"), expected, found, strict=True):
            apart = float((result.cpu().double() - right).abs().max() / right.abs().max())
            if not apart <= _TOLERANCE[dtype]:  # not a number, too
                what = "output is" if name == "output" else f"gradient of the {name} is"
                return f"the kernels' {what} {apart:.3g} of its largest number away from torch's"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler, a driver or a device has to say
        return f"the kernels failed with {type(error).__name__}: {str(error)[:300]}"
    return None


def _results(
    function: Any, edges: OrderedEdges, features: Tensor, weight: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A convolution's output, and the gradients that ``grad`` sends back to features and weights."""
    with torch.enable_grad():
        features, weight = features.requires_grad_(), weight.requires_grad_()
        out = function(features, weight, edges)
        return out.detach(), *torch.autograd.grad(out, (features, weight), grad)


def _convolve_in_torch(features: Tensor, weight: Tensor, edges: OrderedEdges) -> Tensor:
    """As :func:`convolve`, one operation after the other, for few edges."""
    basis = edges.attr.new_ones(len(edges.attr), 1)
    for size, component in zip(edges.sizes, edges.attr.t(), strict=True):
        apart = component[:, None] * (size - 1) - torch.arange(size)
        basis = ((1 - apart.abs()).clamp(min=0)[:, :, None] * basis[:, None, :]).flatten(1)
    gathered, out = features[edges.source], features.new_zeros(len(edges.scale), weight.shape[2])
    for share, matrix in zip(basis.t(), weight, strict=True):
        reached = share.nonzero()[:, 0]  # of many kernels, by few edges
        messages = share[reached, None] * (gathered[reached] @ matrix)
        out = out.index_add(0, edges.target[reached], messages)
    return out * edges.scale[:, None]


def _sum_type(*dtypes: torch.dtype) -> torch.dtype:
    return torch.float64 if torch.float64 in dtypes else torch.float32


def _precision(features: Tensor) -> str:
    return "tf32" if features.element_size() == 2 else "ieee"


def _on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _cdiv(number: int, block: int) -> int:
    return -(-number // block)


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()
