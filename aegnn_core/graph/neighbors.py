# SPDX-License-Identifier: Apache-2.0
"""Neighbour search of the graph rule: the one implementation behind offline graphs and the live model.

Every pixel heads a chain of its nodes, most recent first. The candidates of a new node are the chains of the pixels
within the radius, so the cost depends on what happened around it and never on the number of nodes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, NamedTuple

import numpy as np

from aegnn_core.atomics import load_acquire, store_release
from aegnn_core.graph.config import GraphConfig
from aegnn_core.machine_code import borrowed, inlined, kernel
from aegnn_core.simd import prefetch, prefetch_early
from aegnn_core.torch_threads import ALONE, Team, in_shares

__all__ = [
    "FOREVER",
    "MAX_PIXELS",
    "NODE",
    "NeighborSearch",
    "SearchArrays",
    "check_extent",
    "insert_nodes",
    "search_neighbors",
]

#: Most pixels of an image in which neighbours are searched; two numbers are kept for each.
MAX_PIXELS = 1 << 25

#: Stands for "no limit" where the kernels take a duration [µs].
FOREVER = 2**62

#: What the search keeps of a node: so little that one line of the cache holds all of it, and that of three others.
NODE = np.dtype(
    [
        ("t", np.int64),  # [µs]
        ("pixel", np.int32),  # in the image of the last nodes
        ("back", np.uint32),  # how many nodes before it the one before it at its pixel came
    ]
)
#: Nodes that are worth a share of their own, and most pixels of all shares together for each node: they are copied.
_LEAST_SHARE, _MOST_PIXELS_PER_NODE = 1024, 16
#: Stands for no earlier node at the pixel, or one too far back to be counted.
_NEVER = np.int64(2**32 - 1)


@kernel
def _keep_largest(values, length, keep):
    """Move the ``keep`` largest of the distinct ``values[:length]`` to the front, in their order.

    Bisects for the smallest of them: counting is branchless and vectorised, so for some dozens of values its few rounds
    are twice as fast as a selection by pivots.
    """
    low = high = values[0]
    for i in range(length):
        low = min(low, values[i])
        high = max(high, values[i])
    high += 1
    count = length
    while count != keep:  # at least as many values are >= low, fewer are >= high
        middle = (low + high) >> 1
        count = 0
        for i in range(length):
            count += np.int64(values[i] >= middle)
        if count >= keep:
            low = middle
        else:
            high = middle
    kept = np.int64(0)
    for i in range(length):
        value = values[i]
        values[np.uintp(kept)] = value
        kept += np.int64(value >= low)


@inlined
def _collect(
    number, center, now, oldest, is_last, head, nodes, mask, offsets, reach_us, max_neighbors, chain_node, chain_reach,
    candidates,
):  # fmt: skip
    """Put the at most ``max_neighbors`` most recent neighbours from ``oldest`` to ``number - 1`` into ``candidates``.

    Their order depends on nothing but the nodes up to ``number``: the last ones of all pixels, those before them, ….
    ``is_last``: no later node has been inserted.

    All chains are walked side by side, one step each in turn, and what is kept is decided by adding 0 or 1 to an index:
    the loads do not wait for each other and there is hardly a branch to guess, which is where the time would go.
    """
    active = np.int64(0)
    for d in range(len(offsets) if is_last else 0):
        node = head[np.uintp(center + offsets[d])]
        chain_node[np.uintp(active)] = node
        chain_reach[np.uintp(active)] = reach_us[d]
        active += np.int64(node >= oldest)
    for d in range(0 if is_last else len(offsets)):
        node = load_acquire(head, center + offsets[d])
        while node >= number:  # it is there already, but later than this one
            node -= np.int64(nodes[np.uintp(node & mask)].back)
        chain_node[np.uintp(active)] = node
        chain_reach[np.uintp(active)] = reach_us[d]
        active += np.int64(node >= oldest)
    found = np.int64(0)
    while active > 0:
        if found + active > len(candidates):
            # More than fit: keep the most recent. What is older than those can never come back.
            _keep_largest(candidates, found, max_neighbors)
            found = max_neighbors
            oldest = candidates[0]
            for i in range(1, found):
                oldest = min(oldest, candidates[i])
        still_active = np.int64(0)
        for i in range(active):
            node = chain_node[np.uintp(i)]
            reach = chain_reach[np.uintp(i)]
            of = nodes[np.uintp(node & mask)]
            near = np.int64(now - of.t <= reach) & np.int64(node >= oldest)
            candidates[np.uintp(found)] = node
            found += near
            before = node - np.int64(of.back)
            chain_node[np.uintp(still_active)] = before
            chain_reach[np.uintp(still_active)] = reach
            still_active += near & np.int64(before >= oldest)
        active = still_active
    if found > max_neighbors:
        _keep_largest(candidates, found, max_neighbors)
        found = max_neighbors
    return found


@inlined
def _search(
    number, now, center, oldest, is_last, head, span, nodes, mask, offsets, reach_us, max_neighbors, chain_node,
    chain_reach, candidates, neighbors, k,
):  # fmt: skip
    """Write the numbers of a node's neighbours, none of them before ``oldest``, to ``neighbors[k]``; how many they are.

    A row that is cut out of an array would count its users, which threads would have to agree on for every node.
    """
    limit = span[np.uintp(center)]
    begin = number - limit if limit > 0 and number - limit > oldest else oldest
    while True:
        found = _collect(
            number, center, now, begin, is_last, head, nodes, mask, offsets, reach_us, max_neighbors, chain_node,
            chain_reach, candidates,
        )  # fmt: skip
        if found == max_neighbors or begin == oldest:
            break
        begin = oldest
    earliest = number
    for i in range(found):
        neighbors[k, i] = candidates[i]
        earliest = min(earliest, candidates[i])
    looked_back = number - earliest
    span[np.uintp(center)] = looked_back + (looked_back >> 2) + 1 if found == max_neighbors else 0
    return found


@inlined
def _pixel(x, y, k, stride, margin):
    """Where pixel ``x[k]``, ``y[k]`` is in the image."""
    return (np.int64(y[k]) + margin) * stride + np.int64(x[k]) + margin


@inlined
def _insert(number, now, center, head, nodes, mask):
    node = nodes[np.uintp(number & mask)]
    node.t = now
    node.pixel = center
    node.back = min(number - head[np.uintp(center)], _NEVER)
    # Released last: whoever finds the node at its pixel also sees what was written above.
    store_release(head, center, number)


@kernel
def insert_nodes(t, x, y, first, head, stride, margin, nodes, mask):
    """Insert nodes ``first, first + 1, …``; others may search for the neighbours of earlier nodes meanwhile."""
    for k in range(len(t)):
        center = _pixel(x, y, k, stride, margin)
        _insert(first + k, np.int64(t[k]), center, head, nodes, mask)


@inlined
def _request_pixels(center, head, span, stride, margin):
    """Begin to bring what is kept of the pixels around one into the cache."""
    for row in range(center - margin * stride, center + (margin + 1) * stride, stride):
        prefetch_early(head, row - margin)
        prefetch_early(head, row + margin)
    prefetch_early(span, center)


@inlined
def _request_nodes(center, head, nodes, mask, offsets):
    """Begin to bring the last nodes of the pixels within the radius into the cache."""
    for d in range(len(offsets)):
        prefetch(nodes, head[np.uintp(center + offsets[d])] & mask)


@kernel
def search_neighbors(
    t, x, y, first, held, head, span, stride, margin, nodes, mask, offsets, reach_us, max_nodes, max_neighbors,
    chain_node, chain_reach, candidates, neighbors, counts, ahead, inserts,
):  # fmt: skip
    """Write the numbers of the neighbours of nodes ``first, first + 1, …``.

    Nodes before ``held`` are not in their slots any more. One with number n lies in slot ``n & mask`` of ``nodes``, a
    ring of :data:`NODE`. ``head`` holds the last node's number per pixel, or -1: a flat image of ``stride`` columns
    with an empty ``margin`` all around, so that no pixel needs a bounds check. ``offsets`` [D] are the pixels within
    the radius as steps in it, nearest first, and ``reach_us`` [D] the longest time that an edge from there may span.

    With ``inserts``, each of the nodes is inserted after its search, and nobody else inserts any: then none has to be
    told from later ones. Without, :func:`insert_nodes` has inserted them, and others may insert later ones meanwhile,
    if there are as many slots that are not those of nodes from ``held`` on. The result is the same.

    ``span``, shaped like ``head``, remembers how many nodes back the last search at a pixel had to look (0: unknown),
    as whatever thread wrote there last. Looking only a little further than that usually suffices; where it does not,
    the search is made again without the limit, so it changes the time and never the result.

    What a search begins with is requested from memory ``ahead`` nodes before it, its pixels twice as many nodes before;
    with 0, nothing is requested.
    """
    for k in range(-min(2 * ahead, len(t) - 1) if ahead > 0 else 0, len(t)):
        if 0 < ahead < len(t) - k:
            if 2 * ahead < len(t) - k:
                _request_pixels(_pixel(x, y, k + 2 * ahead, stride, margin), head, span, stride, margin)
            if k + ahead >= 0:
                _request_nodes(_pixel(x, y, k + ahead, stride, margin), head, nodes, mask, offsets)
        if k < 0:
            continue
        number = first + k
        now = np.int64(t[k])
        center = _pixel(x, y, k, stride, margin)
        counts[k] = _search(
            number, now, center, max(held, number - max_nodes + 1), inserts, head, span, nodes, mask, offsets, reach_us,
            max_neighbors, chain_node, chain_reach, candidates, neighbors, k,
        )  # fmt: skip
        if inserts:
            _insert(number, now, center, head, nodes, mask)


@kernel
def _insert_and_search(
    t, x, y, first, held, head, span, stride, margin, nodes, mask, offsets, reach_us, max_nodes, max_neighbors,
    chain_node, chain_reach, candidates, neighbors, counts,
):  # fmt: skip
    """:func:`search_neighbors` that inserts, for arrays of Python's: nobody counts their users meanwhile."""
    arguments = (
        t, x, y, first, held, head, span, stride, margin, nodes, mask, offsets, reach_us, max_nodes, max_neighbors,
        chain_node, chain_reach, candidates, neighbors, counts, 0, True,
    )  # fmt: skip
    search_neighbors(*borrowed(arguments))


