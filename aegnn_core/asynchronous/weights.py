# SPDX-License-Identifier: Apache-2.0
"""Whether a model's weights have changed: by torch's own count of changes, and by content."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aegnn_core.asynchronous.array_table import array_at
from aegnn_core.asynchronous.attributes import unregistered
from aegnn_core.asynchronous.torch_internals import count_of_writes, weight_tables
from aegnn_core.machine_code import kernel

__all__ = ["WeightsVersion", "architecture_digest", "content_of", "weights_digest"]


class WeightsVersion:
    """Notices cheaply that parameters or buffers of a model were written to, replaced or moved.

    So are tensors and arrays that were attributes of its modules, or in collections there, when this was made. A change
    stays one until it is accepted, which is the last thing to be done about it: work that is interrupted is done anew.

    The content of contiguous tensors on the CPU is read, so that it does not matter how they were written. For others
    torch's count of changes is used, which misses what is written through ``.data``.

    Args:
        model: whose weights they are.
        frozen: nobody writes to them, so there is nothing to look for.
    """

    def __init__(self, model: nn.Module, frozen: bool = False) -> None:
        self._frozen = frozen
        modules = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
        loose = [held for module in modules for held in unregistered(module)]
        tables: list[dict[Any, Any]] = [tensors for module in model.modules() for tensors in weight_tables(module)]
        tables += [held for held in loose if isinstance(held, dict)]
        arrays = [_as_tensor(held) for held in loose if not isinstance(held, dict)]
        # The dictionaries, not the tensors in them: load_state_dict(assign=True) puts others there.
        self._tensors: list[dict[Any, Any]] = [tensors for tensors in (*tables, dict(enumerate(arrays))) if tensors]
        self._places: list[int] = []
        self._table, self._counted = _read_apart([])
        self._seen: tuple[np.uint64, list[int]] = np.uint64(0), []
        self._is_changed = False
        self.changed()
        self.accept()

    def changed(self) -> bool:
        """Whether anything has changed that was not accepted, since this was made."""
        if self._frozen:
            return False
        places = [one.data_ptr() for tensors in self._tensors for one in tensors.values() if one is not None]
        # In this order, so that nothing is lost if it is interrupted: that there is a change, and then what was seen.
        if places != self._places:
            self._is_changed = True
            present = [one for tensors in self._tensors for one in tensors.values() if one is not None]
            self._table, self._counted = _read_apart(present)
            self._places = places
        seen = _content(self._table), [count_of_writes(tensor) for tensor in self._counted]
        if seen != self._seen:
            self._is_changed = True
            self._seen = seen
        return self._is_changed

    def accept(self) -> None:
        """Whoever asked has done what the changes found so far require; one that came since is found the next time."""
        self._is_changed = False


def _as_tensor(held: Tensor | np.ndarray) -> Tensor | None:
    """A tensor or array as a tensor in the same memory; None for an array whose bytes are not in one piece."""
    if isinstance(held, Tensor):
        return held
    if held.dtype.hasobject or not (held.flags.c_contiguous and held.flags.writeable and held.size):
        return None
    return torch.from_numpy(held.reshape(-1).view(np.uint8))


def _read_apart(tensors: list[Tensor]) -> tuple[np.ndarray, list[Tensor]]:
    """Where the content of tensors is, and the tensors whose content cannot be read in place.

    For each of the former there are two rows: address and number of its words of eight bytes, and of the bytes left.
    """
    rows, others = [], []
    for tensor in tensors:
        if tensor.device.type == "cpu" and tensor.layout == torch.strided and tensor.is_contiguous():
            size = tensor.numel() * tensor.element_size()
            rows += [(tensor.data_ptr(), size // 8), (tensor.data_ptr() + size // 8 * 8, size % 8)]
        elif not tensor.is_inference():
            others.append(tensor)
    return np.array(rows, np.int64).reshape(-1, 2), others


#: An odd number whose multiples have all kinds of bits: 2^64 over the golden ratio.
_PRIME = np.uint64(0x9E3779B97F4A7C15)


@kernel
def _mixed(word: np.uint64, number: np.uint64) -> np.uint64:
    """A hash of a word and of its position: two different words at one position never have the same."""
    product = (word ^ (number * _PRIME)) * _PRIME
    # Mixed twice: a changed sign is a change of the highest bit alone, and two such changes would often cancel out.
    product = (product ^ (product >> np.uint64(32))) * _PRIME
    return product ^ (product >> np.uint64(32))


@kernel
def _content(table: NDArray[np.int64]) -> np.uint64:
    """A hash of the content of all these arrays, with collisions of one in 2^64; a sum, so that it vectorises."""
    total, number = np.uint64(0), np.uint64(0)
    for row in range(0, len(table), 2):
        words = array_at(table, row, np.uint64)
        for n in range(len(words)):
            total += _mixed(words[n], number + np.uint64(n))
        number += np.uint64(len(words))
        for byte in array_at(table, row + 1, np.uint8):
            total += _mixed(np.uint64(byte), number)
            number += np.uint64(1)
    return total


def architecture_digest(model: nn.Module) -> str:
    """A hash of the model's classes, its printable settings, and the names and shapes of its weights."""
    printed = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(model))  # of a function, which is elsewhere in every process
    digest = hashlib.sha256(f"{type(model).__module__}.{type(model).__qualname__}\n{printed}".encode())
    for name, value in model.state_dict().items():
        kind = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        digest.update(f"{name} {kind}\n".encode())
    return digest.hexdigest()


def weights_digest(model: nn.Module) -> str:
    """A hash of the values of all parameters and buffers, and of what else is in the model's state."""
    digest = hashlib.sha256()
    for value in chain(model.parameters(), model.buffers(), *_others(list(model.state_dict().values()))):
        digest.update(content_of(value))
    return digest.hexdigest()


def _others(state: Any) -> Iterator[list[Tensor]]:
    """Tensors inside other objects that modules keep, such as the weights of quantised layers."""
    for value in state:
        if isinstance(value, tuple):
            yield [part for part in value if isinstance(part, Tensor)]


def content_of(tensor: Tensor) -> bytes:
    """The elements of a tensor, whatever its type."""
    if not tensor.numel():
        return b""
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
