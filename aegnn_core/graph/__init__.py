# SPDX-License-Identifier: Apache-2.0
"""The graph rule: from events to nodes and edges."""

from aegnn_core.graph.build import build_graph
from aegnn_core.graph.config import GraphConfig, check_same_edges
from aegnn_core.graph.neighbors import NeighborSearch

__all__ = ["GraphConfig", "NeighborSearch", "build_graph", "check_same_edges"]
