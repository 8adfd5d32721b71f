# SPDX-License-Identifier: Apache-2.0
"""The compiled step of a packet of events: neighbours, the layers on events, and nodes that enter and leave cells."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np

from aegnn_core.asynchronous.array_table import KIND, first_rows, parts_at
from aegnn_core.asynchronous.compiled.cells import enter_cell, leave_cell
from aegnn_core.asynchronous.compiled.clock import nanoseconds
from aegnn_core.asynchronous.compiled.convolution import request_features
from aegnn_core.asynchronous.compiled.layers import LAYER, run_layer, weigh_dense, weigh_sparse
from aegnn_core.asynchronous.compiled.pipeline import (
    BLOCK_SIZE,
    FIRST_BLOCK,
    FIRST_NODE,
    LEAVING,
    OLDEST,
    STAGES,
    TAKEN,
    THREADS,
    Packet,
    Words,
    await_end,
    await_older,
    finish,
    next_block,
    publish,
    wait_for_block,
)
from aegnn_core.asynchronous.live_nodes import first_live
from aegnn_core.atomics import load_acquire, store_release
from aegnn_core.graph.build import edge_attributes
from aegnn_core.graph.neighbors import SearchArrays, insert_nodes, search_neighbors
from aegnn_core.machine_code import inlined, kernel
from aegnn_core.simd import prefetch_early

__all__ = [
    "OWN_PARTS",
    "RULE",
    "SHARED_PARTS",
    "Batch",
    "Cells",
    "Frame",
    "Nodes",
    "append_events",
    "follow_packets",
]

#: Scalars of the graph rule, the sensor and the network, for compiled code.
RULE = np.dtype(
    [
        ("radius", np.float64),  # [px]
        ("time_scale", np.float64),  # β [px/µs]
        ("window", np.int64),  # [µs]
        ("max_nodes", np.int64),  # that are live
        ("max_neighbors", np.int64),
        ("nearest_nodes", np.int64),  # that can be neighbours: max_nodes, or as many as there are slots
        ("held", np.int64),  # nodes before this one have left their slots
        ("stride", np.int64),  # of the image of pixels
        ("margin", np.int64),  # around it
        ("mean", np.bool_),  # sums are divided by the number of edges
        ("dense", np.bool_),  # see SplineTable
        ("times", np.int64),
        ("slots", np.int64),
        ("per_class", np.int64),
        ("per_edge", np.int64),
        ("reads_edges", np.bool_),  # the cells are joined by edges
        ("ahead", np.int64),  # features are requested from memory so many edges before they are read
        ("requests_first", np.bool_),  # what a layer reads first is requested before the layer in front of it is run
        ("search_ahead", np.int64),  # so many nodes before: what the search begins with, see search_neighbors
        ("computes", np.bool_),  # features of new nodes; otherwise they are in their slots already
        ("queues", np.bool_),  # the cells keep their nodes; otherwise they are gathered when an output is asked for
    ]
)


class Frame(NamedTuple):
    """The ``rule [1]``; the ``tally`` of what the work costs, see :func:`append_events`, and as it was ``before``."""

    rule: Annotated[np.ndarray, RULE]
    tally: Annotated[np.ndarray, np.int64]
    before: Annotated[np.ndarray, np.int64]


class Nodes(NamedTuple):
    """Rings of the nodes, node n in slot ``n % capacity``, and what is computed for them.

    The ``cell [capacity]`` in which its pixel is, ``link [capacity]`` see ``cells``; ``features`` of all layers,
    ``layers`` and ``constants`` see ``LayerTable``, the others see ``SplineTable``; ``step_class`` gives the class of
    an edge from the step between its pixels. The rest of a node is in :class:`SearchArrays`.
    """

    cell: Annotated[np.ndarray, np.int32]
    link: Annotated[np.ndarray, np.int32]
    features: Annotated[np.ndarray, KIND]
    layers: Annotated[np.ndarray, LAYER]
    constants: Annotated[np.ndarray, KIND]
    step_class: Annotated[np.ndarray, np.int32]
    low: Annotated[np.ndarray, KIND]
    high: Annotated[np.ndarray, KIND]
    class_slot: Annotated[np.ndarray, np.int32]
    class_weight: Annotated[np.ndarray, KIND]


class Cells(NamedTuple):
    """The cells of the first pooling: see ``cells`` for their queues.

    ``of_pixel`` gives the cell of a pixel, ``at_border`` whether an edge can come there from another. ``touched
    [cells]`` says which cells have changed since they were last read. ``newest_source [cells · steps]`` is the youngest
    node with an edge from the cell that lies a step away; ``step_number`` counts the steps.
    """

    of_pixel: Annotated[np.ndarray, np.int32]
    at_border: Annotated[np.ndarray, np.bool_]
    front_oldest: Annotated[np.ndarray, np.int64]
    back_newest: Annotated[np.ndarray, np.int64]
    back_oldest: Annotated[np.ndarray, np.int64]
    back_maximum: Annotated[np.ndarray, KIND]
    touched: Annotated[np.ndarray, np.bool_]
    newest_source: Annotated[np.ndarray, np.int64]
    step_number: Annotated[np.ndarray, np.int64]


class Batch(NamedTuple):
    """Buffers for as many nodes as go through the layers together: their neighbours, and see ``run_layer``."""

    neighbors: Annotated[np.ndarray, np.int64]
    counts: Annotated[np.ndarray, np.int64]
    source: Annotated[np.ndarray, np.uint32]
    row: Annotated[np.ndarray, np.int32]
    weight: Annotated[np.ndarray, KIND]
    node: Annotated[np.ndarray, np.int64]
    own: Annotated[np.ndarray, KIND]
    out: Annotated[np.ndarray, KIND]
    sums: Annotated[np.ndarray, KIND]


#: What the table of arrays is made of, in this order: what the threads share, and for each what it has for itself.
SHARED_PARTS = (Words, Nodes, Cells)
OWN_PARTS = (Frame, SearchArrays, Batch)
_WORDS, _NODES, _CELLS, _FRAME, _SEARCH, _BATCH = first_rows((*SHARED_PARTS, *OWN_PARTS))
_OWN_ROWS = sum(len(kind._fields) for kind in OWN_PARTS)
#: The stage in which nodes are inserted. The layers follow.
_INSERTED = 1


@inlined(error_model="numpy")
def _describe_edges(first, batch, rule, ring, nodes, neighbors, counts, source, row, weight):
    """Write where the edges into nodes ``first …`` come from, and the rows of the sums that they act on.

    Returns:
        The first and the last time kernel in use.
    """
    mask = len(ring) - 1
    center = len(nodes.step_class) >> 1
    kind = weight.dtype.type
    times = rule.times
    requests = rule.search_ahead > 0
    earliest, latest = times - 1, np.int64(0)
    edge = np.int64(-1)
    for k in range(batch):
        own = ring[(first + k) & mask]
        here = np.int64(own.pixel) - center
        share = kind(1) / kind(max(counts[k], 1)) if rule.mean else kind(1)
        for i in range(counts[k]):
            slot = np.uintp(neighbors[k, i] & mask)
            edge += 1
            source[edge] = slot
            if requests:
                prefetch_early(nodes.features, slot)  # what the first layer reads
            other = ring[slot]
            edge_class = np.int64(nodes.step_class[np.uintp(np.int64(other.pixel) - here)])
            time = float(other.t - own.t)
            attribute = kind(edge_attributes(0.0, 0.0, time, rule.radius, rule.time_scale)[2])
            if rule.dense:
                weigh_dense(edge, edge_class, attribute, share, times * rule.slots, nodes.low, nodes.high, weight)
            else:
                kernel, later = weigh_sparse(
                    edge, edge_class, attribute * kind(times - 1), share, times, rule.slots, nodes.class_slot,
                    nodes.class_weight, rule.per_class, row, weight,
                )  # fmt: skip
                earliest, latest = min(earliest, kernel), max(latest, later)
    if rule.dense:
        return np.int64(0), times - 1
    return earliest, max(earliest, latest)


@inlined(error_model="numpy")
def _note_edges(first, batch, ring, nodes, cells, neighbors, counts):
    """Remember for every pair of cells the youngest source of an edge between them."""
    mask = len(ring) - 1
    center = len(cells.step_number) >> 1
    steps = len(cells.newest_source) // len(cells.touched)
    for k in range(batch):
        slot = (first + k) & mask
        if not cells.at_border[ring[slot].pixel]:
            continue
        here = np.int64(nodes.cell[slot])
        newest = cells.newest_source[here * steps : (here + 1) * steps]
        for i in range(counts[k]):
            number = neighbors[k, i]
            step = np.int64(nodes.cell[np.uintp(number & mask)]) - here
            if step != 0:
                n = cells.step_number[step + center]
                newest[n] = max(newest[n], number)


@inlined(error_model="numpy")
def _begin_block(t, x, y, p, first, rule, search, nodes, cells, batch):
    """Write down what does not depend on other nodes of nodes ``first …``."""
    mask = len(search.nodes) - 1
    for k in range(len(t)):
        slot = (first + k) & mask
        batch.node[k] = slot
        pixel = (np.int64(y[k]) + rule.margin) * rule.stride + np.int64(x[k]) + rule.margin
        nodes.cell[slot] = cells.of_pixel[pixel]
        polarity = batch.own.dtype.type(1 if p[k] > 0 else -1)
        batch.own[k] = polarity
        nodes.features[slot] = polarity


@inlined(error_model="numpy")
def _enter_block(first, count, oldest, leaving, rule, ring, nodes, cells, batch):
    """Let nodes up to ``leaving`` leave the cells, and nodes ``first …`` enter them."""
    mask = len(ring) - 1
    last = nodes.layers[len(nodes.layers) - 1]
    for number in range(oldest, leaving if rule.queues else oldest):
        cell = np.int64(nodes.cell[number & mask])
        leave_cell(
            number, mask, cell, nodes.features, last.target, last.outputs, nodes.link, cells.front_oldest,
            cells.back_newest,
        )  # fmt: skip
        cells.touched[cell] = True
    for number in range(first, first + count if rule.queues else first):
        slot = number & mask
        cell = np.int64(nodes.cell[slot])
        enter_cell(
            number, slot, cell, nodes.features, last.target, last.outputs, nodes.link, cells.back_newest,
            cells.back_oldest, cells.back_maximum,
        )  # fmt: skip
        cells.touched[cell] = True
    if rule.reads_edges:
        _note_edges(first, count, ring, nodes, cells, batch.neighbors.reshape(-1, rule.max_neighbors), batch.counts)


@inlined(error_model="numpy")
def _run_block(block, words, events, table, kind, member, is_shared):
    """Lead a block of a packet through all stages; how long it waited for other threads [ns].

    ``is_shared``: others may be at work on later blocks.
    """
    own_rows = member * _OWN_ROWS
    frame = parts_at(table, _FRAME + own_rows, Frame, kind)
    search = parts_at(table, _SEARCH + own_rows, SearchArrays, kind)
    batch = parts_at(table, _BATCH + own_rows, Batch, kind)
    nodes = parts_at(table, _NODES, Nodes, kind)
    cells = parts_at(table, _CELLS, Cells, kind)
    rule, tally, layers = frame.rule[0], frame.tally, nodes.layers
    mask = len(search.nodes) - 1
    neighbors = batch.neighbors.reshape(-1, rule.max_neighbors)
    others, last_stage = words[THREADS] - 1, words[STAGES] - 1
    begin = (block - words[FIRST_BLOCK]) * words[BLOCK_SIZE]
    until = min(begin + words[BLOCK_SIZE], len(events))
    first, count = words[FIRST_NODE] + begin, until - begin
    part = events[begin:until]
    t, x, y, p = part["t"], part["x"], part["y"], part["p"]

    waited = await_older(words, block, _INSERTED, 1)
    clock = nanoseconds()
    leaving = first_live(words[LEAVING], first, t[0], rule.window, rule.max_nodes, search.nodes["t"])
    # An arriving node is among the last max_nodes itself.
    leaving = max(leaving, min(first, first + 1 - rule.max_nodes))
    words[LEAVING] = leaving
    if first + count - load_acquire(words, OLDEST) > len(search.nodes):
        wait = await_older(words, block, last_stage, others)
        waited += wait
        clock += wait
    if first + count - words[OLDEST] > len(search.nodes):
        words[TAKEN] = min(words[TAKEN], begin)
        finish(words, block, last_stage)
        return waited
    _begin_block(t, x, y, p, first, rule, search, nodes, cells, batch)
    if is_shared:
        insert_nodes(t, x, y, first, search.head, rule.stride, rule.margin, search.nodes, mask)
        finish(words, block, _INSERTED)
    search_neighbors(
        t, x, y, first, max(rule.held, leaving), search.head, search.span, rule.stride, rule.margin, search.nodes,
        mask, search.offsets, search.reach_us, rule.nearest_nodes, rule.max_neighbors, search.chain_node,
        search.chain_reach, search.candidates, neighbors, batch.counts, rule.search_ahead, not is_shared,
    )  # fmt: skip
    now = nanoseconds()
    tally[0] += now - clock
    clock = now

    earliest, latest = _describe_edges(
        first, count, rule, search.nodes, nodes, neighbors, batch.counts, batch.source, batch.row, batch.weight
    )
    edges = 0
    for k in range(count):
        edges += batch.counts[k]
    tally[len(layers) + 3] += edges
    tally[len(layers) + 4] += count * (latest - earliest + 1) * rule.slots
    now = nanoseconds()
    tally[1] += now - clock
    clock = now

    own, out = batch.own, batch.out
    for n in range(len(layers) if rule.computes else 0):
        if n > 0:  # the input is there since the nodes were inserted
            wait = await_older(words, block, _INSERTED + n, others)
            waited += wait
            clock += wait
        if n + 1 < len(layers) and rule.requests_first:
            request_features(
                min(edges, rule.ahead), batch.source, nodes.features, layers[n + 1].source, layers[n + 1].inputs
            )
        run_layer(
            layers[n], count, batch.counts, batch.source, batch.row, batch.weight, rule.per_edge, rule.dense,
            earliest * rule.slots, (latest - earliest + 1) * rule.slots, batch.node, own, nodes.features,
            nodes.constants, batch.sums, out, rule.ahead,
        )  # fmt: skip
        finish(words, block, _INSERTED + 1 + n)
        own, out = out, own
        now = nanoseconds()
        tally[2 + n] += now - clock
        clock = now

    wait = await_older(words, block, last_stage, 1)
    waited += wait
    clock += wait
    _enter_block(first, count, words[OLDEST], leaving, rule, search.nodes, nodes, cells, batch)
    tally[2 + len(layers)] += nanoseconds() - clock
    tally[5 + len(layers)] += waited
    store_release(words, OLDEST, leaving)
    # With this the packet may be finished and the arrays gone: only the words may be used below.
    finish(words, block, last_stage)
    return waited


@inlined(error_model="numpy")
def _run_blocks(words, block, kept, patient, kind, member):
    """Work on blocks of packets as a thread does, beginning with those from ``block`` to ``kept``, until none is left.

    ``patient``: others may take blocks, too; the arguments are otherwise what ``publish`` and ``wait_for_block`` say.
    """
    begin, waited, own = nanoseconds(), np.int64(0), 0
    while block >= 0:
        packet = parts_at(words, 0, Packet, kind)
        waited += _run_block(block, words, packet.events, packet.table, kind, member, patient)
        own += 1
        block, kept, patient = next_block(words, block, kept, patient, member, waited, begin, own)
    if member == 0:
        await_end(words, waited, begin, own, patient)


@kernel(error_model="numpy")
def follow_packets(table, kind, member):
    """Take part in every packet, as thread ``member`` from 1 on, until told to end.

    Args:
        table: of the shared words only. The packet says where the other arrays are.
        kind: a float of the kernels' type.
        member: number of the thread.
    """
    words = parts_at(table, _WORDS, Words, kind).words
    _run_blocks(words, wait_for_block(words), np.int64(0), True, kind, member)


@kernel(error_model="numpy")
def append_events(events, size, oldest, table, kind):
    """Take events into the graph and through the layers, a block of them at a time, as the packet's own thread.

    The arrays stay in place meanwhile.

    Args:
        events: structured ``[N]``, checked.
        size: nodes so far.
        oldest: number of the oldest that is in the cells.
        table: of the arrays of :data:`SHARED_PARTS`, and of :data:`OWN_PARTS` for every thread. The tally
            ``[layers + 6]`` is added to: nanoseconds of the search, of the splines, of every layer and of the cells,
            the numbers of edges and of rows of sums, and nanoseconds of waiting for other threads.
        kind: a float of the kernels' type.

    Returns:
        How many events were taken, fewer than there are if the rings cannot hold all live nodes; the new ``oldest``.
    """
    words = parts_at(table, _WORDS, Words, kind).words
    for n in range(words[THREADS]):
        frame = parts_at(table, _FRAME + n * _OWN_ROWS, Frame, kind)
        frame.before[:] = frame.tally
    room = len(parts_at(table, _BATCH, Batch, kind).counts)
    block, kept, patient = publish(words, events, size, oldest, table, room)
    if block == kept:
        return 0, oldest
    _run_blocks(words, block, kept, patient, kind, 0)
    return words[TAKEN], words[OLDEST]
