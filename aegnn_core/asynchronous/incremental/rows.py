# SPDX-License-Identifier: Apache-2.0
"""Rows of a growing table: which ones, and the buffers that hold their values."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aegnn_core.machine_code import kernel

__all__ = ["Buffer", "RowSet", "Rows"]


class Rows:
    """Some rows of a table, by their slots: a span ``start .. stop - 1``, or an index in any order without repeats.

    Attributes:
        prefix: rows that these begin with, where somebody said so.
    """

    __slots__ = ("_index", "_tensor", "prefix", "start", "stop")

    def __init__(self, start: int, stop: int, index: np.ndarray | None = None) -> None:
        self.start, self.stop = start, max(start, stop)
        self._index = index
        self._tensor: Tensor | None = None
        self.prefix: Rows | None = None

    @classmethod
    def of(cls, index: np.ndarray) -> Rows:
        """The rows of an index ``[R]``."""
        return cls(0, len(index), index)

    @property
    def contiguous(self) -> bool:
        """Whether these rows are a span."""
        return self._index is None

    def __len__(self) -> int:
        return self.stop - self.start

    def numpy(self) -> np.ndarray:
        """Slots ``[R]``."""
        return np.arange(self.start, self.stop) if self._index is None else self._index

    def tensor(self, device: torch.device) -> Tensor:
        """Slots ``[R]``, as a tensor on a device."""
        if self._tensor is None or self._tensor.device != device:
            self._tensor = torch.from_numpy(self.numpy()).to(device)
        return self._tensor

    def take(self, table: Tensor) -> Tensor:
        """These rows of ``table [capacity, ...]``; a view where they are a span."""
        if self._index is None:
            return table[self.start : self.stop]
        return table.index_select(0, self.tensor(table.device))

    def put(self, table: Tensor, values: Tensor) -> None:
        """Write ``values [R, ...]`` into these rows of the table."""
        if self._index is None:
            table[self.start : self.stop] = values
        else:
            table.index_copy_(0, self.tensor(table.device), values)


NO_ROWS = Rows(0, 0)


class Buffer:
    """Values of the rows of a table: allocated once, moved when the table's slots move."""

    def __init__(self, base: int, capacity: int, tail: Iterable[int], dtype: torch.dtype, device: torch.device) -> None:
        self.base, self._capacity = base, capacity
        self.table = torch.empty(capacity, *tail, dtype=dtype, device=device)

    def move(self, base: int, capacity: int) -> Tensor:
        """The table with slot 0 for row number ``base``, and that many slots."""
        if base != self.base or capacity != self._capacity:
            shift = base - self.base
            moved = self.table.new_empty(capacity, *self.table.shape[1:])
            kept = max(0, min(self._capacity - shift, capacity))
            moved[:kept] = self.table[shift : shift + kept]
            self.base, self._capacity, self.table = base, capacity, moved
        return self.table

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self.table.numel() * self.table.element_size()


class RowSet:
    """Collects slots without repeats, in time that does not depend on the table's size."""

    def __init__(self, capacity: int) -> None:
        self._seen = np.zeros(capacity, np.int64)
        self._position = np.empty(capacity, np.int64)
        self._round = 0

    def reserve(self, capacity: int) -> None:
        """Allow for slots below ``capacity``."""
        if capacity > len(self._seen):
            self._seen = np.zeros(capacity, np.int64)
            self._position = np.empty(capacity, np.int64)
            self._round = 0

    def union(self, parts: Iterable[np.ndarray]) -> np.ndarray:
        """The slots in any of the parts, in the order in which they first come."""
        parts = list(parts)
        self._round += 1
        out = np.empty(sum(map(len, parts)), np.int64)
        size = 0
        for part in parts:
            size = _collect(part, self._round, self._seen, out, size)
        return out[:size]

    def localize(self, rows: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Number ``rows`` and then the other ``slots`` from 0: the slots so numbered, and the number of every slot."""
        self._round += 1
        nodes = np.empty(len(rows) + len(slots), np.int64)
        local = np.empty(len(slots), np.int64)
        size = _localize(rows, slots, self._round, self._seen, self._position, nodes, local)
        return nodes[:size], local

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._seen.nbytes + self._position.nbytes


@kernel
def _collect(slots: np.ndarray, mark: int, seen: NDArray[np.int64], out: np.ndarray, size: int) -> int:
    """Append to ``out[:size]`` those slots that are not marked yet, and return the new size."""
    for slot in slots:
        if seen[slot] != mark:
            seen[slot] = mark
            out[size] = slot
            size += 1
    return size


@kernel
def _localize(
    rows: np.ndarray,
    slots: np.ndarray,
    mark: int,
    seen: NDArray[np.int64],
    position: NDArray[np.int64],
    nodes: NDArray[np.int64],
    local: NDArray[np.int64],
) -> int:
    size = 0
    for slot in rows:
        seen[slot] = mark
        position[slot] = size
        nodes[size] = slot
        size += 1
    for i in range(len(slots)):
        slot = slots[i]
        if seen[slot] != mark:
            seen[slot] = mark
            position[slot] = size
            nodes[size] = slot
            size += 1
        local[i] = position[slot]
    return size
