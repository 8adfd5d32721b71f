# SPDX-License-Identifier: Apache-2.0
"""A packet of events as the device reads it, one word per event, and which events are live."""

from __future__ import annotations

from aegnn_core.machine_code import kernel

__all__ = ["FAR", "HEAD_WORDS", "LONGEST_PACKET_US", "PLACE", "TIME", "TURN", "pack"]

#: Words of 64 bits in front of a packet's events: the first one's number, how many they are, whether an update begins,
#: the packet's turn (see :class:`.launching.Upload`), the time [µs] from which the events' times count, and room to
#: align.
HEAD_WORDS = 8
TURN = 3
#: A distance that no node has.
FAR = 1 << 29
#: An event's word: whether it is ON in the lowest bit, from which bits on its pixel is, and its time.
PLACE, TIME = 1, 32
#: The events of a packet are less than this apart: so many times fit a word.
LONGEST_PACKET_US = 1 << 32


@kernel(error_model="numpy")
def pack(events, first, stride, margin, node_t, words):
    """Write events, the first of which is node ``first``, into ``words`` as :func:`.kernels.insert` reads them.

    Args:
        events: structured ``[N]``, the last less than :data:`LONGEST_PACKET_US` after the first.
        first: number of the first.
        stride, margin: of the image of pixels, which has less than 2^31 of them.
        node_t: ring of the nodes' times [µs]; is brought up to date.
        words: out, at least ``[HEAD_WORDS + N]``; the turn and whether an update begins are left to others.
    """
    mask = len(node_t) - 1
    t, x, y, p = events["t"], events["x"], events["y"], events["p"]
    origin = t[0]
    words[0], words[1], words[4] = first, len(events), origin
    corner = margin * stride + margin
    for k in range(len(events)):
        node_t[(first + k) & mask] = t[k]
        place = y[k] * stride + x[k] + corner
        words[HEAD_WORDS + k] = ((t[k] - origin) << TIME) | (place << PLACE) | (1 if p[k] > 0 else 0)
