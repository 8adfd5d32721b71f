# SPDX-License-Identifier: Apache-2.0
"""The topics and services of the event detector: one declaration of every name, type and meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from event_camera_msgs.msg import EventPacket
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, TimeReference
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Classification, Detection2DArray, LabelInfo
from visualization_msgs.msg import MarkerArray

__all__ = ["INTERFACES", "Interface"]


@dataclass(frozen=True)
class Interface:
    """A topic or a service.

    Attributes:
        name: as the node asks for it; ``~`` stands for the node's own name.
        kind: class of the message or the service.
        way: ``in``, ``out`` or ``service``, as seen from the node.
        meaning: what the reference in docs/node.md says of it.
    """

    name: str
    kind: type[Any]
    way: str
    meaning: str


EVENTS = Interface(
    "~/events",
    EventPacket,
    "in",
    "events of one camera, best effort; of the type that the parameter events_type says",
)
CAMERA_INFO = Interface(
    "~/camera_info",
    CameraInfo,
    "in",
    "calibration of the camera, for markers in its true geometry and for undistort; not needed",
)
DETECTIONS = Interface(
    "~/detections", Detection2DArray, "out", "boxes in the camera's pixels, best first; detectors only"
)
CLASSIFICATION = Interface("~/classification", Classification, "out", "the score of every class, best first")
LABEL_INFO = Interface(
    "~/label_info", LabelInfo, "out", "names of the classes, and the score from which on boxes are published; latched"
)
MARKERS = Interface(
    "~/markers",
    MarkerArray,
    "out",
    "boxes with captions on the image plane, or the class as text; made while somebody subscribes",
)
TRIGGERS = Interface(
    "~/triggers",
    TimeReference,
    "out",
    "edges on the camera's trigger inputs, with ROS time and sensor time; made while somebody subscribes",
)
ANNOTATED_IMAGE = Interface(
    "~/annotated_image", Image, "out", "events, boxes and captions; made while somebody subscribes"
)
COMPRESSED_IMAGE = Interface("~/annotated_image/compressed", CompressedImage, "out", "the same as JPEG")
DIAGNOSTICS = Interface(
    "/diagnostics",
    DiagnosticArray,
    "out",
    "a status of each node every second (diagnostic_updater.period), in every state",
)
ENABLE = Interface("~/enable", SetBool, "service", "pauses and resumes the node without a change of state")
RELOAD_MODEL = Interface(
    "~/reload_model",
    Trigger,
    "service",
    "loads what the parameters model and device name and swaps it in; the old model runs until then",
)

#: All of them, in the order in which the reference lists them.
INTERFACES = (
    EVENTS,
    CAMERA_INFO,
    DETECTIONS,
    CLASSIFICATION,
    LABEL_INFO,
    MARKERS,
    TRIGGERS,
    ANNOTATED_IMAGE,
    COMPRESSED_IMAGE,
    DIAGNOSTICS,
    ENABLE,
    RELOAD_MODEL,
)
