# SPDX-License-Identifier: Apache-2.0
"""FLOPs of torch functions by the definition of docs/flops.md, and of our own layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any

from torch import Tensor

from aegnn_core.nn.spline import SplineConv

__all__ = ["basis_flops", "function_name", "operation_flops", "spline_flops", "tensors_in"]

_NONE: Mapping[str, Any] = MappingProxyType({})

#: FLOPs of a call from the first tensor that goes in, the first that comes out, positional and other arguments. Among
#: the arguments, what has rows may have more of them than the call was made for.
_Rule = Callable[[Tensor, Tensor, Any, Mapping[str, Any]], int]


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
    rule = _RULES.get(function_name(func), _per_value)
    if rule is _free or first is None:
        return 0
    out = result if isinstance(result, Tensor) else next(tensors_in(result), None)
    return 0 if out is None else rule(first, out, args, kwargs)


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


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in lists, tuples and dictionaries, in their order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


# Rules

#: In ``einsum``, labels for the dimensions that ``...`` stands for.
_ELLIPSIS = "0123456789"


def _free(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    return 0


def _per_value(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """One for every value that is returned, as of element-wise functions."""
    return out.numel()


def _norm(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    return 2 * out.numel()


def _reduction(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """One for every value that goes in."""
    return first.numel()


def _aggregation(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """One for every value that goes into rows of another tensor."""
    source = _argument(args, kwargs, 3, "src", "source")
    return source.numel() if isinstance(source, Tensor) else first.numel()


def _embedding_bag(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    return first.numel() * out.shape[-1]


def _distances(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """A difference, a power and a sum for every component of two vectors."""
    return 3 * out.numel() * first.shape[-1]


def _layer(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """``linear`` and convolutions: every value that is returned has a product with the weights of its channel."""
    weight: Tensor = _argument(args, kwargs, 1, "weight")
    return 2 * out.numel() * math.prod(weight.shape[1:]) + _bias(out, args, kwargs, 2)


def _transposed_convolution(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """Every value that goes in has a product with the weights of its channel."""
    weight: Tensor = _argument(args, kwargs, 1, "weight")
    return 2 * first.numel() * math.prod(weight.shape[1:]) + _bias(out, args, kwargs, 2)


def _bilinear(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """``x1 · weight · x2`` with ``weight [outputs, C1, C2]``, the first product first."""
    weight: Tensor = _argument(args, kwargs, 2, "weight")
    _, one, other = weight.shape
    return 2 * out.numel() * (one + 1) * other + _bias(out, args, kwargs, 3)


def _bias(out: Tensor, args: Any, kwargs: Mapping[str, Any], position: int) -> int:
    return 0 if _argument(args, kwargs, position, "bias") is None else out.numel()


def _product(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """``[m, k] · [k, n]``, ``[k] · [k]`` and the like; along ``dim`` where there is a choice."""
    return 2 * out.numel() * (first.shape[kwargs.get("dim", -1)] if first.dim() else 1)


def _reversed_product(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """The first tensor is the right factor."""
    return 2 * out.numel() * first.shape[-2:][0]


def _added_product(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """A product is added to the first tensor."""
    factor: Tensor = _argument(args, kwargs, 1, "mat1", "mat", "batch1")
    return 2 * out.numel() * factor.shape[-1] + out.numel()


def _added_products(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """The products of a batch are added to the first tensor."""
    factors: Tensor = _argument(args, kwargs, 1, "batch1")
    return 2 * out.numel() * factors.shape[0] * factors.shape[-1] + out.numel()


def _tensordot(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """Of ``m·k``, ``k·n`` and ``m·n`` values, whose product is the square of ``m·k·n``."""
    return 2 * math.isqrt(args[0].numel() * args[1].numel() * out.numel())


def _product_chain(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """Matrices, of which the first and the last may be vectors, in the order that takes the least."""
    *before, last = (tensor.shape for tensor in tensors_in((args, kwargs.get("tensors"))))
    return 2 * _chain_products((*((1, *shape)[-2] for shape in before), *(*last, 1)[:2]))


@lru_cache
def _chain_products(sides: tuple[int, ...]) -> int:
    """Multiply-adds of a chain of matrices, of which number n has ``sides[n]`` rows and ``sides[n + 1]`` columns."""
    splits = range(1, len(sides) - 1)
    costs = (
        _chain_products(sides[: k + 1]) + _chain_products(sides[k:]) + sides[0] * sides[k] * sides[-1] for k in splits
    )
    return min(costs, default=0)


def _einsum(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """From left to right: sums over what only one tensor has, and products with the next, summed where that is due."""
    terms, arrow, result = args[0].replace(" ", "").partition("->")
    parts: list[set[str]] = []
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms.split(","), tensors_in(args[1:]), strict=True):
        more = tensor.dim() - len(term.replace("...", ""))
        labels = term.replace("...", _ELLIPSIS[len(_ELLIPSIS) - more :])
        sizes |= {label: max(size, sizes.get(label, 1)) for label, size in zip(labels, tensor.shape, strict=True)}
        parts.append(set(labels))
    once = (label for label in terms if terms.count(label) == 1)
    kept = set(result.replace("...", _ELLIPSIS) if arrow else (*once, *_ELLIPSIS))
    flops, left = 0, set[str]()
    for n, own in enumerate(parts):
        later = kept.union(*parts[n + 1 :])
        alone = own - left - later
        flops += math.prod(sizes[label] for label in own) if alone else 0
        both = left | own - alone
        values = math.prod(sizes[label] for label in both)
        left = both & later
        flops += values * (1 if left == both else 2) if n else 0
    return flops


def _attention(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    key: Tensor = _argument(args, kwargs, 1, "key")
    scores = math.prod(out.shape[:-1]) * key.shape[-2]
    masked = _argument(args, kwargs, 3, "attn_mask") is not None
    return _attention_flops(scores, first.shape[-1] + out.shape[-1], masked)


def _attention_flops(scores: int, channels: int, masked: bool) -> int:
    """Products for the scores and with the values, ``channels`` of both; scale, softmax and mask of every score."""
    return scores * (2 * channels + 2 + masked)


def _multi_head_attention(first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """``torch.nn.functional.multi_head_attention_forward``."""
    query, key, value, channels, heads, _, bias_in, bias_k, _, zeros, _, _, bias_out = args[:13]
    rows, *others = (math.prod(tensor.shape[:-1]) for tensor in (query, key, value))
    projections = 2 * channels * (2 * query.numel() + key.numel() + value.numel())
    biases = (bias_in is not None) * channels * (rows + sum(others)) + (bias_out is not None) * rows * channels
    scores = heads * rows * (len(key) + (bias_k is not None) + zeros)
    masked = any(kwargs.get(name) is not None for name in ("attn_mask", "key_padding_mask"))
    averaged: bool = kwargs.get("need_weights", True) and kwargs.get("average_attn_weights", True)
    own: int = projections + biases + averaged * scores
    return own + _attention_flops(scores, 2 * channels // heads, masked)


def _recurrent(gates: int, steps: int, first: Tensor, out: Tensor, args: Any, kwargs: Mapping[str, Any]) -> int:
    """Layers whose matrices have the rows of so many gates, with so many element-wise steps per hidden value."""
    second = _argument(args, kwargs, 1, "batch_sizes")
    packed = isinstance(second, Tensor) and not second.is_floating_point()
    weights = list(tensors_in((args[3 if packed else 2 :], kwargs)))
    # Per layer and direction two of these, one for what comes in and one for the hidden values before.
    summed = sum(len(weight) for weight in weights if weight.dim() == 2 and len(weight) == len(weights[0])) // 2
    per_row = sum(weight.numel() * weight.dim() for weight in weights) + summed * steps // gates
    return math.prod(first.shape[:-1]) * per_row


def _argument(args: Any, kwargs: Mapping[str, Any], position: int, *names: str) -> Any:
    return args[position] if len(args) > position else next((kwargs[name] for name in names if name in kwargs), None)


#: Names of functions, and what they cost; any other is element-wise.
_RULES: dict[str, _Rule] = {}
for _rule, _names in (
    (
        _free,
        """view reshape view_as reshape_as expand expand_as broadcast_to broadcast_tensors repeat tile repeat_interleave
        flatten unflatten ravel transpose swapaxes swapdims t adjoint permute movedim moveaxis unsqueeze squeeze
        atleast_1d atleast_2d atleast_3d chunk split tensor_split split_with_sizes unsafe_chunk unsafe_split
        unsafe_split_with_sizes hsplit vsplit dsplit unbind narrow narrow_copy select diagonal linalg_diagonal
        as_strided unfold real imag view_as_real view_as_complex __getitem__ __setitem__ __reversed__ detach alias
        contiguous type type_as to float double half bfloat16 long int short char byte bool cfloat cdouble chalf cpu
        cuda clone copy to_dense to_sparse cat concat concatenate stack hstack vstack dstack row_stack column_stack
        block_diag cartesian_prod combinations meshgrid complex zeros ones full empty zeros_like ones_like full_like
        empty_like rand_like randn_like randint_like new_zeros new_ones new_full new_empty arange tensor from_numpy
        as_tensor index_select index_copy index_fill index_put gather scatter masked_select masked_scatter take
        take_along_dim put select_scatter slice_scatter diagonal_scatter as_strided_scatter diag diag_embed diagflat
        fill_diagonal tril triu fill zero nonzero nonzero_static argwhere embedding one_hot sort argsort msort topk
        searchsorted bucketize unique unique_consecutive unravel_index bincount flip fliplr flipud rot90 roll pad
        constant_pad_nd pad_sequence _pack_padded_sequence _pad_packed_sequence pixel_shuffle pixel_unshuffle
        channel_shuffle native_channel_shuffle max_unpool1d max_unpool2d max_unpool3d interpolate dropout dropout1d
        dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout size dim numel element_size
        is_floating_point is_contiguous item tolist numpy requires_grad resize resize_as set share_memory pin_memory
        __len__ __get__ __set__""",
    ),
    (
        _reduction,
        """sum nansum sum_to_size mean nanmean amax amin aminmax max min prod var std var_mean std_mean any all
        count_nonzero trace logsumexp special_logsumexp softmax log_softmax cumsum argmax argmin median nanmedian mode
        kthvalue quantile nanquantile norm linalg_norm linalg_vector_norm linalg_matrix_norm frobenius_norm
        nuclear_norm normalize segment_reduce max_pool1d max_pool2d max_pool3d max_pool1d_with_indices
        max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d lp_pool3d
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
        adaptive_max_pool3d adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices
        adaptive_max_pool3d_with_indices fractional_max_pool2d fractional_max_pool3d
        fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices fold""",
    ),
    (_aggregation, "scatter_add scatter_reduce index_add index_reduce"),
    (_embedding_bag, "embedding_bag"),
    (_norm, "batch_norm layer_norm group_norm instance_norm"),
    (_distances, "cdist pdist pairwise_distance"),
    (_layer, "linear conv1d conv2d conv3d"),
    (_transposed_convolution, "conv_transpose1d conv_transpose2d conv_transpose3d"),
    (_bilinear, "bilinear"),
    (_product, "matmul mm bmm mv dot vdot inner __matmul__ linalg_matmul linalg_vecdot"),
    (_reversed_product, "__rmatmul__"),
    (_added_product, "addmm addmv baddbmm"),
    (_added_products, "addbmm"),
    (_tensordot, "tensordot"),
    (_product_chain, "chain_matmul linalg_multi_dot"),
    (_einsum, "einsum"),
    (_attention, "scaled_dot_product_attention"),
    (_multi_head_attention, "multi_head_attention_forward"),
    # The steps stand in torch's documentation: those of a GRU are four sums, three products, a difference, three
    # activations; biases apart.
    (partial(_recurrent, 1, 2), "rnn_tanh rnn_relu rnn_tanh_cell rnn_relu_cell"),
    (partial(_recurrent, 3, 11), "gru gru_cell"),
    (partial(_recurrent, 4, 13), "lstm lstm_cell"),
):
    _RULES |= dict.fromkeys(_names.split(), _rule)
