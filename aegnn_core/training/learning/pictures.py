# SPDX-License-Identifier: Apache-2.0
"""Pictures of a validation for the log: confusion of the classes, and samples with their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from aegnn_core.drawing import ON_COLOR, EventSurface, class_color, draw_boxes
from aegnn_core.evaluation import Accuracy, AveragePrecision
from aegnn_core.evaluation.plots import plot_confusion
from aegnn_core.events.array import make_events
from aegnn_core.nn.checkpoint import TrainedModel
from aegnn_core.training.learning.validation import Seen

__all__ = ["draw_confusion", "draw_detections", "log_validation"]

#: Small sensors are drawn larger, to so many pixels of height at least.
_LEAST_HEIGHT = 240


def log_validation(
    logger: Logger, figures: Accuracy | AveragePrecision, seen: Sequence[Seen], model: TrainedModel, step: int
) -> None:
    """Log the picture of a validation: the confusion of a recogniser, or some samples of a detector."""
    if isinstance(figures, Accuracy):
        _log_picture(logger, "validation/confusion", draw_confusion(figures.confusion, model.labels), step)
    elif seen:
        _log_picture(logger, "validation/detections", draw_detections(seen, model), step)


def draw_confusion(confusion: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Samples by true class (row) and answer (column) as an RGB picture ``[H, W, 3]``."""
    canvas = FigureCanvasAgg(plot_confusion(confusion, labels, "validation"))
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def draw_detections(samples: Sequence[Seen], model: TrainedModel) -> np.ndarray:
    """Samples side by side as an RGB picture ``[H, W, 3]``: live events, true boxes in white, found ones in colour."""
    return np.concatenate([_draw(sample, model) for sample in samples], 1)


def _log_picture(logger: Logger, name: str, picture: np.ndarray, step: int) -> None:
    """Log an RGB picture ``[H, W, 3]``; a logger that takes none gets it beside its log as ``<name>/<step>.png``."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, picture, step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [picture], step)
    elif logger.log_dir is not None:
        path = Path(logger.log_dir) / name / f"{step}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def _draw(sample: Seen, model: TrainedModel) -> np.ndarray:
    graph = sample.graph
    live = graph.live.numpy() if "live" in graph else np.ones(len(graph.pos), bool)
    x, y, z = graph.pos.numpy()[live].T
    t = np.rint(z / model.graph.time_scale).astype(np.int64)
    surface = EventSurface(model.width, model.height)
    surface.update(make_events(t, np.rint(x), np.rint(y), graph.x.numpy()[live, 0] > 0))
    now = int(t.max(initial=0))
    image = surface.image(now, now - int(t.min(initial=0)) + 1)
    zoom = max(1, -(-_LEAST_HEIGHT // model.height))
    image = image.repeat(zoom, 0).repeat(zoom, 1)
    truth, found = (_enlarged(boxes, zoom) for boxes in (sample.truth, sample.found))
    image = draw_boxes(image, truth, [ON_COLOR] * len(truth), line_width=1)
    captions = [f"{model.labels[box['class_id']]} {box['score']:.2f}" for box in found]
    return draw_boxes(image, found, [class_color(int(box["class_id"])) for box in found], captions)


def _enlarged(boxes: np.ndarray, zoom: int) -> np.ndarray:
    enlarged = boxes.copy()
    for name in ("x", "y", "w", "h"):
        enlarged[name] *= zoom
    return enlarged