@kernel
def _search_shares(
    begin, end, t, x, y, share, first, held, heads, spans, pixels, stride, margin, nodes, mask, offsets, reach_us,
    max_nodes, max_neighbors, buffers, neighbors, counts,
):  # fmt: skip
    """Shares ``begin … end - 1`` of :func:`_insert_and_share`."""
    for n in range(begin, end):
        head, span = heads[n * pixels : (n + 1) * pixels], spans[n * pixels : (n + 1) * pixels]
        chain_node, chain_reach = buffers[n, : len(offsets)], buffers[n, len(offsets) : 2 * len(offsets)]
        candidates = buffers[n, 2 * len(offsets) :]
        for k in range(n * share, min((n + 1) * share, len(t))):
            number = first + k
            center = _pixel(x, y, k, stride, margin)
            counts[k] = _search(
                number, np.int64(t[k]), center, max(held, number - max_nodes + 1), True, head, span, nodes, mask,
                offsets, reach_us, max_neighbors, chain_node, chain_reach, candidates, neighbors, k,
            )  # fmt: skip
            head[np.uintp(center)] = number


@kernel
def _insert_and_share(
    team, t, x, y, share, first, held, head, heads, spans, stride, margin, nodes, mask, offsets, reach_us, max_nodes,
    max_neighbors, buffers, neighbors, counts,
):  # fmt: skip
    """As :func:`search_neighbors`, which inserts; a ``team`` of threads shares the search, ``share`` nodes at a time.

    All nodes are inserted first, with a copy of ``head`` as it was before each share in ``heads``. From there on, each
    share has a head of its own.
    """
    pixels = len(head)
    for k in range(len(t)):
        if k % share == 0:
            heads[k // share * pixels : (k // share + 1) * pixels] = head
        _insert(first + k, np.int64(t[k]), _pixel(x, y, k, stride, margin), head, nodes, mask)
    arguments = (
        t, x, y, share, first, held, heads, spans, pixels, stride, margin, nodes, mask, offsets, reach_us, max_nodes,
        max_neighbors, buffers, neighbors, counts,
    )  # fmt: skip
    in_shares(team, 0, len(buffers), 1, _search_shares, arguments)


class SearchArrays(NamedTuple):
    """The arrays of a :class:`NeighborSearch`, as :func:`search_neighbors` describes them."""

    head: Annotated[np.ndarray, np.int64]
    span: Annotated[np.ndarray, np.int64]
    nodes: Annotated[np.ndarray, NODE]
    offsets: Annotated[np.ndarray, np.int64]
    reach_us: Annotated[np.ndarray, np.int64]
    chain_node: Annotated[np.ndarray, np.int64]
    chain_reach: Annotated[np.ndarray, np.int64]
    candidates: Annotated[np.ndarray, np.int64]


def check_extent(width: int, height: int) -> None:
    """Raise ``ValueError`` if neighbours cannot be searched on a sensor of that size [px]."""
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"events: they reach over {width} x {height} px, neighbours can be searched among {MAX_PIXELS} pixels"
        )


