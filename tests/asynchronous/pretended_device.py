# SPDX-License-Identifier: Apache-2.0
"""A device that this machine does not have: tensors "on" it are the CPU's, and what a real device refuses is refused.

They say that they are on torch's device ``meta``. A function that gets some of them besides others that are not there
is an error, as with CUDA, and so is to take one for an array of NumPy's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["DEVICE", "PretendedDevice"]

DEVICE = torch.device("meta")
_ATEN = torch.ops.aten
#: These may take their indices, or what they copy, from the CPU.
_MIXED = {_ATEN.index.Tensor, _ATEN.index_put_.default, _ATEN._index_put_impl_.default, _ATEN.copy_.default}


class _There(Tensor):
    """A tensor on the device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> _There:
        self = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=DEVICE
        )
        self.inner = inner
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"there({self.inner})"


class _Data(TorchFunctionMode):
    """Lets numbers of Python's come to the device, which torch does where no dispatch mode sees it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is Tensor.new_tensor and isinstance(args[0], _There):
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(DEVICE)
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == DEVICE:
            return func(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)
        return func(*args, **kwargs)


class PretendedDevice(TorchDispatchMode):
    """While it is entered, ``tensor.to(DEVICE)`` and ``torch.zeros(3, device=DEVICE)`` are possible."""

    def __init__(self) -> None:
        super().__init__()
        self._data = _Data()

    def __enter__(self) -> PretendedDevice:
        self._data.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._data.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    is_there = any(isinstance(tensor, _There) for tensor in tensors)
    if is_there and func not in _MIXED:
        elsewhere = [tensor for tensor in tensors if not isinstance(tensor, _There) and tensor.dim()]
        assert not elsewhere, f"{func} of tensors on the device and on the CPU"
    wanted = kwargs.get("device")
    if wanted is not None and wanted.type == DEVICE.type:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if func._schema.is_mutable and isinstance(args[0], Tensor) and func._schema.returns:
        return args[0]
    if is_there if wanted is None else wanted.type == DEVICE.type:
        return tree_map(lambda leaf: _There(leaf) if isinstance(leaf, Tensor) else leaf, result)
    return result


def _inner(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, _There) else leaf
