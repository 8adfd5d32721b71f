"""Whether a model's weights are what they were: by torch's own count of changes, and by content."""

from __future__ import annotations

import hashlib
from itertools import chain

import torch
from torch import nn

__all__ = ["WeightsVersion", "architecture_digest", "weights_digest"]


class WeightsVersion:
    """Sees cheaply that parameters or buffers of a model were written to, replaced or moved since the last look."""

    def __init__(self, model: nn.Module) -> None:
        # The dictionaries, not the tensors in them: load_state_dict(assign=True) puts others there.
        self._tensors = [tensors for module in model.modules() for tensors in (module._parameters, module._buffers)]
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether anything changed since the last call, or since this was made."""
        now = self._look()
        before, self._seen = self._seen, now
        return now != before

    def _look(self) -> list[tuple[int, int]]:
        present = chain.from_iterable(tensors.values() for tensors in self._tensors)
        return [(tensor._version, tensor.data_ptr()) for tensor in present if tensor is not None]


def architecture_digest(model: nn.Module) -> str:
    """A hash of the model's classes, settings as far as they print, and names and shapes of its weights."""
    digest = hashlib.sha256(f"{type(model).__module__}.{type(model).__qualname__}\n{model!r}".encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
    return digest.hexdigest()


def weights_digest(model: nn.Module) -> str:
    """A hash of the values of all parameters and buffers."""
    digest = hashlib.sha256()
    for value in chain(model.parameters(), model.buffers()):
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
