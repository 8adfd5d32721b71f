"""Between ROS messages and the arrays of ``aegnn_core``: one function per message."""

from __future__ import annotations

import array
import io
from collections.abc import Iterable, Sequence

import numpy as np
from builtin_interfaces.msg import Time
from event_camera_msgs.msg import EventPacket
from geometry_msgs.msg import Point
from PIL import Image as PillowImage
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import ColorRGBA, Header
from vision_msgs.msg import (
    Classification,
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    VisionClass,
)
from visualization_msgs.msg import Marker

from aegnn_core.drawing import class_color
from aegnn_core.events.rosbag import EventPacket as RecordedPacket
from aegnn_core.nn.detection import DETECTION_DTYPE

__all__ = [
    "box_markers",
    "classification",
    "compressed_image",
    "deleted_boxes",
    "detection_array",
    "detections_of",
    "image",
    "label_info",
    "nanoseconds",
    "packet_message",
    "scores_of",
    "text_marker",
    "time_message",
]

#: Namespaces of the markers of a box.
BOXES, CAPTIONS = "boxes", "captions"
_TEXT_HEIGHT = 0.04
_JPEG_QUALITY = 85


def nanoseconds(stamp: Time) -> int:
    """A stamp as one number [ns]."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def time_message(nanoseconds: int) -> Time:
    """The stamp of a time since the epoch [ns], not negative."""
    sec, nanosec = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)


def packet_message(packet: RecordedPacket, stamp: int) -> EventPacket:
    """A recorded packet as a message, with the header stamp ``stamp`` [ns]."""
    message = EventPacket(
        header=Header(stamp=time_message(stamp), frame_id=packet.frame_id),
        height=packet.height,
        width=packet.width,
        seq=packet.seq,
        time_base=packet.time_base,
        encoding=packet.encoding,
        is_bigendian=packet.is_bigendian,
    )
    message.events = array.array("B", packet.events.tobytes())
    return message


def detection_array(header: Header, detections: np.ndarray, tracks: Sequence[int] | None = None) -> Detection2DArray:
    """Boxes ``[N]`` with x, y (upper left corner), w, h [px], score and class_id as a message.

    As vision_msgs has it, ``class_id`` is the number that the label info explains, ``bbox`` has its centre, and ``id``
    is the same for the same object in several messages: the number of its track, empty where there are none.
    """
    message = Detection2DArray(header=header)
    for k, box in enumerate(detections):
        detection = Detection2D(header=header, id="" if tracks is None else str(tracks[k]))
        detection.bbox.center.position.x = float(box["x"] + box["w"] / 2)
        detection.bbox.center.position.y = float(box["y"] + box["h"] / 2)
        detection.bbox.size_x, detection.bbox.size_y = float(box["w"]), float(box["h"])
        hypothesis = ObjectHypothesis(class_id=str(int(box["class_id"])), score=float(box["score"]))
        detection.results.append(ObjectHypothesisWithPose(hypothesis=hypothesis))
        message.detections.append(detection)
    return message


def detections_of(message: Detection2DArray) -> np.ndarray:
    """The boxes of a message as ``DETECTION_DTYPE [N]``, the inverse of :func:`detection_array`."""
    detections = np.zeros(len(message.detections), DETECTION_DTYPE)
    for k, detection in enumerate(message.detections):
        box, best = detection.bbox, detection.results[0].hypothesis
        left, top = box.center.position.x - box.size_x / 2, box.center.position.y - box.size_y / 2
        detections[k] = (left, top, box.size_x, box.size_y, best.score, int(best.class_id))
    return detections


def classification(header: Header, scores: np.ndarray) -> Classification:
    """Scores ``[classes]`` as a message, best class first."""
    results = [ObjectHypothesis(class_id=str(k), score=float(scores[k])) for k in np.argsort(-scores, kind="stable")]
    return Classification(header=header, results=results)


def scores_of(message: Classification) -> np.ndarray:
    """The scores of a message by class number ``[classes]``, the inverse of :func:`classification`."""
    scores = np.zeros(len(message.results))
    for result in message.results:
        scores[int(result.class_id)] = result.score
    return scores


def label_info(header: Header, labels: Sequence[str], threshold: float) -> LabelInfo:
    """What the class numbers mean, and the least score that is reported."""
    classes = [VisionClass(class_id=k, class_name=name) for k, name in enumerate(labels)]
    return LabelInfo(header=header, class_map=classes, threshold=threshold)


def image(header: Header, pixels: np.ndarray) -> Image:
    """A uint8 RGB array ``[H, W, 3]`` as an ``rgb8`` image."""
    height, width, _ = pixels.shape
    data = array.array("B", pixels.tobytes())
    return Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=data)


def compressed_image(header: Header, pixels: np.ndarray) -> CompressedImage:
    """A uint8 RGB array ``[H, W, 3]`` as a JPEG."""
    stream = io.BytesIO()
    PillowImage.fromarray(pixels).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=array.array("B", stream.getvalue()))


def box_markers(
    header: Header, detections: np.ndarray, captions: Sequence[str], ids: Sequence[int], width: int, height: int
) -> list[Marker]:
    """Boxes ``[N]`` in camera pixels as outlines with captions on the image plane, one metre in front of the camera.

    Nothing is known of the lens, so the image of ``width`` x ``height`` px is drawn one metre wide, in the optical
    frame: x right, y down, z forward. A box and its caption have the same id.
    """
    markers = []
    for box, text, number in zip(detections, captions, ids, strict=True):
        class_id = int(box["class_id"])
        left, top = (box["x"] - width / 2) / width, (box["y"] - height / 2) / width
        right, bottom = left + box["w"] / width, top + box["h"] / width
        outline = _marker(header, BOXES, number, Marker.LINE_STRIP, class_id)
        outline.scale.x = 0.005
        corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
        outline.points = [Point(x=float(x), y=float(y), z=1.0) for x, y in corners]
        caption = _text(header, CAPTIONS, number, text, class_id)
        caption.pose.position.x = float(left + right) / 2
        caption.pose.position.y = float(top) - _TEXT_HEIGHT / 2
        markers += [outline, caption]
    return markers


def deleted_boxes(header: Header, ids: Iterable[int]) -> list[Marker]:
    """Takes boxes and their captions away that earlier messages have drawn."""
    return [
        Marker(header=header, ns=namespace, id=number, action=Marker.DELETE)
        for number in ids
        for namespace in (BOXES, CAPTIONS)
    ]


def text_marker(header: Header, text: str, class_id: int) -> Marker:
    """A line of text in the middle of the image plane, in the colour of a class."""
    return _text(header, "class", 0, text, class_id)


def _text(header: Header, namespace: str, number: int, text: str, class_id: int) -> Marker:
    marker = _marker(header, namespace, number, Marker.TEXT_VIEW_FACING, class_id)
    marker.scale.z = _TEXT_HEIGHT
    marker.pose.position.z = 1.0
    marker.text = text
    return marker


def _marker(header: Header, namespace: str, number: int, kind: int, class_id: int) -> Marker:
    marker = Marker(header=header, ns=namespace, id=number, type=kind, action=Marker.ADD)
    red, green, blue = (float(channel) / 255 for channel in class_color(class_id))
    marker.color = ColorRGBA(r=red, g=green, b=blue, a=1.0)
    return marker
