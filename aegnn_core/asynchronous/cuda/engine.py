# SPDX-License-Identifier: Apache-2.0
"""The engine for CUDA devices: everything stays on the device, a packet is a launch per layer and three more.

The host packs every event into a word, which takes it a nanosecond, and knows their times, so that it can say which
nodes are live. All else is in :mod:`.kernels`. Work is put in the device's queue and not waited for, until somebody
asks for an answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aegnn_core.asynchronous.costs import Cost, CostMeter, Costs
from aegnn_core.asynchronous.cuda.fused_head import FusedHead
from aegnn_core.asynchronous.cuda.launching import Kernels, Upload
from aegnn_core.asynchronous.cuda.packing import LONGEST_PACKET_US, pack
from aegnn_core.asynchronous.cuda.plan import (
    LARGEST_INPUT,
    LARGEST_OUTPUT,
    MOST_LANES,
    CellMap,
    Disc,
    Layer,
    Splines,
    power_of_two,
)
from aegnn_core.asynchronous.cuda.replay import Capture, Replay, capture_on_device, size_class
from aegnn_core.asynchronous.cuda.rings import Rings
from aegnn_core.asynchronous.cuda.self_check import known_disagreement
from aegnn_core.asynchronous.event_layers import block_flops, flatten, unknown_layer
from aegnn_core.asynchronous.failures import STALE_WEIGHTS, check_all_live, no_room, not_final
from aegnn_core.asynchronous.folded_head import TorchHead, fold_norms
from aegnn_core.asynchronous.full_precision import full_precision
from aegnn_core.asynchronous.live_nodes import first_live
from aegnn_core.asynchronous.metering import Metering
from aegnn_core.asynchronous.saved_state import check_features
from aegnn_core.asynchronous.weights import WeightsVersion
from aegnn_core.events.array import make_events
from aegnn_core.graph import GraphConfig, NeighborSearch
from aegnn_core.graph.build import most_live
from aegnn_core.graph.neighbors import FOREVER
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.pooling import CountPooling, GridPooling
from aegnn_core.nn.spline import SplineConv
from aegnn_core.triton_support import interpreted, unavailable

__all__ = ["CudaEngine"]

_SMALLEST_CAPACITY = 1 << 12
#: The largest capacity: distances between nodes are below it.
_LARGEST_CAPACITY = 1 << 28
#: Edges of a packet for which there is room; larger packets are worked through in parts.
_EDGES_AT_ONCE = 1 << 19
_MOST_EVENTS_AT_ONCE = 1 << 14


class CudaEngine:
    """State of a :class:`GraphNetwork` on a directed graph, on a CUDA device.

    Args:
        model: the network.
        graph: the graph rule.
        kernels: what runs on the device, if not :mod:`.kernels`.
        capture: makes the launches of a packet one; if None, CUDA graphs do on a device, and nothing elsewhere.
    """

    def __init__(
        self, model: GraphNetwork, graph: GraphConfig, kernels: Any = None, capture: Capture | None = None
    ) -> None:
        self._model, self._graph, self._given, self._capture = model, graph, kernels, capture
        self._version = WeightsVersion(model)
        self._layers = flatten(model.event_blocks)
        self._names = {module: name for name, module in model.named_modules()}
        self._meter = CostMeter()
        self._metering = Metering(model, self._meter) if model.reads_edges else None
        self._at_once = min(_MOST_EVENTS_AT_ONCE, _EDGES_AT_ONCE // power_of_two(graph.max_neighbors))
        self._prepare()
        self.reset()

    @staticmethod
    def refusal(model: nn.Module, graph: GraphConfig) -> str | None:
        """Why this engine cannot run the model on such a graph, or None."""
        if reason := not_final(model, graph):
            return reason
        assert isinstance(model, GraphNetwork)
        parameter = next(model.parameters())
        if reason := _unavailable(parameter) or _unknown_part(model, graph):
            return reason
        # In the interpreter, the tests do that, and better.
        return None if interpreted() else known_disagreement(CudaEngine, model, graph)

    def _prepare(self) -> None:
        """Put everything that stays the same on the device where the model's weights are."""
        self._prepared_for: tuple[torch.device, torch.dtype] | None = None
        model, graph = self._model, self._graph
        parameter = next(model.parameters())
        self._like = parameter.detach()
        device, dtype = parameter.device, parameter.dtype
        self._device = device
        self._disc = Disc(graph, model.sensor, device)
        self._kernels = Kernels(len(self._disc), self._given)
        on_device = capture_on_device if device.type == "cuda" else None
        self._replay, self._answers = Replay(self._capture or on_device), Replay(on_device)
        self._splines: Splines | None = None
        self._constants: list[Layer] = []
        if self._layers:
            self._splines = Splines(self._layers[0][0].conv, self._disc, graph, dtype, device)
        self._scale = torch.tensor([graph.time_scale, 1.0 / (2.0 * graph.radius)], dtype=torch.float64, device=device)
        self._maps = [
            CellMap(part, model.sensor, self._disc, self._like)
            for part in (model.grid, model.counts)
            if part is not None and not model.reads_edges
        ]
        self._take_weights()
        self._make_rings()
        self._make_buffers()
        self._prepared_for = device, dtype

    def _make_rings(self) -> None:
        """Rings of the first size, without nodes."""
        self._edges_kept = self._model.reads_edges
        edges = self._graph.max_neighbors if self._edges_kept else 0
        channels = [1, *(layer.outputs for layer in self._constants)]
        self._forget_launches()
        self._rings = Rings(_SMALLEST_CAPACITY, self._disc.size, channels, edges, self._like.dtype, self._device)

    def _make_buffers(self) -> None:
        """What packets, their edges and moments are written to."""
        most, device = self._graph.max_neighbors, self._device
        rows = self._at_once if self._layers else 0
        self._upload, self._asked = Upload(self._at_once, device), Upload(0, device, buffers=1)
        self._moment = torch.zeros(2, dtype=torch.int64, device=device)
        self._head_of_packet = torch.zeros(3, dtype=torch.int64, device=device)
        self._distance = torch.zeros(0 if self._edges_kept else rows, most, dtype=torch.int32, device=device)
        self._counts = torch.zeros(0 if self._edges_kept else rows, dtype=torch.int32, device=device)
        self._kind = torch.zeros(rows, most, dtype=torch.int16, device=device)
        self._age = torch.zeros(rows, most, dtype=self._like.dtype, device=device)
        self._tally = torch.zeros(2, dtype=torch.int64, device=device)

    def _take_weights(self) -> None:
        begin: int | None = None
        self._constants = []
        self._forget_launches()
        for n, (block, mark) in enumerate(self._layers):
            begin = n if mark == "begin" else begin
            assert self._splines is not None
            self._constants.append(Layer.make(block, begin if mark == "end" else None, self._splines, self._like))
        # Channels last bring cuDNN nothing unless it may round to TF32.
        head: nn.Module = fold_norms(self._model.head).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        is_fused = self._like.dtype == torch.float32 and not self._model.reads_edges
        self._head = FusedHead(head, self._kernels) if is_fused else TorchHead(head)
        self._answer: Tensor | None = None

    def _forget_launches(self) -> None:
        """What was captured read arguments that are others now."""
        self._replay.forget()
        self._answers.forget()

    def reset(self) -> None:
        """Forget all events and costs; memory has its first size again, and the model's weights are read anew."""
        parameter, changed = next(self._model.parameters()), self._version.changed()
        if (parameter.device, parameter.dtype) != self._prepared_for:
            if reason := _unavailable(parameter):
                raise ValueError(f"the model was moved after it was made asynchronous, and engine cuda: {reason}")
            self._prepare()
        elif changed:
            self._take_weights()
        self._version.accept()
        if self._rings.capacity == _SMALLEST_CAPACITY:
            self._rings.clear()  # what was captured stays of use
        else:
            self._make_rings()
        self._tally.zero_()
        self._nodes = [0, 0]
        self._seconds = [0.0, 0.0]
        self._origin = 0
        self._meter.reset()

    def update(self, events: np.ndarray) -> None:
        """Take the events through the layers."""
        begin = perf_counter()
        self._meter.begin_update()
        self._nodes[1], self._seconds[1] = 0, 0.0
        if self._rings.size == 0:
            self._origin = int(events["t"][0])
        self._reserve(events["t"])
        with self._on_device():
            for part in self._parts(events):
                self._take(part, begins=self._nodes[1] == 0, computes=True)
        self._seconds = [seconds + perf_counter() - begin for seconds in self._seconds]

    def _on_device(self) -> contextlib.AbstractContextManager[Any]:
        return torch.cuda.device(self._device) if self._device.type == "cuda" else contextlib.nullcontext()

    def _parts(self, events: np.ndarray) -> Iterator[np.ndarray]:
        """The events in packets that are not too large, nor too long."""
        start = 0
        while start < len(events):
            part = events[start : start + self._at_once]
            t = part["t"]
            if t[-1] - t[0] >= LONGEST_PACKET_US:
                part = part[: np.searchsorted(t, t[0] + LONGEST_PACKET_US)]
            yield part
            start += len(part)

    def _take(self, events: np.ndarray, *, begins: bool, computes: bool) -> None:
        """Enter events into the rings, and compute what the layers make of them."""
        rings, count, disc = self._rings, len(events), self._disc
        words = self._upload.begin()
        pack(events, rings.size, disc.stride, disc.margin, rings.host_t, words)
        words[2] = begins
        packet, size = self._upload.buffer, min(size_class(count), self._at_once)
        self._replay.run((self._upload.number, size, computes), lambda: self._launch(packet, size, computes))
        self._upload.launched()
        rings.size += count
        self._nodes = [nodes + count for nodes in self._nodes]

    def _launch(self, packet: Tensor, count: int, computes: bool) -> None:
        """The launches for packets of up to ``count`` events; arguments stay the same while the rings do."""
        rings, disc = self._rings, self._disc
        self._kernels.insert(packet, self._head_of_packet, count, rings, self._tally)
        self._kernels.link(self._head_of_packet, count, rings, self._upload.read)
        if not self._layers or not (computes or self._edges_kept):
            return
        found = (rings.distance, rings.counts) if self._edges_kept else (self._distance, self._counts)
        edges = (*found, self._kind, self._age)
        graph = self._graph
        most_back = min(_LARGEST_CAPACITY, FOREVER if graph.max_nodes is None else graph.max_nodes - 1)
        self._kernels.search(
            self._head_of_packet, count, rings, disc, self._scale, edges, self._tally, most_back, graph.max_neighbors
        )
        if computes:
            assert self._splines is not None
            for n, layer in enumerate(self._constants):
                self._kernels.convolve(self._head_of_packet, count, rings, edges, self._splines, layer, n)

    def _reserve(self, t: np.ndarray) -> None:
        """Grow the rings, if need be, so that they hold all nodes that are live while events at times ``t`` come."""
        before, at_once = self._rings.size - self._first_live(int(t[0])), min(len(t), self._at_once)
        if before + len(t) + at_once <= self._rings.capacity:
            return
        needed = most_live(t, self._graph, before) + at_once
        if needed <= self._rings.capacity:
            return
        capacity = power_of_two(needed)
        if capacity > _LARGEST_CAPACITY:
            raise no_room(capacity, self._graph)
        try:
            with self._on_device():
                self._rings.grow(capacity)
                self._forget_launches()
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise no_room(capacity, self._graph) from error

    def _first_live(self, time: int) -> int:
        """Number of the oldest node that is live at ``time``, which is not before the last event's."""
        graph = self._graph
        window = FOREVER if graph.window is None else graph.window
        max_nodes = FOREVER if graph.max_nodes is None else graph.max_nodes
        size, node_t = self._rings.size, self._rings.host_t
        return int(first_live(max(0, size - len(node_t)), size, time, window, max_nodes, node_t))

    def output(self, time: int) -> Tensor:
        """Pool the live nodes, and run what lies behind."""
        self._check_weights()
        first, last = self._first_live(time), self._rings.size
        with self._on_device(), full_precision(self._device):
            if self._edges_kept:
                return self._read_out(first, last)
            begin = perf_counter()
            words, rings = self._asked.begin(), self._rings
            words[0], words[1] = first, rings.host_t[(last - 1) & rings.mask] if last else 0
            self._answers.run("answer", self._make_answer)
            self._asked.launched()
            assert self._answer is not None
            output = self._answer.clone()
            # One launch is both; what it costs the host stands with the head.
            self._meter.add("pooling", (last - first) * sum(self._channels()), 0.0)
            self._meter.add("head", self._head.flops, perf_counter() - begin)
        return output

    def _make_answer(self) -> None:
        """Pool the nodes that are live at the moment that was asked for, and run the head."""
        self._kernels.take_moment(self._asked.buffer, self._moment, self._asked.read)
        output = self._head(self._pooled(self._moment))
        if self._answer is None:
            self._answer = torch.empty_like(output)
        self._answer.copy_(output)

    def _channels(self) -> list[int]:
        """Numbers that every live node brings to the pooling."""
        return [1 if isinstance(cells.pooling, CountPooling) else self._constants[-1].outputs for cells in self._maps]

    def _check_weights(self) -> None:
        if not self._version.changed():
            return
        moved = next(self._model.parameters()).device != self._device
        if self._layers or moved:  # features are those of the old weights
            raise ValueError(STALE_WEIGHTS)
        self._take_weights()
        self._version.accept()

    def _pooled(self, moment: Tensor) -> Tensor:
        """The image ``[1, C, rows, columns]`` that the head sees."""
        rings = self._rings
        images = []
        for cells in self._maps:
            columns, rows = cells.pooling.shape
            if isinstance(cells.pooling, CountPooling):
                counts = self._kernels.count_cells(moment, rings, cells)
                images.append(counts.to(self._like.dtype).log1p().view(1, -1, rows, columns))
            else:
                images.append(self._kernels.pool_cells(moment, rings, cells).view(1, -1, rows, columns))
        return images[0] if len(images) == 1 else torch.cat(images, 1)

    def _read_out(self, first: int, last: int) -> Tensor:
        """The network's output from the live nodes ``first`` to ``last - 1`` and the edges between them, in torch."""
        rings, numbers = self._rings, torch.arange(first, last, device=self._device)
        slots = numbers & rings.mask
        y, x = (part - self._disc.margin for part in _divmod(rings.pixel[slots], self._disc.stride))
        t = rings.node_t[slots]
        along = self._graph.time_scale * (t - self._origin).double()
        pos = torch.stack([x.double(), y.double(), along], 1).to(self._like.dtype)
        source = numbers[:, None] - rings.distance[slots]
        nth = torch.arange(source.shape[1], device=self._device)
        target, at = ((nth < rings.counts[slots, None]) & (source >= first)).nonzero(as_tuple=True)
        edge_index = torch.stack([source[target, at] - first, target])
        batch = torch.zeros(last - first, dtype=torch.long, device=self._device)
        assert self._metering is not None
        metered: Any = self._metering.model
        with self._metering:
            output: Tensor = metered.readout(
                rings.features[-1][slots], pos, edge_index, batch, 1, polarity=rings.features[0][slots], t=t
            )
        return output

    def describe(self) -> list[str]:
        """One line per layer."""
        how = "in Triton's interpreter" if interpreted() else f"in Triton on {self._device}"
        lines = [f"{block.conv}: {how}, new nodes only" for block, _ in self._layers]
        if self._edges_kept:
            behind = ", ".join(str(module) for module in (*self._model.poolings, self._model.grid))
            return [*lines, f"{behind} and behind: torch, live nodes, at every output"]
        lines += [f"{cells.pooling}: {how}, all live nodes, at an output" for cells in self._maps]
        return [*lines, f"what lies behind: {self._head.description}, at an output"]

    def memory(self) -> dict[str, int]:
        """Bytes by part, in the device's memory and the host's."""
        buffers = (self._distance, self._counts, self._kind, self._age)
        size = sum(tensor.numel() * tensor.element_size() for tensor in buffers)
        return {**self._rings.memory(), "buffers": size + self._upload.nbytes}

    def flops(self) -> Costs:
        """FLOPs by layer."""
        costs: dict[str, Cost] = {}
        if self._splines is not None:
            splines, (total, last) = self._splines, self._tally.tolist()
            work = list(zip(reversed(self._nodes), (last, total), strict=True))
            per_edge = splines.table.per_edge
            costs["splines"] = Cost(*(3 * per_edge * edges for _, edges in work))
            for block, mark in self._layers:
                amounts = [block_flops(block, n, e, per_edge, n * splines.rows, mark) for n, e in work]
                costs[self._names[block]] = Cost(*amounts)
        return Costs("FLOP", costs | self._meter.flops().layers)

    def runtime(self) -> Costs:
        """Seconds by part, as the host spends them: on a device, work in its queue is not waited for."""
        update = {"events": Cost(self._seconds[1], self._seconds[0])}
        return Costs("s", update | self._meter.runtime().layers)

    def held(self) -> tuple[np.ndarray, list[Tensor]]:
        """The live nodes as events, and their features behind every layer."""
        self._check_weights()
        rings, size = self._rings, self._rings.size
        last = int(rings.host_t[(size - 1) & rings.mask]) if size else 0
        first = self._first_live(last)
        slots = rings.slots(first, size)
        polarity, *features = (ring[slots].cpu() for ring in rings.features)
        y, x = np.divmod(rings.pixel[slots].cpu().numpy(), self._disc.stride)
        margin = self._disc.margin
        t = rings.host_t[np.arange(first, size) & rings.mask]
        return make_events(t, x - margin, y - margin, polarity[:, 0].numpy() > 0), features

    def restore(self, events: np.ndarray, features: list[Any], origin: int) -> None:
        """Enter nodes whose features are known; their neighbours among themselves are found again."""
        channels = [layer.outputs for layer in self._constants]
        features = check_features(features, channels, len(events), self._like.dtype)
        check_all_live(events["t"], self._graph)
        self._origin = origin
        if not len(events):
            return
        self._reserve(events["t"])
        with torch.no_grad(), self._on_device():
            for part in self._parts(events):
                self._take(part, begins=True, computes=False)
            for ring, values in zip(self._rings.features[1:], features, strict=True):
                ring[: len(values)] = values.to(self._device)
        self._tally.zero_()
        self._nodes = [0, 0]


