# SPDX-License-Identifier: Apache-2.0
"""Whole graphs on a CUDA device, for training: edges by the search kernel of the engine.

A batch of graphs is searched as one stream on one large sensor, where the graphs' images lie side by side, each with an
empty margin. Links between the events of one pixel are made by a sort on the device, and all that comes from the host
are the launches.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from aegnn_core.asynchronous.cuda.launching import Kernels
from aegnn_core.asynchronous.cuda.packing import FAR, HEAD_WORDS, LONGEST_PACKET_US, PLACE, TIME
from aegnn_core.asynchronous.cuda.plan import MOST_LANES, Disc, power_of_two
from aegnn_core.events.array import make_events
from aegnn_core.graph import GraphConfig
from aegnn_core.graph.build import find_neighbors, join_neighbors
from aegnn_core.graph.neighbors import FOREVER
from aegnn_core.triton_support import unavailable

__all__ = ["EdgeFinder", "in_order"]

#: Events of a launch, and edges for which it has room: a search walks back over what is younger in its packet.
_EVENTS_AT_ONCE, _EDGES_AT_ONCE = 1 << 13, 1 << 18
_MOST_PIXELS = 1 << 29


@dataclass(frozen=True)
class _Nodes:
    """What :class:`.rings.Rings` has for the kernels, of graphs that are there as a whole."""

    node_t: Tensor
    pixel: Tensor
    back: Tensor
    before_t: Tensor
    newest: Tensor
    features: list[Tensor]

    @property
    def mask(self) -> int:
        """What takes a number to its slot."""
        return len(self.node_t) - 1


class EdgeFinder:
    """Adds to the nodes of graphs the edges that :func:`aegnn_core.graph.build_graph` gives them.

    They come in the order of the younger node, as there; those of one node are the most recent first.

    The first time, the edges are compared with those that the CPU finds; where they differ, all are found on the CPU,
    and a warning says so.

    Args:
        graph: the rule.
        sensor: width and height [px].
        device: where the graphs are.
        kernels: what runs on the device, if not :mod:`.kernels`.
    """

    def __init__(self, graph: GraphConfig, sensor: tuple[int, int], device: torch.device, kernels: Any = None) -> None:
        self._graph, self._sensor, self._device = graph, sensor, device
        self._disc = Disc(graph, sensor, device)
        self._kernels = Kernels(len(self._disc), kernels)
        self._scale = torch.tensor([graph.time_scale, 1.0 / (2.0 * graph.radius)], dtype=torch.float64, device=device)
        self._at_once = min(_EVENTS_AT_ONCE, _EDGES_AT_ONCE // power_of_two(graph.max_neighbors))
        self._is_right: bool | None = None

    @staticmethod
    def refusal(graph: GraphConfig, sensor: tuple[int, int], device: torch.device) -> str | None:
        """Why the kernels cannot find the edges of such graphs, or None."""
        if reason := unavailable(device):
            return reason
        lanes = len(Disc(graph, sensor, torch.device("cpu")))
        return None if lanes <= MOST_LANES else f"{MOST_LANES} px may lie within the radius, found {lanes}"

    def __call__(self, nodes: Data) -> Data:
        """The graph, or the batch of graphs, with ``edge_index [2, E]`` and ``edge_attr [E, 3]``.

        Args:
            nodes: from :func:`aegnn_core.graph.build.build_nodes`, on the finder's device; edges are added to it.

        Raises:
            ValueError: an event lies outside of the sensor, or there are too many graphs for it.
            torch.OutOfMemoryError: there is no memory on the device; the next call tries again.
        """
        self._check(nodes)
        if self._is_right is None and len(nodes.t):  # nothing can be learned from graphs without events
            self._is_right = self._agrees_with_the_cpu(nodes)
        find = self._edges_on_device if self._is_right else self._edges_on_cpu
        nodes.edge_index, nodes.edge_attr = find(nodes)
        return nodes

    def _check(self, nodes: Data) -> None:
        """Raise ``ValueError`` for what cannot be searched as one image."""
        (x, y), (width, height) = nodes.pos[:, :2].t(), self._sensor
        if bool(((x < 0) | (x >= width) | (y < 0) | (y >= height)).any()):
            raise ValueError(f"the sensor has {width} x {height} px, found an event outside of it")
        graphs = nodes.num_graphs if "batch" in nodes else 1
        if graphs * self._disc.size >= _MOST_PIXELS:
            raise ValueError(f"{graphs} graphs of {self._disc.size} px are too many at once, expected a smaller batch")

    def _agrees_with_the_cpu(self, nodes: Data) -> bool:
        expected = self._edges_on_cpu(nodes)
        try:
            if all(map(torch.equal, in_order(*self._edges_on_device(nodes)), in_order(*expected))):
                return True
            reason = "they are not those that the CPU finds"
        except torch.OutOfMemoryError:  # which says nothing about the kernels
            raise
        except Exception as error:  # whatever a compiler, a driver or a device has to say
            reason = f"{type(error).__name__}: {str(error)[:300]}"
        warnings.warn(f"edges are found on the CPU and not on {self._device}: {reason}", stacklevel=3)
        return False

    def _edges_on_device(self, nodes: Data) -> tuple[Tensor, Tensor]:
        x, y = nodes.pos[:, 0].long(), nodes.pos[:, 1].long()
        graph_of = _graph_of(nodes)
        since = _since_first(nodes.t, graph_of)
        if bool((since >= LONGEST_PACKET_US).any()):  # more than an hour
            return self._edges_on_cpu(nodes)
        distance, counts = self._search(x, y, since, graph_of)
        number = torch.arange(len(x), device=self._device)
        nth = torch.arange(distance.shape[1], device=self._device)
        target, at = (nth < counts[: len(x), None]).nonzero(as_tuple=True)
        source = number[target] - distance[target, at]
        if not self._graph.directed:  # every edge is followed by its reverse
            source, target = torch.stack([source, target], 1).flatten(), torch.stack([target, source], 1).flatten()
        # As aegnn_core.graph.build.edge_attributes, in the same order of operations.
        per_diameter = 1.0 / (2.0 * self._graph.radius)
        dx, dy, dt = ((part[source] - part[target]).double() for part in (x, y, nodes.t))
        apart = torch.stack([dx, dy, self._graph.time_scale * dt], 1)
        edge_attr = (apart * per_diameter + 0.5).clamp(0.0, 1.0).to(nodes.pos.dtype)
        return torch.stack([source, target]), edge_attr

    def _search(self, x: Tensor, y: Tensor, t: Tensor, graph_of: Tensor) -> tuple[Tensor, Tensor]:
        """How many nodes before each its neighbours came, ``[capacity, most]``, and how many it has, ``[capacity]``.

        Times ``t`` [µs] count from the first of each graph.
        """
        count, most, disc = len(x), self._graph.max_neighbors, self._disc
        graphs = int(graph_of[-1]) + 1 if count else 0
        pixel = graph_of * disc.size + (y + disc.margin) * disc.stride + x + disc.margin
        packets = self._packets(t, pixel)
        capacity = power_of_two(count)

        def zeros(*shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=self._device)

        rings = _Nodes(
            zeros(capacity, dtype=torch.int64),
            zeros(capacity),
            zeros(capacity),
            zeros(capacity, dtype=torch.int64),
            zeros(graphs * disc.size, dtype=torch.int64) - 1,
            [zeros(capacity, dtype=torch.int16)],
        )
        rows = min(self._at_once, capacity)
        head, tally, read = (zeros(size, dtype=torch.int64) for size in (3, 2, 1))
        distance, counts = zeros(capacity, most), zeros(capacity)
        edges = distance, counts, zeros(rows, most, dtype=torch.int16), zeros(rows, most, dtype=torch.float32)
        max_nodes = FOREVER if self._graph.max_nodes is None else self._graph.max_nodes
        for n, packet in enumerate(packets):
            size = min(self._at_once, count - n * self._at_once)
            self._kernels.insert(packet, head, size, rings, tally)
            self._kernels.link(head, size, rings, read)
            self._kernels.search(head, size, rings, disc, self._scale, edges, tally, min(FAR - 1, max_nodes - 1), most)
        return distance, counts

    def _packets(self, t: Tensor, pixel: Tensor) -> Tensor:
        """All events as packets ``[P, words]``, as :func:`.packing.pack` writes them; polarities are left out."""
        count, size = len(t), self._at_once
        packets = -(-count // size)
        words = torch.zeros(packets * size, dtype=torch.int64, device=self._device)
        words[:count] = (t << TIME) | (pixel << PLACE)
        heads = torch.zeros(packets, HEAD_WORDS, dtype=torch.int64, device=self._device)
        heads[:, 0] = size * torch.arange(packets, device=self._device)
        heads[:, 1] = (count - heads[:, 0]).clamp(max=size)
        return torch.cat([heads, words.view(packets, size)], 1)

    def _edges_on_cpu(self, nodes: Data) -> tuple[Tensor, Tensor]:
        graph_of, first = _graph_of(nodes).cpu(), 0
        parts = []
        for count in torch.bincount(graph_of).tolist():
            part = slice(first, first + count)
            x, y = (nodes.pos[part, axis].cpu().numpy() for axis in (0, 1))
            events = make_events(nodes.t[part].cpu().numpy(), x, y, nodes.x[part, 0].cpu().numpy() > 0)
            # Nodes that have left are not among the given ones.
            whole = join_neighbors(events, find_neighbors(events, self._graph), self._graph, dtype=nodes.pos.dtype)
            parts.append((whole.edge_index + first, whole.edge_attr))
            first += count
        index = torch.cat(
            [edge_index for edge_index, _ in parts] or [torch.empty(2, 0, dtype=torch.long, device="cpu")], 1
        )
        attr = torch.cat([edge_attr for _, edge_attr in parts] or [nodes.pos.new_empty(0, 3).cpu()])
        return index.to(self._device), attr.to(self._device)


def in_order(edge_index: Tensor, edge_attr: Tensor) -> tuple[Tensor, Tensor]:
    """Edges in the order of target and source."""
    source, target = edge_index
    order = torch.argsort(target * (1 + edge_index.max() if len(source) else 1) + source)
    return edge_index[:, order], edge_attr[order]


def _since_first(t: Tensor, graph_of: Tensor) -> Tensor:
    """Times [µs] since the first node of each graph."""
    if not len(t):
        return t
    first = torch.searchsorted(graph_of, torch.arange(int(graph_of[-1]) + 1, device=t.device))
    return t - t[first][graph_of]


def _graph_of(nodes: Data) -> Tensor:
    """The number of every node's graph."""
    return nodes.batch if "batch" in nodes else torch.zeros_like(nodes.t)
