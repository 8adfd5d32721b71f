# SPDX-License-Identifier: Apache-2.0
"""The launches of a packet as one: captured in a CUDA graph once per size of packets, and replayed.

A launch from Python costs the host many microseconds, and a packet needs one per layer and two more. What changes from
packet to packet lies on the device, so that packets of one size class have the same launches with the same arguments.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Hashable

import torch

__all__ = ["Capture", "Replay", "capture_on_device", "size_class"]

#: Makes of a function that launches one that does the same again, without being told what to launch.
Capture = Callable[[Callable[[], None]], Callable[[], None]]

#: Only one thread captures at a time: to begin, it waits for the device, which fails while another one captures.
_CAPTURING = threading.Lock()

#: Packets below are of one class: the programs that have nothing to do are few.
_SMALLEST_CLASS = 64


def size_class(count: int) -> int:
    """The number of events that launches for ``count`` of them are made for: a power of two."""
    return max(_SMALLEST_CLASS, 1 << max(0, count - 1).bit_length())


def capture_on_device(launches: Callable[[], None]) -> Callable[[], None]:
    """Capture launches in a CUDA graph; nothing runs until it is replayed."""
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the device meanwhile.
    with _CAPTURING, torch.cuda.graph(graph, capture_error_mode="thread_local"):
        launches()
    return graph.replay


class Replay:
    """Runs sequences of launches, each time but the first by what was captured the first time.

    Args:
        capture: how; None runs the launches themselves, each time.
    """

    def __init__(self, capture: Capture | None) -> None:
        self._capture = capture
        self._replays: dict[Hashable, Callable[[], None]] = {}

    def run(self, key: Hashable, launches: Callable[[], None]) -> None:
        """Launch.

        Args:
            key: sequences of the same key are the same, arguments included.
            launches: makes the launches of this key.
        """
        if replay := self._replays.get(key):
            replay()
            return
        launches()  # which also compiles the kernels: that cannot be done within a capture
        if self._capture is None:
            return
        try:
            self._replays[key] = self._capture(launches)
        except RuntimeError as error:
            self._capture = None
            warnings.warn(f"every kernel is launched by itself, which is slower: {error}", stacklevel=2)

    def forget(self) -> None:
        """What was captured is of use no more: arguments have changed."""
        self._replays.clear()

    def __len__(self) -> int:
        """How many sequences have been captured."""
        return len(self._replays)
