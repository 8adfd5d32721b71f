# SPDX-License-Identifier: Apache-2.0
"""The spline convolution with PyG's parameters.

It runs in compiled loops on the CPU, in Triton kernels on CUDA devices that have them, and in plain torch elsewhere:
:meth:`SplineConv.edges` chooses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from aegnn_core.nn import spline_triton
from aegnn_core.nn.groups import grouped
from aegnn_core.nn.spline_kernels import (
    LANES,
    spline_basis,
    sum_by_kernel,
    sum_into_8_kernels,
    take_items,
    weights_of_8_kernels,
)
from aegnn_core.nn.spline_triton import OrderedEdges
from aegnn_core.torch_threads import torch_team

__all__ = ["EdgeSplines", "SplineConv"]

#: Most bytes of neighbour sums held at once, so that they are still in the cache when they are multiplied.
_BYTES_AT_ONCE = 2**21
#: Matrices with fewer columns are multiplied transposed.
_FEW_COLUMNS = 16


@dataclass(frozen=True, eq=False)
class EdgeSplines:
    """Edges as the convolution reads them.

    ``source``, ``target`` ``[E]``, ``scale [N]`` of every target's sum, and the ``S`` kernels around every edge's
    attribute, ``kernel [E, S]``, with their weights, ``basis [E, S]``.
    """

    source: Tensor
    target: Tensor
    scale: Tensor
    kernel: Tensor
    basis: Tensor
    _by_node: dict[tuple[bool, int], tuple[np.ndarray, np.ndarray, np.ndarray]] = field(
        default_factory=dict, repr=False
    )

    def by_node(self, *, by_source: bool, nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The edges of each of ``nodes`` nodes together, made once for all layers on the CPU.

        Returns:
            Where those of a node begin ``[nodes + 1]``, their numbers ``[E]`` and their other ends ``[E]``.
        """
        if (by_source, nodes) not in self._by_node:
            end, other = (self.source, self.target) if by_source else (self.target, self.source)
            groups = grouped(end.contiguous().numpy(), nodes)
            others = np.empty(len(groups.item), np.int32)
            take_items(torch_team(), other.contiguous().numpy(), groups.item, others)
            self._by_node[by_source, nodes] = *groups, others
        return self._by_node[by_source, nodes]


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
        self.in_channels, self.out_channels, self.aggr = in_channels, out_channels, aggr
        self._sizes = tuple(sizes)
        self.register_buffer("kernel_size", torch.tensor(sizes), persistent=False)
        self.kernel_size: Tensor
        self.weight = nn.Parameter(torch.empty(math.prod(sizes), in_channels, out_channels))
        self.lin = nn.Linear(in_channels, out_channels, bias=False) if root_weight else None
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Spline kernels per component, as the weights have them; ``kernel_size`` is the same where the model is."""
        return self._sizes

    @property
    def dim(self) -> int:
        """Components of an edge attribute."""
        return len(self._sizes)

    def reset_parameters(self) -> None:
        """Draw the parameters as PyG does: uniform in ±1/√(in · K), bias 0."""
        bound = 1 / math.sqrt(self.in_channels * len(self.weight))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.lin is not None:
            self.lin.reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """Convolve; see the class for shapes.

        Raises:
            ValueError: another shape, or, on the CPU, an edge that is not between nodes.
        """
        if edge_attr.dim() != 2 or edge_attr.shape[1] != self.dim:
            raise ValueError(f"edge_attr must be [E, {self.dim}], found {list(edge_attr.shape)}")
        if x.dim() != 2 or x.shape[1] != self.in_channels:
            raise ValueError(f"x must be [N, {self.in_channels}], found {list(x.shape)}")
        attr = edge_attr.to(torch.promote_types(x.dtype, torch.float32))
        return self.convolve(x, x, self.edges(edge_index[0], edge_index[1], attr, len(x), check=True))

    def edges(
        self, source: Tensor, target: Tensor, edge_attr: Tensor, nodes: int, *, check: bool = False
    ) -> EdgeSplines | OrderedEdges:
        """What layers of the same kernel size and aggregation can share: the splines on every edge.

        Args:
            source: ``[E]`` rows of the features.
            target: ``[E]`` rows of the result.
            edge_attr: ``[E, dim]``, of the features' dtype, or float32 where that has 16 bits.
            nodes: rows of the result.
            check: on the CPU, whether both ends are rows of the result, for edges that are somebody else's.

        Raises:
            ValueError: they are not, or there are more or fewer attributes, where that is checked.
        """
        if check and edge_attr.device.type == "cpu":
            _check_edges(source, target, edge_attr, nodes)
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
        out: Tensor
        if isinstance(edges, OrderedEdges):
            out = self._convolve_in_triton(features, edges)
        elif own.device.type == "cpu" and features.element_size() > 2:  # compiled code knows no numbers of 16 bits
            out = _CompiledConvolution.apply(features, self.weight, edges)  # type: ignore[no-untyped-call]
        else:
            out = _convolve_in_torch(features, self.weight, edges)
        if self.lin is not None:
            weight = self.lin.weight
            with torch.autocast(own.device.type, enabled=False):  # as the sums
                out = out + linear(own.to(weight.dtype), weight, self.bias)
        elif self.bias is not None:
            out = out + self.bias
        return out

    def _convolve_in_triton(self, features: Tensor, edges: OrderedEdges) -> Tensor:
        layer = (self.sizes, self.in_channels, self.out_channels)
        if spline_triton.is_right(features.device, features.dtype, *layer):
            return spline_triton.convolve(features, self.weight, edges)
        in_torch = EdgeSplines(edges.source, edges.target, edges.scale, *self.basis(edges.attr))
        out: Tensor = _convolve_in_torch(features, self.weight, in_torch)
        return out

    def basis(self, edge_attr: Tensor) -> tuple[Tensor, Tensor]:
        """The ``2^dim`` kernels around every edge's attribute and their weights, both ``[E, 2^dim]``."""
        weight = torch.empty(len(edge_attr), 2**self.dim, dtype=edge_attr.dtype, device=edge_attr.device)
        if edge_attr.device.type == "cpu":
            attr = edge_attr.detach().contiguous().numpy()
            if self.sizes == (2, 2, 2):
                weights_of_8_kernels(torch_team(), attr, weight.numpy())
                return torch.arange(8, device="cpu").expand(weight.shape), weight
            index = torch.empty(weight.shape, dtype=torch.long, device="cpu")
            spline_basis(torch_team(), attr, self.kernel_size.numpy(), index.numpy(), weight.numpy())
            return index, weight
        index = torch.empty(weight.shape, dtype=torch.long, device=edge_attr.device)
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

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        metadata: dict[str, Any],
        strict: bool,
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
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


