# SPDX-License-Identifier: Apache-2.0
"""The engine's Triton kernels: events enter the rings, find their neighbours, go through the layers, and are pooled.

Node n lies in slot ``n % capacity`` of all rings. A node refers to an older one by its distance, how many nodes before
it that one came: distances fit 32 bits and stay what they are when the rings grow. What changes from packet to packet
is read from memory on the device, from the head of the packet, so that a launch has the same arguments every time.

Atomic operations are sums and maxima of whole numbers alone: two runs give the same bits.
"""

import triton
import triton.language as tl

from aegnn_core.asynchronous.cuda.packing import FAR, HEAD_WORDS, PLACE, TIME, TURN

__all__ = [
    "convolve",
    "convolve_image",
    "count_cells",
    "insert",
    "link",
    "pool_cells",
    "search",
    "take_moment",
]

_HEAD = tl.constexpr(HEAD_WORDS)
_FAR = tl.constexpr(FAR)
_PLACE, _TIME = tl.constexpr(PLACE), tl.constexpr(TIME)
_TURN = tl.constexpr(TURN)


@triton.jit
def insert(packet, head, node_t, pixel, back, before_t, polarity, newest, tally, mask, EVENTS: tl.constexpr):
    """Write the packet's events into the rings, each with the node before it at its pixel that is of no packet so far.

    Args:
        packet: ``[8 + N]`` its head and a word per event, see :func:`.packing.pack`. It may lie in the host's memory:
            nothing else reads it.
        head: out, ``[3]`` the number of the packet's first event, how many they are, and the packet's turn.
        node_t, pixel, back, before_t: rings of times, pixels, distances to the node before at the pixel (0 for none)
            and its time.
        polarity: ring, -1 or 1: what the first layer reads.
        newest: number of every pixel's newest node, or -1; :func:`link` brings it up to date.
        tally: ``[2]`` edges since the reset, and in this update: begun anew by an update's first packet.
        mask: capacity of the rings less one.
    """
    first = tl.load(packet)
    count = tl.load(packet + 1).to(tl.int32)
    origin = tl.load(packet + 4)
    event = tl.program_id(0) * EVENTS + tl.arange(0, EVENTS)
    present = event < count
    word = tl.load(packet + _HEAD + event, present, 0)
    slot = (first + event) & mask
    place = ((word >> _PLACE) & 0x7FFFFFFF).to(tl.int32)
    # As of a number without a sign: the highest bit is one of the time's.
    tl.store(node_t + slot, origin + ((word >> _TIME) & 0xFFFFFFFF), present)
    tl.store(pixel + slot, place, present)
    tl.store(polarity + slot, ((word & 1) * 2 - 1).to(polarity.dtype.element_ty), present)
    before = tl.load(newest + place, present, -1)
    distance = first + event - before
    # The rings may have forgotten it, or be about to as this packet enters them. Who looks at its time knows.
    older = present & (before >= 0) & (distance < _FAR)
    tl.store(back + slot, tl.where(older, distance, 0).to(tl.int32), present)
    tl.store(before_t + slot, tl.load(node_t + (before & mask), older, 0), present)
    if tl.program_id(0) == 0:
        tl.store(head, first)
        tl.store(head + 1, count.to(tl.int64))
        tl.store(head + 2, tl.load(packet + _TURN))
        if tl.load(packet + 2) != 0:
            tl.store(tally + 1, tl.zeros([], tl.int64))


