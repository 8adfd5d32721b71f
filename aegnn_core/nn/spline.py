# SPDX-License-Identifier: Apache-2.0
"""The spline convolution with PyG's parameters.

It runs in compiled loops on the CPU, in Triton kernels on CUDA devices that have them, and in plain torch elsewhere:
:meth:`SplineConv.edges` chooses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aegnn_core.nn import spline_triton
from aegnn_core.nn.spline_kernels import aggregate, aggregate_backward, spline_basis
from aegnn_core.nn.spline_triton import OrderedEdges

__all__ = ["EdgeSplines", "SplineConv"]

#: Most bytes of neighbour sums held at once; larger layers are worked through in slices of the nodes.
_BYTES_AT_ONCE = 256 * 2**20


class EdgeSplines(NamedTuple):
    """Edges as the convolution reads them.

    ``source``, ``target`` ``[E]``, ``scale [N]`` of every target's sum, and the ``S`` kernels around every edge's
    attribute, ``kernel [E, S]``, with their weights, ``basis [E, S]``.
    """

    source: Tensor
    target: Tensor
    scale: Tensor
    kernel: Tensor
    basis: Tensor


class SplineConv(nn.Module):
    r"""Spline-based convolution (Fey et al., *SplineCNN*, CVPR 2018) with linear, open B-splines.

    .. math::
        x'_i = \frac{1}{|N(i)|} \sum_{j \in N(i)} x_j \cdot \Big(\sum_k b_k(e_{j,i})\, W_k\Big) + x_i W_{root} + b

    The neighbours' features are summed per spline kernel first and multiplied by the weights once per node, which takes
    several times less arithmetic than a product per edge.

    Args:
        in_channels: features per node in.
        out_channels: features per node out.
        dim: components of an edge attribute, each in [0, 1].
        kernel_size: spline kernels per component, one number or one per component, each at least 2.
        aggr: ``"mean"`` or ``"add"``.
        root_weight: add the node's own features times a matrix.
        bias: add a bias.

    Shapes:
        ``x [N, in_channels]``, ``edge_index [2, E]`` (row 0 source, row 1 target), ``edge_attr [E, dim]`` →
        ``[N, out_channels]``. Parameters are named and laid out as PyG's: ``weight [K, in, out]``, ``lin.weight``,
        ``bias``.
        No gradient flows to ``edge_attr``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dim: int,
        kernel_size: int | Sequence[int],
        aggr: str = "mean",
        root_weight: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        sizes = [kernel_size] * dim if isinstance(kernel_size, int) else list(kernel_size)
        if dim < 1 or len(sizes) != dim or min(sizes) < 2:
            raise ValueError(f"kernel_size must be {dim} numbers of at least 2, found {kernel_size}")
        if aggr not in ("mean", "add"):
            raise ValueError(f"aggr must be mean or add, found {aggr!r}")
        self.in_channels, self.out_channels, self.dim, self.aggr = in_channels, out_channels, dim, aggr
        #: Spline kernels per component; ``kernel_size`` is the same where the model is.
        self.sizes = tuple(sizes)
        self.register_buffer("kernel_size", torch.tensor(sizes), persistent=False)
        self.kernel_size: Tensor
        self.weight = nn.Parameter(torch.empty(math.prod(sizes), in_channels, out_channels))
        self.lin = nn.Linear(in_channels, out_channels, bias=False) if root_weight else None
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters as PyG does: uniform in ±1/√(in · K), bias 0."""
        bound = 1 / math.sqrt(self.in_channels * len(self.weight))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.lin is not None:
            self.lin.reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """Convolve; see the class for shapes."""
        if edge_attr.dim() != 2 or edge_attr.shape[1] != self.dim:
            raise ValueError(f"edge_attr must be [E, {self.dim}], found {list(edge_attr.shape)}")
        if x.dim() != 2 or x.shape[1] != self.in_channels:
            raise ValueError(f"x must be [N, {self.in_channels}], found {list(x.shape)}")
        attr = edge_attr.to(torch.promote_types(x.dtype, torch.float32))
        return self.convolve(x, x, self.edges(edge_index[0], edge_index[1], attr, len(x)))

    def edges(self, source: Tensor, target: Tensor, edge_attr: Tensor, nodes: int) -> EdgeSplines | OrderedEdges:
        """What layers of the same kernel size and aggregation can share: the splines on every edge.

        Args:
            source: ``[E]`` rows of the features.
            target: ``[E]`` rows of the result.
            edge_attr: ``[E, dim]``, of the features' dtype, or float32 where that has 16 bits.
            nodes: rows of the result.
        """
        if self.aggr == "mean":
            scale = 1 / torch.bincount(target, minlength=nodes).clamp(min=1).to(edge_attr.dtype)
        else:
            scale = edge_attr.new_ones(nodes)
        if _runs_in_triton(edge_attr.device, self.dim):
            return OrderedEdges(source, target, scale, edge_attr, self.sizes)
        return EdgeSplines(source, target, scale, *self.basis(edge_attr))

    def convolve(self, features: Tensor, own: Tensor, edges: EdgeSplines | OrderedEdges) -> Tensor:
        """The convolution for some nodes only, with all their incoming edges.

        Args:
            features: ``[M, in]`` rows that ``edges.source`` names.
            own: ``[N, in]`` the nodes' own features, for the root weight; ``edges.target`` names their rows.
            edges: from :meth:`edges`.

        Returns:
            ``[N, out]``.
        """
        if isinstance(edges, OrderedEdges):
            out = self._convolve_in_triton(features, edges)
        elif own.device.type == "cpu":
            out = _CompiledConvolution.apply(features, self.weight, *edges)
        else:
            out = _convolve_in_torch(features, self.weight, *edges)
        if self.lin is not None:
            out = out + self.lin(own)
        if self.bias is not None:
            out = out + self.bias
        return out

    def _convolve_in_triton(self, features: Tensor, edges: OrderedEdges) -> Tensor:
        layer = (self.sizes, self.in_channels, self.out_channels)
        if spline_triton.is_right(features.device, features.dtype, *layer):
            return spline_triton.convolve(features, self.weight, edges)
        return _convolve_in_torch(
            features, self.weight, edges.source, edges.target, edges.scale, *self.basis(edges.attr)
        )

    def basis(self, edge_attr: Tensor) -> tuple[Tensor, Tensor]:
        """The ``2^dim`` kernels around every edge's attribute and their weights, both ``[E, 2^dim]``."""
        index = torch.empty(len(edge_attr), 2**self.dim, dtype=torch.long, device=edge_attr.device)
        weight = torch.empty(len(edge_attr), 2**self.dim, dtype=edge_attr.dtype, device=edge_attr.device)
        if edge_attr.device.type == "cpu":
            spline_basis(
                edge_attr.detach().contiguous().numpy(), self.kernel_size.numpy(), index.numpy(), weight.numpy()
            )
            return index, weight
        position = edge_attr * (self.kernel_size - 1)
        low = position.long()
        fraction = position - low
        high = torch.minimum(low + 1, self.kernel_size - 1)
        stride = torch.cumprod(self.kernel_size, 0) // self.kernel_size
        component = torch.arange(self.dim, device=edge_attr.device)
        for corner in range(2**self.dim):
            upper = ((corner >> component) & 1).bool()
            index[:, corner] = (torch.where(upper, high, low) * stride).sum(1)
            weight[:, corner] = torch.where(upper, fraction, 1 - fraction).prod(1)
        return index, weight

    def _load_from_state_dict(self, state_dict, prefix, metadata, strict, missing, unexpected, errors):
        """Also take the state of PyG's layer, which stores its kind of spline beside the weights."""
        sizes = state_dict.pop(f"{prefix}kernel_size", None)
        if sizes is not None and sizes.tolist() != self.kernel_size.tolist():
            errors.append(f"{prefix}kernel_size is {sizes.tolist()}, expected {self.kernel_size.tolist()}")
        is_open = state_dict.pop(f"{prefix}is_open_spline", None)
        if is_open is not None and not bool(is_open.all()):
            errors.append(f"{prefix}is_open_spline is {is_open.tolist()}: closed splines are not supported")
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unexpected, errors)

    def __repr__(self) -> str:
        size = "x".join(str(int(k)) for k in self.kernel_size)
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, kernel={size}, aggr={self.aggr})"