def _check_edges(source: Tensor, target: Tensor, edge_attr: Tensor, nodes: int) -> None:
    """Raise ``ValueError`` unless edges are between nodes and have attributes: compiled loops look at no bounds."""
    if not len(source) == len(target) == len(edge_attr):
        raise ValueError(f"edge_index must be [2, E] for {len(edge_attr)} edge attributes, found [2, {len(source)}]")
    for ends in (source.numpy(), target.numpy()):
        if len(ends) and (ends.min() < 0 or ends.max() >= nodes):
            found = f"{ends.min()} to {ends.max()}"
            raise ValueError(f"edge_index must be between 0 and {nodes - 1}, for {nodes} nodes, found {found}")


def _runs_in_triton(device: torch.device, dim: int) -> bool:
    return device.type == "cuda" and spline_triton.refusal(device, dim) is None


@torch.autocast("cpu", enabled=False)  # type: ignore[untyped-decorator]
@torch.autocast("cuda", enabled=False)  # type: ignore[untyped-decorator]
def _convolve_in_torch(x: Tensor, weight: Tensor, edges: EdgeSplines) -> Tensor:
    """As ``_CompiledConvolution``, in torch operations: for other devices, and for numbers of 16 bits."""
    kernels, channels, _ = weight.shape
    sums = edges.basis.new_zeros(len(edges.scale) * kernels, channels)
    scaled = edges.basis * edges.scale[edges.target, None]
    for corner in range(edges.basis.shape[1]):
        rows = edges.target * kernels + edges.kernel[:, corner]
        sums = sums.index_add(0, rows, scaled[:, corner, None] * x[edges.source])
    out = sums.view(len(edges.scale), kernels * channels) @ weight.reshape(kernels * channels, -1).to(sums.dtype)
    return out.to(torch.promote_types(x.dtype, weight.dtype))