def _unavailable(parameter: Tensor) -> str | None:
    """Why the kernels cannot run on a model with such parameters, or None."""
    if parameter.dtype not in (torch.float32, torch.float64):
        return f"it computes in float32 or float64, found {parameter.dtype}"
    return unavailable(parameter.device)


def _unknown_part(model: GraphNetwork, graph: GraphConfig) -> str | None:
    """What of a network or graph the kernels do not know, or None."""
    if reason := unknown_layer(model.event_blocks, compiled=True):
        return reason
    convolutions = [module for module in model.event_blocks.modules() if isinstance(module, SplineConv)]
    if not convolutions and (model.reads_edges or model.grid is not None):
        return "it needs a layer on events, or counts of them alone"
    for conv in convolutions:
        if conv.dim not in (2, 3):
            return f"it knows edges in 2 or 3 dimensions, found {conv} in {conv.dim}"
        if conv.in_channels > LARGEST_INPUT or conv.out_channels > LARGEST_OUTPUT:
            return f"its layers read {LARGEST_INPUT} features and write {LARGEST_OUTPUT} at most, found {conv}"
    if convolutions and convolutions[0].in_channels != 1:
        return f"events have one feature, the first layer reads {convolutions[0].in_channels}"
    if not model.reads_edges:
        for pooling, kind in ((model.grid, GridPooling), (model.counts, CountPooling)):
            if pooling is not None and type(pooling) is not kind:
                return f"it knows {kind.__name__}, found {type(pooling).__name__}"
    if (lanes := len(NeighborSearch(graph, 1, 1, 1).arrays.offsets)) > MOST_LANES:
        return f"{MOST_LANES} px may lie within the radius, found {lanes} within {graph.radius} px"
    return None


def _divmod(dividend: Tensor, divisor: int) -> tuple[Tensor, Tensor]:
    return dividend // divisor, dividend % divisor
