# SPDX-License-Identifier: Apache-2.0
"""Work of a forward during an update, on the account of the layer that does it."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

from torch import Tensor

from aegnn_core.asynchronous.costs import CostMeter
from aegnn_core.asynchronous.dropout_check import check_dropout
from aegnn_core.asynchronous.incremental.local_operations import Call
from aegnn_core.asynchronous.incremental.nesting import leaves
from aegnn_core.asynchronous.layer_names import LayerNames
from aegnn_core.asynchronous.operation_flops import operation_flops
from aegnn_core.asynchronous.torch_internals import undispatched

__all__ = ["LayerMeter"]


class LayerMeter:
    """Runs functions and notes what they cost.

    Args:
        layers: names of the layers.
        meter: told what they cost.

    Attributes:
        executing: a function is at work, and those that it calls are to be counted.
    """

    def __init__(self, layers: LayerNames, meter: CostMeter) -> None:
        self._layers, self._meter = layers, meter
        self.executing = False
        self._flops = 0

    def count(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function that an executed one calls."""
        check_dropout(func, args, kwargs)
        result = func(*args, **kwargs)
        self._flops += _flops_of(func, args, kwargs, result)
        return result

    def execute(self, layer: str, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call a function with plain tensors, on the account of a layer."""
        before, self.executing, self._flops = self.executing, True, 0
        begin = perf_counter()
        try:
            result = func(*args, **kwargs)
        finally:
            self.executing = before
        seconds = perf_counter() - begin
        # Functions that the call makes itself were counted, unless it was one that torch does not look into.
        self._meter.add(layer, self._flops or _flops_of(func, args, kwargs, result), seconds)
        return result

    def layer_of(self, work: Any) -> str:
        """The name of the layer that a module is, or that is at work when a function is called."""
        return self._layers.of(work)

    def account(self, work: Any, flops: float, seconds: float) -> None:
        """A module, or a function of the forward's, has worked."""
        self._meter.add(self._layers.of(work), flops, seconds)

    def counted(self, call: Call, apply: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, on the account of the layer at work."""
        layer = self._layers.of(call.func)

        def counted(n: int, *rows: Tensor) -> Any:
            begin = perf_counter()
            with undispatched():
                result = apply(n, *rows)
            flops = operation_flops(call.func, call.args, result, rows[0], call.kwargs)
            self._meter.add(layer, flops, perf_counter() - begin)
            return result

        return counted


def _flops_of(func: Callable[..., Any], args: Any, kwargs: Any, result: Any) -> int:
    first = _first_tensor(args)
    if first is None and kwargs:
        first = _first_tensor(kwargs)
    return operation_flops(func, args, result, first, kwargs)


def _first_tensor(args: Any) -> Tensor | None:
    return next((leaf for leaf in leaves(args) if isinstance(leaf, Tensor)), None)