@triton.jit
def link(
    head, node_t, pixel, back, before_t, newest, read, mask, EVENTS: tl.constexpr, OTHERS: tl.constexpr
):  # fmt: skip
    """Find the event before each at its pixel within the packet, by comparing all pairs; bring ``newest`` up to date.

    Nothing depends on the order in which programs run: every event looks for itself, and a pixel's newest node is the
    largest number.

    Args:
        head, node_t, pixel, back, before_t, newest, mask: see :func:`insert`, which has run.
        read: out, ``[1]`` the packet's turn, in the host's memory: the packet has been read, others may be written
            in its place.
        OTHERS: events that are compared at once, at least ``EVENTS``.
    """
    first = tl.load(head)
    count = tl.load(head + 1).to(tl.int32)
    if tl.program_id(0) == 0:
        tl.store(read, tl.load(head + 2), cache_modifier=".wt")
    begin = tl.program_id(0) * EVENTS
    if begin < count:
        event = begin + tl.arange(0, EVENTS)
        present = event < count
        own = ((first + event) & mask).to(tl.int32)
        place = tl.load(pixel + own, present, -1)
        best = tl.full([EVENTS, OTHERS], -1, tl.int32)
        begin_last = begin // OTHERS * OTHERS
        for begin_others in range(0, begin_last, OTHERS):
            other = begin_others + tl.arange(0, OTHERS)
            there = tl.load(pixel + ((first + other) & mask))
            best = tl.where(there[None, :] == place[:, None], other[None, :], best)
        # Those among which the events are themselves.
        other = begin_last + tl.arange(0, OTHERS)
        there = tl.load(pixel + ((first + other) & mask), other < count, -2)
        same = (there[None, :] == place[:, None]) & (other[None, :] < event[:, None])
        before = tl.max(tl.where(same, other[None, :], best), 1)
        here = present & (before >= 0)
        tl.store(back + own, event - before, here)
        tl.store(before_t + own, tl.load(node_t + ((first + before) & mask), here, 0), here)
        tl.atomic_max(newest + place, first + event, present, sem="relaxed")


