"""Asynchronous, event-based graph neural networks (AEGNN): the core, without ROS."""

from aegnn_core.asynchronous import LiveModel, make_model_asynchronous
from aegnn_core.events import EventStream, read_events
from aegnn_core.graph import GraphConfig, build_graph
from aegnn_core.nn import load_model, network, save_model

__all__ = [
    "EventStream",
    "GraphConfig",
    "LiveModel",
    "build_graph",
    "load_model",
    "make_model_asynchronous",
    "network",
    "read_events",
    "save_model",
]
