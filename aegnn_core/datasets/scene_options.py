# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that simulate scenes: the camera that sees them, and how large they are in its picture."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from aegnn_core.events.letterbox import read_size
from aegnn_core.events.simulation import SceneConfig

__all__ = ["add_scene_options", "chosen_scene_options", "scene_camera", "scene_config"]

_OPTIONS = ("camera", "contrast_threshold", "noise", "noise_spread", "object_scale", "still_camera", "shadows")


def add_scene_options(parser: argparse.ArgumentParser) -> None:
    """Add the options, each of which leaves a scene as it is unless it is given."""
    options = parser.add_argument_group("simulated scenes")
    options.add_argument("--camera", metavar="WxH", help="sensor that sees the scenes, such as 640x480 [px]")
    options.add_argument(
        "--contrast-threshold",
        "--threshold",
        type=float,
        help="change of log intensity that makes an event of either polarity (0.25 if not given)",
    )
    options.add_argument("--noise", type=float, help="events of random polarity per pixel [1/s] (0.3 if not given)")
    options.add_argument(
        "--noise-spread",
        type=float,
        help="standard deviation of the logarithm of the pixels' own rates of noise; with 2 a few are hot",
    )
    options.add_argument("--object-scale", type=float, help="everything in the picture so many times as large and fast")
    options.add_argument("--still-camera", action="store_true", default=None, help="a camera that does not pan")
    options.add_argument("--shadows", action="store_true", default=None, help="objects cast shadows on the ground")


def chosen_scene_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, as they are written, with their values."""
    values = {"--" + name.replace("_", "-"): getattr(arguments, name) for name in _OPTIONS}
    return {name: value for name, value in values.items() if value is not None}


def scene_camera(arguments: argparse.Namespace) -> tuple[int, int] | None:
    """Width and height [px] of the sensor that was asked for.

    Raises:
        ValueError: they cannot be read.
    """
    return None if arguments.camera is None else read_size(arguments.camera, "--camera")


def scene_config(arguments: argparse.Namespace, config: SceneConfig) -> SceneConfig:
    """Scenes by ``config``, changed by the options that were given, but for the sensor's size.

    Raises:
        ValueError: a value that cannot be; the message says which one.
    """
    if arguments.object_scale is not None:
        config = config.scaled(arguments.object_scale)
    if arguments.still_camera:
        config = replace(config, still_camera=1.0)
    if arguments.shadows:
        config = replace(config, shadows=1.0)
    sensor = {
        "threshold_on": arguments.contrast_threshold,
        "threshold_off": arguments.contrast_threshold,
        "shot_rate_hz": arguments.noise,
        "shot_spread": arguments.noise_spread,
    }
    return replace(
        config,
        sensor=replace(config.sensor, **{name: value for name, value in sensor.items() if value is not None}),
    )
