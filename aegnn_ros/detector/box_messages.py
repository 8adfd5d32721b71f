# SPDX-License-Identifier: Apache-2.0
"""Boxes as messages. A message of a hundred boxes has a thousand parts, so parts are made once and reused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose
from visualization_msgs.msg import Marker

from aegnn_ros.conversions import TEXT_HEIGHT, marker_color, text_marker
from aegnn_ros.detector.camera_model import CameraModel, corners_of

__all__ = ["DetectionMessages", "MarkerMessages", "deleted_boxes"]

#: Namespaces of the markers of a box.
BOXES, CAPTIONS = "boxes", "captions"
_LINE_WIDTH = 0.005


class DetectionMessages:
    """Makes the messages of one topic; the next message reuses the parts of the last one."""

    def __init__(self) -> None:
        self._parts: list[Detection2D] = []

    def message(self, header: Header, detections: np.ndarray, tracks: Sequence[int] | None = None) -> Detection2DArray:
        """Boxes ``[N]`` with x, y (upper left corner), w, h [px], score and class_id as a message.

        As vision_msgs has it, ``class_id`` is the number that the label info explains, ``bbox`` has its centre, and
        ``id`` is the same for the same object in several messages: the number of its track, empty where there are none.
        """
        count = len(detections)
        while len(self._parts) < count:
            self._parts.append(Detection2D(results=[ObjectHypothesisWithPose()]))
        centers_x = (detections["x"] + detections["w"] / 2).tolist()
        centers_y = (detections["y"] + detections["h"] / 2).tolist()
        columns = (detections[name].tolist() for name in ("w", "h", "score", "class_id"))
        ids = [""] * count if tracks is None else map(str, tracks)
        rows = zip(self._parts[:count], ids, centers_x, centers_y, *columns, strict=True)
        for part, number, x, y, width, height, score, class_id in rows:
            part.header, part.id = header, number
            box, hypothesis = part.bbox, part.results[0].hypothesis
            box.center.position.x, box.center.position.y, box.size_x, box.size_y = x, y, width, height
            hypothesis.class_id, hypothesis.score = str(class_id), score
        return Detection2DArray(header=header, detections=self._parts[:count])


class MarkerMessages:
    """Makes the markers of one topic: for each box an outline and a caption, which have the same id.

    They lie in the plane one metre in front of the camera, in the optical frame: x right, y down, z forward. While
    nothing is known of the lens, the image is drawn one metre wide there.
    """

    def __init__(self) -> None:
        self._outlines: list[Marker] = []
        self._captions: list[Marker] = []

    def markers(
        self,
        header: Header,
        detections: np.ndarray,
        captions: Sequence[str],
        ids: Sequence[int],
        width: int,
        height: int,
        camera: CameraModel | None = None,
    ) -> list[Marker]:
        """Boxes ``[N]`` in pixels of an image of ``width`` x ``height`` px; the next call reuses these markers."""
        count = len(detections)
        while len(self._outlines) < count:
            outline = Marker(ns=BOXES, type=Marker.LINE_STRIP, points=[Point(z=1.0) for _ in range(5)])
            outline.scale.x = _LINE_WIDTH
            self._outlines.append(outline)
            self._captions.append(text_marker(header, CAPTIONS, "", 0))
        pixels = corners_of(detections)
        corners = (pixels - (width / 2, height / 2)) / width if camera is None else camera.rays(pixels)
        colors = [marker_color(class_id) for class_id in detections["class_id"].tolist()]
        outlines, texts = self._outlines[:count], self._captions[:count]
        rows = zip(outlines, texts, ids, captions, colors, corners.tolist(), strict=True)
        for outline, caption, number, text, color, (first, second, *others) in rows:
            for marker in (outline, caption):
                marker.header, marker.id, marker.color = header, number, color
            for point, (x, y) in zip(outline.points, (first, second, *others, first), strict=True):
                point.x, point.y = x, y
            caption.text = text
            caption.pose.position.x = (first[0] + second[0]) / 2
            caption.pose.position.y = (first[1] + second[1] - TEXT_HEIGHT) / 2
        return outlines + texts


def deleted_boxes(header: Header, ids: Iterable[int]) -> list[Marker]:
    """Markers that delete boxes and their captions that earlier messages have drawn."""
    return [
        Marker(header=header, ns=namespace, id=number, action=Marker.DELETE)
        for number in ids
        for namespace in (BOXES, CAPTIONS)
    ]
