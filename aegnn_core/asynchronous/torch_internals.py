# SPDX-License-Identifier: Apache-2.0
"""What the engines need of torch though its name begins with an underscore: here and nowhere else in ``asynchronous``.

Tried on torch 2.13. With another version, run the tests of ``asynchronous``: whatever is gone or means something else
there has to be replaced in this file only.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = [
    "AUTOCAST_DEVICES",
    "DATA",
    "DROPOUT_LAYERS",
    "NN_FUNCTIONS",
    "NORM_LAYERS",
    "children_table",
    "count_of_writes",
    "eager",
    "forget_compiled_call",
    "has_hooks",
    "hook_tables",
    "stand_in",
    "under_autocast",
    "undispatched",
    "watched_stand_in",
    "weight_tables",
]

_Stand = TypeVar("_Stand", bound=Tensor)
_NOTHING = torch.empty(0, dtype=torch.float32, device="cpu")

#: ``with undispatched():`` functions of torch are called as they are, whatever subclasses and modes would make of them.
#: Public is only ``DisableTorchFunctionSubclass``, which leaves modes on.
undispatched = torch._C.DisableTorchFunction

#: Where functions are that ``torch.nn.functional`` takes from C++, such as ``gelu``: a call is seen as one of these.
NN_FUNCTIONS = torch._C._nn

#: What reads and sets a tensor's attribute ``data``: the class itself has it as a tensor for type checkers.
DATA: Any = vars(torch._C.TensorBase)["data"]

#: What all layers of a kind are instances of.
DROPOUT_LAYERS = nn.modules.dropout._DropoutNd
NORM_LAYERS = nn.modules.batchnorm._NormBase

#: ``under_autocast()``: whether the caller is, on any device, which is asked for every packet; and the types of device.
under_autocast = torch._C._is_any_autocast_enabled
AUTOCAST_DEVICES = torch._C._autocast_supported_devices()

#: How often a tensor was written to; in inference mode it is not counted.
count_of_writes = attrgetter("_version")


def stand_in(kind: type[_Stand]) -> _Stand:
    """A tensor of a subclass that holds no numbers; its ``__init__`` has not run."""
    return Tensor._make_subclass(kind, _NOTHING)


def watched_stand_in(kind: type[_Stand]) -> _Stand:
    """As :func:`stand_in`, of a subclass with a ``__torch_dispatch__``.

    That is called by whatever asks for its numbers or its shape where no function of torch is seen to be called.
    """
    return Tensor._make_wrapper_subclass(
        kind, (0,), dispatch_sizes_strides_policy="sizes", dispatch_device=True, dispatch_layout=True
    )


def weight_tables(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """The dictionaries in which a module holds its parameters and its buffers, not copies of them."""
    return module._parameters, module._buffers


def children_table(module: nn.Module) -> dict[str, nn.Module | None]:
    """The dictionary in which a module holds its children."""
    return module._modules


def hook_tables(module: nn.Module) -> tuple[dict[int, Any], dict[int, Any]]:
    """The dictionaries of what a call of the module calls beside its forward."""
    return module._forward_hooks, module._forward_pre_hooks


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module calls more than its forward."""
    return any(hook_tables(module))


def eager(module: nn.Module) -> nn.Module:
    """The original of a module that ``torch.compile`` made; any other module as it is."""
    return getattr(module, "_orig_mod", module)


def forget_compiled_call(module: nn.Module) -> None:
    """Undo ``module.compile()``: calls run its forward again."""
    module._compiled_call_impl = None
