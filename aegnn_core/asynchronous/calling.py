"""How a model is called on a graph: with a ``Data``, or with the parts of it that its forward names."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn
from torch_geometric.data import Data

__all__ = ["call_on_graph"]

#: What a forward may name instead of taking a ``Data``.
_PARTS = ("x", "pos", "edge_index", "edge_attr")


def call_on_graph(model: nn.Module, data: Data) -> Any:
    """The model's output for a graph.

    Raises:
        ValueError: the model needs something that the graph does not have.
    """
    parameters = list(inspect.signature(model.forward).parameters.values())
    if not parameters or parameters[0].name not in _PARTS:
        return _call(model, data)
    present = {name: data[name] for name in _PARTS}
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if absent := [name for name in needed if name not in present]:
        raise ValueError(
            f"the forward of {type(model).__name__} needs {', '.join(absent)}, but a graph of events has"
            f" {', '.join(_PARTS)}"
        )
    names = {p.name for p in parameters}
    return model(**{name: value for name, value in present.items() if name in names})


def _call(model: nn.Module, data: Data) -> Any:
    try:
        return model(data)
    except AttributeError as error:
        # Data raises the same for a name that it does not have as any object would.
        if error.obj is data or isinstance(error.obj, Data) or "GlobalStorage" in str(error):
            raise ValueError(
                f"the forward of {type(model).__name__} needs data.{error.name or str(error).split()[-1]}, but a graph"
                f" of events has {', '.join(_PARTS)}"
            ) from error
        raise
