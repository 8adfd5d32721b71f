# SPDX-License-Identifier: Apache-2.0
"""The tensors that a model's forward sees during an update, and what they say of themselves: shape, type, device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from aegnn_core.asynchronous.incremental.nesting import leaves
from aegnn_core.asynchronous.incremental.values import Value
from aegnn_core.asynchronous.torch_internals import watched_stand_in

__all__ = ["METADATA", "MisjudgedError", "Tracked", "UntrackableError"]


class UntrackableError(Exception):
    """The forward does something that cannot be followed value by value; the model has to run as a whole."""


class MisjudgedError(UntrackableError):
    """... in this update, because a size happens to be a number of rows; it may be possible in the next."""


class Tracked(Tensor):
    """Stands for a tensor of the forward. It holds no numbers: functions called on it go to the running update."""

    value: Value
    forward: Any  # the dispatcher, a Forward
    #: Another tensor may share its memory: whoever writes into one of the two writes into both.
    shared: bool

    @staticmethod
    def __new__(cls, value: Value, forward: Any) -> Tracked:
        self = watched_stand_in(cls)
        self.value, self.forward, self.shared = value, forward, False
        return self

    def __init__(self, value: Value, forward: Any) -> None:
        pass

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        tracked = next(leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tracked))
        return tracked.forward.call(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any) -> Any:
        raise UntrackableError(f"{func} was called where calls of torch's functions cannot be seen")

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Tracked({type(self.value).__name__}, shape={list(self.value.shape)})"


def _getter(name: str) -> Any:
    return getattr(Tensor, name).__get__


def _never(value: Value) -> bool:
    return False


#: Functions that ask for no numbers, and what they return for a value.
METADATA: dict[Any, Callable[..., Any]] = {
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
    METADATA[_getter(f"is_{_kind}")] = _never
for _kind in ("cuda", "meta", "mps", "xpu"):
    METADATA[_getter(f"is_{_kind}")] = lambda v, kind=_kind: v.device.type == kind
