# SPDX-License-Identifier: Apache-2.0
"""Counts the packets that reach the node, before they are processed."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ArrivalCounts"]


@dataclass
class ArrivalCounts:
    """What has come in since the node was configured.

    Attributes:
        packets: that arrived.
        packets_lost: that never arrived, from gaps in their sequence numbers.
        packets_dropped: that arrived and were thrown away, because too many were waiting.
        largest: size of the largest packet since this was last set to 0 [bytes].
    """

    packets: int = 0
    packets_lost: int = 0
    packets_dropped: int = 0
    largest: int = 0
    _last_seq: int | None = field(default=None, repr=False)

    def note(self, seq: int, size: int) -> None:
        """A packet with this sequence number and so many bytes of events has come."""
        self.packets += 1
        self.largest = max(self.largest, size)
        last, self._last_seq = self._last_seq, seq
        if last is not None:
            self.packets_lost += max(0, seq - last - 1)  # a smaller number begins a new sequence

    def resume(self) -> None:
        """Continue after a pause: packets that came meanwhile were not lost."""
        self._last_seq = None
