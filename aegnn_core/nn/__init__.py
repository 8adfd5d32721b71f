# SPDX-License-Identifier: Apache-2.0
"""Layers, networks by name, heads, and files of trained models."""

from aegnn_core.nn.checkpoint import TrainedModel, for_sensor, load_model, packaged_models, save_model
from aegnn_core.nn.detection import DETECTION_DTYPE
from aegnn_core.nn.event_network import EventNetwork
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.model_sensor import MODEL_SENSORS, filled_sensor, sensor_behind
from aegnn_core.nn.networks import DATASETS, NETWORKS, network
from aegnn_core.nn.spline import SplineConv

__all__ = [
    "DATASETS",
    "DETECTION_DTYPE",
    "MODEL_SENSORS",
    "NETWORKS",
    "EventNetwork",
    "GraphNetwork",
    "SplineConv",
    "TrainedModel",
    "filled_sensor",
    "for_sensor",
    "load_model",
    "network",
    "packaged_models",
    "save_model",
    "sensor_behind",
]
