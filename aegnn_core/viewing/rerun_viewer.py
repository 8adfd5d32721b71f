# SPDX-License-Identifier: Apache-2.0
"""Frames in Rerun, an interactive viewer: in its window, in a browser, or saved for later."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from aegnn_core.drawing import box_captions, class_color, class_name
from aegnn_core.extras import missing_package
from aegnn_core.viewing.frames import Frame

__all__ = ["free_port", "show_in_rerun"]

#: Where Rerun's page and its data are by default.
_PAGE_PORT, _DATA_PORT = 9090, 9876


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
        import rerun.blueprint
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the viewer needs Rerun, but {missing_package('rerun')}; or write a video with --video"
        ) from error
    rerun.init("aegnn view")
    if save is not None:
        rerun.save(save)
    elif web:
        page = free_port(_PAGE_PORT)
        rerun.serve_web_viewer(web_port=page, connect_to=rerun.serve_grpc(grpc_port=free_port(_DATA_PORT)))
    else:
        rerun.spawn()
    # Left to itself, Rerun shows the picture without the boxes, which are beside it.
    camera = rerun.blueprint.Spatial2DView(origin="camera", name="camera")
    rerun.send_blueprint(rerun.blueprint.Blueprint(camera, auto_views=True))
    count = 0
    for frame in frames:
        rerun.set_time("sensor", duration=1e-6 * frame.time)
        _log(rerun, frame, class_names, labels)
        count += 1
    if web and save is None:
        print(f"Showing it in the browser, at http://127.0.0.1:{page}; Ctrl-C ends.")
        with suppress(KeyboardInterrupt):
            Event().wait()
    rerun.disconnect()
    return count


def free_port(usual: int) -> int:
    """A port that nobody listens at: the usual one, unless another viewer has it."""
    for port in (usual, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("0.0.0.0", port))
                return int(probe.getsockname()[1])
    raise OSError("no port is free for the viewer")


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
