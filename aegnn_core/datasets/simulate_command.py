# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn simulate``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from aegnn_core.datasets.scene_options import add_scene_options, scene_camera, scene_config
from aegnn_core.datasets.simulated import HELD_OUT_SEED
from aegnn_core.option_types import count, seconds, seed

__all__ = ["add_simulate_command"]


def add_simulate_command(commands: Any, formatter: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "simulate",
        help="write simulated scenes as recordings with boxes",
        description="Write simulated scenes, cars and pedestrians in front of a moving background, as recordings of any"
        " format, each with its boxes: a bag on /labels, a file in *_bbox.npy beside it. The same seed and camera give"
        " the same scene.",
        formatter_class=formatter,
    )
    parser.set_defaults(run=_run)
    parser.add_argument("--output", type=Path, default=Path("."), help="folder that gets a recording per scene")
    parser.add_argument(
        "--format",
        default="mcap",
        help="a rosbag2 of the storage mcap or sqlite3, or a file raw (EVT3), h5, npz or txt",
    )
    parser.add_argument("--scenes", type=count, default=1, help="how many")
    parser.add_argument("--seed", type=seed, default=HELD_OUT_SEED, help="of the first; the others follow it")
    parser.add_argument("--duration", type=seconds, default=2.0, help="of each [s]")
    add_scene_options(parser)


def _run(arguments: argparse.Namespace) -> None:
    from aegnn_core.datasets.scene_files import write_scenes
    from aegnn_core.events.simulation import SceneConfig

    config = scene_config(arguments, SceneConfig(duration_us=max(1, round(1e6 * arguments.duration))))
    if (camera := scene_camera(arguments)) is not None:
        config = config.for_camera(camera)
    for scene in write_scenes(arguments.output, arguments.format, arguments.seed, arguments.scenes, config):
        print(f"{scene.path}: {scene.events} events, {scene.boxes} boxes, {arguments.duration:g} s", flush=True)
