# SPDX-License-Identifier: Apache-2.0
"""Simulated event camera recordings of cars, pedestrians and clutter, the project's embedded data set."""

from aegnn_core.events.simulation.scene import (
    BOX_DTYPE,
    CLASSES,
    RECOGNITION_CLASSES,
    RECOGNITION_SCENE,
    SceneConfig,
    SimulatedSample,
    SimulatedScene,
    simulate_recognition,
    simulate_scene,
)
from aegnn_core.events.simulation.sensor import EventSensor, SensorModel
from aegnn_core.events.simulation.variety import NOISE_SPREAD, draw_noise_hz, vary_camera

__all__ = [
    "BOX_DTYPE",
    "CLASSES",
    "NOISE_SPREAD",
    "RECOGNITION_CLASSES",
    "RECOGNITION_SCENE",
    "EventSensor",
    "SceneConfig",
    "SensorModel",
    "SimulatedSample",
    "SimulatedScene",
    "draw_noise_hz",
    "simulate_recognition",
    "simulate_scene",
    "vary_camera",
]
