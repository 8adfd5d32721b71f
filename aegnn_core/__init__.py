# SPDX-License-Identifier: Apache-2.0
"""Asynchronous, event-based graph neural networks (AEGNN): the core, without ROS."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

from aegnn_core.lazy_names import lazy_names
from aegnn_core.version import __version__

with warnings.catch_warnings(), suppress(ImportError, OSError):  # the modules that need them say so
    # torch_geometric compiles two classes by it as it is imported, and nobody here can change that.
    warnings.filterwarnings("ignore", r"`torch\.jit\.script` is")
    import torch_geometric.nn  # noqa: F401

if TYPE_CHECKING:
    from aegnn_core.asynchronous import LiveModel, make_model_asynchronous
    from aegnn_core.events import EventStream, read_events
    from aegnn_core.graph import GraphConfig, build_graph
    from aegnn_core.nn import load_model, network, save_model

__all__ = [
    "EventStream",
    "GraphConfig",
    "LiveModel",
    "__version__",
    "build_graph",
    "load_model",
    "make_model_asynchronous",
    "network",
    "read_events",
    "save_model",
]

#: Where each name is defined. It is imported when it is asked for, so that `aegnn doctor` runs where torch is missing.
_HOMES = {
    "LiveModel": "asynchronous",
    "make_model_asynchronous": "asynchronous",
    "EventStream": "events",
    "read_events": "events",
    "GraphConfig": "graph",
    "build_graph": "graph",
    "load_model": "nn",
    "network": "nn",
    "save_model": "nn",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
