# SPDX-License-Identifier: Apache-2.0
"""Convolutions of float32 with all its bits, on devices where torch would round to TF32's ten."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["full_precision"]

_BEFORE_TORCH_2_9: tuple[Any, str, object] = (torch.backends.cudnn, "allow_tf32", False)
_LOCK = threading.Lock()
_inside = 0
_before: object = None


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """While this lasts, cuDNN convolves float32 as float32.

    By default, torch multiplies TF32 numbers there, and answers differ by a thousandth from the CPU's: more than the
    contract allows. The setting is the process's; it is put back when the last thread has left.
    """
    if device.type != "cuda":
        yield
        return
    global _inside, _before
    with _LOCK:
        if not _inside:
            _before = _set(None)
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside:
                _set(_before)


def _set(value: object) -> object:
    """Set the precision, None for all bits; what it was."""
    cudnn: Any = torch.backends.cudnn
    owner, name, exact = (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else _BEFORE_TORCH_2_9
    before = getattr(owner, name)
    setattr(owner, name, exact if value is None else value)
    return before
