# SPDX-License-Identifier: Apache-2.0
"""A model whose every forward is metered, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from aegnn_core.asynchronous.costs import CostMeter
from aegnn_core.asynchronous.dropout_check import check_dropout
from aegnn_core.asynchronous.layer_names import LayerNames
from aegnn_core.asynchronous.operation_flops import basis_flops, operation_flops, spline_flops, tensors_in
from aegnn_core.asynchronous.shared_copy import shared_copy
from aegnn_core.asynchronous.torch_internals import undispatched
from aegnn_core.nn.pooling import POOLINGS
from aegnn_core.nn.spline import EdgeSplines, SplineConv

__all__ = ["Metering", "forward_flops"]


class Metering(TorchFunctionMode):
    """While it is active, forwards of ``model``, a copy that shares the weights, are metered.

    Args:
        model: left as it is.
        meter: told what the layers cost.
    """

    def __init__(self, model: nn.Module, meter: CostMeter) -> None:
        super().__init__()
        self.model, self._meter = shared_copy(model), meter
        self._layers = LayerNames(self.model)
        for module in self.model.modules():
            if isinstance(module, SplineConv):
                self._meter_splines(module)
            elif isinstance(module, POOLINGS):
                # One comparison, or addition, per node and channel.
                module.forward = self._metered(module, module.forward, _elements)  # type: ignore[method-assign]

    def __enter__(self) -> Metering:
        self._layers.begin()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        check_dropout(func, args, kwargs or {})
        begin = perf_counter()
        result = func(*args, **(kwargs or {}))
        seconds = perf_counter() - begin
        flops = operation_flops(func, args, result, next(tensors_in((args, kwargs)), None), kwargs or {})
        if flops:
            self._meter.add(self._layers.of(func), flops, seconds)
        return result

    def _meter_splines(self, conv: SplineConv) -> None:
        def sums(features: Tensor, own: Tensor, edges: EdgeSplines) -> int:
            return spline_flops(conv, len(own), len(edges.source))

        def splines(source: Tensor, *_: Any, **__: Any) -> int:
            return basis_flops(conv, len(source))

        conv.edges = self._metered(conv, conv.edges, splines)  # type: ignore[method-assign]
        conv.convolve = self._metered(conv, conv.convolve, sums)  # type: ignore[method-assign]

    def _metered(self, module: nn.Module, method: Callable[..., Any], flops: Callable[..., int]) -> Callable[..., Any]:
        def metered(*args: Any, **kwargs: Any) -> Any:
            begin = perf_counter()
            with undispatched():
                result = method(*args, **kwargs)
            self._meter.add(self._layers.of(module), flops(*args, **kwargs), perf_counter() - begin)
            return result

        return metered


def forward_flops(module: nn.Module, *inputs: Any) -> int:
    """FLOPs of one forward."""
    meter = CostMeter()
    with Metering(module, meter) as metering:
        metering.model(*inputs)
    return int(meter.flops().total.total)


def _elements(x: Tensor, *_: Any, **__: Any) -> int:
    return x.numel()
