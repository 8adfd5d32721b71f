"""Between ROS messages and the arrays of ``aegnn_core``: one function per message."""

from __future__ import annotations

import array
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from event_camera_msgs.msg import EventPacket
from geometry_msgs.msg import Point
from sensor_msgs.msg import Image
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
from visualization_msgs.msg import Marker, MarkerArray

from aegnn_core.drawing import class_color
from aegnn_core.events.rosbag import EventPacket as RecordedPacket
from aegnn_core.nn.detection import DETECTION_DTYPE

__all__ = [
    "box_markers",
    "classification",
    "detection_array",
    "detections_of",
    "image",
    "label_info",
    "nanoseconds",
    "packet_message",
    "text_marker",
    "time_message",
]

_TEXT_HEIGHT = 0.04


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


def detection_array(header: Header, detections: np.ndarray) -> Detection2DArray:
    """Boxes ``[N]`` with x, y (upper left corner), w, h [px], score and class_id as a message.

    As vision_msgs has it, ``class_id`` is the number that the label info explains, and ``bbox`` has its centre.
    """
    message = Detection2DArray(header=header)
    for box in detections:
        detection = Detection2D(header=header)
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


def label_info(header: Header, labels: Sequence[str], threshold: float) -> LabelInfo:
    """What the class numbers mean, and the least score that is reported."""
    classes = [VisionClass(class_id=k, class_name=name) for k, name in enumerate(labels)]
    return LabelInfo(header=header, class_map=classes, threshold=threshold)


def image(header: Header, pixels: np.ndarray) -> Image:
    """A uint8 RGB array ``[H, W, 3]`` as an ``rgb8`` image."""
    height, width, _ = pixels.shape
    data = array.array("B", pixels.tobytes())
    return Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=data)


def box_markers(header: Header, detections: np.ndarray, labels: Sequence[str], width: int, height: int) -> MarkerArray:
    """Boxes ``[N]`` in camera pixels as outlines with captions on the image plane, one metre in front of the camera.

    Nothing is known of the lens, so the image of ``width`` x ``height`` px is drawn one metre wide, in the optical
    frame: x right, y down, z forward. The first marker deletes what the last message drew.
    """
    markers = MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])
    for k, box in enumerate(detections):
        class_id = int(box["class_id"])
        left, top = (box["x"] - width / 2) / width, (box["y"] - height / 2) / width
        right, bottom = left + box["w"] / width, top + box["h"] / width
        outline = _marker(header, "boxes", k, Marker.LINE_STRIP, class_id)
        outline.scale.x = 0.005
        corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
        outline.points = [Point(x=float(x), y=float(y), z=1.0) for x, y in corners]
        caption = _text(header, "captions", k, f"{labels[class_id]} {box['score']:.2f}", class_id)
        caption.pose.position.x = float(left + right) / 2
        caption.pose.position.y = float(top) - _TEXT_HEIGHT / 2
        markers.markers += [outline, caption]
    return markers


def text_marker(header: Header, text: str, class_id: int) -> MarkerArray:
    """A line of text in the middle of the image plane, in the colour of a class."""
    return MarkerArray(markers=[_text(header, "class", 0, text, class_id)])


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
