# SPDX-License-Identifier: Apache-2.0
"""The engine for directed graphs in plain torch: a packet of events goes through the network layer by layer.

In a directed graph a node's features are final once computed, because its neighbours are all older. New nodes can
therefore be computed in one batch per layer, whatever their number, and nothing older is touched. What lies behind the
first pooling works on few voxels; it is computed from the live nodes when an output is requested. Neighbours are
searched on the CPU; everything else runs where the model is, a GPU included.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aegnn_core.asynchronous.costs import CostMeter, Costs
from aegnn_core.asynchronous.event_layers import block_flops, flatten, mixed_nodes, unknown_layer
from aegnn_core.asynchronous.failures import STALE_WEIGHTS, NoRoomError, check_all_live, no_room, not_final
from aegnn_core.asynchronous.full_precision import full_precision
from aegnn_core.asynchronous.metering import forward_flops
from aegnn_core.asynchronous.saved_state import check_features
from aegnn_core.asynchronous.shared_copy import Settings, shared_copy
from aegnn_core.asynchronous.weights import WeightsVersion
from aegnn_core.events.array import make_events
from aegnn_core.graph import GraphConfig, NeighborSearch
from aegnn_core.graph.build import edge_attributes, most_live
from aegnn_core.machine_code import kernel
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.spline import EdgeSplines
from aegnn_core.nn.spline_triton import OrderedEdges

__all__ = ["PacketEngine"]

#: Larger packets are worked through in parts, so that memory depends on the window and not on the packet.
_EVENTS_AT_ONCE = 4096
_SMALLEST_CAPACITY = 1 << 13
#: Devices that work through a queue while the host goes on.
_QUEUED = ("cuda",)
_RINGS = ("_x", "_y", "_neighbors", "_counts")


@kernel
def _edges_into(
    x: np.ndarray,
    y: np.ndarray,
    t: NDArray[np.int64],
    neighbors: np.ndarray,
    counts: np.ndarray,
    first: int,
    mask: int,
    radius: float,
    time_scale: float,
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    edge_attr: np.ndarray,
) -> int:
    """Write the edges into nodes ``first, first + 1, …``, as many as ``counts`` has, and return how many edges.

    Out: ``source [E]`` slots, ``target [E]`` rows counted from ``first``, ``edge_attr [E, 3]``.
    """
    e = 0
    for k in range(len(counts)):
        own = (first + k) & mask
        for i in range(counts[k]):
            slot = neighbors[k, i] & mask
            u, v, w = edge_attributes(
                float(x[slot] - x[own]), float(y[slot] - y[own]), float(t[slot] - t[own]), radius, time_scale
            )
            source[e], target[e] = slot, k
            edge_attr[e, 0], edge_attr[e, 1], edge_attr[e, 2] = u, v, w
            e += 1
    return e


@kernel
def _live_edges(
    neighbors: np.ndarray, counts: np.ndarray, first: int, last: int, mask: int, edge_index: NDArray[np.int64]
) -> int:
    """Write the edges between nodes ``first .. last - 1``, numbered from 0, and return how many."""
    e = 0
    for number in range(first, last):
        slot = number & mask
        for i in range(counts[slot]):
            if neighbors[slot, i] >= first:
                edge_index[0, e] = neighbors[slot, i] - first
                edge_index[1, e] = number - first
                e += 1
    return e


@kernel
def _skip_old(node_t: NDArray[np.int64], mask: int, first: int, last: int, time: int, window: int) -> int:
    """The first of the nodes ``first .. last - 1`` that is younger than ``window`` at ``time``, or ``last``."""
    while first < last and time - node_t[first & mask] >= window:
        first += 1
    return first


class PacketEngine:
    """State of a :class:`GraphNetwork` on a directed graph: nodes in rings, and the features of every layer."""

    def __init__(self, model: GraphNetwork, graph: GraphConfig) -> None:
        # A copy, which stays in evaluation mode even if the model does not.
        self._model, self._graph = shared_copy(model), graph
        self._settings = Settings(model, self._model)
        parameter = next(model.parameters())
        self._dtype, self._device = parameter.dtype, parameter.device
        #: Of positions and attributes of edges: 16 bits would move events to other pixels.
        self._place_dtype = torch.promote_types(self._dtype, torch.float32)
        self._layers = flatten(self._model.event_blocks)
        self._names = {module: name for name, module in self._model.named_modules()}
        self._version = WeightsVersion(model)
        self._flops_of_head: int | None = None
        self._waits = False
        self.reset()

    @staticmethod
    def refusal(model: nn.Module, graph: GraphConfig) -> str | None:
        """Why this engine cannot run the model on such a graph, or None."""
        if reason := not_final(model, graph):
            return reason
        assert isinstance(model, GraphNetwork)
        if not len(model.event_blocks) or model.grid is None:
            return "it needs a layer on events, and a grid of their features"
        for part in (model.event_blocks, *model.voxel_blocks):
            if reason := unknown_layer(part, compiled=False):
                return reason
        return mixed_nodes(model.event_blocks)

    def reset(self) -> None:
        """Forget all events and costs; memory has its first size again."""
        self._is_stale = False
        self._costs = CostMeter()
        width, height = self._model.sensor
        capacity = _SMALLEST_CAPACITY
        self._search = NeighborSearch(self._graph, width, height, capacity)
        self._see_changes()
        self._x = np.empty(capacity, np.int64)
        self._y = np.empty(capacity, np.int64)
        rows = capacity if self._model.reads_edges else 0
        self._neighbors = np.empty((rows, self._graph.max_neighbors), np.int64)
        self._counts = np.empty(rows, np.int32)
        channels = [layer.conv.in_channels for layer, _ in self._layers]
        channels.append(self._layers[-1][0].conv.out_channels)
        self._features = [torch.empty(capacity, c, dtype=self._dtype, device=self._device) for c in channels]
        self._origin = 0
        self._first = 0

    @torch.inference_mode(False)  # its tensors are written to later, perhaps elsewhere
    def update(self, events: np.ndarray) -> None:
        """Compute the features of the new nodes."""
        self._costs.begin_update()
        self._see_changes()
        t = np.ascontiguousarray(events["t"], np.int64)
        first = self._first = self._first_live(self._last_time())
        before = self._search.size - self._first_live(int(t[0]))
        # A part that is taken back must not have taken the slots of nodes that were live before it either.
        needed = max(most_live(t, self._graph, before), self._search.size - first)
        self._reserve(needed + min(len(t), _EVENTS_AT_ONCE))
        start, at_once = 0, _EVENTS_AT_ONCE
        with torch.no_grad():
            while start < len(events):
                part = events[start : start + at_once]
                size = self._search.size
                try:
                    self._append(part)
                except torch.OutOfMemoryError as error:
                    # Intermediate results did not fit. Nothing older has changed: forget the part, and take less of it.
                    if self._search.size > size:
                        self._search.remove_last(len(part))
                    if at_once == 1:
                        message = f"no memory on {self._device} for event {start} of the packet's {len(events)}"
                        if start:
                            raise MemoryError(f"{message}; those before it were taken: reset() starts anew") from error
                        self._first = first
                        raise NoRoomError(f"{message}: none of them was taken") from error
                    at_once = max(1, min(at_once, len(part)) // 2)
                    continue
                start += len(part)

    def _append(self, events: np.ndarray) -> None:
        begin = perf_counter()
        first, count, mask = self._search.size, len(events), self._search.capacity - 1
        if first == 0:
            self._origin = int(events["t"][0])
        self._first = self._first_live(int(events["t"][0]))
        slots, neighbors, counts = self._insert(events)

        size = int(counts.sum())
        source, target = np.empty(size, np.int64), np.empty(size, np.int64)
        edge_attr = np.empty((size, 3), np.float64 if self._dtype == torch.float64 else np.float32)
        _edges_into(
            self._x,
            self._y,
            self._search.node_t,
            neighbors,
            counts,
            first,
            mask,
            self._graph.radius,
            self._graph.time_scale,
            source,
            target,
            edge_attr,
        )
        begin = self._spent("neighbour search", 0, begin)
        polarity = np.where(events["p"] > 0, 1.0, -1.0)[:, None]
        own = torch.from_numpy(polarity).to(self._device, self._dtype)
        edges = self._layers[0][0].conv.edges(
            torch.from_numpy(source).to(self._device),
            torch.from_numpy(target).to(self._device),
            torch.from_numpy(edge_attr[:, : self._model.dim]).to(self._device, self._place_dtype),
            count,
        )
        self._spent("splines", 3 * size * 2**self._model.dim, begin)
        self._run_layers(torch.from_numpy(slots).to(self._device), own, edges)

    def _insert(self, events: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the new nodes' neighbours: their slots, and numbers and counts of the neighbours."""
        t, x, y = (np.ascontiguousarray(events[name], np.int64) for name in "txy")
        slots = np.arange(self._search.size, self._search.size + len(t)) & (self._search.capacity - 1)
        neighbors = np.empty((len(t), self._graph.max_neighbors), np.int64)
        counts = np.empty(len(t), np.int32)
        self._search.insert(t, x, y, neighbors, counts)
        self._x[slots], self._y[slots] = x, y
        if self._model.reads_edges:
            self._neighbors[slots], self._counts[slots] = neighbors, counts
        return slots, neighbors, counts

    def _spent(self, layer: str, flops: int, begin: float) -> float:
        """Note what a layer has cost since ``begin``; the time now.

        A device is waited for only once :meth:`runtime` has been called, by those who want to know.
        """
        if self._waits and self._device.type in _QUEUED:
            torch.cuda.synchronize(self._device)
        now = perf_counter()
        self._costs.add(layer, flops, now - begin)
        return now

    def _run_layers(self, slots: Tensor, own: Tensor, edges: EdgeSplines | OrderedEdges) -> None:
        """Take the new nodes, ``own [N, 1]`` their input, through all layers, and keep what each layer reads."""
        self._features[0][slots] = own
        skips: list[Tensor] = []
        per_edge = 2**self._model.dim
        for n, (block, residual) in enumerate(self._layers):
            begin = perf_counter()
            if residual == "begin":
                skips.append(own)
            own = block.finish(block.conv.convolve(self._features[n], own, edges))
            if residual == "end":
                own = skips.pop() + own
            self._features[n + 1][slots] = own
            rows = len(own) * len(block.conv.weight)
            flops = block_flops(block, len(own), len(edges.source), per_edge, rows, residual)
            self._spent(self._names[block], flops, begin)

    def output(self, time: int) -> Tensor:
        """Pool the live nodes, and run what lies behind."""
        self._check_weights()
        begin = perf_counter()
        first, last = self._first_live(time), self._search.size
        mask = self._search.capacity - 1
        slots = np.arange(first, last) & mask
        pos = np.empty((len(slots), 3))
        pos[:, 0], pos[:, 1] = self._x[slots], self._y[slots]
        pos[:, 2] = self._graph.time_scale * (self._search.node_t[slots] - self._origin)
        edge_index = np.empty((2, int(self._counts[slots].sum()) if self._model.reads_edges else 0), np.int64)
        if self._model.reads_edges:
            edge_index = edge_index[:, : _live_edges(self._neighbors, self._counts, first, last, mask, edge_index)]
        return self._read_out(
            self._features[-1][torch.from_numpy(slots).to(self._device)],
            torch.from_numpy(pos).to(self._device, self._place_dtype),
            torch.from_numpy(edge_index).to(self._device),
            self._features[0][torch.from_numpy(slots).to(self._device)],
            torch.from_numpy(self._search.node_t[slots]).to(self._device),
            begin,
        )

    def _check_weights(self) -> None:
        self._see_changes()
        if self._is_stale:
            raise ValueError(STALE_WEIGHTS)

    def _see_changes(self) -> None:
        """Have the copy follow the model; features of nodes that are there already are then those of the old weights.

        Every update does so: weights that change and change back would leave features of both.
        """
        if self._version.changed() | self._settings.follow():
            self._is_stale |= self._search.size > 0
            self._version.accept()
            self._settings.accept()

    def _read_out(
        self, x: Tensor, pos: Tensor, edge_index: Tensor, polarity: Tensor, t: Tensor, begin: float
    ) -> Tensor:
        """The network's output from the live nodes; notes what each part of it has cost since ``begin``."""
        batch = torch.zeros(len(x), dtype=torch.long, device=self._device)
        images = []
        if self._model.counts is not None:
            images.append(self._model.counts(polarity, pos, batch, 1, t))
            begin = self._spent("counts", polarity.numel(), begin)
        for pooling, blocks in zip(self._model.poolings, self._model.voxel_blocks, strict=True):
            graph = pooling(x, pos, edge_index, batch, 1)
            begin = self._spent("pooling", x.numel(), begin)
            x = blocks(graph.x, graph.edge_index, graph.edge_attr)
            for block, residual in flatten(blocks.children()):
                kernels, corners = len(block.conv.weight), 2**block.conv.dim
                flops = block_flops(block, len(x), graph.edge_index.shape[1], corners, len(x) * kernels, residual)
                self._costs.add(self._names[block], flops, 0)
            begin = self._spent("behind the pooling", 0, begin)
            pos, edge_index, batch = graph.pos, graph.edge_index, graph.batch
        assert self._model.grid is not None
        images.insert(0, self._model.grid(x, pos, batch, 1, t))
        begin = self._spent("pooling", x.numel(), begin)
        image = torch.cat(images, 1) if len(images) > 1 else images[0]
        if self._flops_of_head is None:
            self._flops_of_head = forward_flops(self._model.head, image)
        with full_precision(image.device):
            output: Tensor = self._model.head(image)
        self._spent("head", self._flops_of_head, begin)
        return output

    def memory(self) -> dict[str, int]:
        """Bytes by part."""
        rings = (self._x, self._y, self._neighbors, self._counts)
        features = sum(ring.numel() * ring.element_size() for ring in self._features)
        return {
            "neighbour search": sum(array.nbytes for array in self._search.arrays),
            "nodes": features + sum(ring.nbytes for ring in rings),
        }

    def flops(self) -> Costs:
        """FLOPs by layer."""
        return self._costs.flops()

    def runtime(self) -> Costs:
        """Seconds by layer; before the first call, on a CUDA device, those of the host, which does not wait for it."""
        self._waits = True
        return self._costs.runtime()

    def held(self) -> tuple[np.ndarray, list[Tensor]]:
        """The live nodes as events, and their features behind every layer."""
        self._check_weights()
        slots = np.arange(self._first_live(self._last_time()), self._search.size) & (self._search.capacity - 1)
        rows = torch.from_numpy(slots).to(self._device)
        features = [ring[rows].cpu() for ring in self._features]
        polarity = (features[0][:, 0] > 0).numpy()  # NumPy has no bfloat16
        return make_events(self._search.node_t[slots], self._x[slots], self._y[slots], polarity), features[1:]

    def restore(self, events: np.ndarray, features: list[Any], origin: int) -> None:
        """Enter nodes whose features are known; their neighbours among themselves are found again."""
        count = len(events)
        channels = [ring.shape[1] for ring in self._features[1:]]
        features = check_features(features, channels, count, self._dtype)
        check_all_live(events["t"], self._graph)
        self._origin = origin
        self._reserve(count + _EVENTS_AT_ONCE)
        if count:
            self._insert(events)
        own = torch.from_numpy(np.where(events["p"] > 0, 1.0, -1.0)).to(self._dtype)[:, None]
        for ring, values in zip(self._features, (own, *features), strict=True):
            ring[:count] = values.to(self._device)

    def _last_time(self) -> int:
        """Time [µs] of the youngest node, 0 if there is none."""
        size = self._search.size
        return int(self._search.node_t[(size - 1) & (self._search.capacity - 1)]) if size else 0

    def _first_live(self, time: int) -> int:
        """Number of the oldest node that is live at ``time``, which is not before the last event's."""
        size, graph = self._search.size, self._graph
        first = max(self._first, 0 if graph.max_nodes is None else size - graph.max_nodes)
        if graph.window is None:
            return first
        return int(_skip_old(self._search.node_t, self._search.capacity - 1, first, size, time, graph.window))

    def _reserve(self, nodes: int) -> None:
        """Make the rings hold at least that many nodes. Nothing has changed if there is no memory for it."""
        old, capacity = self._search.capacity, _power_of_two(nodes)
        if capacity <= old:
            return
        numbers = np.arange(max(0, self._search.size - old), self._search.size)
        before, after = numbers & (old - 1), numbers & (capacity - 1)
        grown, features = {}, []
        try:
            for name in _RINGS:
                ring = getattr(self, name)
                grown[name] = np.empty((capacity if len(ring) else 0, *ring.shape[1:]), ring.dtype)
                if len(ring):
                    grown[name][after] = ring[before]
            for held in self._features:
                features.append(held.new_empty(capacity, held.shape[1]))
                features[-1][torch.from_numpy(after)] = held[torch.from_numpy(before)]
            self._search.resize(capacity)
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise no_room(capacity, self._graph) from error
        self._features = features
        for name, ring in grown.items():
            setattr(self, name, ring)

    def describe(self) -> list[str]:
        """One line per layer."""
        lines = [f"{block.conv}: new nodes only, a packet at a time" for block, _ in self._layers]
        behind = ", ".join(str(module) for module in (*self._model.poolings, self._model.grid))
        return [*lines, f"{behind} and behind: live nodes, at every output"]


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()
