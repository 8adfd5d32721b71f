# SPDX-License-Identifier: Apache-2.0
"""Between ROS messages and the arrays of ``aegnn_core``: one function per message."""

from __future__ import annotations

import array
import io
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Time
from event_camera_msgs.msg import EventPacket
from PIL import Image as PillowImage
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import ColorRGBA, Header
from vision_msgs.msg import Classification, Detection2DArray, LabelInfo, ObjectHypothesis, VisionClass
from visualization_msgs.msg import Marker

from aegnn_core.drawing import class_color
from aegnn_core.events.recorded_packet import RecordedPacket
from aegnn_core.nn.detection import DETECTION_DTYPE

__all__ = [
    "TEXT_HEIGHT",
    "classification",
    "compressed_image",
    "detections_of",
    "image",
    "label_info",
    "marker_color",
    "nanoseconds",
    "packet_message",
    "scores_of",
    "text_marker",
    "time_message",
]

#: Of markers [m]; the image plane is one metre wide.
TEXT_HEIGHT = 0.04
_JPEG_QUALITY = 85
#: The last time that a message can state [ns]: seconds have 32 bits with a sign.
_LAST_STAMP = 2**31 * 1_000_000_000 - 1


def nanoseconds(stamp: Time) -> int:
    """A stamp as one number [ns]."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def time_message(nanoseconds: int) -> Time:
    """The stamp of a time since the epoch [ns], not negative; later times become ROS's last one, in January 2038."""
    sec, nanosec = divmod(min(nanoseconds, _LAST_STAMP), 1_000_000_000)
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


def detections_of(message: Detection2DArray) -> np.ndarray:
    """The boxes of a message of the detector as ``DETECTION_DTYPE [N]``."""
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


def text_marker(header: Header, namespace: str, text: str, class_id: int) -> Marker:
    """A line of text in the middle of the image plane, in the colour of a class."""
    marker = Marker(header=header, ns=namespace, type=Marker.TEXT_VIEW_FACING, text=text, color=marker_color(class_id))
    marker.scale.z = TEXT_HEIGHT
    marker.pose.position.z = 1.0
    return marker


def marker_color(class_id: int) -> ColorRGBA:
    """The colour of everything about a class."""
    red, green, blue = (channel / 255 for channel in class_color(class_id))
    return ColorRGBA(r=red, g=green, b=blue, a=1.0)
