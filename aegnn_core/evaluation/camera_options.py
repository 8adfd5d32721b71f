# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that give a model the events of a camera of another size."""

from __future__ import annotations

import argparse

from aegnn_core.events.downsampling import DOWNSAMPLING
from aegnn_core.nn.model_sensor import MODEL_SENSORS

__all__ = ["add_camera_options"]


def add_camera_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--downsampling`` and ``--model-sensor``."""
    parser.add_argument(
        "--downsampling",
        choices=DOWNSAMPLING,
        default=None,
        help="how events of a camera with more pixels are downsampled: pixels integrate, or coordinates alone; if None,"
        " as for the model's training",
    )
    parser.add_argument(
        "--model-sensor",
        choices=MODEL_SENSORS,
        default=MODEL_SENSORS[0],
        help="run the network on the sensor that it was trained for, made longer where the camera's picture is (if"
        " its layers allow that); on just that one; with twice the pixels a side, for small objects; or on the camera's"
        " own",
    )
