# SPDX-License-Identifier: Apache-2.0
"""How a model is called on a graph: with a ``Data``, or with the parts of it that its forward names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn.conv import MessagePassing

__all__ = ["call_on_graph"]

#: What a forward may name instead of taking a ``Data``; and ``batch``, all zeros, if it needs that.
_PARTS = ("x", "pos", "edge_index", "edge_attr")


def call_on_graph(model: nn.Module, data: Data) -> Any:
    """The model's output for a graph.

    Raises:
        ValueError: the model needs something that the graph does not have.
    """
    parameters = _parameters(model)
    first = next(iter(parameters), None)
    if first not in (*_PARTS, "batch") or _is_data(model, first):
        return _called(model, lambda: model(data))
    present: dict[str, Any] = {name: data[name] for name in _PARTS}
    optional = {name for name, needed in parameters.items() if not needed}
    if "batch" in parameters and "batch" not in optional:
        present["batch"] = data.x.new_zeros(data.x.size(0), dtype=torch.long)
    if absent := [name for name in parameters if name not in present and name not in optional]:
        raise ValueError(
            f"the forward of {type(model).__name__} needs {', '.join(absent)}, but a graph of events has"
            f" {', '.join(_PARTS)}"
        )
    if "edge_attr" in optional and not _reads_attributes(model):
        del present["edge_attr"]
    named = {name: value for name, value in present.items() if name in parameters}
    try:
        return _called(model, lambda: model(**named))
    except AttributeError as error:
        # forward(self, x) may well mean the graph; then it asks the features for what only a graph has.
        alone = optional.issuperset(name for name in parameters if name != first)
        if not alone or not isinstance(error.obj, Tensor) or error.name not in (*_PARTS, "batch", "t"):
            raise
    return _called(model, lambda: model(data))


def _parameters(model: nn.Module) -> dict[str, bool]:
    """What the forward takes by name, and whether it has to be given."""
    if isinstance(model, torch.jit.ScriptModule):
        forward: Any = model.forward
        arguments = forward.schema.arguments[1:]
        return {argument.name: not argument.has_default_value() for argument in arguments}
    parameters = inspect.signature(model.forward).parameters.values()
    return {p.name: p.default is p.empty for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def _is_data(model: nn.Module, name: str | None) -> bool:
    """Whether the forward says that it takes a ``Data`` by that name."""
    annotation = getattr(model.forward, "__annotations__", {}).get(name)
    return annotation is Data or annotation == "Data"


def _reads_attributes(model: nn.Module) -> bool:
    """Whether some convolution takes edge attributes, as far as can be seen: PyG's have an ``edge_dim``."""
    layers = (module for module in model.modules() if isinstance(module, MessagePassing))
    made_for = [layer.edge_dim for layer in layers if hasattr(layer, "edge_dim")]
    return not made_for or any(dim is not None for dim in made_for)


def _called(model: nn.Module, call: Callable[[], Any]) -> Any:
    name = type(model).__name__
    try:
        return call()
    except AttributeError as error:
        # Data raises the same for a name that it does not have as any object would.
        if isinstance(error.obj, Data) or "GlobalStorage" in str(error):
            raise ValueError(
                f"the forward of {name} needs data.{error.name or str(error).split()[-1]}, but a graph"
                f" of events has {', '.join(_PARTS)}"
            ) from error
        if error.obj is None:
            raise ValueError(_needs_more(name, error)) from error
        raise
    except TypeError as error:
        if "NoneType" in str(error):
            raise ValueError(_needs_more(name, error)) from error
        raise


def _needs_more(name: str, error: Exception) -> str:
    return (
        f"the forward of {name} uses something that is None ({error}): a graph of events has {', '.join(_PARTS)},"
        " and data.batch is None; a forward with an argument batch gets zeros for it"
    )
