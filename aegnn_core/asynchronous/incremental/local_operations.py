# SPDX-License-Identifier: Apache-2.0
"""Which torch functions work row by row, and how to call them for some of the rows only.

A function is local if row i of its result depends on row i of its arguments and on constants alone, and row i is at
index 0 of them all. For every known function a rule decides that from the arguments; what has no rule is not local.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from aegnn_core.asynchronous.incremental.values import EdgeValue, RowCount, RowValue, Value
from aegnn_core.asynchronous.torch_internals import DATA, NN_FUNCTIONS

__all__ = [
    "ALIASES",
    "ELEMENTWISE",
    "IDENTITIES",
    "IN_PLACE",
    "SAME",
    "SEVERAL_RESULTS",
    "SHAPES",
    "VIEWS",
    "WRITES",
    "Call",
    "local_form",
    "parameter_of",
    "sizes_key",
]

_NAMESPACES = (torch, Tensor, functional, torch.special, NN_FUNCTIONS)


class Call:
    """A call of a torch function with :class:`Value` in place of tensors of the forward.

    Attributes:
        values: the values among its arguments, in their order.
        key: the operation's signature, see :class:`~aegnn_core.asynchronous.incremental.values.OperationState`.
        constant: all plain tensors among the arguments are constants.
        nested: arguments stand in lists or tuples.
        shares: a result shares memory with an argument, as was seen when it was computed.
    """

    __slots__ = ("args", "constant", "func", "key", "kwargs", "nested", "shares", "values")

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.values: list[Value] = []
        self.key: Any = None
        self.constant = True
        self.nested = False
        self.shares = False

    def argument(self, position: int, names: Iterable[str], default: Any = None) -> Any:
        """An argument by its position or one of its names."""
        for name in names:
            if name in self.kwargs:
                return self.kwargs[name]
        return self.args[position] if len(self.args) > position else default


Form = Callable[..., Any]
Rule = Callable[[Call, int], "Form | bool"]


def _functions(names: str) -> Iterable[Callable[..., Any]]:
    for name in names.split():
        for namespace in _NAMESPACES:
            function = getattr(namespace, name, None)
            if callable(function):
                yield function


def _rows(value: Any) -> bool:
    return isinstance(value, (RowValue, EdgeValue))


def _rank(tensor: Any) -> int:
    return tensor.rank if isinstance(tensor, Value) else len(tensor.shape)


def _elementwise(call: Call, dim: int) -> bool:
    """Arguments broadcast against each other: rows have to be at index 0 of all, constants must not have that index."""
    tensors = [a for a in (*call.args, *call.kwargs.values()) if isinstance(a, (Tensor, Value))]
    most = max(_rank(t) for t in tensors)
    for tensor in tensors:
        if _rows(tensor):
            if _rank(tensor) != most:
                return False
        elif _rank(tensor) == most and tensor.shape[0] != 1:
            return False
    return all(not isinstance(a, (tuple, list)) for a in call.args)


def _where(call: Call, dim: int) -> bool:
    """With a condition alone, it returns which elements fulfil it."""
    return len(call.args) + len(call.kwargs) > 1 and _elementwise(call, dim)


def _only_first(call: Call, dim: int) -> bool:
    """Only the first argument has rows, in a matrix or more; the others are weights."""
    others = [*call.args[1:], *call.kwargs.values()]
    return _rows(call.args[0]) and dim >= 2 and not any(_rows(a) for a in others)


def _product(call: Call, dim: int) -> bool:
    other = call.argument(1, ("other", "mat2"))
    return _only_first(call, dim) and isinstance(other, Tensor) and other.dim() <= 2


def _along(position: int, default: Any = None) -> Rule:
    """Reductions and the like along dimensions other than that of the rows."""

    def rule(call: Call, dim: int) -> bool:
        chosen = call.argument(position, ("dim", "axis"), default)
        dims = chosen if isinstance(chosen, (tuple, list)) else (chosen,)
        # (x, 1, 2) as well as (x, (1, 2))
        if not dims or any(not isinstance(d, int) or isinstance(d, bool) for d in dims):
            return False
        return dim >= 1 and all(d % dim != 0 for d in dims if -dim <= d < dim) and all(-dim <= d < dim for d in dims)

    return rule


def _joined(call: Call, dim: int) -> bool:
    """``cat`` and ``stack`` along channels: every part has rows."""
    parts = call.args[0] if call.args else call.kwargs.get("tensors")
    along = call.argument(1, ("dim", "axis"), 0)
    rank = dim + (call.func in (torch.stack,))
    return (
        isinstance(parts, (tuple, list))
        and all(_rows(part) and part.rank == dim for part in parts)
        and isinstance(along, int)
        and along % rank != 0
    )


def _normalized_shape(call: Call, dim: int) -> bool:
    return _only_first(call, dim) and len(call.argument(1, ("normalized_shape",))) < dim


def _batch_norm(call: Call, dim: int) -> bool:
    return _rows(call.args[0]) and dim >= 2 and call.argument(5, ("training",), False) is False


def _always(call: Call, dim: int) -> bool:
    return True


def _extremum(call: Call, dim: int) -> bool:
    other = call.argument(1, ("other", "dim"))
    return _elementwise(call, dim) if isinstance(other, (Tensor, Value)) else _along(1)(call, dim) is True


def _row_count(size: Any, value: Any) -> bool:
    return isinstance(size, int) and (size == -1 or isinstance(size, RowCount) or size == value.shape[0])


def sizes_key(call: Call) -> Any:
    """The sizes that a ``view``, ``reshape`` or ``expand`` asks for, the number of rows left open."""
    sizes = _sizes(call)
    if sizes and _row_count(sizes[0], call.args[0]):
        return ("rows", *map(int, sizes[1:]))
    return tuple(sizes)


def _sizes(call: Call) -> list[Any]:
    given = call.args[1:] or tuple(call.kwargs.values())
    return list(given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given)


def _view(call: Call, dim: int) -> Form | bool:
    """New shapes that leave the rows alone; the size left open (-1) is computed here, where N is known."""
    value, sizes = call.args[0], _sizes(call)
    if not sizes or not all(isinstance(s, int) for s in sizes) or not _row_count(sizes[0], value):
        return False
    each, tail = math.prod(value.tail), list(sizes[1:])
    if any(isinstance(size, RowCount) for size in tail):
        return False
    if -1 in tail:
        rest = math.prod(s for s in tail if s != -1)
        if sizes[0] == -1 or rest == 0 or each % rest:
            return False
        tail[tail.index(-1)] = each // rest
    if math.prod(tail) != each:
        return False
    return lambda n, rows: rows.reshape(n, *tail)


def _expand(call: Call, dim: int) -> Form | bool:
    value, sizes = call.args[0], _sizes(call)
    if len(sizes) != dim or not _row_count(sizes[0], value):
        return False
    tail = sizes[1:]
    return lambda n, rows: rows.expand(n, *tail)


def _repeat(call: Call, dim: int) -> Form | bool:
    sizes = _sizes(call)
    if len(sizes) != dim or sizes[0] != 1:
        return False
    return lambda n, rows: rows.repeat(*sizes)


def _flatten(call: Call, dim: int) -> bool:
    start = call.argument(1, ("start_dim",), 0)
    return dim >= 2 and start % dim != 0


def _transpose(call: Call, dim: int) -> bool:
    first, second = call.argument(1, ("dim0",)), call.argument(2, ("dim1",))
    return isinstance(first, int) and isinstance(second, int) and first % dim != 0 and second % dim != 0


def _permute(call: Call, dim: int) -> bool:
    dims = _sizes(call)
    return len(dims) == dim and dims[0] % dim == 0


def _unsqueeze(call: Call, dim: int) -> bool:
    at: int = call.argument(1, ("dim",))
    return at % (dim + 1) != 0


def _squeeze(call: Call, dim: int) -> bool:
    at = call.argument(1, ("dim",))
    return isinstance(at, int) and at % dim != 0


def _one_hot(call: Call, dim: int) -> bool:
    classes: int = call.argument(1, ("num_classes",), -1)
    return classes > 0


def _embedding(call: Call, dim: int) -> bool:
    return _rows(call.args[0]) and not any(_rows(a) for a in (*call.args[1:], *call.kwargs.values()))


def _index(call: Call, dim: int) -> bool:
    """Slices that keep all rows: ``x[:, 2:]``, ``x[..., 0]``, ``x[:, None]``."""
    if not _rows(call.args[0]):
        return False
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    plain = all(i is None or i is Ellipsis or (isinstance(i, (int, slice)) and not isinstance(i, bool)) for i in index)
    if not plain or not index:
        return False
    if index[0] is Ellipsis:
        consumed = sum(1 for i in index[1:] if i is not None)
        return consumed < dim and Ellipsis not in index[1:]
    return isinstance(index[0], slice) and index[0] == slice(None)


_RULES: dict[Any, Rule] = {}
for _rule, _names in (
    (
        _elementwise,
        """add sub subtract rsub mul multiply div divide true_divide floor_divide remainder fmod pow float_power square
        sqrt rsqrt exp exp2 expm1 log log1p log2 log10 sin cos tan asin acos atan atan2 arctan2 sinh cosh tanh asinh
        acosh atanh sigmoid logit erf erfc abs absolute neg negative positive reciprocal sign sgn floor ceil round trunc
        frac clamp clamp_min clamp_max clip minimum maximum fmin fmax hypot eq ne lt le gt ge isnan isinf
        isfinite logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor
        nan_to_num lerp addcmul addcdiv masked_fill xlogy sinc deg2rad rad2deg logaddexp heaviside expand_as view_as
        relu relu6 elu selu celu gelu silu mish leaky_relu hardtanh hardsigmoid hardswish hardshrink softshrink
        tanhshrink softplus softsign logsigmoid threshold
        __add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __truediv__ __rtruediv__ __div__ __rdiv__ __floordiv__
        __rfloordiv__ __mod__ __rmod__ __pow__ __rpow__ __neg__ __pos__ __abs__ __eq__ __ne__ __lt__ __le__ __gt__
        __ge__ __and__ __rand__ __or__ __ror__ __xor__ __rxor__ __invert__""",
    ),
    (
        _always,
        """to type float double half bfloat16 int long bool detach clone contiguous alias requires_grad_ type_as
        zeros_like ones_like full_like empty_like""",
    ),
    (_where, "where"),
    (_only_first, "linear prelu conv1d conv2d conv3d max_pool1d avg_pool1d adaptive_avg_pool1d group_norm"),
    (_product, "matmul mm __matmul__"),
    (_along(1), "amax amin mean var std all any median logsumexp argmax argmin"),
    (_extremum, "max min"),
    (_along(1), "sum nansum prod cumsum cumprod logcumsumexp cummax cummin sort argsort flip softmax log_softmax"),
    (_along(1, -1), "softmin glu unbind"),
    (_along(2), "norm"),
    (_along(2, 1), "normalize"),
    (_along(2, -1), "topk chunk split tensor_split kthvalue"),
    (_along(1), "narrow select index_select gather"),
    (_joined, "cat concat concatenate stack"),
    (_normalized_shape, "layer_norm rms_norm"),
    (_batch_norm, "batch_norm"),
    (_always, "dropout alpha_dropout dropout1d"),
    (_view, "view reshape"),
    (_expand, "expand"),
    (_repeat, "repeat"),
    (_flatten, "flatten"),
    (_transpose, "transpose swapaxes swapdims"),
    (_permute, "permute"),
    (_unsqueeze, "unsqueeze"),
    (_squeeze, "squeeze"),
    (_one_hot, "one_hot"),
    (_embedding, "embedding"),
    (_index, "__getitem__"),
):
    for _function in _functions(_names):
        _RULES.setdefault(_function, _rule)
for _name, _default in (("chunk", 0), ("split", 0), ("tensor_split", 0), ("unbind", 0)):
    for _function in _functions(_name):
        _RULES[_function] = _along(1 if _name == "unbind" else 2, _default)
_RULES[torch.linalg.norm] = _along(2)
_RULES[torch.linalg.vector_norm] = _along(2)
_RULES[DATA.__get__] = _always

#: Functions whose result has at every place what they make of the arguments' elements there.
ELEMENTWISE = frozenset(function for function, rule in _RULES.items() if rule is _elementwise)

#: Functions that give the same tensor, as long as neither type nor place change.
SAME = frozenset(_functions("to type long contiguous clone detach alias cpu type_as"))

#: Functions that take the new shape of a tensor.
SHAPES = frozenset(_functions("view reshape expand"))

#: Local functions that may return more than one tensor.
SEVERAL_RESULTS = frozenset(
    _functions("chunk split tensor_split unbind max min median sort topk kthvalue cummax cummin")
)

#: Functions that return their argument itself where there is nothing to do, and otherwise a tensor of its own.
IDENTITIES = frozenset(
    _functions(
        """to type type_as float double half bfloat16 int long bool cpu requires_grad_ positive __pos__
        dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout"""
    )
)

#: Local functions whose result may share memory with their argument. Of others that is seen when they are called.
VIEWS = frozenset(
    (
        *_functions(
            """view reshape view_as expand expand_as flatten transpose swapaxes swapdims permute unsqueeze squeeze chunk
            split tensor_split unbind narrow select __getitem__ detach alias contiguous dropout1d"""
        ),
        DATA.__get__,
    )
)

#: Functions that write into their first argument, and those that make a new tensor instead.
IN_PLACE: dict[Any, Any] = {}
for _name in dir(Tensor):
    if _name.startswith("__i") and hasattr(Tensor, f"__{_name[3:]}") and _name != "__invert__":
        IN_PLACE[getattr(Tensor, _name)] = getattr(Tensor, f"__{_name[3:]}")
    elif _name.endswith("_") and not _name.startswith("_") and hasattr(Tensor, _name[:-1]):
        IN_PLACE[getattr(Tensor, _name)] = getattr(Tensor, _name[:-1])
for _namespace in (torch, functional, NN_FUNCTIONS):
    for _name in dir(_namespace):
        if _name.endswith("_") and not _name.startswith("_") and callable(getattr(_namespace, _name[:-1], None)):
            IN_PLACE[getattr(_namespace, _name)] = getattr(_namespace, _name[:-1])
IN_PLACE.pop(Tensor.requires_grad_, None)

#: Functions after which an argument's memory may be written to without torch's noticing.
ALIASES = frozenset(
    {
        DATA.__get__,
        DATA.__set__,
        Tensor.numpy,
        Tensor.__array__,
        Tensor.__dlpack__,
        Tensor.untyped_storage,
        Tensor.storage,
    }
)

#: Functions that write into an argument, or give its memory away, and for which nothing can be done instead.
WRITES = frozenset(
    function
    for namespace in (*_NAMESPACES, nn.init)
    for name in dir(namespace)
    if name.endswith("_") and not name.endswith("__")
    if callable(function := getattr(namespace, name)) and function not in IN_PLACE and function not in IDENTITIES
) | {Tensor.__setitem__, *ALIASES} - {DATA.__get__, Tensor.numpy, Tensor.__array__}

_INPLACE_POSITION: dict[Any, int | None] = {}


def parameter_of(func: Callable[..., Any], name: str) -> int | None:
    """The position of a parameter in a function of torch.nn.functional, or None."""
    if func not in _INPLACE_POSITION:
        position = None
        if inspect.isfunction(func) and func.__module__ == "torch.nn.functional":
            names = list(inspect.signature(func).parameters)
            position = names.index(name) if name in names else None
        _INPLACE_POSITION[func] = position
    return _INPLACE_POSITION[func]


def local_form(call: Call, first: RowValue | EdgeValue) -> Form | bool:
    """How to call the function for some rows: ``form(n, *values)``, True for as it is, False if it is not local."""
    rule = _RULES.get(call.func)
    return False if rule is None else rule(call, len(first.tail) + 1)
