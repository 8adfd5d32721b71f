# SPDX-License-Identifier: Apache-2.0
"""Saved states of live models: plain tensors and numbers, each of which is checked before it is used.

What a state holds are events and features. Everything that refers to other places, such as chains of nodes, is rebuilt
from these, so that no number in a state can be a bad reference.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aegnn_core.asynchronous.weights import content_of
from aegnn_core.events.array import check_events, make_events

__all__ = ["check_features", "check_number", "check_parts", "check_tensor", "digest_of", "events_of", "parts_of"]

_COLUMNS = {"t": torch.int64, "x": torch.int32, "y": torch.int32, "p": torch.uint8}


def parts_of(events: np.ndarray) -> dict[str, Tensor]:
    """Events as tensors of a state; :func:`events_of` makes them events again."""
    return {name: torch.from_numpy(events[name].copy()).to(dtype) for name, dtype in _COLUMNS.items()}


def events_of(state: dict[str, Any], sensor: tuple[int | None, int | None]) -> np.ndarray:
    """The events in a state, checked like any others.

    Raises:
        ValueError: they are none, or not on the sensor.
    """
    columns = [check_tensor(f"state: {name}", state[name], dtype, 1).numpy() for name, dtype in _COLUMNS.items()]
    if len({len(column) for column in columns}) != 1:
        raise ValueError(f"state: t, x, y and p must be of one length, found {[len(column) for column in columns]}")
    return check_events(make_events(*columns, source="state"), *sensor, source="state")


def check_tensor(what: str, value: Any, dtype: torch.dtype, dim: int) -> Tensor:
    """The value, if it is a plain tensor of that kind on the CPU.

    Raises:
        ValueError: it is something else.
    """
    if type(value) is not Tensor:
        raise ValueError(f"{what} must be a tensor, found {type(value).__name__}")
    if value.device.type != "cpu" or value.layout != torch.strided or value.dtype != dtype or value.dim() != dim:
        found = f"{value.dtype} {list(value.shape)}, {value.layout} on {value.device}"
        raise ValueError(f"{what} must be {dtype} of {dim} dimensions in memory, found {found}")
    if value.is_neg() or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise ValueError(f"{what} must hold all of its {value.numel()} numbers, found a view")
    return value.detach().contiguous()


def check_features(found: Any, expected: list[int], rows: int, dtype: torch.dtype) -> list[Tensor]:
    """The features of a state: a tensor ``[rows, channels]`` for every number of channels.

    Raises:
        ValueError: they are something else, or not finite.
    """
    if not isinstance(found, list) or len(found) != len(expected):
        count = len(found) if isinstance(found, list) else type(found).__name__
        raise ValueError(f"state: features must be a list of {len(expected)} tensors, found {count}")
    features = []
    for n, (value, channels) in enumerate(zip(found, expected, strict=True)):
        what = f"state: features of layer {n}"
        features.append(check_tensor(what, value, dtype, 2))
        if tuple(value.shape) != (rows, channels):
            raise ValueError(f"{what} must be [{rows}, {channels}], found {list(value.shape)}")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{what} must be finite numbers")
    return features


def check_number(what: str, value: Any, least: int, largest: int) -> int:
    """The value, if it is a whole number between two others.

    Raises:
        ValueError: it is something else.
    """
    if type(value) is not int or not least <= value <= largest:
        raise ValueError(f"state: {what} must be a whole number from {least} to {largest}, found {repr(value)[:50]}")
    return value


def check_parts(state: dict[Any, Any], expected: set[str]) -> None:
    """Raise ``ValueError`` unless a state has these parts and no others."""
    if missing := sorted(expected - state.keys()):
        raise ValueError(f"state: it lacks {', '.join(missing)}")
    if unknown := sorted(map(repr, state.keys() - expected)):
        raise ValueError(f"state: it has unknown parts {', '.join(unknown)[:100]}")


def digest_of(value: Any) -> str:
    """A hash of nested dictionaries and lists of tensors, numbers and strings."""
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, dict):
        digest.update(f"{{{len(value)}".encode())
        for name in sorted(value):
            digest.update(f"{name!r}:".encode())
            _feed(digest, value[name])
    elif isinstance(value, list):
        digest.update(f"[{len(value)}".encode())
        for item in value:
            _feed(digest, item)
    elif isinstance(value, Tensor):
        digest.update(f"{value.dtype}{list(value.shape)}".encode())
        digest.update(content_of(value))
    else:
        digest.update(f"{type(value).__name__} {value!r};".encode())
