# SPDX-License-Identifier: Apache-2.0
"""The engine for networks that only count events: no graph and no features, only counts that change as events age."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aegnn_core.asynchronous.compiled.counts import AT_WORK, append_places, count_until, hide_expired
from aegnn_core.asynchronous.compiled.head import make_head
from aegnn_core.asynchronous.compiled.memory import aligned
from aegnn_core.asynchronous.costs import CostMeter, Costs
from aegnn_core.asynchronous.failures import UNFINISHED, check_all_live, no_room, own_code
from aegnn_core.asynchronous.live_nodes import first_live
from aegnn_core.asynchronous.saved_state import check_features, check_tensor
from aegnn_core.asynchronous.weights import WeightsVersion
from aegnn_core.events.array import EVENT_DTYPE, make_events
from aegnn_core.graph import GraphConfig
from aegnn_core.graph.build import most_live
from aegnn_core.graph.neighbors import FOREVER
from aegnn_core.machine_code import entry
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.pooling import cells_of

__all__ = ["CountingEngine"]

_SMALLEST_CAPACITY = 1 << 12
#: Larger packets are stored in parts, so that memory depends on what is live and not on the packet.
_EVENTS_AT_ONCE = 1 << 16
#: Events that are left to be counted at an output, at most: from so many on, an update counts them.
_UNCOUNTED = 32
_DTYPES: dict[torch.dtype, type] = {torch.float32: np.float32, torch.float64: np.float64}


class CountingEngine:
    """State of a :class:`GraphNetwork` without layers on events: their times and places, and the counts.

    An event is stored when it arrives. Counts are brought up to date by every update of some events, so that an output
    need not wait for that; every event is added and taken away once per part of the past. Where nothing leaves, those
    in the last part need no memory.
    """

    def __init__(self, model: GraphNetwork, graph: GraphConfig, threads: int = 1, frozen: bool = False) -> None:
        self._model, self._graph, self._wanted = model, graph, threads
        self._kind = next(model.parameters()).dtype
        self._dtype = _DTYPES[self._kind]
        assert model.counts is not None
        self._pooling = model.counts
        width, height = model.sensor
        along = torch.arange(max(width, height), dtype=self._kind, device="cpu")  # as the model's own positions are
        zero = torch.zeros_like(along)
        columns, _ = cells_of(torch.stack([along, zero], 1)[:width], self._pooling.size, self._pooling.shape)
        _, rows = cells_of(torch.stack([zero, along], 1)[:height], self._pooling.size, self._pooling.shape)
        self._column_of, self._row_of = columns.int().numpy(), rows.int().numpy()
        self._least_ages = np.array(self._pooling.least_ages, np.int64)
        self._is_bounded = graph.bounded
        #: The rule by which events leave the rings: where none ever leaves the counts, when they reach the last part.
        self._moving = graph if graph.bounded else replace(graph, window=max((1, *self._pooling.least_ages)))
        self._version = WeightsVersion(model, frozen)
        self._costs = CostMeter()
        self._take_weights()
        self.reset()
        # Compile, or load what was compiled before, now, so that no event has to wait for it.
        event = np.zeros(1, EVENT_DTYPE)
        self._append = entry(
            append_places, event, 0, self._column_of, self._row_of, 1, 1, self._ring_t, self._ring_place
        )
        most_live(event["t"], self._moving, 0)
        self.update(event)
        self.output(0)
        self.reset()

    @staticmethod
    def refusal(model: nn.Module, graph: GraphConfig) -> str | None:
        """Why this engine cannot run the model on such a graph, or None."""
        if not isinstance(model, GraphNetwork):
            return f"it knows the package's networks, found {type(model).__name__}"
        if not model.only_counts:
            return "it only counts events, the model reads features of them"
        if reason := own_code(model):
            return reason
        parameter = next(model.parameters())
        if parameter.device.type != "cpu" or parameter.dtype not in _DTYPES:
            return f"it runs on the CPU in float32 or float64, found {parameter.device} and {parameter.dtype}"
        return None

    def _take_weights(self) -> None:
        columns, rows = self._pooling.shape
        self._head = make_head(
            self._model.head, (self._pooling.channels, rows, columns), self._dtype, self._wanted, True
        )
        self.threads = self._head.threads

    def reset(self) -> None:
        """Forget all events and costs; memory has its first size again."""
        self._costs.reset()
        self._ring_t = np.empty(_SMALLEST_CAPACITY, np.int64)
        self._ring_place = np.empty(_SMALLEST_CAPACITY, np.int32)
        self._size = self._additions = 0
        self._counted = np.zeros(1, np.int64)  # written in compiled code, which a signal does not interrupt
        columns, rows = self._pooling.shape
        size = self._pooling.channels * rows * columns
        self._begin = np.zeros(len(self._least_ages) + 1, np.int64)
        self._counts = aligned(size, np.int32)  # a cell lies in as few cache lines as can be
        self._counts.fill(0)
        self._held: Tensor | None = None
        self._held_for = (0, 0)

    def update(self, events: np.ndarray) -> None:
        """Store the events."""
        started = perf_counter()
        self._costs.begin_update()
        if self._size + len(events) - self._oldest > len(self._ring_t):
            self._make_room(events["t"])
        columns, channels = self._pooling.shape[0], self._pooling.channels
        for start in range(0, len(events), _EVENTS_AT_ONCE):
            part = events[start : start + _EVENTS_AT_ONCE]
            if self._size + len(part) - self._oldest > len(self._ring_t):
                self._count()
            self._append(
                part, self._size, self._column_of, self._row_of, columns, channels, self._ring_t, self._ring_place
            )  # fmt: skip
            self._size += len(part)
        if self._size - self._counted.item(0) >= _UNCOUNTED:
            self._count()
        self._charge(started)

    @property
    def _oldest(self) -> int:
        """Number of the oldest event that can still move or leave, and has to be in the rings."""
        if self._is_bounded:
            return int(self._begin[-1])
        return int(self._begin[-2]) if len(self._begin) > 1 else self._counted.item(0)

    def _make_room(self, t: np.ndarray) -> None:
        """Free the slots of what has left, and grow the rings, if need be, for events at times ``t``.

        Nothing has changed if there is no memory for it.
        """
        self._count()
        needed = most_live(t, self._moving, self._size - self._oldest) + min(len(t), _EVENTS_AT_ONCE)
        if needed <= len(self._ring_t):
            return
        capacity = 1 << (needed - 1).bit_length()
        try:
            ring_t, ring_place = np.empty(capacity, np.int64), np.empty(capacity, np.int32)
        except MemoryError as error:
            raise no_room(capacity, self._graph) from error
        numbers = np.arange(self._oldest, self._size)
        before, after = numbers & (len(self._ring_t) - 1), numbers & (capacity - 1)
        ring_t[after], ring_place[after] = self._ring_t[before], self._ring_place[before]
        self._ring_t, self._ring_place = ring_t, ring_place

    def _count(self) -> None:
        """Bring the counts to the time of the youngest event."""
        if self._size == self._counted.item(0):
            return
        if self._counted.item(0) == AT_WORK:  # in the process that this one was forked from
            raise ValueError(UNFINISHED)
        mask = len(self._ring_t) - 1
        self._additions += count_until(
            self._size, self._first_live(int(self._ring_t[(self._size - 1) & mask])), self._counted, self._begin,
            self._least_ages, self._ring_t, self._ring_place, self._counts,
        )  # fmt: skip

    def _charge(self, started: float) -> None:
        """Note what counting has cost since a time of ``perf_counter``."""
        self._costs.add("counts", self._additions, perf_counter() - started)
        self._additions = 0

    def _first_live(self, time: int) -> int:
        """Number of the oldest event that is live at ``time``, which is not before the last event's."""
        oldest = int(self._begin[-1])
        if not self._is_bounded:
            return oldest
        window = FOREVER if self._graph.window is None else self._graph.window
        max_nodes = FOREVER if self._graph.max_nodes is None else self._graph.max_nodes
        return int(first_live(oldest, self._size, time, window, max_nodes, self._ring_t))

    def output(self, time: int) -> Tensor:
        """The head's answer to the counts of the events that are live at ``time``."""
        if self._version.changed():
            self._take_weights()
            self._held = None
            self._version.accept()
        if self._size != self._counted.item(0):
            started = perf_counter()
            self._count()
            self._charge(started)
        first = self._first_live(time)
        if self._held is None or self._held_for != (first, self._size):
            self._held = None
            self._held = self._read_out(first)
            self._held_for = (first, self._size)
        return self._held.clone()

    def _read_out(self, first: int) -> Tensor:
        started = perf_counter()
        live = self._counts
        if first > self._begin[-1]:
            live = live.copy()  # others may be asked for later
            hide_expired(first, self._size, self._begin, self._ring_place, live)
        columns, rows = self._pooling.shape
        output = self._head(torch.from_numpy(live).view(1, rows, columns, self._pooling.channels).permute(0, 3, 1, 2))
        self._costs.add("head", self._head.flops, perf_counter() - started)
        return output

    def describe(self) -> list[str]:
        """One line per layer."""
        behind = f"what lies behind: {self._head.description}, at an output after new events"
        return [f"{self._pooling}: compiled, running counts", behind]

    def memory(self) -> dict[str, int]:
        """Bytes by part."""
        return {
            "events": self._ring_t.nbytes + self._ring_place.nbytes,
            "counts": self._counts.nbytes,
            "head": self._head.memory,
        }

    def flops(self) -> Costs:
        """FLOPs by layer; an addition to a count is one."""
        return self._costs.flops()

    def runtime(self) -> Costs:
        """Seconds by layer."""
        return self._costs.runtime()

    def held(self) -> tuple[np.ndarray, list[Tensor]]:
        """The events that can still move or leave; and how many others there are in every cell, where none ever leaves.

        An event's pixel is the first of its cell.
        """
        self._count()
        first = self._oldest if self._is_bounded else max(0, min(self._oldest, self._size - 1))
        slots = np.arange(first, self._size) & (len(self._ring_t) - 1)
        place, (columns, rows) = self._ring_place[slots], self._pooling.shape
        cell, polarity = np.divmod(place, self._pooling.channels)
        x, y = (
            np.searchsorted(of, at) for of, at in ((self._column_of, cell % columns), (self._row_of, cell // columns))
        )
        events = make_events(self._ring_t[slots], x, y, polarity)
        if self._is_bounded:
            return events, []
        others = self._counts_of_last_part().copy()
        # The last event is always among those held, whatever part it is in.
        counted = slice(0, max(0, self._oldest - first))
        np.subtract.at(others, (polarity[counted], cell[counted]), 1)
        return events, [torch.from_numpy(others).view(2 * rows, columns)]

    def _counts_of_last_part(self) -> np.ndarray:
        """Counts of the events that are oldest, ``[2, cells]``."""
        return self._counts.reshape(-1, self._pooling.channels)[:, -2:].T

    def restore(self, events: np.ndarray, features: list[Any], origin: int) -> None:
        """Take events, and the numbers of others before them."""
        columns, rows = self._pooling.shape
        if self._is_bounded:
            check_features(features, [], len(events), self._kind)
            check_all_live(events["t"], self._graph)
        elif not isinstance(features, list) or len(features) != 1:
            raise ValueError("state: features must be a list of one tensor, the counts of what never leaves")
        else:
            others = check_tensor("state: counts", features[0], torch.int32, 2)
            if tuple(others.shape) != (2 * rows, columns) or bool((others < 0).any()):
                raise ValueError(f"state: counts must be [{2 * rows}, {columns}] and not negative")
        if len(events):
            self.update(events)
        if not self._is_bounded:
            self._count()
            self._counts_of_last_part()[:] += others.numpy().reshape(2, -1)
        self._costs.reset()
