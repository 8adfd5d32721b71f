# SPDX-License-Identifier: Apache-2.0
"""FLOPs of torch functions by the definition of docs/flops.md, and of our own layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor

from aegnn_core.nn.spline import SplineConv

__all__ = ["basis_flops", "function_name", "operation_flops", "spline_flops"]

_NONE: Mapping[str, Any] = MappingProxyType({})
_MOVES = frozenset(
    [
        "view",
        "reshape",
        "view_as",
        "expand",
        "expand_as",
        "repeat",
        "flatten",
        "transpose",
        "swapaxes",
        "permute",
        "unsqueeze",
        "squeeze",
        "chunk",
        "split",
        "tensor_split",
        "unbind",
        "narrow",
        "select",
        "__getitem__",
        "__setitem__",
        "detach",
        "alias",
        "contiguous",
        "t",
        "type_as",
        "to",
        "float",
        "double",
        "long",
        "int",
        "bool",
        "half",
        "clone",
        "cat",
        "concat",
        "concatenate",
        "stack",
        "zeros",
        "ones",
        "full",
        "empty",
        "zeros_like",
        "ones_like",
        "full_like",
        "empty_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "arange",
        "index_select",
        "gather",
        "index_copy",
        "copy",
        "fill",
        "zero",
        "size",
        "dim",
        "numel",
        "element_size",
        "is_floating_point",
        "dropout",
        "embedding",
        "one_hot",
        "masked_select",
        "nonzero",
        "tensor",
        "from_numpy",
        "as_tensor",
        "sort",
        "argsort",
        "unique",
        "flip",
        "roll",
        "take",
        "pad",
        "item",
        "tolist",
        "numpy",
        "cpu",
        "type",
        "requires_grad",
        "__len__",
        "__get__",
        "__set__",
        "scatter",
        "is_contiguous",
        "bincount",
        "interpolate",
    ]
)
_REDUCTIONS = frozenset(
    [
        "sum",
        "nansum",
        "mean",
        "amax",
        "amin",
        "max",
        "min",
        "prod",
        "var",
        "std",
        "any",
        "all",
        "logsumexp",
        "softmax",
        "log_softmax",
        "cumsum",
        "argmax",
        "argmin",
        "median",
        "norm",
        "normalize",
        "scatter_add",
        "scatter_reduce",
        "index_add",
        "segment_reduce",
        "max_pool1d",
        "max_pool2d",
        "avg_pool1d",
        "avg_pool2d",
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "adaptive_max_pool2d",
    ]
)


def function_name(func: Callable[..., Any]) -> str:
    """The name of a torch function, without the underscore of its writing form."""
    name = getattr(func, "__name__", None) or str(func)
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


def operation_flops(
    func: Callable[..., Any], args: Any, result: Any, first: Tensor | None, kwargs: Mapping[str, Any] = _NONE
) -> int:
    """FLOPs of one call of a torch function.

    Args:
        func: the function.
        args: its positional arguments; weights have to be tensors.
        result: what it returned.
        first: its first tensor.
        kwargs: its other arguments.
    """
    name = function_name(func)
    if name in _MOVES or first is None:
        return 0
    out = result if isinstance(result, Tensor) else next((r for r in _leaves(result) if isinstance(r, Tensor)), None)
    if out is None:
        return 0
    if name in ("linear", "conv1d", "conv2d", "conv3d"):
        bias = _argument(args, kwargs, 2, "bias") is not None
        weight: Tensor = _argument(args, kwargs, 1, "weight")
        return 2 * out.numel() * weight[0].numel() + (out.numel() if bias else 0)
    if name in ("matmul", "mm", "bmm", "mv", "__matmul__", "__rmatmul__"):
        return 2 * out.numel() * first.shape[-1]
    if name in ("addmm", "baddbmm"):
        factor: Tensor = _argument(args, kwargs, 1, "mat1" if name == "addmm" else "batch1")
        return 2 * out.numel() * factor.shape[-1] + out.numel()
    if name in ("batch_norm", "layer_norm", "group_norm", "instance_norm"):
        return 2 * out.numel()
    if name in _REDUCTIONS:
        most = first
        if name in ("scatter_add", "scatter_reduce", "index_add"):
            source = _argument(args, kwargs, 3, "source" if name == "index_add" else "src")
            most = source if isinstance(source, Tensor) else first
        return most.numel()
    return out.numel()


def spline_flops(conv: SplineConv, rows: int, edges: int) -> int:
    """FLOPs of one of our spline convolutions for ``rows`` nodes with ``edges`` edges into them, splines apart."""
    kernels, channels, outputs = conv.weight.shape
    corners: int = 2**conv.dim
    scaling = edges * corners if conv.aggr == "mean" else 0
    flops = scaling + 2 * edges * corners * channels + 2 * rows * kernels * channels * outputs
    if conv.lin is not None:
        flops += 2 * rows * channels * outputs + rows * outputs
    if conv.bias is not None:
        flops += rows * outputs
    return flops


def basis_flops(conv: SplineConv, edges: int) -> int:
    """FLOPs of the splines on so many edges: per component a product, a difference and two products per kernel."""
    return edges * (2 * conv.dim + int(sum(3 * 2**d for d in range(conv.dim))))


def _argument(args: Any, kwargs: Mapping[str, Any], position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs.get(name)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()))
    else:
        yield value
