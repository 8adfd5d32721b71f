# SPDX-License-Identifier: Apache-2.0
"""A model that is given the events of a camera, and whose boxes are in that camera's pixels."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from aegnn_core.events.downsampling import Downsampler
from aegnn_core.events.letterbox import Letterbox
from aegnn_core.nn.checkpoint import TrainedModel, for_sensor, trained_downsampling
from aegnn_core.nn.model_sensor import MODEL_SENSORS, sensor_behind

__all__ = ["ModelOnCamera"]


class ModelOnCamera:
    """Takes recordings of a camera to a model's sensor, and its boxes back; the node does the same packet by packet.

    Args:
        model: what was trained.
        camera: width and height of the recordings' sensor [px].
        downsampling: how events come to a smaller sensor, one of :data:`aegnn_core.events.DOWNSAMPLING`; None for
            :func:`aegnn_core.nn.checkpoint.trained_downsampling`.
        model_sensor: one of :data:`aegnn_core.nn.MODEL_SENSORS`, see :func:`aegnn_core.nn.sensor_behind`.

    Attributes:
        model: on the sensor that it runs on.
        letterbox: from the camera to that sensor.

    Raises:
        ValueError: an unknown way or sensor, or a network that does not run on the camera's.
    """

    def __init__(
        self,
        model: TrainedModel,
        camera: tuple[int, int],
        downsampling: str | None = None,
        model_sensor: str = MODEL_SENSORS[0],
    ) -> None:
        trained = (model.width, model.height)
        self.model = for_sensor(model, sensor_behind(model, trained, camera, model_sensor))
        self.letterbox = Letterbox(camera, (self.model.width, self.model.height))
        way = trained_downsampling(model) if downsampling is None else downsampling
        self._downsampler = Downsampler(self.letterbox, way)

    def events(self, recording: np.ndarray) -> np.ndarray:
        """All events ``[N]`` of a recording on the model's sensor."""
        self._downsampler.reset()
        return self._downsampler(recording)

    def boxes(self, output: Tensor, score_threshold: float, iou_threshold: float = 0.5) -> np.ndarray:
        """The boxes of a detector's output for one graph, in the camera's pixels (``DETECTION_DTYPE``), best first."""
        (found,) = self.model.network.detections(output, score_threshold, iou_threshold)
        return self.letterbox.to_camera(found)
