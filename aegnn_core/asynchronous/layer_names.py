# SPDX-License-Identifier: Apache-2.0
"""Which layer of a model is at work, for meters and messages."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch_geometric.nn.conv import MessagePassing

from aegnn_core.asynchronous.operation_flops import function_name
from aegnn_core.nn.pooling import POOLINGS
from aegnn_core.nn.spline import SplineConv

__all__ = ["LayerNames"]

#: Whatever happens inside these is theirs.
_LAYERS = (MessagePassing, SplineConv, *POOLINGS)


class LayerNames:
    """Follows which modules of a model are at work.

    Args:
        model: gets hooks on all its modules; a copy, if the model is somebody else's.

    Attributes:
        dense: layers and functions that had to run on whole tensors, in the order in which they were met.
    """

    def __init__(self, model: nn.Module) -> None:
        self._of = {id(module): name or type(module).__name__ for name, module in model.named_modules()}
        self._leaves = {id(m) for m in model.modules() if isinstance(m, _LAYERS) or next(m.children(), None) is None}
        self._stack: list[nn.Module] = []
        self.dense: dict[str, None] = {}
        for module in model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._leave)

    def _enter(self, module: nn.Module, _: Any) -> None:
        self._stack.append(module)

    def _leave(self, *_: Any) -> None:
        self._stack.pop()

    def begin(self) -> None:
        """The forward begins."""
        self._stack.clear()

    def of(self, work: Any) -> str:
        """The name of a module or of a module's method, or of a function that the module at work calls."""
        owner = getattr(work, "__self__", None)
        if isinstance(owner, nn.Module):
            work = owner
        if isinstance(work, nn.Module):
            return self._of[id(work)]
        for module in self._stack:
            if id(module) in self._leaves:
                return self._of[id(module)]
        name = str(work.name) if isinstance(work, torch.jit.ScriptFunction) else function_name(work)
        return name if len(self._stack) <= 1 else f"{self._of[id(self._stack[-1])]}.{name}"
