# SPDX-License-Identifier: Apache-2.0
"""A packet of events as the device reads it: one array of words, the links between events of one pixel made."""

from __future__ import annotations

from aegnn_core.machine_code import kernel

__all__ = ["FAR", "HEAD_WORDS", "LAST", "ON", "PIXEL", "pack"]

#: Words of 64 bits in front of a packet's events: the first one's number, how many they are, whether an update
#: begins, and room to align.
HEAD_WORDS = 4
#: A distance that no node has.
FAR = 1 << 29
#: An event's second word: bits that say that it is ON, and its pixel's last in the packet; where the pixel begins.
ON, LAST, PIXEL = 1 << 32, 1 << 33, 34


@kernel(error_model="numpy")
def pack(events, first, stride, margin, newest, node_t, words):
    """Write events, the first of which is node ``first``, into ``words`` as :func:`.kernels.insert` reads them.

    Args:
        events: structured ``[N]``.
        first: number of the first.
        stride, margin: of the image of pixels.
        newest: number of every pixel's newest node, or -1; is brought up to date.
        node_t: ring of the nodes' times [µs]; is brought up to date.
        words: out, at least ``[4 + 2 · N]``.
    """
    mask = len(node_t) - 1
    t, x, y, p = events["t"], events["x"], events["y"], events["p"]
    words[0], words[1] = first, len(events)
    for k in range(len(events)):
        number = first + k
        pixel = (y[k] + margin) * stride + x[k] + margin
        before = newest[pixel]
        distance = number - before if before >= 0 else 0
        if before >= first:
            words[HEAD_WORDS + 2 * (before - first) + 1] &= ~LAST
        newest[pixel] = number
        node_t[number & mask] = t[k]
        word = (pixel << PIXEL) | LAST | (distance if distance < FAR else 0)
        words[HEAD_WORDS + 2 * k] = t[k]
        words[HEAD_WORDS + 2 * k + 1] = word | ON if p[k] > 0 else word
