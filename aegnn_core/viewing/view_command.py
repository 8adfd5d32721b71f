# SPDX-License-Identifier: Apache-2.0
"""The command ``aegnn view``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aegnn_core.evaluation.camera_options import add_camera_options
from aegnn_core.events.reading_options import add_reading_options, reading_options
from aegnn_core.nn.trust_option import add_trust_option
from aegnn_core.option_types import milliseconds, moment, positive, refuse_unused, seconds, share

if TYPE_CHECKING:
    from aegnn_core.viewing import Frame

__all__ = ["add_view_command"]

#: Options that say how a model gets its events, and what is shown of its answers.
_OF_THE_MODEL = ("score_threshold", "downsampling", "model_sensor", "trust_code", "device")
#: Options that say what is read of a recording.
_OF_RECORDINGS = ("read", "start", "speed")


def add_view_command(commands: Any, formatter: Any) -> None:
    """Add the command to the parser's ``commands``."""
    parser = commands.add_parser(
        "view",
        help="look at a recording with its boxes and a model's answers",
        description="Look at a recording, with its labels where it has some and with the answers of --model, in the"
        " viewer Rerun (extra view), or as a video without one. With --topic, at live events instead, where ROS 2 is"
        " there.",
        formatter_class=formatter,
    )
    parser.set_defaults(run=partial(_run, parser))
    parser.add_argument("recording", type=Path, nargs="?", help="any recording of events")
    add_reading_options(parser, "event topic of a bag with several; without a recording, the live topic")
    parser.add_argument(
        "--boxes", default=None, metavar="TOPIC", help="live topic of boxes to show, such as /event_detector/detections"
    )
    parser.add_argument("--model", default=None, help="name of a packaged model, or a .safetensors file, that answers")
    parser.add_argument("--score-threshold", type=share, default=0.3, help="least score of its boxes")
    add_camera_options(parser)
    add_trust_option(parser)
    parser.add_argument("--device", default="cpu", help="where the network runs, such as cpu or cuda:0")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--video", type=Path, default=None, help="write a .gif or .mp4 instead (mp4: extra view)")
    where.add_argument("--save", type=Path, default=None, help="write a file .rrd for the viewer instead")
    where.add_argument("--web", action="store_true", help="the viewer in the browser instead of its window")
    parser.add_argument("--fps", type=positive, default=25.0, help="pictures per second")
    parser.add_argument("--speed", type=positive, default=1.0, help="seconds of the recording per second of the video")
    parser.add_argument("--exposure-ms", type=milliseconds, default=40.0, help="how long an event is to be seen")
    parser.add_argument("--start", type=moment, default=0.0, help="where to begin in the recording [s]")
    parser.add_argument("--duration", type=seconds, default=None, help="how much of it [s], all if None")


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    from aegnn_core.viewing import Shown

    if arguments.model is None:
        refuse_unused(parser, arguments, _OF_THE_MODEL, "without --model")

    shown = Shown(
        fps=arguments.fps,
        speed=arguments.speed,
        exposure_us=round(1000 * arguments.exposure_ms),
        start_us=round(1e6 * arguments.start),
        duration_us=None if arguments.duration is None else round(1e6 * arguments.duration),
    )
    if arguments.recording is not None:
        _view_recording(parser, arguments, shown)
    elif arguments.topic is not None:
        refuse_unused(parser, arguments, _OF_RECORDINGS, "on live events")
        _view_topic(arguments, shown)
    else:
        raise ValueError("nothing to look at: expected a recording, or a live topic with --topic")


def _view_recording(parser: argparse.ArgumentParser, arguments: argparse.Namespace, shown: Any) -> None:
    import torch

    from aegnn_core.datasets.labelled_recording import read_labelled_recording
    from aegnn_core.nn import load_model
    from aegnn_core.viewing import recording_frames

    if arguments.boxes is not None:
        raise ValueError("--boxes is for live topics; of a recording, its labels are shown")
    torch.set_num_threads(1)  # a packet's tensors are small: threads would only wait for each other
    recording = read_labelled_recording(arguments.recording, **reading_options(arguments))
    model = None
    if arguments.model is not None:
        model = load_model(arguments.model, device=arguments.device, trust_code=arguments.trust_code)
        if model.task == "recognition":
            refuse_unused(parser, arguments, ["score_threshold"], f"with {model.name}, which is for {model.task}")
    frames = recording_frames(
        recording,
        shown,
        model,
        score_threshold=arguments.score_threshold,
        downsampling=arguments.downsampling,
        model_sensor=arguments.model_sensor,
    )
    _show(arguments, frames, len(shown.moments(recording.stream.duration)), recording.class_names, model)


def _view_topic(arguments: argparse.Namespace, shown: Any) -> None:
    if arguments.model is not None:
        raise ValueError("--model is for recordings; live, start the node and show its boxes with --boxes")
    try:
        from aegnn_ros.playback.topic_frames import (
            topic_frames,  # the one place where the core knows of ROS, if it is there
        )
    except ModuleNotFoundError as error:
        needed = f"needs ROS 2, but {error.name} is missing: source its setup.bash"
        raise ValueError(f"--topic without a recording {needed}") from error
    frames, names = topic_frames(arguments.topic, arguments.boxes, shown)
    _show(arguments, frames, None, names, None)


def _show(
    arguments: argparse.Namespace, frames: Iterable[Frame], count: int | None, names: Sequence[str], model: Any
) -> None:
    """Send frames where the arguments say."""
    from rich.progress import Progress

    from aegnn_core.viewing import draw_frame, write_video
    from aegnn_core.viewing.rerun_viewer import show_in_rerun

    labels = () if model is None else model.labels
    with Progress(transient=True) as progress:
        followed = progress.track(frames, total=count, description="Drawing")
        if arguments.video is not None:
            pictures = (draw_frame(frame, names, labels) for frame in followed)
            done, where = write_video(arguments.video, pictures, arguments.fps), arguments.video
        else:
            done = show_in_rerun(followed, names, labels, save=arguments.save, web=arguments.web)
            where = arguments.save or "Rerun"
    print(f"{where}: {done} pictures")
