"""What engines say when they cannot go on."""

from __future__ import annotations

from aegnn_core.graph import GraphConfig

__all__ = ["STALE_WEIGHTS", "no_room"]

STALE_WEIGHTS = (
    "the model's weights have changed since the events came, and the nodes' features are those of the old ones:"
    " reset() first"
)


def no_room(nodes: int, graph: GraphConfig) -> MemoryError:
    """There is no memory for rings of so many nodes; the state is as it was."""
    bound = "" if graph.bounded else ": without a window or max_nodes in the graph every node stays live"
    return MemoryError(f"no memory for rings of {nodes:,} nodes{bound}")
