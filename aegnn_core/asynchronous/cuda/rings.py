# SPDX-License-Identifier: Apache-2.0
"""The memory of the engine: rings of nodes on the device, and what the host has to know of them."""

from __future__ import annotations

from itertools import chain
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = ["NodeRings", "Rings"]


class NodeRings(Protocol):
    """What the search reads and writes: see :class:`Rings`."""

    @property
    def node_t(self) -> Tensor: ...
    @property
    def pixel(self) -> Tensor: ...
    @property
    def back(self) -> Tensor: ...
    @property
    def before_t(self) -> Tensor: ...
    @property
    def newest(self) -> Tensor: ...
    @property
    def features(self) -> list[Tensor]: ...
    @property
    def mask(self) -> int: ...


class Rings:
    """Nodes by number, node n in slot ``n % capacity``; see :mod:`.kernels`.

    Args:
        capacity: slots, a power of two.
        pixels: of the image with margins.
        channels: features in front of the layers and behind each.
        edges: the most neighbours of a node if their distances are kept as long as the node, otherwise 0.
        dtype: of features.
        device: where the rings are.

    Attributes:
        node_t, pixel, back, before_t: see :func:`.kernels.insert`.
        features: ``[capacity, channels]`` in front of the layers (polarities) and behind each.
        distance, counts: see :func:`.kernels.search`; ``[0, …]`` where they are not kept.
        newest: number of every pixel's newest node, or -1.
        host_t: the same as ``node_t``, in the host's memory.
        size: nodes so far.
    """

    def __init__(
        self, capacity: int, pixels: int, channels: list[int], edges: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.size = 0
        self.node_t = torch.zeros(capacity, dtype=torch.int64, device=device)
        self.pixel = torch.zeros(capacity, dtype=torch.int32, device=device)
        self.back = torch.zeros(capacity, dtype=torch.int32, device=device)
        self.before_t = torch.zeros(capacity, dtype=torch.int64, device=device)
        self.features = [torch.zeros(capacity, width, dtype=dtype, device=device) for width in channels]
        kept = capacity if edges else 0
        self.distance = torch.zeros(kept, edges, dtype=torch.int32, device=device)
        self.counts = torch.zeros(kept, dtype=torch.int32, device=device)
        self.newest = torch.full((pixels,), -1, dtype=torch.int64, device=device)
        self.host_t = np.zeros(capacity, np.int64)

    @property
    def capacity(self) -> int:
        """Slots."""
        return len(self.node_t)

    @property
    def mask(self) -> int:
        """What takes a number to its slot."""
        return len(self.node_t) - 1

    def slots(self, first: int, last: int) -> Tensor:
        """Slots of the nodes from ``first`` to ``last - 1``."""
        return torch.arange(first, last, device=self.node_t.device) & self.mask

    def clear(self) -> None:
        """Forget all nodes."""
        self.newest.fill_(-1)
        self.size = 0

    def grow(self, capacity: int) -> None:
        """Give the nodes more slots. Nothing has changed if there is no memory for it (``torch.OutOfMemoryError``)."""
        first = max(0, self.size - self.capacity)
        numbers = torch.arange(first, self.size, device=self.node_t.device)
        before, after = numbers & self.mask, numbers & (capacity - 1)

        def moved(ring: Tensor) -> Tensor:
            larger = ring.new_zeros(capacity if len(ring) else 0, *ring.shape[1:])
            if len(ring):
                larger[after] = ring[before]
            return larger

        host_t = np.zeros(capacity, np.int64)
        host_t[after.cpu().numpy()] = self.host_t[before.cpu().numpy()]
        nodes = self.node_t, self.pixel, self.back, self.before_t
        rings = [moved(ring) for ring in (*nodes, self.distance, self.counts)]
        features = [moved(ring) for ring in self.features]
        self.node_t, self.pixel, self.back, self.before_t, self.distance, self.counts = rings
        self.features, self.host_t = features, host_t

    def memory(self) -> dict[str, int]:
        """Bytes by part."""
        search = (self.node_t, self.pixel, self.back, self.before_t, self.newest)
        nodes = chain(self.features, (self.distance, self.counts))
        return {
            "neighbour search": sum(map(_bytes, search)) + self.host_t.nbytes,
            "nodes": sum(map(_bytes, nodes)),
        }


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
