"""A copy of a model's modules that shares the model's weights."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

__all__ = ["constants_of", "shared_copy"]


def shared_copy(model: nn.Module) -> nn.Module:
    """A copy whose modules are its own, and whose parameters, buffers and other tensors are the model's.

    The dictionaries of parameters and buffers are shared too, so that weights which replace others are seen.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for shared in (module._parameters, module._buffers, *_tensors_in(vars(module))):
            memo[id(shared)] = shared
    return copy.deepcopy(model, memo)


def constants_of(model: nn.Module) -> dict[int, Any]:
    """All tensors that the modules hold, by id."""
    held: list[Tensor] = [*model.parameters(), *model.buffers()]
    for module in model.modules():
        held.extend(_tensors_in(vars(module)))
    return {id(tensor): ("held", n) for n, tensor in enumerate(held)}


def _tensors_in(attributes: dict[str, Any]) -> list[Tensor]:
    return [value for value in attributes.values() if isinstance(value, Tensor)]
