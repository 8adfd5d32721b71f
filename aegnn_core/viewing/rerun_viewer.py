# SPDX-License-Identifier: Apache-2.0
"""Frames in Rerun, an interactive viewer: in its window, in a browser, or saved for later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from aegnn_core.drawing import box_captions, class_color, class_name
from aegnn_core.viewing.frames import Frame

__all__ = ["show_in_rerun"]


def show_in_rerun(
    frames: Iterable[Frame],
    class_names: Sequence[str],
    labels: Sequence[str] = (),
    *,
    save: Path | None = None,
    web: bool = False,
) -> int:
    """Show frames, with a time line to move along and boxes that can be switched on and off.

    Args:
        frames: what to show.
        class_names: of the true boxes and classes.
        labels: the model's.
        save: file (``.rrd``) to write instead of opening a window; ``rerun FILE`` shows it.
        web: show it in the browser, until Ctrl-C.

    Returns:
        The number of frames.

    Raises:
        ValueError: the package ``rerun-sdk`` is missing.
    """
    try:
        import rerun
    except ModuleNotFoundError as error:
        raise ValueError(
            "the viewer needs the package rerun-sdk: pip install rerun-sdk, or write a video with --video"
        ) from error
    rerun.init("aegnn view")
    if save is not None:
        rerun.save(save)
    elif web:
        rerun.serve_web_viewer(connect_to=rerun.serve_grpc())
    else:
        rerun.spawn()
    count = 0
    for frame in frames:
        rerun.set_time("sensor", duration=1e-6 * frame.time)
        _log(rerun, frame, class_names, labels)
        count += 1
    if web and save is None:
        print("Showing it in the browser; Ctrl-C ends.")
        with suppress(KeyboardInterrupt):
            Event().wait()
    rerun.disconnect()
    return count


def _log(rerun: Any, frame: Frame, class_names: Sequence[str], labels: Sequence[str]) -> None:
    rerun.log("camera/events", rerun.Image(frame.image))
    for path, boxes, names in (("camera/true", frame.truth, class_names), ("camera/found", frame.found, labels)):
        rerun.log(path, rerun.Clear(recursive=False) if boxes is None else _boxes(rerun, boxes, names))
    if frame.true_class is not None:
        rerun.log("class/true", rerun.TextLog(class_name(class_names, frame.true_class)))
    if frame.scores is not None:
        for number, score in enumerate(frame.scores):
            rerun.log(f"class/scores/{class_name(labels, number)}", rerun.Scalars(float(score)))


def _boxes(rerun: Any, boxes: np.ndarray, names: Sequence[str]) -> Any:
    return rerun.Boxes2D(
        array=np.stack([boxes[name] for name in "xywh"], axis=-1),
        array_format=rerun.Box2DFormat.XYWH,
        labels=box_captions(names, boxes),
        colors=[class_color(class_id) for class_id in boxes["class_id"]],
    )
