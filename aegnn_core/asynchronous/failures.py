"""What engines say when they cannot run a model, or cannot go on."""

from __future__ import annotations

from torch import nn

from aegnn_core.graph import GraphConfig
from aegnn_core.nn.networks import GraphNetwork

__all__ = ["STALE_WEIGHTS", "no_room", "not_final"]

STALE_WEIGHTS = (
    "the model's weights have changed since the events came, and the nodes' features are those of the old ones:"
    " reset() first"
)


def no_room(nodes: int, graph: GraphConfig) -> MemoryError:
    """There is no memory for rings of so many nodes; the state is as it was."""
    bound = "" if graph.bounded else ": without a window or max_nodes in the graph every node stays live"
    return MemoryError(f"no memory for rings of {nodes:,} nodes{bound}")


def not_final(model: nn.Module, graph: GraphConfig) -> str | None:
    """Why a node's features would not be final once computed, or None if they are."""
    if not isinstance(model, GraphNetwork):
        return f"it knows the package's networks, found {type(model).__name__}"
    if not graph.directed:
        return "in an undirected graph older nodes change"
    if graph.bounded and graph.expiry != "readout":
        return "with expiry='graph' older nodes change"
    return None
