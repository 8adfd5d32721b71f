# SPDX-License-Identifier: Apache-2.0
"""The tensors that a model's forward sees during an update, and how functions called on them are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from aegnn_core.asynchronous.costs import CostMeter
from aegnn_core.asynchronous.dropout_check import check_dropout
from aegnn_core.asynchronous.incremental import reductions
from aegnn_core.asynchronous.incremental.graphs import RowEdges
from aegnn_core.asynchronous.incremental.local_operations import (
    IN_PLACE,
    SAME,
    SEVERAL_RESULTS,
    SHAPES,
    VIEWS,
    Call,
    local_form,
    parameter_of,
    sizes_key,
)
from aegnn_core.asynchronous.incremental.rows import Rows
from aegnn_core.asynchronous.incremental.spline_sums import corner_weights, sum_neighbors
from aegnn_core.asynchronous.incremental.tape import Tape
from aegnn_core.asynchronous.incremental.values import (
    ComputedEdges,
    ComputedRows,
    ConstantRows,
    EdgeEnd,
    EdgeIndex,
    EdgeValue,
    LiftedRows,
    OperationState,
    RowCount,
    RowValue,
    Value,
    WholeValue,
)
from aegnn_core.asynchronous.layer_names import LayerNames
from aegnn_core.asynchronous.operation_flops import basis_flops, function_name, operation_flops, spline_flops
from aegnn_core.nn.spline import EdgeSplines, SplineConv

#: Larger updates go through the layer's own code, which works in slices.
_ROWS_AT_ONCE = 4096

__all__ = ["Forward", "Tracked", "UntrackableError"]


class UntrackableError(Exception):
    """The forward does something that cannot be followed value by value; the model has to run as a whole."""


class Tracked(Tensor):
    """Stands for a tensor of the forward. It holds no numbers: functions called on it go to the running update."""

    value: Value
    forward: Forward
    #: Another tensor may share its memory: whoever writes into one of the two writes into both.
    shared: bool

    @staticmethod
    def __new__(cls, value: Value, forward: Forward) -> Tracked:
        self = Tensor._make_subclass(cls, _NOTHING)
        self.value, self.forward, self.shared = value, forward, False
        return self

    def __init__(self, value: Value, forward: Forward) -> None:
        pass

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        tracked = next(leaf for leaf in _leaves((args, kwargs)) if isinstance(leaf, Tracked))
        return tracked.forward.call(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Tracked({type(self.value).__name__}, shape={list(self.value.shape)})"


_NOTHING = torch.empty(0)


def _leaves(value: Any) -> Iterator[Any]:
    """What stands in nested tuples, lists and dictionaries."""
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    else:
        yield value


def _replaced(value: Any, replace: Callable[[Any], Any]) -> Any:
    """The same nesting with every leaf replaced."""
    if isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        parts = [_replaced(item, replace) for item in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, dict):
        return {name: _replaced(item, replace) for name, item in value.items()}
    return replace(value)


def _unwrap(leaf: Any) -> Any:
    return leaf.value if isinstance(leaf, Tracked) else leaf


def _full(leaf: Any) -> Any:
    leaf = _unwrap(leaf)
    return leaf.full() if isinstance(leaf, Value) else leaf


def _getter(name: str) -> Any:
    return getattr(Tensor, name).__get__


def _never(value: Value) -> bool:
    return False


_METADATA: dict[Any, Callable[..., Any]] = {
    _getter("shape"): lambda v: v.shape,
    Tensor.size: lambda v, dim=None: v.shape if dim is None else v.shape[dim],
    Tensor.dim: lambda v: v.rank,
    Tensor.ndimension: lambda v: v.rank,
    _getter("ndim"): lambda v: v.rank,
    Tensor.__len__: lambda v: int(v.shape[0]),
    Tensor.numel: lambda v: v.shape.numel(),
    Tensor.nelement: lambda v: v.shape.numel(),
    torch.numel: lambda v: v.shape.numel(),
    _getter("dtype"): lambda v: v.dtype,
    _getter("device"): lambda v: v.device,
    _getter("layout"): lambda v: torch.strided,
    _getter("requires_grad"): _never,
    _getter("grad_fn"): lambda v: None,
    _getter("grad"): lambda v: None,
    _getter("is_leaf"): lambda v: True,
    Tensor.is_floating_point: lambda v: v.dtype.is_floating_point,
    torch.is_floating_point: lambda v: v.dtype.is_floating_point,
    Tensor.is_complex: lambda v: v.dtype.is_complex,
    torch.is_complex: lambda v: v.dtype.is_complex,
    Tensor.get_device: lambda v: -1 if v.device.type == "cpu" else v.device.index or 0,
    Tensor.element_size: lambda v: v.dtype.itemsize,
}
for _kind in ("sparse", "sparse_csr", "quantized", "nested", "mkldnn"):
    _METADATA[_getter(f"is_{_kind}")] = _never
for _kind in ("cuda", "meta", "mps", "xpu"):
    _METADATA[_getter(f"is_{_kind}")] = lambda v, kind=_kind: v.device.type == kind

_FACTORIES: dict[Any, float | None] = {torch.zeros: 0, torch.ones: 1, torch.full: None}
_NEW: dict[Any, float | None] = {Tensor.new_zeros: 0, Tensor.new_ones: 1, Tensor.new_full: None}
_LIKE: dict[Any, float] = {torch.zeros_like: 0, torch.ones_like: 1}
_DATA = frozenset({torch.from_numpy, torch.as_tensor, torch.asarray, torch.frombuffer, torch.tensor})
_RANDOM = frozenset(
    {torch.rand, torch.randn, torch.randint, torch.randperm, torch.rand_like, torch.randn_like, torch.bernoulli,
     torch.normal, torch.multinomial}
)  # fmt: skip
_AT = Tensor.__getitem__
_PLAIN = frozenset({int, float, bool, str, type(None), torch.dtype, torch.device, type(Ellipsis)})
#: What of constant rows gives constant rows again.
_OWN_CONSTANTS = VIEWS | {Tensor.expand_as, torch.zeros_like, torch.ones_like, *_NEW}
_SELECT = (Tensor.index_select, torch.index_select)


class Forward(TorchFunctionMode):
    """One run of the model's forward: an update.

    Args:
        tape: what the operations keep from update to update.
        constants: parameters, buffers and other tensors that the model holds, by id.
        layers: names of the layers.
        meter: told what they cost.
    """

    def __init__(self, tape: Tape, constants: dict[int, Any], layers: LayerNames, meter: CostMeter) -> None:
        super().__init__()
        self._tape, self._layers, self._meter = tape, layers, meter
        self._constants = dict(constants)
        self._alive: list[Any] = []
        self._counts: dict[int, RowCount] = {}
        self._plain = False
        self._flops = 0
        #: What brings the values of this forward up to date in another update, in order.
        self.steps: list[Callable[[], None]] = []
        #: The forward has seen numbers: another update might take another way.
        self.observed = False

    def track(self, value: Value) -> Tracked:
        """The tensor that the forward sees for a value."""
        if isinstance(value, RowValue):
            self.steps.append(value.refresh)
            self._counts.setdefault(len(value.space.all), RowCount.of(value.space))
        return Tracked(value, self)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if self._plain:
            result = func(*args, **(kwargs or {}))
            first = next((leaf for leaf in _leaves(args) if isinstance(leaf, Tensor)), None)
            self._flops += operation_flops(func, args, result, first)
            return result
        return self.call(func, args, kwargs or {})

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a torch function returns when the forward calls it."""
        metadata = _METADATA.get(func)
        if metadata is not None:
            if isinstance(args[0], Tracked):
                return metadata(args[0].value, *args[1:], **kwargs)
            return func(*args, **kwargs)
        check_dropout(func, args, kwargs)
        call = self._read(func, args, kwargs)
        if not call.values:
            return self._untracked(call)
        target = IN_PLACE.get(func)
        if target is not None:
            return self._in_place(target, args, kwargs)
        position = parameter_of(func, "inplace")
        if position is not None and (kwargs.get("inplace") or (len(args) > position and args[position])):
            plain = {name: value for name, value in kwargs.items() if name != "inplace"}
            return self._in_place(func, args[:position], plain)
        if func is Tensor.__setitem__ or kwargs.get("out") is not None:
            raise UntrackableError(f"{function_name(func)} writes into a part of a tensor")
        result = None
        for rule in (self._local, self._edges, self._constant_rows, self._reduction):
            result = rule(call)
            if result is not None:
                break
        else:
            result = self._whole(call, func)
        if func in VIEWS:
            for leaf in (args[0], *_leaves(result)):
                if isinstance(leaf, Tracked):
                    leaf.shared = True
        return result

    def _read(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """A call with values in place of tracked tensors, and what its signature is."""
        call = Call(func)
        call.args, key = self._read_all(args, call)
        call.key = (func, key)
        if kwargs:
            values, key = self._read_all(tuple(kwargs.values()), call)
            call.kwargs = dict(zip(kwargs, values, strict=True))
            call.key = (*call.key, tuple(kwargs), key)
        return call

    def _read_all(self, arguments: Any, call: Call) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        values, keys = [], []
        for value in arguments:
            kind = type(value)
            key: Any
            if kind is Tracked:
                value = value.value
                key = value.origin
                call.values.append(value)
            elif kind in _PLAIN:
                key = (kind, value)
            elif isinstance(value, Value):
                key = value.origin
                call.values.append(value)
            elif isinstance(value, Tensor):
                key = self._constants.get(id(value))
                if key is None:
                    call.constant = False
            elif kind is RowCount:
                key = (int, int(value))
            elif isinstance(value, (tuple, list)):
                parts, key = self._read_all(value, call)
                call.nested = True
                value = type(value)(*parts) if hasattr(value, "_fields") else kind(parts) if kind is list else parts
            elif kind is slice:
                key = (slice, *self._read_all((value.start, value.stop, value.step), call)[1])
            elif isinstance(value, dict):
                parts, keys_inside = self._read_all(tuple(value.values()), call)
                call.nested = True
                key = (tuple(value), keys_inside)
                value = dict(zip(value, parts, strict=True))
            else:
                key = (kind, value)
            values.append(value)
            keys.append(key)
        return tuple(values), tuple(keys)

    # What becomes of a call

    def _edges(self, call: Call) -> Any:
        """Ends of edges, and values of the nodes there."""
        func, args = call.func, call.args
        first = args[0] if args else None
        if isinstance(first, EdgeIndex):
            if func in SAME and _keeps(call):
                return self.track(first)
            if func is _AT and isinstance(args[1], int) and args[1] in (0, 1):
                return self.track(first.end(args[1]))
            if func in (Tensor.unbind, torch.unbind, Tensor.__iter__) and args[1:] in ((), (0,)) and not call.kwargs:
                ends = self.track(first.end(0)), self.track(first.end(1))
                return iter(ends) if func is Tensor.__iter__ else ends
        if isinstance(first, RowValue):
            at = args[1] if func is _AT else None
            if func in _SELECT and call.argument(1, ("dim",)) in (0, -first.rank):
                at = call.argument(2, ("index",))
            if isinstance(at, EdgeEnd) and at.graph.nodes is first.space:
                return self.track(LiftedRows(self._next(call).origin, first, at))
        return None

    def _constant_rows(self, call: Call) -> Tracked | None:
        """The same value in every row."""
        func, first = call.func, call.args[0] if call.args else None
        if func in _NEW and isinstance(first, Value):
            return self._new(call, first)
        if func in _LIKE and isinstance(first, RowValue) and not call.kwargs:
            row = torch.full(first.tail, _LIKE[func], dtype=first.dtype, device=first.device)
            return self.track(ConstantRows(self._next(call).origin, first.space, row))
        if isinstance(first, ConstantRows) and func in VIEWS and len(call.values) == 1:
            form = local_form(call, first)
            if form is not False:
                apply = form if callable(form) else _template(call)
                return self.track(ConstantRows(self._next(call).origin, first.space, apply(1, first.row[None])[0]))
        if isinstance(first, ConstantRows) and func is Tensor.expand_as and isinstance(call.args[1], RowValue):
            other = call.args[1]
            if other.space is first.space and other.rank == first.rank:
                row = first.row.expand(other.tail)
                return self.track(ConstantRows(self._next(call).origin, first.space, row))
        if (
            isinstance(first, ConstantRows)
            and func in (Tensor.max, torch.max, Tensor.min, torch.min)
            and (len(call.args) == 1 and not call.kwargs and len(first.space.all))
        ):
            return self.track(WholeValue(self._next(call).origin, first.row.max(), False))
        return None

    def _reduction(self, call: Call) -> Any:
        reduction = reductions.find(call)
        if reduction is None:
            return None
        self.observed = True  # not among the steps
        state = self._next(call)
        begin = perf_counter()
        result, changes, flops = reduction(state)
        self._meter.add(self._layers.of(call.func), flops, perf_counter() - begin)
        state.result = result
        return self._wrap(state, changes)

    def _local(self, call: Call) -> Any:
        """Row by row, or edge by edge."""
        inputs: list[Any] = call.values
        kind = EdgeValue if isinstance(inputs[0], EdgeValue) else RowValue
        if not call.constant or not isinstance(inputs[0], kind):
            return None
        domain = _domain(inputs[0])
        for value in inputs:
            if isinstance(value, ConstantRows) and call.func in _OWN_CONSTANTS:
                return None
            if not isinstance(value, kind) or _domain(value) is not domain:
                return None
        first = call.args[0] if call.args and isinstance(call.args[0], Value) else inputs[0]
        form = local_form(call, first)  # type: ignore[arg-type]
        if form is False:
            return None
        state = self._next(call)
        apply = self._counted(call, form if callable(form) else _template(call))
        if call.func not in SEVERAL_RESULTS:
            return self._local_result(state, inputs, apply)
        if state.kept is None:
            none = [_no_rows(value) for value in inputs]
            state.kept = _structure(apply(0, *none))
        rebuild, count = state.kept
        if count is None:
            return self._local_result(state, inputs, apply)
        parts = (self._tape.next((state.signature, n)) for n in range(count))
        return rebuild([self._local_result(part, inputs, _item(apply, n)) for n, part in enumerate(parts)])

    def _local_result(self, state: OperationState, inputs: list[Any], apply: Callable[..., Any]) -> Tracked:
        if isinstance(inputs[0], EdgeValue):
            return self.track(ComputedEdges(state, inputs, apply))
        return self.track(ComputedRows(state, inputs, apply, inputs[0].space))

    def whole(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A function of the model's, called on whole tensors if anything in them changed."""
        return self._whole(self._read(func, args, kwargs), func)

    def _whole(self, call: Call, work: Any) -> Any:
        state = self._tape.next(call.key)
        layer = self._layers.of(work)
        if any(_on_graph(value) for value in call.values):
            self._layers.dense.setdefault(layer)

        def update() -> bool:
            changes = state.fresh or not call.constant or any(value.changes for value in call.values)
            if changes:
                args, kwargs = _replaced(call.args, _full), _replaced(call.kwargs, _full)
                state.result = self.execute(layer, call.func, args, kwargs)
            return changes

        wrapped = self._wrap(state, update())
        tracked = (leaf.value for leaf in _leaves(wrapped) if isinstance(leaf, Tracked))
        made = [value for value in tracked if isinstance(value, WholeValue)]
        if not made:
            self.observed = True

        def step() -> None:
            changes = update()
            tensors = (leaf for leaf in _leaves(state.result) if isinstance(leaf, Tensor))
            for value, tensor in zip(made, tensors, strict=True):
                value.set(tensor, changes)

        self.steps.append(step)
        return wrapped

    def _in_place(self, target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        first = args[0]
        if not isinstance(first, Tracked) or first.shared:
            raise UntrackableError(f"{function_name(target)} in place, on a tensor whose memory others may share")
        before = first.value
        result = self.call(target, args, kwargs)
        if tuple(result.value.shape) != tuple(before.shape) or result.value.dtype != before.dtype:
            raise UntrackableError(f"{function_name(target)} in place, with a result of another shape or dtype")
        first.value = result.value
        return first

    def _untracked(self, call: Call) -> Any:
        """A function of constants, which gives constants, or of nothing but numbers."""
        func, args, kwargs = call.func, call.args, call.kwargs
        made = self._factory(func, args, kwargs) if func in _FACTORIES else None
        if made is not None:
            return made
        result = func(*args, **kwargs)
        known = func not in _DATA or (func is torch.tensor and _few_numbers(args[0]))
        if not known or func in _RANDOM or not call.constant:
            return result
        tensors = [leaf for leaf in _leaves(result) if isinstance(leaf, Tensor)]
        if tensors:
            state = self._tape.next(call.key)
            for n, tensor in enumerate(tensors):
                self._alive.append(tensor)  # as long as it lives, its id is its own
                self._constants.setdefault(id(tensor), ("made", state.origin, n))
        return result

    def _factory(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tracked | None:
        """``zeros(num_nodes, ...)``."""
        fill = _FACTORIES[func]
        if fill is None:
            sizes = args[0] if args else None
            fill = args[1] if len(args) > 1 else kwargs.get("fill_value")
        else:
            sizes = args[0] if args and isinstance(args[0], (tuple, list)) else args
        if not isinstance(sizes, (tuple, list)) or not sizes or not isinstance(fill, (int, float)):
            return None
        count = self._row_count(sizes, kwargs.get("dtype"))
        if count is None:
            return None
        tail = tuple(map(int, sizes[1:]))
        state = self._tape.next((func, "rows", id(count.space), tail, fill, str(kwargs)))
        given = {name: kwargs[name] for name in ("dtype", "device") if name in kwargs}
        row = func(tail, **kwargs) if func is not torch.full else torch.full(tail, fill, **given)
        return self.track(ConstantRows(state.origin, count.space, row))

    def _row_count(self, sizes: Any, dtype: torch.dtype | None) -> RowCount | None:
        """The number of rows that sizes begin with, as far as one can tell."""
        if sizes and isinstance(sizes[0], RowCount):
            return sizes[0]
        # len(x) is a plain number. A vector of as many zeros is taken for one per row, as an index of graphs is; where
        # it is not, what is computed from it is right all the same. One float is more likely to be a number.
        if len(sizes) == 1 and isinstance(sizes[0], int) and (sizes[0] > 1 or dtype is torch.long):
            return self._counts.get(sizes[0])
        return None

    def _new(self, call: Call, like: Value) -> Tracked:
        """``x.new_zeros(...)``."""
        fill = _NEW[call.func]
        sizes: Any = call.args[1:] or (call.kwargs.get("size"),)
        if fill is None:
            fill = call.argument(2, ("fill_value",))
            sizes = sizes[:1]
        if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
            sizes = sizes[0]
        dtype, device = call.kwargs.get("dtype") or like.dtype, call.kwargs.get("device") or like.device
        count = self._row_count(sizes, dtype)
        if count is not None:
            tail = tuple(map(int, sizes[1:]))
            state = self._tape.next((call.func, "rows", id(count.space), tail, fill, dtype, str(device)))
            row = torch.full(tail, fill, dtype=dtype, device=device)
            return self.track(ConstantRows(state.origin, count.space, row))
        shape = tuple(map(int, sizes))
        state = self._tape.next((call.func, shape, fill, dtype, str(device)))
        if state.fresh:
            state.result = torch.full(shape, fill, dtype=dtype, device=device)
        return self.track(WholeValue(state.origin, state.result, state.fresh))

    # What operations need

    def leaves(self, arguments: Any) -> Iterator[Any]:
        """The leaves of nested arguments."""
        return _leaves(arguments)

    def next(self, func: Callable[..., Any], args: Any, kwargs: Any) -> OperationState:
        """The state of the operation that comes now, calling ``func`` with tracked tensors or values."""
        return self._tape.next(self._read(func, args, kwargs).key)

    def _next(self, call: Call) -> OperationState:
        if call.func in SHAPES and isinstance(call.args[0], (RowValue, EdgeValue)):
            return self._tape.next((call.func, call.args[0].origin, sizes_key(call)))
        return self._tape.next(call.key)

    def all_constant(self, arguments: Any) -> bool:
        """Whether all plain tensors among the arguments are constants."""
        return all(
            id(leaf) in self._constants
            for leaf in _leaves(arguments)
            if isinstance(leaf, Tensor) and not isinstance(leaf, Tracked)
        )

    def replaced(self, arguments: Any, replace: Callable[[Value], Tensor]) -> Any:
        """The same arguments with every tracked tensor replaced."""
        return _replaced(arguments, lambda leaf: replace(leaf.value) if isinstance(leaf, Tracked) else leaf)

    def execute(self, layer: str, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call a function with plain tensors, on the account of a layer."""
        before, self._plain, self._flops = self._plain, True, 0
        begin = perf_counter()
        try:
            result = func(*args, **kwargs)
        finally:
            self._plain = before
        seconds = perf_counter() - begin
        first = next((leaf for leaf in _leaves(args) if isinstance(leaf, Tensor)), None)
        # Functions that the call makes itself were counted, unless it was one that torch does not look into.
        self._meter.add(layer, self._flops or operation_flops(func, args, result, first), seconds)
        return result

    def layer_of(self, module: nn.Module) -> str:
        """The name of a module."""
        return self._layers.of(module)

    def account(self, module: nn.Module, flops: float, seconds: float) -> None:
        """A module has worked."""
        self._meter.add(self._layers.of(module), flops, seconds)

    def account_function(self, func: Callable[..., Any], flops: float, seconds: float) -> None:
        """A function of the forward's has worked."""
        self._meter.add(self._layers.of(func), flops, seconds)

    def execute_splines(
        self,
        conv: SplineConv,
        convolve: Callable[..., Tensor],
        x: RowValue,
        attributes: EdgeValue,
        edges: RowEdges,
        rows: Rows,
    ) -> Tensor:
        """One of our spline convolutions for some rows with the edges into them."""
        begin = perf_counter()
        table, flops = x.table(), 0
        kernels, channels, outputs = conv.weight.shape
        sizes = conv.sizes
        key = ("basis", attributes.origin, *sizes)
        if key not in edges.values:
            flops += basis_flops(conv, len(edges))
        if (
            table.device.type == "cpu"
            and kernels in (4, 8)
            and max(sizes) == 2
            and (channels == 1 or channels % 8 == 0)
            and len(rows) <= _ROWS_AT_ONCE
        ):
            weights = edges.once(key, lambda part: _corner_weights(attributes.at(part)))
            sums = table.new_empty(len(rows), kernels * channels)
            sum_neighbors(
                edges.starts,
                edges.source,
                weights.numpy().ravel(),
                kernels,
                table.numpy().ravel(),
                channels,
                conv.aggr == "mean",
                sums.numpy().ravel(),
            )
            result = sums @ conv.weight.view(kernels * channels, outputs)
            if conv.lin is not None:
                result += x.at(rows) @ conv.lin.weight.t()
            if conv.bias is not None:
                result += conv.bias
        else:
            # Two tensors per edge; the key tells that they were counted.
            kernel, basis = conv.basis(attributes.at(edges))
            edges.values[key] = basis
            source, target = (torch.from_numpy(end).to(table.device) for end in (edges.source, edges.positions()))
            counts = torch.from_numpy(np.diff(edges.starts)).clamp(min=1).to(table.device, table.dtype)
            scale = 1 / counts if conv.aggr == "mean" else torch.ones_like(counts)
            splines = EdgeSplines(source, target, scale, kernel, basis)
            result = convolve(table, x.at(rows), splines)
        flops += spline_flops(conv, len(rows), len(edges))
        self._meter.add(self._layers.of(conv), flops, perf_counter() - begin)
        return result

    def _counted(self, call: Call, apply: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, on the account of the layer at work."""
        layer = self._layers.of(call.func)

        def counted(n: int, *rows: Tensor) -> Any:
            begin = perf_counter()
            with torch._C.DisableTorchFunction():
                result = apply(n, *rows)
            self._meter.add(layer, operation_flops(call.func, call.args, result, rows[0]), perf_counter() - begin)
            return result

        return counted

    def _wrap(self, state: OperationState, changes: bool) -> Any:
        """The result of an operation, with its tensors tracked."""
        count, origin, result = iter(range(1 << 30)), state.origin, state.result

        def wrap(leaf: Any) -> Any:
            if isinstance(leaf, Tensor):
                return self.track(WholeValue((origin, next(count)), leaf, changes))
            if isinstance(leaf, reductions.Later):
                return self.track(WholeValue((origin, next(count)), leaf.compute, changes))
            return leaf

        if type(result).__module__ == "torch.return_types":
            return type(result)([wrap(leaf) for leaf in result])
        return _replaced(result, wrap)


def _keeps(call: Call) -> bool:
    """Whether a function that may give another type or place does not: it is tried on nothing."""
    nothing = lambda leaf: (  # noqa: E731
        torch.empty(0, dtype=leaf.dtype, device=leaf.device) if isinstance(leaf, Value) else leaf
    )
    with torch._C.DisableTorchFunction():
        before = nothing(call.args[0])
        after = call.func(*_replaced(call.args, nothing), **_replaced(call.kwargs, nothing))
    return isinstance(after, Tensor) and (after.dtype, after.device) == (before.dtype, before.device)


def _corner_weights(attributes: Tensor) -> Tensor:
    """Weights of all kernels ``[E, 2^dim]`` where there are two per component."""
    weights = attributes.new_empty(len(attributes), 2 ** attributes.shape[1])
    corner_weights(attributes.contiguous().numpy(), weights.numpy())
    return weights


def _on_graph(value: Value) -> bool:
    """Whether it has as many rows as some graph has nodes or edges, and the graph has any."""
    if isinstance(value, RowValue):
        return len(value.space.all) > 0
    return not isinstance(value, WholeValue)


def _domain(value: RowValue | EdgeValue) -> Any:
    return value.graph if isinstance(value, EdgeValue) else value.space


def _no_rows(value: Any) -> Tensor:
    return torch.empty(0, *value.tail, dtype=value.dtype, device=value.device)


def _item(apply: Callable[..., Any], n: int) -> Callable[..., Any]:
    return lambda count, *rows: apply(count, *rows)[n]


def _structure(result: Any) -> tuple[Any, int | None]:
    """How to put a function's results together, and how many they are; None for one."""
    if isinstance(result, Tensor):
        return None, None
    return type(result), len(result)


def _template(call: Call) -> Callable[..., Any]:
    """The call with the rows of its values put in their places."""
    if not call.nested and not any(isinstance(value, Value) for value in call.kwargs.values()):
        places = [n for n, arg in enumerate(call.args) if isinstance(arg, Value)]
        func, kwargs = call.func, call.kwargs

        def flat(n: int, *rows: Tensor) -> Any:
            args = list(call.args)
            for place, value in zip(places, rows, strict=True):
                args[place] = value
            return func(*args, **kwargs)

        return flat

    def nested(n: int, *rows: Tensor) -> Any:
        following = iter(rows)
        replace = lambda leaf: next(following) if isinstance(leaf, Value) else leaf  # noqa: E731
        args = _replaced(call.args, replace)
        return call.func(*args, **_replaced(call.kwargs, replace))

    return nested


def _few_numbers(value: Any) -> bool:
    leaves = list(_leaves(value))
    return len(leaves) <= 64 and all(isinstance(leaf, (int, float)) for leaf in leaves)
