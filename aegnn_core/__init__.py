"""Asynchronous, event-based graph neural networks (AEGNN): the core, without ROS."""

import warnings

with warnings.catch_warnings():
    # torch_geometric compiles two classes by it as it is imported, and nobody here can change that.
    warnings.filterwarnings("ignore", r"`torch\.jit\.script` is")
    import torch_geometric.nn  # noqa: F401

from aegnn_core.asynchronous import LiveModel, make_model_asynchronous
from aegnn_core.events import EventStream, read_events
from aegnn_core.graph import GraphConfig, build_graph
from aegnn_core.nn import load_model, network, save_model
from aegnn_core.version import __version__

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