@triton.jit
def search(
    head, node_t, pixel, back, before_t, newest, offsets, reach, scale, distance, kind, age, counts, tally, mask,
    row_mask, most_back, most, pixels, EVENTS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Find the neighbours of the packet's events: the most recent first, at most ``most``.

    Every event has a lane per pixel within the radius. A lane holds the pixel's newest node that is older than the
    event and near enough; the most recent of all lanes is the next neighbour, and its lane goes back by one node.

    Args:
        head, node_t, pixel, back, before_t, newest, mask: see :func:`insert`; it and :func:`link` have run.
        offsets, reach: ``[pixels]`` steps to the pixels within the radius, and the longest time [µs] that an edge from
            there may span.
        scale: ``[2]`` float64: time_scale, and 1 / (2 radius).
        distance: out, ``[rows, most]`` distances of the neighbours, event k in row ``(first + k) & row_mask``.
        kind, age: out, ``[*, most]`` the lane, and the time's part of the edge's attributes; event k in row k.
        counts: out, ``[rows]`` how many neighbours.
        tally: edges are added.
        most_back: the largest distance of a neighbour.
    """
    first = tl.load(head)
    count = tl.load(head + 1).to(tl.int32)
    begin = tl.program_id(0) * EVENTS
    if begin < count:
        event = begin + tl.arange(0, EVENTS)
        present = event < count
        own = ((first + event) & mask).to(tl.int32)
        row = ((first + event) & row_mask).to(tl.int64)
        now = tl.load(node_t + own, present, 0)
        center = tl.load(pixel + own, present, 0)
        lane = tl.arange(0, LANES)
        used = present[:, None] & (lane < pixels)[None, :]
        steps = tl.load(offsets + lane, lane < pixels, 0)
        longest = tl.load(reach + lane, lane < pixels, 0)
        node = tl.load(newest + (center[:, None] + steps[None, :]), used, -1)
        # A node that is older than the rings remember is as good as none.
        ago = (first + event)[:, None] - node
        away = tl.where((node < 0) | (ago > _FAR), _FAR, ago).to(tl.int32)
        young = away <= 0
        while tl.max(tl.max(young.to(tl.int32), 1), 0) > 0:
            step = tl.load(back + ((own[:, None] - away) & mask), young, 0)
            away = tl.where(young, tl.where(step == 0, _FAR, away + step), away)
            young = away <= 0
        # What lies so far back has left the rings, when the whole packet is in them, or is no neighbour by the rule.
        limit = tl.minimum(most_back, mask + 1 - (count - event))[:, None]
        held = used & (away <= limit)
        then = tl.load(node_t + ((own[:, None] - away) & mask), held, 0)
        away = tl.where(held & (now[:, None] - then <= longest[None, :]), away, _FAR)

        time_scale = tl.load(scale)
        per_diameter = tl.load(scale + 1)
        every = tl.zeros([EVENTS, LANES], tl.int64)
        edge = event.to(tl.int64) * most
        found = tl.zeros([EVENTS], tl.int32)
        nearest = tl.min(away, 1)
        i = 0
        while (i < most) & (tl.min(nearest, 0) < _FAR):
            has = nearest < _FAR
            chosen = (away == nearest[:, None]) & has[:, None]
            slot = (own[:, None] - away) & mask
            step = tl.load(back + slot, chosen, 0)
            earlier = tl.load(before_t + slot, chosen, 0)
            tl.store(distance + ((row * most + i)[:, None] + every), away, chosen)
            tl.store(kind + ((edge + i)[:, None] + every), lane[None, :].to(tl.int16), chosen)
            time = tl.load(node_t + ((own - nearest) & mask), has, 0)
            part = time_scale * (time - now).to(tl.float64) * per_diameter + 0.5
            part = tl.minimum(tl.maximum(part, 0.0), 1.0)
            tl.store(age + edge + i, part.to(age.dtype.element_ty), has)
            found += has.to(tl.int32)
            near = (step > 0) & (away + step <= limit) & (now[:, None] - earlier <= longest[None, :])
            away = tl.where(chosen, tl.where(near, away + step, _FAR), away)
            nearest = tl.min(away, 1)
            i += 1
        tl.store(counts + row, found, present)
        edges = tl.sum(found.to(tl.int64), 0)
        tl.atomic_add(tally, edges)
        tl.atomic_add(tally + 1, edges)


@triton.jit
def _multiplied(
    sums, weight, slot, time, SLOTS: tl.constexpr, TIMES: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr
):  # fmt: skip
    """The product of sums with the weights of a slot and kernel of time; 0 past the last ones."""
    first = (time * SLOTS + slot) * INPUTS
    real = (slot < SLOTS) & (time < TIMES)
    target = tl.arange(0, OUTPUTS)
    if INPUTS == 1:
        product = sums * tl.load(weight + first * OUTPUTS + target, real, 0)[None, :]
    else:
        term = first + tl.arange(0, INPUTS)
        matrix = tl.load(weight + (term[:, None] * OUTPUTS + target[None, :]), real, 0)
        product = tl.dot(sums, matrix, input_precision="ieee", out_dtype=sums.dtype)
    return product


@triton.jit
def convolve(
    head, distance, kind, age, counts, splines, weight, root, bias, norm, features, skip, out, mask, row_mask, most,
    SLOTS: tl.constexpr, TIMES: tl.constexpr, TIME_INTERVALS: tl.constexpr, CHANNELS: tl.constexpr,
    FEATURES: tl.constexpr, EVENTS: tl.constexpr, INPUTS: tl.constexpr, OUTPUTS: tl.constexpr, ROOT: tl.constexpr,
    MEAN: tl.constexpr, HAS_ROOT: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_SKIP: tl.constexpr,
    AT_ONCE: tl.constexpr, OWN: tl.constexpr,
):  # fmt: skip
    """One block for the packet's events: spline convolution, ELU, norm, and the residual.

    The neighbours' features are summed per row of weights, four slots and two kernels of time side by side, in the
    order in which the search found them, and multiplied by these. Some neighbours' features are on their way at the
    same time: a program waits for memory most of its life.

    Args:
        head, mask: see :func:`insert`.
        distance, kind, age, counts, row_mask, most: see :func:`search`, which has run.
        splines: ``[lanes, SLOTS]`` how much an edge from each pixel acts on each slot.
        weight: ``[TIMES · SLOTS · INPUTS, OUTPUTS]``, a row per slot and kernel of time, slots running fastest.
        root: ``[ROOT, OUTPUTS]``, used if ``HAS_ROOT``.
        bias: ``[OUTPUTS]``, used if ``HAS_BIAS``.
        norm: ``[2, OUTPUTS]`` factor and summand.
        features: ring ``[capacity, CHANNELS]``.
        skip: ring ``[capacity, FEATURES]`` to which the result is added, used if ``HAS_SKIP``.
        out: ring ``[capacity, FEATURES]``.
        SLOTS, TIMES: rows of weights; with one kernel of time an edge's age makes no difference.
        TIME_INTERVALS: kernels of the whole time axis less one.
        CHANNELS, FEATURES: read and written; ``INPUTS``, 1 or at least 16, and ``OUTPUTS`` are powers of two.
        AT_ONCE: neighbours whose features are loaded together.
        OWN: whether every pixel has a slot of its own, of its number, so that ``splines`` need not be read.
    """
    first = tl.load(head)
    count = tl.load(head + 1).to(tl.int32)
    begin = tl.program_id(0) * EVENTS
    if begin < count:
        number = out.dtype.element_ty
        event = begin + tl.arange(0, EVENTS)
        present = event < count
        own = ((first + event) & mask).to(tl.int32)
        place = ((first + event) & row_mask).to(tl.int64) * most
        edge = event.to(tl.int64) * most
        found = tl.load(counts + ((first + event) & row_mask), present, 0)
        longest = tl.max(found, 0)
        channel = tl.arange(0, INPUTS)
        target = tl.arange(0, OUTPUTS)
        result = tl.zeros([EVENTS, OUTPUTS], number)
        for slot in range(0, SLOTS, 4):
            for time in range(0, TIMES, 2):
                sums_0 = tl.zeros([EVENTS, INPUTS], number)
                sums_1, sums_2, sums_3 = sums_0, sums_0, sums_0
                later_0, later_1, later_2, later_3 = sums_0, sums_0, sums_0, sums_0
                for begin_at in range(0, longest, AT_ONCE):
                    for step in tl.static_range(AT_ONCE):
                        i = begin_at + step
                        has = i < found
                        source = (own - tl.load(distance + place + i, has, 0)) & mask
                        lane = tl.load(kind + edge + i, has, 0).to(tl.int32)
                        if OWN:
                            ahead = tl.where(has, lane - slot, -1)
                            share_0 = (ahead == 0).to(number)
                            share_1 = (ahead == 1).to(number)
                            share_2 = (ahead == 2).to(number)
                            share_3 = (ahead == 3).to(number)
                            acts = (ahead >= 0) & (ahead < 4)
                        else:
                            shares = splines + lane * SLOTS + slot
                            share_0 = tl.load(shares, has, 0)
                            share_1 = tl.load(shares + 1, has & (slot + 1 < SLOTS), 0)
                            share_2 = tl.load(shares + 2, has & (slot + 2 < SLOTS), 0)
                            share_3 = tl.load(shares + 3, has & (slot + 3 < SLOTS), 0)
                            acts = has
                            if SLOTS > 4:  # most edges act on few slots: the others' features need not be read
                                acts = (share_0 != 0) | (share_1 != 0) | (share_2 != 0) | (share_3 != 0)
                        if TIMES > 1:
                            after = tl.load(age + edge + i, has, 0) * TIME_INTERVALS - time
                            at_first = tl.maximum(1 - tl.abs(after), 0)[:, None]
                            at_second = tl.maximum(1 - tl.abs(after - 1), 0)[:, None]
                            if TIMES > 2:
                                acts = acts & (after > -1) & (after < 2)
                        x = tl.load(
                            features + (source.to(tl.int64)[:, None] * CHANNELS + channel[None, :]),
                            acts[:, None] & (channel < CHANNELS)[None, :],
                            0,
                        )
                        if TIMES > 1:
                            later = x * at_second
                            x = x * at_first
                            later_0 += share_0[:, None] * later
                            later_1 += share_1[:, None] * later
                            later_2 += share_2[:, None] * later
                            later_3 += share_3[:, None] * later
                        sums_0 += share_0[:, None] * x
                        sums_1 += share_1[:, None] * x
                        sums_2 += share_2[:, None] * x
                        sums_3 += share_3[:, None] * x
                result += _multiplied(sums_0, weight, slot, time, SLOTS, TIMES, INPUTS, OUTPUTS)
                if SLOTS > 1:
                    result += _multiplied(sums_1, weight, slot + 1, time, SLOTS, TIMES, INPUTS, OUTPUTS)
                if SLOTS > 2:
                    result += _multiplied(sums_2, weight, slot + 2, time, SLOTS, TIMES, INPUTS, OUTPUTS)
                if SLOTS > 3:
                    result += _multiplied(sums_3, weight, slot + 3, time, SLOTS, TIMES, INPUTS, OUTPUTS)
                if TIMES > 1:
                    result += _multiplied(later_0, weight, slot, time + 1, SLOTS, TIMES, INPUTS, OUTPUTS)
                if TIMES > 1 and SLOTS > 1:
                    result += _multiplied(later_1, weight, slot + 1, time + 1, SLOTS, TIMES, INPUTS, OUTPUTS)
                if TIMES > 1 and SLOTS > 2:
                    result += _multiplied(later_2, weight, slot + 2, time + 1, SLOTS, TIMES, INPUTS, OUTPUTS)
                if TIMES > 1 and SLOTS > 3:
                    result += _multiplied(later_3, weight, slot + 3, time + 1, SLOTS, TIMES, INPUTS, OUTPUTS)
        if MEAN:
            result = result / tl.maximum(found, 1).to(number)[:, None]
        if HAS_ROOT:
            term = tl.arange(0, ROOT)
            x = tl.load(
                features + (own.to(tl.int64)[:, None] * CHANNELS + term[None, :]),
                present[:, None] & (term < CHANNELS)[None, :],
                0,
            )
            matrix = tl.load(root + (term[:, None] * OUTPUTS + target[None, :]))
            result += tl.dot(x, matrix, input_precision="ieee", out_dtype=number)
        if HAS_BIAS:
            result += tl.load(bias + target)[None, :]
        result = tl.where(result > 0, result, tl.exp(tl.minimum(result, 0)) - 1)
        result = result * tl.load(norm + target)[None, :] + tl.load(norm + OUTPUTS + target)[None, :]
        at = own.to(tl.int64)[:, None] * FEATURES + target[None, :]
        kept = present[:, None] & (target < FEATURES)[None, :]
        if HAS_SKIP:
            result += tl.load(skip + at, kept, 0)
        tl.store(out + at, result, kept)


@triton.jit
def take_moment(words, moment, read):
    """Copy an answer's moment, see :func:`pool_cells`, from the host's memory.

    Args:
        words: ``[8]`` number of the first live node, time of the last node [µs], and at :data:`.packing.TURN` the turn.
        moment: out, ``[2]`` the first two of these.
        read: out, ``[1]`` the turn, in the host's memory: others may be written in their place.
    """
    first = tl.load(words)
    youngest = tl.load(words + 1)
    turn = tl.load(words + _TURN)
    tl.store(moment, first)
    tl.store(moment + 1, youngest)
    tl.debug_barrier()  # all has been loaded
    tl.store(read, turn, cache_modifier=".wt")


@triton.jit
def _look(node, live, node_t, back, mask, first, youngest, least, end):
    """Slots of nodes, whether they belong to a part of the past; the nodes before at their pixels, whether they may."""
    slot = node & mask
    age = youngest - tl.load(node_t + slot, live, 0)
    step = tl.load(back + slot, live, 0)
    before = node - step
    return slot, live & (age >= least) & (age < end), before, live & (step > 0) & (before >= first) & (age < end)


@triton.jit
def pool_cells(
    moment, newest, node_t, back, features, pixels_of, ages, image, mask, cells, per_cell, channels,
    CELLS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """The maximum of the live nodes' features in every cell, per part of the past; 0 where there is none.

    Args:
        moment: ``[2]`` number of the first live node, and time of the last node [µs].
        newest, node_t, back, mask: see :func:`insert`.
        features: ring ``[capacity, channels]``.
        pixels_of: ``[cells, per_cell]`` the pixels in every cell, -1 where there are fewer.
        ages: ``[parts + 1]`` where the parts of the past begin and end [µs].
        image: out, ``[parts, channels, cells]``.
    """
    first = tl.load(moment)
    youngest = tl.load(moment + 1)
    part = tl.program_id(1)
    least = tl.load(ages + part)
    end = tl.load(ages + part + 1)
    cell = tl.program_id(0) * CELLS + tl.arange(0, CELLS)
    channel = tl.arange(0, CHANNELS)
    real = (channel < channels)[None, :]
    best = tl.full([CELLS, CHANNELS], float("-inf"), image.dtype.element_ty)
    for n in range(0, per_cell):
        pixel = tl.load(pixels_of + cell.to(tl.int64) * per_cell + n, cell < cells, -1)
        node = tl.load(newest + pixel, pixel >= 0, -1)
        live = node >= first
        while tl.max(live.to(tl.int32), 0) > 0:
            slot, counted, node, live = _look(node, live, node_t, back, mask, first, youngest, least, end)
            at = slot[:, None] * channels + channel[None, :]
            best = tl.maximum(best, tl.load(features + at, counted[:, None] & real, float("-inf")))
    best = tl.where(best == float("-inf"), 0, best)
    at = (part * channels + channel)[None, :].to(tl.int64) * cells + cell[:, None]
    tl.store(image + at, best, (cell < cells)[:, None] & real)


@triton.jit
def count_cells(
    moment, newest, node_t, back, polarity, pixels_of, ages, image, mask, cells, per_cell, CELLS: tl.constexpr
):  # fmt: skip
    """How many live nodes every cell holds, per part of the past and polarity.

    Args:
        moment, newest, node_t, back, pixels_of, ages, mask: see :func:`pool_cells`.
        polarity: ring, -1 or 1.
        image: out, int32 ``[parts, 2, cells]``, OFF before ON.
    """
    first = tl.load(moment)
    youngest = tl.load(moment + 1)
    part = tl.program_id(1)
    least = tl.load(ages + part)
    end = tl.load(ages + part + 1)
    cell = tl.program_id(0) * CELLS + tl.arange(0, CELLS)
    off = tl.zeros([CELLS], tl.int32)
    on = tl.zeros([CELLS], tl.int32)
    for n in range(0, per_cell):
        pixel = tl.load(pixels_of + cell.to(tl.int64) * per_cell + n, cell < cells, -1)
        node = tl.load(newest + pixel, pixel >= 0, -1)
        live = node >= first
        while tl.max(live.to(tl.int32), 0) > 0:
            slot, counted, node, live = _look(node, live, node_t, back, mask, first, youngest, least, end)
            sign = tl.load(polarity + slot, counted, 0)
            off += (sign < 0).to(tl.int32)
            on += (sign > 0).to(tl.int32)
    tl.store(image + 2 * part.to(tl.int64) * cells + cell, off, cell < cells)
    tl.store(image + (2 * part + 1).to(tl.int64) * cells + cell, on, cell < cells)


@triton.jit
def convolve_image(
    image, weight, bias, skip, out, channels, rows, columns, outputs, out_columns, pixels, channel_step, row_step,
    column_step, row_stride, column_stride, row_padding, column_padding, SIDE_ROWS: tl.constexpr,
    SIDE_COLUMNS: tl.constexpr, PIXELS: tl.constexpr, OUTPUTS: tl.constexpr, TERMS: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_SKIP: tl.constexpr, ACTIVE: tl.constexpr,
):  # fmt: skip
    """A convolution of one image, and behind it bias, sum and ELU, in full float32.

    Args:
        image: ``[channels, rows, columns]``, its axes as far apart as the ``…_step`` say.
        weight: ``[SIDE_ROWS · SIDE_COLUMNS · channels, outputs]``.
        bias: ``[outputs]``, used if ``HAS_BIAS``.
        skip: ``[pixels, outputs]``, is added to the result if ``HAS_SKIP``.
        out: ``[pixels, outputs]``, the pixels by rows of ``out_columns``.
        TERMS: summed up at a time.
        ACTIVE: whether ELU is the last step.
    """
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    target = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    row = (pixel // out_columns) * row_stride - row_padding
    column = (pixel % out_columns) * column_stride - column_padding
    terms = SIDE_ROWS * SIDE_COLUMNS * channels
    sums = tl.zeros([PIXELS, OUTPUTS], out.dtype.element_ty)
    for begin in range(0, terms, TERMS):
        term = begin + tl.arange(0, TERMS)
        tap = term // channels
        y = row[:, None] + (tap // SIDE_COLUMNS)[None, :]
        x = column[:, None] + (tap % SIDE_COLUMNS)[None, :]
        inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
        at = ((term - tap * channels) * channel_step)[None, :] + y * row_step + x * column_step
        values = tl.load(image + at, inside & (pixel < pixels)[:, None] & (term < terms)[None, :], 0)
        factors = tl.load(
            weight + (term[:, None] * outputs + target[None, :]),
            (term < terms)[:, None] & (target < outputs)[None, :],
            0,
        )
        sums = tl.dot(values, factors, sums, input_precision="ieee", out_dtype=sums.dtype)
    if HAS_BIAS:
        sums += tl.load(bias + target, target < outputs, 0)[None, :]
    place = pixel[:, None] * outputs + target[None, :]
    kept = (pixel < pixels)[:, None] & (target < outputs)[None, :]
    if HAS_SKIP:
        sums += tl.load(skip + place, kept, 0)
    if ACTIVE:
        sums = tl.where(sums > 0, sums, tl.exp(tl.minimum(sums, 0)) - 1)
    tl.store(out + place, sums, kept)
