# SPDX-License-Identifier: Apache-2.0
"""A copy of a model's modules that shares the model's weights, and follows changes of the model's attributes."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from aegnn_core.asynchronous.torch_internals import children_table, eager, forget_compiled_call, weight_tables

__all__ = ["Layers", "Settings", "constants_of", "shared_copy"]

_Module = TypeVar("_Module", bound=nn.Module)

#: Values of attributes that are settings: they mean the same in a copy.
_SETTINGS = (bool, int, float, complex, str, bytes, tuple, type(None), Tensor)
#: Attributes that every module has for itself.
_OWN = frozenset(vars(nn.Module()))


def shared_copy(model: _Module) -> _Module:
    """A copy whose modules are its own, and whose parameters, buffers and other tensors are the model's.

    The dictionaries of parameters and buffers are shared too, so that weights which replace others are seen. Modules
    that ``torch.compile`` made are those that it was given.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            memo[id(module)] = module  # a copy would have weights of its own
            continue
        for shared in (*weight_tables(module), *_tensors_in(vars(module))):
            memo[id(shared)] = shared
    for module in model.modules():
        if eager(module) is not module:
            memo[id(module)] = copy.deepcopy(eager(module), memo)
    twin = copy.deepcopy(model, memo)
    for module in _parts(twin):
        forget_compiled_call(module)
    return twin


def _parts(model: nn.Module) -> list[nn.Module]:
    """All modules that Python runs, without the wrappers of ``torch.compile``."""
    run_by_python = (module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule))
    return [module for module in run_by_python if eager(module) is module]


def constants_of(model: nn.Module) -> dict[int, Any]:
    """All tensors that the modules hold, by id."""
    held: list[Tensor] = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        held.extend(_tensors_in(vars(module)))
    return {id(tensor): ("held", n) for n, tensor in enumerate(held)}


def _tensors_in(attributes: dict[str, Any]) -> list[Tensor]:
    return [value for value in attributes.values() if isinstance(value, Tensor)]


class Layers:
    """Notices when modules of a model have been replaced, added or removed."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._children = [children for module in model.modules() if (children := children_table(module))]
        self._seen = self._look()

    def check(self) -> None:
        """Raise ``ValueError`` unless the modules are those that the model had when this was made."""
        if self._look() != self._seen:
            raise ValueError(
                f"layers of {type(self._model).__name__} have been replaced since it was made asynchronous:"
                " call make_model_asynchronous anew"
            )

    def _look(self) -> list[int]:
        return [id(child) for children in self._children for child in children.values()]


class Settings:
    """Sets the attributes of a copy's modules to those of the model, before every forward.

    A number, text or tensor that is set in the model is set in the copy. What a forward of the copy sets is taken back:
    no answer depends on an earlier one. To be made when the copy is complete. ``training`` stays as it was.
    """

    def __init__(self, model: nn.Module, twin: nn.Module) -> None:
        self._pairs = []
        for original, own in zip(_parts(model), _parts(twin), strict=True):
            held = {name: value for name, value in vars(own).items() if name not in _OWN}
            self._pairs.append((vars(original), vars(own), held, len(vars(own))))

    def follow(self) -> bool:
        """Bring the copy up to date; whether the model has changed."""
        changed = False
        for original, own, held, count in self._pairs:
            for name, value in held.items():
                found = original.get(name, value)
                if found is not value and isinstance(found, _SETTINGS) and isinstance(value, _SETTINGS):
                    if isinstance(found, Tensor) or isinstance(value, Tensor) or found != value:
                        changed = True
                    held[name] = value = found
                if own.get(name, held) is not value:
                    own[name] = value
            if len(own) != count:
                for name in own.keys() - held.keys() - _OWN:
                    del own[name]
        return changed