class _CompiledConvolution(torch.autograd.Function):
    """``out_i = scale_i Σ_e Σ_s basis_es · x[source_e] · weight[kernel_es]`` on the CPU.

    ``x [M, C]``, ``weight [K, C, O]``, the edges → ``[N, O]``.
    """

    @staticmethod
    @torch.autocast("cpu", enabled=False)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, weight: Tensor, edges: EdgeSplines) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.edges = edges
        padded, flat = _in_lanes(x), _in_lanes(weight.detach(), 1).flatten(0, 1)
        out = x.new_empty(len(edges.scale), weight.shape[2])
        for first, last, sums in _sums(padded, edges, len(weight), by_source=False, nodes=len(out)):
            _multiply(sums, flat, out[first:last])
        return out.mul_(edges.scale[:, None])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grad_out = grad_out * ctx.edges.scale[:, None]
        if not ctx.needs_input_grad[0]:
            return None, _gradient_of_weights(x, weight, grad_out, ctx.edges), None
        return *_gradients(x, weight, grad_out, ctx.edges, ctx.needs_input_grad[1]), None


def _gradient_of_weights(x: Tensor, weight: Tensor, grad_out: Tensor, edges: EdgeSplines) -> Tensor:
    """The sums of the forward pass once more, times the gradient behind them; of a layer whose input needs none."""
    x = _in_lanes(x)
    kernels, channels, outputs = weight.shape
    grad = weight.new_zeros(outputs, kernels * x.shape[1])
    for first, last, sums in _sums(x, edges, kernels, by_source=False, nodes=len(grad_out)):
        grad.addmm_(grad_out[first:last].t(), sums)
    return grad.view(outputs, kernels, -1)[:, :, :channels].permute(1, 2, 0)


def _gradients(
    x: Tensor, weight: Tensor, grad_out: Tensor, edges: EdgeSplines, of_weights: bool
) -> tuple[Tensor, Tensor | None]:
    """Both gradients from what comes back along the edges that leave each node, summed per spline kernel."""
    kernels, channels, outputs = weight.shape
    grad_out = _in_lanes(grad_out)
    flat = _in_lanes(weight.transpose(1, 2), 1).flatten(0, 1)
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    grad_weight = weight.new_zeros(channels, len(flat)) if of_weights else None
    for first, last, sums in _sums(grad_out, edges, kernels, by_source=True, nodes=len(x)):
        _multiply(sums, flat, grad_x[first:last])
        if grad_weight is not None:
            grad_weight.addmm_(x[first:last].t(), sums)
    if grad_weight is not None:
        grad_weight = grad_weight.view(channels, kernels, -1)[:, :, :outputs].transpose(0, 1)
    return grad_x, grad_weight


def _multiply(sums: Tensor, flat: Tensor, out: Tensor) -> None:
    """``out [N, O] = sums · flat``, transposed where that is several times as fast: where there are few columns."""
    if out.shape[1] < _FEW_COLUMNS:
        out.copy_(torch.mm(flat.t(), sums.t()).t())
    else:
        torch.mm(sums, flat, out=out)


def _in_lanes(values: Tensor, dim: int = -1) -> Tensor:
    """Zeros behind the values along a dimension, so that there are as many as :func:`sum_by_kernel` takes."""
    size = values.shape[dim]
    if size == 1 or size % LANES == 0:
        return values.contiguous()
    shape = list(values.shape)
    shape[dim] = -size % LANES
    return torch.cat([values, values.new_zeros(shape)], dim)


def _sums(
    x: Tensor, edges: EdgeSplines, kernels: int, *, by_source: bool, nodes: int
) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (first node, last node, their neighbours' features summed per spline kernel ``[last - first, K · C]``).

    The sums are those of a slice of the nodes at a time, in one buffer. ``by_source``, the neighbours are the targets
    of a node's edges; otherwise their sources.
    """
    channels, corners = x.shape[1], edges.basis.shape[1]
    by_node = edges.by_node(by_source=by_source, nodes=nodes)
    step = max(1, min(nodes, _BYTES_AT_ONCE // (kernels * channels * x.element_size())))
    sums = x.new_empty(step, kernels * channels)
    basis, features, out = (a.contiguous().numpy().ravel() for a in (edges.basis.to(x.dtype), x.detach(), sums))
    arguments: tuple[Any, ...] = (*by_node, basis, features, channels, out)
    team = torch_team()
    loop: Any = sum_into_8_kernels
    if not kernels == corners == 8:
        index = edges.kernel.contiguous().numpy().ravel()
        loop, arguments = sum_by_kernel, (*by_node, index, corners, basis, kernels, features, channels, out)
    for first in range(0, nodes, step):
        last = min(nodes, first + step)
        loop(team, first, last, *arguments)
        yield first, last, sums[: last - first]