class NeighborSearch:
    """Nodes per pixel, and the neighbours of new ones. Numbers nodes from 0 in the order in which they come.

    Args:
        graph: the rule.
        width: sensor width [px].
        height: sensor height [px].
        capacity: slots for nodes, a power of two. A node's slot, ``number % capacity``, is used again after as many
            nodes, so it has to be at least the number of nodes that can be live at once.
    """

    def __init__(self, graph: GraphConfig, width: int, height: int, capacity: int) -> None:
        if capacity < 1 or capacity & (capacity - 1):
            raise ValueError(f"capacity must be a power of two, found {capacity}")
        check_extent(width, height)
        self.graph = graph
        self.margin = int(np.floor(graph.radius))
        self.stride = width + 2 * self.margin
        self._head = np.full(self.stride * (height + 2 * self.margin), -1, np.int64)
        self._span = np.zeros_like(self._head)
        self.nodes = np.empty(capacity, NODE)
        self.size = 0
        self.held = 0
        dy, dx = np.mgrid[-self.margin : self.margin + 1, -self.margin : self.margin + 1]
        d2 = (dx**2 + dy**2).ravel()
        order = np.argsort(d2, kind="stable")
        order = order[d2[order] <= graph.radius**2]
        self._offsets = (dy * self.stride + dx).ravel()[order].astype(np.int64)
        squares, which = np.unique(d2[order], return_inverse=True)
        longest = np.array([_longest_time(float(squared), graph) for squared in squares], np.int64)[which]
        horizon = FOREVER if graph.time_horizon is None else graph.time_horizon
        youth = FOREVER if graph.window is None else graph.window - 1
        self._reach_us = np.minimum(longest, min(horizon, youth))
        self._chain_node = np.empty(len(order), np.int64)
        self._chain_reach = np.empty(len(order), np.int64)
        self._candidates = np.empty(2 * graph.max_neighbors + len(order), np.int64)

    @property
    def capacity(self) -> int:
        """Slots for nodes."""
        return len(self.nodes)

    @property
    def node_t(self) -> np.ndarray:
        """Ring of the nodes' times [µs]."""
        times: np.ndarray = self.nodes["t"]
        return times

    @property
    def arrays(self) -> SearchArrays:
        """What compiled code needs to insert nodes by itself; valid until the next :meth:`resize`."""
        return SearchArrays(
            self._head,
            self._span,
            self.nodes,
            self._offsets,
            self._reach_us,
            self._chain_node,
            self._chain_reach,
            self._candidates,
        )

    def arrays_for_thread(self) -> SearchArrays:
        """As :attr:`arrays`, with buffers of its own for another thread that searches at the same time."""
        buffers = ("chain_node", "chain_reach", "candidates")
        own = {name: np.empty_like(getattr(self.arrays, name)) for name in buffers}
        return self.arrays._replace(**own)

    @property
    def max_nodes(self) -> int:
        """Only this many last nodes can be neighbours: the rule's limit, or the slots there are."""
        return self.capacity if self.graph.max_nodes is None else min(self.graph.max_nodes, self.capacity)

    def insert(
        self,
        t: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        neighbors: np.ndarray,
        counts: np.ndarray,
        team: Team = ALONE,
    ) -> None:
        """Append nodes and write the numbers of their neighbours.

        Args:
            t, x, y: times [µs] and pixels ``[N]`` of the new nodes, in time order and on the sensor.
            neighbors: output, int ``[N, max_neighbors]``; row k holds ``counts[k]`` node numbers.
            counts: output, int ``[N]``.
            team: threads that share the search, if there are many nodes for the sensor's size and a slot for each.
        """
        rule = self.max_nodes, self.graph.max_neighbors
        image = self.stride, self.margin, self.nodes, self.capacity - 1, self._offsets, self._reach_us, *rule
        shares = min(team.threads, len(t) // _LEAST_SHARE, _MOST_PIXELS_PER_NODE * len(t) // len(self._head))
        if team.start and shares > 1 and self.size + len(t) <= self.capacity:
            heads = np.empty(shares * len(self._head), np.int64)
            buffers = np.empty((shares, 2 * len(self._offsets) + len(self._candidates)), np.int64)
            share, spans = -(-len(t) // shares), np.zeros_like(heads)
            _insert_and_share(
                team, t, x, y, share, self.size, self.held, self._head, heads, spans, *image, buffers, neighbors, counts
            )
        else:
            buffer = self._chain_node, self._chain_reach, self._candidates
            _insert_and_search(
                t, x, y, self.size, self.held, self._head, self._span, *image, *buffer, neighbors, counts
            )
        self.size += len(t)

    def resize(self, capacity: int) -> None:
        """Give the nodes more slots; those that are still in the old slots keep their numbers and chains."""
        old, count = self.capacity, min(self.size, self.capacity)
        if capacity < old or capacity & (capacity - 1):
            raise ValueError(f"capacity must be a power of two of at least {old}, found {capacity}")
        numbers = np.arange(self.size - count, self.size)
        grown = np.empty(capacity, NODE)
        grown[numbers & (capacity - 1)] = self.nodes[numbers & (old - 1)]
        self.nodes = grown
        self.held = max(self.held, self.size - count)

    def cover(self, width: int, height: int) -> None:
        """Extend the sensor to at least ``width`` and ``height`` px; nodes keep their numbers and chains."""
        old = self.stride
        rows = len(self._head) // old
        self.stride = max(old, width + 2 * self.margin)
        for name, fill in (("_head", -1), ("_span", 0)):
            extended = np.full((max(rows, height + 2 * self.margin), self.stride), fill, np.int64)
            extended[:rows, :old] = getattr(self, name).reshape(rows, old)
            setattr(self, name, extended.ravel())
        dy = (self._offsets + self.margin) // old
        self._offsets += dy * (self.stride - old)
        self.nodes["pixel"] += self.nodes["pixel"] // old * (self.stride - old)

    def remove_last(self, count: int) -> None:
        """Take back the last :meth:`insert`, of so many nodes; those whose slots they took stay lost."""
        for number in range(self.size - 1, self.size - 1 - count, -1):
            node = self.nodes[number & (self.capacity - 1)]
            self._head[node["pixel"]] = max(-1, number - int(node["back"]))
        self.held = max(self.held, self.size - self.capacity)
        self.size -= count


@lru_cache(4096)
def _longest_time(distance2: float, graph: GraphConfig) -> int:
    """The largest dt [µs] with ``distance2 + (time_scale · dt)² <= radius²`` in float64, as the rule compares.

    The left side never falls as dt grows, rounding included, so there is one such number, and the compiled search can
    compare integers.
    """
    low, high = 0, FOREVER
    while low < high:
        middle = (low + high + 1) // 2
        scaled = graph.time_scale * float(middle)
        low, high = (middle, high) if distance2 + scaled * scaled <= graph.radius**2 else (low, middle - 1)
    return low
