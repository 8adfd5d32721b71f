# SPDX-License-Identifier: Apache-2.0
"""One run of a model's forward: for every torch function that it calls, which way its result is brought up to date."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from aegnn_core.asynchronous.costs import CostMeter
from aegnn_core.asynchronous.dropout_check import check_dropout
from aegnn_core.asynchronous.incremental import reductions
from aegnn_core.asynchronous.incremental.call_reading import CallReader, for_rows
from aegnn_core.asynchronous.incremental.constant_rows import FACTORIES, OWN_CONSTANTS, ConstantRowMaker
from aegnn_core.asynchronous.incremental.layer_meter import LayerMeter
from aegnn_core.asynchronous.incremental.local_operations import (
    ALIASES,
    IDENTITIES,
    IN_PLACE,
    SAME,
    SEVERAL_RESULTS,
    VIEWS,
    WRITES,
    Call,
    local_form,
    parameter_of,
)
from aegnn_core.asynchronous.incremental.nesting import leaves, replaced
from aegnn_core.asynchronous.incremental.tape import Tape
from aegnn_core.asynchronous.incremental.tracked import METADATA, MisjudgedError, Tracked, UntrackableError
from aegnn_core.asynchronous.incremental.values import (
    ComputedEdges,
    ComputedRows,
    ConstantRows,
    EdgeEnd,
    EdgeIndex,
    EdgeValue,
    LiftedRows,
    OperationState,
    RowValue,
    Value,
    WholeValue,
)
from aegnn_core.asynchronous.layer_names import LayerNames
from aegnn_core.asynchronous.operation_flops import function_name
from aegnn_core.asynchronous.torch_internals import count_of_writes, undispatched

__all__ = ["Forward"]


def _full(leaf: Any) -> Any:
    leaf = leaf.value if isinstance(leaf, Tracked) else leaf
    return leaf.full() if isinstance(leaf, Value) else leaf


def _of_its_own(func: Callable[..., Any]) -> Callable[..., Any]:
    return lambda tensor, *args, **kwargs: func(tensor.clone(), *args, **kwargs)


#: Functions that make an array in a tensor's memory, and what makes one in memory of its own.
_ARRAYS: dict[Any, Callable[..., Any]] = {func: _of_its_own(func) for func in (Tensor.numpy, Tensor.__array__)}
_DATA = frozenset({torch.from_numpy, torch.as_tensor, torch.asarray, torch.frombuffer, torch.tensor})
_RANDOM = frozenset(
    {torch.rand, torch.randn, torch.randint, torch.randperm, torch.rand_like, torch.randn_like, torch.bernoulli,
     torch.normal, torch.multinomial}
)  # fmt: skip
_AT = Tensor.__getitem__
_SELECT = (Tensor.index_select, torch.index_select)
#: Functions whose first argument is not the one called ``input``.
_NOT_INPUT_FIRST = (torch.where, torch.searchsorted)


class Forward(TorchFunctionMode):
    """One run of the model's forward: an update.

    Args:
        tape: what the operations keep from update to update.
        constants: parameters, buffers and other tensors that the model holds, by id.
        layers: names of the layers.
        meter: told what they cost.

    Attributes:
        reader: reads calls, and knows constants.
        meter: runs what is to be on the account of a layer.
        steps: what brings the values of this forward up to date in another update, in order.
        observed: the forward has seen numbers: another update might take another way.
    """

    def __init__(self, tape: Tape, constants: dict[int, Any], layers: LayerNames, meter: CostMeter) -> None:
        super().__init__()
        self._tape, self._layers = tape, layers
        self._constant_rows = ConstantRowMaker(tape)
        self.reader = CallReader(constants)
        self.meter = LayerMeter(layers, meter)
        self.steps: list[Callable[[], None]] = []
        self.observed = False
        self._arrays: list[tuple[np.ndarray, bytes]] = []

    def finish(self) -> None:
        """The forward has ended.

        Raises:
            UntrackableError: it has written into an array, which is to the dense model a tensor's memory.
        """
        if any(array.tobytes() != before for array, before in self._arrays):
            raise UntrackableError("it writes into an array that shares a tensor's memory")

    def track(self, value: Value) -> Tracked:
        """The tensor that the forward sees for a value."""
        if isinstance(value, RowValue):
            self.steps.append(value.refresh)
            self._constant_rows.know(value.space)
        return Tracked(value, self)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if self.meter.executing:
            return self.meter.count(func, args, kwargs or {})
        return self.call(func, args, kwargs or {})

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a torch function returns when the forward calls it."""
        if not args and "input" in kwargs and func not in _NOT_INPUT_FIRST:
            args, kwargs = (kwargs["input"],), {name: value for name, value in kwargs.items() if name != "input"}
        metadata = METADATA.get(func)
        if metadata is not None:
            if isinstance(args[0], Tracked):
                return metadata(args[0].value, *args[1:], **kwargs)
            return func(*args, **kwargs)
        check_dropout(func, args, kwargs)
        call = self.reader.read(func, args, kwargs)
        if not call.values:
            return self._untracked(call)
        if func in IDENTITIES and _returns_its_argument(call):
            return args[0]
        target = IN_PLACE.get(func)
        if target is not None:
            return self._in_place(target, args, kwargs)
        position = parameter_of(func, "inplace")
        if position is not None and (kwargs.get("inplace") or (len(args) > position and args[position])):
            plain = {name: value for name, value in kwargs.items() if name != "inplace"}
            return self._in_place(func, args[:position], plain)
        if func in WRITES or kwargs.get("out") is not None:
            first = call.args[0] if call.args and func in WRITES else None
            kind = MisjudgedError if isinstance(first, RowValue) and first.guessed else UntrackableError
            raise kind(f"{function_name(func)} writes into a part of a tensor, or gives its memory away")
        result = None
        for rule in (self._local, self._edges, self._constant, self._reduction):
            result = rule(call)
            if result is not None:
                break
        else:
            if func is Tensor.__iter__:
                return iter(self.call(Tensor.unbind, args, {}))
            result = self._whole(call, func)
            if func in _ARRAYS:
                self._arrays.append((result, result.tobytes()))
        if func in VIEWS or call.shares:
            _share(args[0] if args else kwargs, result)
        return result

    # What becomes of a call

    def _edges(self, call: Call) -> Any:
        """Ends of edges, and values of the nodes there."""
        func, args = call.func, call.args
        first = args[0] if args else None
        if isinstance(first, EdgeIndex):
            if func in SAME and _tried(call, _alike):
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
                return self.track(LiftedRows(self._tape.of(call).origin, first, at))
        return None

    def _constant(self, call: Call) -> Tracked | None:
        """The same value in every row."""
        value = self._constant_rows.follow(call)
        return None if value is None else self.track(value)

    def _reduction(self, call: Call) -> Any:
        reduction = reductions.find(call)
        if reduction is None:
            return None
        self.observed = True  # not among the steps
        state = self._tape.of(call)
        begin = perf_counter()
        result, changes, flops = reduction(state)
        self.meter.account(call.func, flops, perf_counter() - begin)
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
            if isinstance(value, ConstantRows) and call.func in OWN_CONSTANTS:
                return None
            if not isinstance(value, kind) or _domain(value) is not domain:
                return None
        first = call.args[0] if call.args and isinstance(call.args[0], Value) else inputs[0]
        form = local_form(call, first)  # type: ignore[arg-type]
        if form is False:
            return None
        state = self._tape.of(call)
        apply = self.meter.counted(call, form if callable(form) else for_rows(call))
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
        return self._whole_call(self.reader.read(func, args, kwargs), func, args, kwargs)

    def scripted(self, function: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A function that ``torch.jit`` has made, called as ``original(function, ...)``."""

        def run(*args: Any, **kwargs: Any) -> Any:
            with undispatched():
                args, kwargs = replaced((args, kwargs), lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf)
                tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
                before = [count_of_writes(tensor) for tensor in tensors]
                result = original(function, *args, **kwargs)
                if before != [count_of_writes(tensor) for tensor in tensors] or _share_memory(tensors, result):
                    raise UntrackableError(f"{function.name} writes into its arguments, or returns them")
                return result

        call = self.reader.read(function, args, kwargs)
        call.func = run
        return self._whole_call(call, function, args, kwargs)

    def _whole_call(self, call: Call, work: Any, args: Any, kwargs: Any) -> Any:
        result = self._whole(call, work)
        if call.shares:
            _share((args, kwargs), result)
        return result

    def _whole(self, call: Call, work: Any) -> Any:
        state = self._tape.next(("whole", call.key))
        layer = self.meter.layer_of(work)
        if any(_on_graph(value) for value in call.values):
            self._layers.dense.setdefault(layer)

        def update() -> bool:
            changes = state.fresh or not call.constant or any(value.changes for value in call.values)
            if changes:
                args, kwargs = replaced(call.args, _full), replaced(call.kwargs, _full)
                state.result = self.meter.execute(layer, _ARRAYS.get(call.func, call.func), args, kwargs)
                state.kept = _share_memory((args, kwargs), state.result)
            return changes

        wrapped = self._wrap(state, update())
        call.shares = state.kept
        tracked = (leaf.value for leaf in leaves(wrapped) if isinstance(leaf, Tracked))
        made = [value for value in tracked if isinstance(value, WholeValue)]
        if not made:
            self.observed = True

        def step() -> None:
            changes = update()
            tensors = (leaf for leaf in leaves(state.result) if isinstance(leaf, Tensor))
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
        made = self._constant_rows.made(func, args, kwargs) if func in FACTORIES else None
        if made is not None:
            return self.track(made)
        result = func(*args, **kwargs)
        if func in ALIASES:
            given = [self.reader.give_away(leaf) for leaf in args if isinstance(leaf, Tensor)]
            if any(given):
                return result
        known = func not in _DATA or (func is torch.tensor and _few_numbers(args[0]))
        if not known or func in _RANDOM or not call.constant:
            return result
        made = args[0] if func is Tensor.__setitem__ else result
        tensors = [leaf for leaf in leaves(made) if isinstance(leaf, Tensor)]
        if tensors:
            state = self._tape.next(call.key)
            for n, tensor in enumerate(tensors):
                self.reader.make_constant(tensor, ("made", state.origin, n))
        return result

    # What operations need

    def next(self, func: Callable[..., Any], args: Any, kwargs: Any) -> OperationState:
        """The state of the operation that comes now, calling ``func`` with tracked tensors or values."""
        return self._tape.next(self.reader.read(func, args, kwargs).key)

    def replaced(self, arguments: Any, replace: Callable[[Value], Tensor]) -> Any:
        """The same arguments with every tracked tensor replaced."""
        return replaced(arguments, lambda leaf: replace(leaf.value) if isinstance(leaf, Tracked) else leaf)

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
        return replaced(result, wrap)


def _tried(call: Call, fulfils: Callable[[Tensor, Any], bool]) -> bool:
    """Whether argument and result of a function fulfil a condition when it is called on nothing."""

    def nothing(leaf: Any) -> Any:
        if isinstance(leaf, (RowValue, EdgeValue)):
            return _no_rows(leaf)
        return torch.empty((0,) * leaf.rank, dtype=leaf.dtype, device=leaf.device) if isinstance(leaf, Value) else leaf

    with undispatched():
        before = nothing(call.args[0])
        after = call.func(before, *replaced(call.args[1:], nothing), **replaced(call.kwargs, nothing))
    return fulfils(before, after)


def _returns_its_argument(call: Call) -> bool:
    if not isinstance(call.args[0], Value) or "memory_format" in call.kwargs:
        return False
    return _tried(call, lambda before, after: after is before)


def _alike(before: Tensor, after: Any) -> bool:
    return isinstance(after, Tensor) and (after.dtype, after.device) == (before.dtype, before.device)


def _share(arguments: Any, result: Any) -> None:
    """Whoever writes into one of these may write into the others."""
    for leaf in leaves((arguments, result)):
        if isinstance(leaf, Tracked):
            leaf.shared = True


def _share_memory(arguments: Any, result: Any) -> bool:
    """Whether a tensor of a result lies in the memory of an argument."""
    with undispatched():
        return not _places(arguments).isdisjoint(_places(result))


def _places(nest: Any) -> set[int]:
    tensors = (leaf for leaf in leaves(nest) if isinstance(leaf, Tensor) and leaf.layout == torch.strided)
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel()}


def _on_graph(value: Value) -> bool:
    """Whether it has as many rows as some graph has nodes or edges, and the graph has any."""
    if isinstance(value, RowValue):
        return len(value.space.all) > 0
    if isinstance(value, (EdgeIndex, EdgeValue)):
        return len(value.graph.nodes.all) > 0
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


def _few_numbers(value: Any) -> bool:
    numbers = list(leaves(value))
    return len(numbers) <= 64 and all(isinstance(number, (int, float)) for number in numbers)