def _runs_in_triton(device: torch.device, dim: int) -> bool:
    return device.type == "cuda" and spline_triton.refusal(device, dim) is None


@torch.autocast("cuda", enabled=False)
def _convolve_in_torch(
    x: Tensor, weight: Tensor, source: Tensor, target: Tensor, scale: Tensor, index: Tensor, basis: Tensor
) -> Tensor:
    """The convolution as torch operations, for devices without compiled loops; as ``_CompiledConvolution``."""
    kernels, channels, _ = weight.shape
    sums = basis.new_zeros(len(scale) * kernels, channels)
    scaled = basis * scale[target, None]
    for corner in range(basis.shape[1]):
        sums = sums.index_add(0, target * kernels + index[:, corner], scaled[:, corner, None] * x[source])
    out = sums.view(len(scale), kernels * channels) @ weight.reshape(kernels * channels, -1).to(sums.dtype)
    return out.to(torch.promote_types(x.dtype, weight.dtype))


class _CompiledConvolution(torch.autograd.Function):
    """``out_i = scale_i Σ_e Σ_s basis_es · x[source_e] · weight[index_es]`` on the CPU.

    ``x [M, C]``, ``weight [K, C, O]``, the rest as in :class:`EdgeSplines` → ``[N, O]``.
    """

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(ctx, x, weight, source, target, scale, index, basis):
        nodes, (kernels, channels, _) = len(scale), weight.shape
        step = max(1, _BYTES_AT_ONCE // (kernels * channels * x.element_size()))
        if step < nodes and not bool((target[1:] >= target[:-1]).all()):
            order = torch.argsort(target, stable=True)
            source, target, index, basis = source[order], target[order], index[order], basis[order]
        x = x.contiguous()
        flat = weight.reshape(kernels * channels, -1)
        edges = tuple(a.contiguous().detach() for a in (source, target, scale, index, basis))
        out = x.new_empty(nodes, flat.shape[1])
        sums = None
        for first, last, part in _slices(nodes, step, edges):
            sums = _sum_neighbors(x, first, last, kernels, part)
            torch.mm(sums, flat, out=out[first:last])
        ctx.step = step
        ctx.save_for_backward(x, weight, sums if step >= nodes else None, *edges)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_out):
        x, weight, sums, *edges = ctx.saved_tensors
        kernels, channels, outputs = weight.shape
        flat = weight.reshape(kernels * channels, outputs)
        grad_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for first, last, part in _slices(len(grad_out), ctx.step, edges):
            grad = grad_out[first:last]
            if grad_weight is not None:
                held = sums if sums is not None else _sum_neighbors(x, first, last, kernels, part)
                grad_weight.view_as(flat).addmm_(held.t(), grad)
            if grad_x is not None:
                grad_sums = (grad @ flat.t()).view(last - first, kernels, channels)
                source, target, scale, index, basis = (a.numpy() for a in part)
                aggregate_backward(grad_sums.numpy(), source, target, first, scale, index, basis, grad_x.numpy())
        return grad_x, grad_weight, None, None, None, None, None


def _slices(nodes, step, edges):
    """Yield (first node, last node, the edges into them); ``edges`` = (source, target, scale, index, basis)."""
    if step >= nodes:
        yield 0, nodes, edges
        return
    source, target, scale, index, basis = edges
    starts = torch.arange(0, nodes + step, step)
    cuts = torch.searchsorted(target, starts).tolist()
    for n, (a, b) in enumerate(pairwise(cuts)):
        yield n * step, min(nodes, (n + 1) * step), (source[a:b], target[a:b], scale, index[a:b], basis[a:b])


def _sum_neighbors(x, first, last, kernels, part):
    """Neighbour sums per spline kernel ``[last - first, K · C]``."""
    source, target, scale, index, basis = (a.numpy() for a in part)
    sums = x.new_zeros(last - first, kernels, x.shape[1])
    aggregate(x.detach().numpy(), source, target, first, scale, index, basis, sums.numpy())
    return sums.flatten(1)
