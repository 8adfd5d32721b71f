# SPDX-License-Identifier: Apache-2.0
"""The compiled engine: nodes in rings, a packet of events through all layers in one call of compiled code."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aegnn_core.asynchronous.array_table import addresses, array_table
from aegnn_core.asynchronous.compiled.crew import Crew, check_sleep
from aegnn_core.asynchronous.compiled.memory import aligned
from aegnn_core.asynchronous.compiled.pipeline import Words
from aegnn_core.asynchronous.compiled.plan import LayerTable, SplineTable
from aegnn_core.asynchronous.compiled.readout import Readout, make_batch
from aegnn_core.asynchronous.compiled.stream import (
    OWN_PARTS,
    RULE,
    SHARED_PARTS,
    Frame,
    Nodes,
    append_events,
    follow_packets,
)
from aegnn_core.asynchronous.costs import Cost, Costs
from aegnn_core.asynchronous.event_layers import block_flops, flatten, unknown_layer
from aegnn_core.asynchronous.failures import STALE_WEIGHTS, check_all_live, no_room, not_final
from aegnn_core.asynchronous.live_nodes import first_live
from aegnn_core.asynchronous.saved_state import check_features
from aegnn_core.asynchronous.weights import WeightsVersion
from aegnn_core.events.array import EVENT_DTYPE, make_events
from aegnn_core.graph import GraphConfig, NeighborSearch
from aegnn_core.graph.build import edge_attributes, most_live
from aegnn_core.graph.neighbors import FOREVER
from aegnn_core.machine_code import entry
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.pooling import VoxelPooling
from aegnn_core.nn.spline import SplineConv

__all__ = ["CompiledEngine"]

_SMALLEST_CAPACITY = 1 << 12
#: Nodes that go through the layers together: enough to read every weight seldom, few enough to stay in the cache.
_MOST_AT_ONCE = 64
_SUMS_AT_ONCE = 1 << 16
#: How far ahead is requested from memory what layers read, in edges, and what a search begins with, in nodes. A third
#: less or more makes no difference; not requesting does (docs/benchmarks.md).
_AHEAD, _SEARCH_AHEAD = 192, 8
#: What is searched and does not exceed this [bytes] is in a core's second cache as it is, features up to this [bytes]
#: in the third: there, requests before a search or a layer begins are in the way.
_SEARCH_IN_CACHE, _FEATURES_IN_CACHE = 1 << 20, 1 << 23
_DTYPES: dict[torch.dtype, type] = {torch.float32: np.float32, torch.float64: np.float64}


def _follow_packets(dtype: type, words: np.ndarray, member: int) -> None:
    """Work on packets, as one thread of several, until told to end."""
    follow_packets(addresses([words]), dtype(0), member)
    check_sleep(words)


class CompiledEngine:
    """State of a :class:`GraphNetwork` on a directed graph, on the CPU.

    Args:
        model: the network.
        graph: the rule.
        threads: that work on a packet.
        frozen: nobody writes to the model's weights.
    """

    def __init__(self, model: GraphNetwork, graph: GraphConfig, threads: int = 1, frozen: bool = False) -> None:
        self._model, self._graph, self.threads = model, graph, threads
        self._version = WeightsVersion(model, frozen)
        self._dtype = _DTYPES[next(model.parameters()).dtype]
        self._layers = flatten(model.event_blocks)
        width, height = model.sensor
        search = NeighborSearch(graph, width, height, 1)
        step = search.arrays.offsets
        center = search.margin * (search.stride + 1)
        self._step_class = np.full(2 * center + 1, -1, np.int32)
        self._step_class[step + center] = np.arange(len(step))
        dy, dx = np.divmod(step + center, search.stride)
        attributes = [
            edge_attributes(float(u - search.margin), float(v - search.margin), 0.0, graph.radius, graph.time_scale)
            for u, v in zip(dx, dy, strict=True)
        ]
        first = self._layers[0][0].conv
        self._splines = SplineTable.make(
            first.kernel_size.tolist(),
            np.array(attributes, self._dtype)[:, : first.dim],
            time_varies=first.dim == 3,
        )
        widest = max(block.conv.in_channels for block, _ in self._layers)
        room = _SUMS_AT_ONCE // (self._splines.rows * max(8, widest))
        self._room = min(max(room, 4), _MOST_AT_ONCE)
        self._readout = Readout(model, graph, self._dtype, 16, threads)
        self._names = {module: name for name, module in model.named_modules()}
        self._zero = self._dtype(0)
        self._crew = Crew(threads, len(self._layers) + 3, partial(_follow_packets, self._dtype))
        self._take_weights()
        self.reset()
        # Compile, or load what was compiled before, now, so that no event has to wait for it.
        nothing = np.empty(0, EVENT_DTYPE)
        self._append = entry(append_events, nothing, 0, 0, self._arrays, self._zero)
        most_live(nothing["t"], graph, 0)
        self.update(nothing)
        self.output(0)
        self.reset()

    @staticmethod
    def refusal(model: nn.Module, graph: GraphConfig) -> str | None:
        """Why this engine cannot run the model on such a graph, or None."""
        if reason := not_final(model, graph):
            return reason
        assert isinstance(model, GraphNetwork)
        parameter = next(model.parameters())
        if parameter.device.type != "cpu" or parameter.dtype not in _DTYPES:
            return f"it runs on the CPU in float32 or float64, found {parameter.device} and {parameter.dtype}"
        for part in (model.event_blocks, *model.voxel_blocks[:1]):
            if reason := unknown_layer(part, compiled=True):
                return reason
        for pooling in model.poolings[:1]:
            if not isinstance(pooling, VoxelPooling) or pooling.position != "center":
                return f"it pools voxels at their centres, found {pooling}"
        if not len(model.event_blocks):
            return "it needs a layer on events"
        if model.grid is None:
            return "it needs a grid of features"
        if model.reads_edges and (model.grid.ages > 1 or model.counts is not None):
            return f"it pools events by age, not voxels, found {model.grid}"
        convolutions = [module for module in model.event_blocks.modules() if isinstance(module, SplineConv)]
        if convolutions[0].in_channels != 1:
            return f"events have one feature, the first layer reads {convolutions[0].in_channels}"
        convolutions += [module for module in model.voxel_blocks[:1].modules() if isinstance(module, SplineConv)]
        if odd := next((conv for conv in convolutions if conv.dim not in (2, 3)), None):
            return f"it knows edges in 2 or 3 dimensions, found {odd} in {odd.dim}"
        return None

    def _take_weights(self) -> None:
        self._table = LayerTable(self._layers, self._splines, self._dtype, 1)
        self._batches = [
            make_batch(self._room, self._graph.max_neighbors, self._splines, self._table.widths, self._dtype, _AHEAD)
            for _ in range(self.threads)
        ]

    def reset(self) -> None:
        """Forget all events and costs; memory has its first size again, and the model's weights are read anew."""
        if self._version.changed():
            self._take_weights()
            self._readout.take_weights()
            self._version.accept()
        # The old arrays go first: on a large sensor there may be no memory for both.
        for name in ("_search", "_search_arrays", "_nodes"):
            self.__dict__.pop(name, None)
        self._readout.reset()
        self._search = NeighborSearch(self._graph, *self._model.sensor, _SMALLEST_CAPACITY)
        low, high = self._splines.linear()
        self._nodes = Nodes(
            cell=np.empty(_SMALLEST_CAPACITY, np.int32),
            link=np.empty(_SMALLEST_CAPACITY, np.int32),
            features=aligned(_SMALLEST_CAPACITY * sum(self._table.widths), self._dtype),
            layers=self._table.records(_SMALLEST_CAPACITY),
            constants=self._table.constants,
            step_class=self._step_class,
            low=low.ravel(),
            high=high.ravel(),
            class_slot=self._splines.slot.ravel(),
            class_weight=self._splines.weight.ravel(),
        )
        self._oldest = 0
        self._size_before = self._size_at_first = 0
        # A row for each thread, which begins where a line of the cache does.
        columns = -(-(len(self._layers) + 6) // 16) * 16
        self._tally = aligned(self.threads * columns, np.int64).reshape(self.threads, columns)
        self._tally[:] = 0
        self._before = self._tally.copy()
        self._hand_over()

    def _hand_over(self) -> None:
        """Write down for the compiled code where everything is; to be called again when arrays move."""
        graph, search, splines = self._graph, self._search, self._splines
        self._rule = np.zeros(1, RULE)
        rule = self._rule[0]
        rule["radius"], rule["time_scale"] = graph.radius, graph.time_scale
        rule["window"] = FOREVER if graph.window is None else graph.window
        rule["max_nodes"] = FOREVER if graph.max_nodes is None else graph.max_nodes
        rule["max_neighbors"], rule["nearest_nodes"] = graph.max_neighbors, search.max_nodes
        rule["held"], rule["stride"], rule["margin"] = search.held, search.stride, search.margin
        rule["mean"] = self._layers[0][0].conv.aggr == "mean"
        rule["dense"], rule["times"], rule["slots"] = splines.dense, splines.times, splines.slots
        rule["per_class"], rule["per_edge"] = splines.slot.shape[1], splines.per_edge
        rule["ahead"], rule["computes"] = _AHEAD, True
        rule["requests_first"] = self._nodes.features.nbytes > _FEATURES_IN_CACHE
        searched = sum(array.nbytes for array in search.arrays)
        rule["search_ahead"] = _SEARCH_AHEAD if searched > _SEARCH_IN_CACHE else 0
        rule["reads_edges"], rule["queues"] = self._model.reads_edges, not self._readout.by_age
        shared = (Words(self._crew.words), self._nodes, self._readout.cells)
        self._search_arrays = [search.arrays_for_thread() for _ in range(self.threads)]
        frames = (Frame(self._rule, *tallies) for tallies in zip(self._tally, self._before, strict=True))
        own = zip(frames, self._search_arrays, self._batches, strict=True)
        parts = (*shared, *(part for parts in own for part in parts))
        self._arrays = array_table(parts, SHARED_PARTS + self.threads * OWN_PARTS, self._dtype)

    def update(self, events: np.ndarray) -> None:
        """Take the events through the layers."""
        search, count = self._search, len(events)
        if search.size + count - self._oldest > search.capacity:
            self._make_room(events["t"])
        self._size_before = size = search.size
        self._readout.is_update_new = True
        if self.threads > 1 and count > self._room:
            self._crew.begin()
        done, self._oldest = self._append(events, size, self._oldest, self._arrays, self._zero)
        search.size = size + done
        assert done == count, "the rings are too small for the nodes that are live"

    def _make_room(self, t: np.ndarray) -> None:
        """Grow the rings, if need be, so that they hold all nodes that are live while events at times ``t`` come."""
        before = self._search.size - self._first_live(int(t[0]))
        # Old nodes leave only when their block is done, and every thread may be at work on one.
        needed = most_live(t, self._graph, before) + (self.threads + 1) * self._room
        if needed <= self._search.capacity:
            return
        capacity = 1 << (needed - 1).bit_length()
        try:
            self._grow(capacity)
        except MemoryError as error:
            raise no_room(capacity, self._graph) from error

    def output(self, time: int) -> Tensor:
        """The output for the nodes that are live at ``time``."""
        self._check_weights()
        first = self._first_live(time)
        last = self._nodes.layers[-1]
        width, final = int(last["outputs"]), int(last["target"])
        if self._readout.by_age:
            size, node_t = self._search.size, self._search.node_t
            return self._readout.output_by_age(first, size, self._nodes, width, final, node_t)
        return self._readout.output(self._oldest, first, self._nodes, width, final)

    def _check_weights(self) -> None:
        if self._version.changed():
            raise ValueError(STALE_WEIGHTS)

    def _first_live(self, time: int) -> int:
        """Number of the oldest node that is live at ``time``, which is not before the last event's."""
        rule, search = self._rule[0], self._search
        return int(first_live(self._oldest, search.size, time, rule["window"], rule["max_nodes"], search.node_t))

    def _grow(self, capacity: int) -> None:
        """Make the rings larger. Nothing has changed if there is no memory for it."""
        old, size = self._search.capacity, self._search.size
        numbers = np.arange(max(0, size - old), size)
        before, after = numbers & (old - 1), numbers & (capacity - 1)
        grown = {}
        for name in ("cell", "link"):
            ring = getattr(self._nodes, name)
            grown[name] = np.empty(capacity, ring.dtype)
            grown[name][after] = ring[before]
        features = aligned(capacity * sum(self._table.widths), self._dtype)
        start = 0
        for ring in self._feature_rings():
            width = ring.shape[1]
            features[capacity * start : capacity * (start + width)].reshape(capacity, width)[after] = ring[before]
            start += width
        self._search.resize(capacity)
        self._nodes = self._nodes._replace(features=features, layers=self._table.records(capacity), **grown)
        self._hand_over()

    def describe(self) -> list[str]:
        """One line per layer."""
        lines = [f"{block.conv}: compiled, new nodes only" for block, _ in self._layers]
        pooling = self._model.poolings[0] if self._model.reads_edges else self._model.grid
        for part in (pooling, self._model.counts):
            if part is not None:
                how = "all live nodes, at an output" if self._readout.by_age else "running maxima"
                lines.append(f"{part}: {how}")
        lines.extend(f"{block.conv}: compiled, changed voxels only, at an output" for block, _ in self._readout.layers)
        return [*lines, f"what lies behind: {self._readout.behind}, at an output that something has changed for"]

    def memory(self) -> dict[str, int]:
        """Bytes by part."""
        nodes = (self._nodes.cell, self._nodes.link, self._nodes.features)
        return {
            "neighbour search": sum(array.nbytes for array in self._search.arrays),
            "nodes": sum(array.nbytes for array in nodes),
            "cells": self._readout.memory(),
            "buffers": sum(array.nbytes for batch in self._batches for array in batch),
        }

    def flops(self) -> Costs:
        """FLOPs by layer."""
        costs: dict[str, Cost] = {}
        nodes = [self._search.size - self._size_before, self._search.size - self._size_at_first]
        count = len(self._layers)
        edges, rows = ([int(t[n]) for t in self._spent()] for n in (count + 3, count + 4))
        per_edge = self._splines.per_edge
        costs["splines"] = Cost(*(3 * per_edge * e for e in edges))
        for block, mark in self._layers:
            costs[self._names[block]] = Cost(
                *(block_flops(block, n, e, per_edge, r, mark) for n, e, r in zip(nodes, edges, rows, strict=True))
            )
        if not self._readout.by_age:
            channels = self._layers[-1][0].conv.out_channels
            costs["entering the pooling"] = Cost(*(n * channels for n in nodes))
        return Costs("FLOP", costs | self._readout.flops())

    def runtime(self) -> Costs:
        """Seconds by layer, of all threads together."""
        layers = [self._names[block] for block, _ in self._layers]
        last, total = (1e-9 * spent for spent in self._spent())
        names = ["neighbour search", "splines", *layers, "entering the pooling"]
        costs = {name: Cost(float(a), float(b)) for name, a, b in zip(names, last, total, strict=False)}
        if self.threads > 1:
            waited = len(layers) + 5
            costs["waiting for other threads"] = Cost(float(last[waited]), float(total[waited]))
        return Costs("s", costs | self._readout.runtime())

    def _spent(self) -> tuple[np.ndarray, np.ndarray]:
        """The tally of all threads, of the last update and since the reset."""
        return (self._tally - self._before).sum(0), self._tally.sum(0)

    def held(self) -> tuple[np.ndarray, list[Tensor]]:
        """The live nodes as events, and their features behind every layer.

        Those of the last layer may be maxima over several nodes of a cell, see :mod:`.cells`; of what is live from here
        on, such a maximum is the same.
        """
        self._check_weights()
        search, capacity, size = self._search, self._search.capacity, self._search.size
        last = int(search.node_t[(size - 1) & (capacity - 1)]) if size else 0
        slots = np.arange(self._first_live(last), size) & (capacity - 1)
        held = search.nodes[slots]
        y, x = np.divmod(held["pixel"], search.stride)
        events = make_events(held["t"], x - search.margin, y - search.margin, self._nodes.features[slots] > 0)
        features = [
            torch.from_numpy(ring[slots, : block.conv.out_channels])
            for ring, (block, _) in zip(self._feature_rings()[1:], self._layers, strict=True)
        ]
        return events, features

    def restore(self, events: np.ndarray, features: list[Any], origin: int) -> None:
        """Enter nodes whose features are known into the neighbour search and the cells."""
        channels = [block.conv.out_channels for block, _ in self._layers]
        features = check_features(features, channels, len(events), next(self._model.parameters()).dtype)
        check_all_live(events["t"], self._graph)
        if not len(events):
            return
        self._make_room(events["t"])
        for ring, values in zip(self._feature_rings()[1:], features, strict=True):
            ring[: len(values)] = 0
            ring[: len(values), : values.shape[1]] = values.numpy()
        self._rule["computes"] = False
        done, self._oldest = self._append(events, 0, self._oldest, self._arrays, self._zero)
        self._rule["computes"] = True
        assert done == len(events), "the rings are too small for the nodes that are live"
        self._search.size = self._size_before = self._size_at_first = done
        self._tally[:] = 0
        self._readout.is_update_new = True

    def _feature_rings(self) -> list[np.ndarray]:
        """The features in front of the layers and behind each, ``[capacity, width]``, missing channels zeros."""
        capacity, starts = self._search.capacity, np.cumsum([0, *self._table.widths])
        return [
            self._nodes.features[capacity * start : capacity * stop].reshape(capacity, stop - start)
            for start, stop in pairwise(starts.tolist())
        ]
