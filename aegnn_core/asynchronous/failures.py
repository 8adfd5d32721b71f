# SPDX-License-Identifier: Apache-2.0
"""What engines say when they cannot run a model, or cannot go on."""

from __future__ import annotations

import numpy as np
from torch import nn

from aegnn_core.asynchronous.torch_internals import has_hooks
from aegnn_core.graph import GraphConfig
from aegnn_core.graph.build import first_live
from aegnn_core.nn.graph_network import GraphNetwork

__all__ = [
    "STALE_WEIGHTS",
    "UNFINISHED",
    "NoRoomError",
    "check_all_live",
    "no_room",
    "not_final",
    "own_code",
    "writes_weights",
]

STALE_WEIGHTS = (
    "the model's weights have changed since the events came, and the nodes' features are those of the old ones:"
    " reset() first"
)


UNFINISHED = (
    "an update or a reset of this live model did not come to its end, because it was interrupted or failed, or is still"
    " at work: reset() first"
)


def writes_weights(model: nn.Module) -> str:
    """What is wrong with a model whose forward changes what it computes with."""
    return (
        f"the forward of {type(model).__name__} writes into its own parameters, buffers or other tensors, so that its"
        " output depends on how often it was called"
    )


class NoRoomError(MemoryError):
    """There is no memory for a packet, and the state is as it was before."""


def no_room(nodes: int, graph: GraphConfig) -> NoRoomError:
    """There is no memory for rings of so many nodes."""
    bound = "" if graph.bounded else ": without a window or max_nodes in the graph every node stays live"
    return NoRoomError(f"no memory for rings of {nodes:,} nodes{bound}")


def check_all_live(t: np.ndarray, graph: GraphConfig) -> None:
    """Raise ``ValueError`` unless all nodes of a state, at times ``t`` [µs, ``[N]``], are live when the last comes."""
    if len(t) and (left := first_live(t, graph, int(t[-1]))):
        raise ValueError(f"state: {left} of its {len(t)} events are not live any more under {graph.to_dict()}")


def own_code(model: GraphNetwork) -> str | None:
    """Why an engine that never calls a network's ``forward`` would pass over something, or None if it would not."""
    kind = type(model)
    if kind.forward is not GraphNetwork.forward or kind.readout is not GraphNetwork.readout:
        return f"it knows the forward of the package's networks, found {kind.__name__} with its own"
    for name, module in model.named_modules():
        if has_hooks(module) or "forward" in vars(module):
            return f"it runs no hooks and no forward set on a module, found one on {name or kind.__name__}"
    return None


def not_final(model: nn.Module, graph: GraphConfig) -> str | None:
    """Why a node's features would not be final once computed, or None if they are."""
    if not isinstance(model, GraphNetwork):
        return f"it knows the package's networks, found {type(model).__name__}"
    if reason := own_code(model):
        return reason
    if not graph.directed:
        return "in an undirected graph older nodes change"
    if graph.bounded and graph.resolved_expiry != "readout":
        return "with expiry='graph' older nodes change"
    return None
