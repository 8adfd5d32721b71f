# SPDX-License-Identifier: Apache-2.0
"""A copy of a model's modules that shares the model's weights, and follows changes of the model's attributes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch_geometric.nn.conv import MessagePassing

from aegnn_core.asynchronous.attributes import GONE, Attributes, is_code, unregistered
from aegnn_core.asynchronous.torch_internals import (
    children_table,
    eager,
    forget_compiled_call,
    hook_tables,
    weight_tables,
)

__all__ = ["Layers", "Settings", "constants_of", "in_modes", "modes_of", "shared_copy"]

_Module = TypeVar("_Module", bound=nn.Module)


def shared_copy(model: _Module) -> _Module:
    """A copy whose modules are its own, and whose parameters, buffers and other tensors and arrays are the model's.

    The dictionaries of parameters and buffers are shared too, so that weights which replace others are seen. Modules
    that ``torch.compile`` made are those that it was given.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            memo[id(module)] = module  # a copy would have weights of its own
            continue
        for shared in (*weight_tables(module), *_tensors_in(vars(module)), *unregistered(module)):
            memo[id(shared)] = shared
    for module in model.modules():
        if eager(module) is not module:
            memo[id(module)] = copy.deepcopy(eager(module), memo)
    twin = copy.deepcopy(model, memo)
    for module in _parts(twin):
        forget_compiled_call(module)
    return twin


def modes_of(model: nn.Module) -> dict[str, bool]:
    """Which of the modules are in training mode, by name."""
    return {name: module.training for name, module in model.named_modules()}


@contextmanager
def in_modes(model: nn.Module, modes: Mapping[str, bool]) -> Iterator[None]:
    """While this lasts, the modules are in the modes that :func:`modes_of` gave, and then again in those before."""
    others = [module for name, module in model.named_modules() if module.training != modes.get(name, module.training)]
    before = [module.training for module in others]
    try:
        for module, mode in zip(others, before, strict=True):
            module.training = not mode
        yield
    finally:
        for module, mode in zip(others, before, strict=True):
            module.training = mode


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
    """Notices when modules of a model have been replaced, added or removed, or run other code than they did.

    Args:
        model: whose modules they are.
        settings: kinds of modules for which every other value of an attribute counts too, not only a function's.
    """

    def __init__(self, model: nn.Module, *, settings: tuple[type[nn.Module], ...] = ()) -> None:
        self._model, self._settings = model, settings
        self._children = [children for module in model.modules() if (children := children_table(module))]
        self._parts = _parts(model)
        self._hooks = [table for module in self._parts for table in hook_tables(module)]
        self._weights = [table for module in self._parts for table in weight_tables(module)]
        self._attributes = Attributes(self._parts)
        self._seen, self._code = self._look(), self._look_at_code()

    def check(self) -> None:
        """Raise ``ValueError`` unless the modules are those that the model had when this was made."""
        name = type(self._model).__name__
        if self._look() != self._seen:
            found = f"layers of {name} have been replaced"
        elif self._look_at_code() != self._code:
            found = f"classes or hooks of {name}'s layers, or the names or types of their weights, have changed"
        elif others := [change for change in self._attributes.changes() if self._is_refused(*change)]:
            n, attribute, *_ = others[0]
            found = f"{attribute} of {self._name_of(self._parts[n])} has changed"
        else:
            return
        raise ValueError(f"{found} since it was made asynchronous: call make_model_asynchronous anew")

    def _look(self) -> list[int]:
        return [id(child) for children in self._children for child in children.values()]

    def _look_at_code(self) -> list[Any]:
        """What else decides which code runs, and on numbers of which kind."""
        tables = [*filter(None, self._weights)]
        kinds = [None if one is None else one.dtype for table in tables for one in table.values()]
        hooks = [id(hook) for table in filter(None, self._hooks) for hook in table.values()]
        return [*map(type, self._parts), hooks, *map(tuple, tables), *kinds]

    def _is_refused(self, n: int, name: str, before: Any, now: Any) -> bool:
        part = self._parts[n]
        known = before is not GONE or hasattr(type(part), name)
        # A layer that was told to keep its first normalisation would answer by what it was called on before.
        caches = name == "cached" and isinstance(part, MessagePassing)
        return is_code(before) or is_code(now) or caches or (known and isinstance(part, self._settings))

    def _name_of(self, module: nn.Module) -> str:
        names = (name for name, one in self._model.named_modules() if one is module)
        return next(names, "") or type(self._model).__name__


class Settings:
    """Sets the attributes of a copy's modules to those of the model, before every forward.

    A number, text, tensor or collection that is set in the model is set in the copy. What a forward of the copy sets is
    taken back: no answer depends on an earlier one. To be made when the copy is complete. ``training`` stays as it was,
    and so does code: :class:`Layers` refuses other code.
    """

    def __init__(self, model: nn.Module, twin: nn.Module) -> None:
        self._of_model, self._of_twin = Attributes(_parts(model)), Attributes(_parts(twin))
        self._is_changed = False

    def follow(self) -> bool:
        """Bring the copy up to date; whether the model has changed in a way that was not accepted yet."""
        for n, name, before, now in self._of_model.changes():
            if not is_code(before) and not is_code(now):
                self._is_changed = True
                self._of_twin.put(n, name, now)
                self._of_model.put(n, name, now)  # last: until then, it is a change
        self.restore()
        return self._is_changed

    def accept(self) -> None:
        """As :meth:`aegnn_core.asynchronous.weights.WeightsVersion.accept`."""
        self._is_changed = False

    def restore(self) -> None:
        """Take back what a forward of the copy has set."""
        self._of_twin.restore()
