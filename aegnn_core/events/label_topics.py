# SPDX-License-Identifier: Apache-2.0
"""True boxes and classes as ``vision_msgs`` topics beside the events of a rosbag2 recording."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from aegnn_core.events.array import EventFormatError

__all__ = [
    "BOXES_TYPE",
    "CLASS_TYPE",
    "CLASS_TYPES",
    "INFO_TYPE",
    "LABEL_DTYPE",
    "LABEL_INFO_TOPIC",
    "LABEL_TOPIC",
    "DetectedBox",
    "Label",
    "deserialize_boxes",
    "deserialize_label",
    "deserialize_label_info",
    "detected_boxes",
    "label_typestore",
    "serialize_boxes",
    "serialize_classes",
    "serialize_label",
    "serialize_label_info",
]

#: One true box: upper left corner, width and height [px], and class number.
LABEL_DTYPE = np.dtype(
    [("x", np.float32), ("y", np.float32), ("w", np.float32), ("h", np.float32), ("class_id", np.int64)]
)

LABEL_TOPIC = "/labels"
LABEL_INFO_TOPIC = "/label_info"
BOXES_TYPE = "vision_msgs/msg/Detection2DArray"
CLASS_TYPE = "vision_msgs/msg/Classification"
#: With its name in ROS 1.
CLASS_TYPES = (CLASS_TYPE, "vision_msgs/msg/Classification2D")
INFO_TYPE = "vision_msgs/msg/LabelInfo"

#: The fields of vision_msgs 4, in the order that their type hashes demand.
_DEFINITIONS = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y\n",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta\n",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n"
    ),
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox2D bbox\nstring id\n"
    ),
    BOXES_TYPE: "std_msgs/Header header\nDetection2D[] detections\n",
    CLASS_TYPE: "std_msgs/Header header\nObjectHypothesis[] results\n",
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    INFO_TYPE: "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n",
}


@dataclass(frozen=True, eq=False)
class Label:
    """What is true at one time.

    Attributes:
        stamp: of its header [ns], on the clock of the event packets' stamps.
        boxes: :data:`LABEL_DTYPE` ``[N]``, none being a true answer too; None where only the class is known.
        class_id: number of the recording's class; None where boxes are known.
    """

    stamp: int
    boxes: np.ndarray | None = None
    class_id: int | None = None


class DetectedBox(NamedTuple):
    """One box of a ``Detection2DArray``: upper left corner, size [px], and of its best hypothesis score and class.

    ``track`` is what the message calls the object from time to time, empty where it does not.
    """

    x: float
    y: float
    w: float
    h: float
    score: float
    class_name: str
    track: str

    @property
    def is_finite(self) -> bool:
        """Whether place, size and score are numbers."""
        return all(map(math.isfinite, (self.x, self.y, self.w, self.h, self.score)))


@cache
def label_typestore() -> Typestore:
    """The message types of ROS 2 Kilted and those of labels."""
    store = get_typestore(Stores.ROS2_KILTED)
    types: dict[str, Any] = {}
    for name, definition in _DEFINITIONS.items():
        types |= get_types_from_msg(definition, name)
    store.register(types)
    return store


def serialize_label(label: Label, store: Typestore) -> tuple[str, bytes]:
    """The message type of a label, and its CDR bytes as a bag holds them; ``store`` is :func:`label_typestore`'s."""
    if label.boxes is not None:
        return BOXES_TYPE, serialize_boxes(label.stamp, label.boxes, store)
    assert label.class_id is not None
    return CLASS_TYPE, serialize_classes(label.stamp, {label.class_id: 1.0}, store)


def serialize_boxes(stamp: int, boxes: np.ndarray, store: Typestore) -> bytes:
    """A ``Detection2DArray`` of boxes ``[N]`` as in :data:`LABEL_DTYPE`, with their ``score`` if they have one."""
    new, header = store.types, _header(stamp, store)
    point, quaternion = new["geometry_msgs/msg/Point"](0, 0, 0), new["geometry_msgs/msg/Quaternion"](0, 0, 0, 1)
    nowhere = new["geometry_msgs/msg/PoseWithCovariance"](
        pose=new["geometry_msgs/msg/Pose"](point, quaternion), covariance=np.zeros(36)
    )
    scored = "score" in (boxes.dtype.names or ())
    detections = []
    for box in boxes:
        hypothesis = new["vision_msgs/msg/ObjectHypothesis"](
            class_id=str(int(box["class_id"])), score=float(box["score"]) if scored else 1.0
        )
        center = new["vision_msgs/msg/Point2D"](float(box["x"] + box["w"] / 2), float(box["y"] + box["h"] / 2))
        detections.append(
            new["vision_msgs/msg/Detection2D"](
                header=header,
                results=[new["vision_msgs/msg/ObjectHypothesisWithPose"](hypothesis=hypothesis, pose=nowhere)],
                bbox=new["vision_msgs/msg/BoundingBox2D"](
                    center=new["vision_msgs/msg/Pose2D"](position=center, theta=0.0),
                    size_x=float(box["w"]),
                    size_y=float(box["h"]),
                ),
                id="",
            )
        )
    return bytes(store.serialize_cdr(new[BOXES_TYPE](header=header, detections=detections), BOXES_TYPE))


def serialize_classes(stamp: int, scores: Mapping[int, float], store: Typestore) -> bytes:
    """A ``Classification`` with the score of each class number, best first."""
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    results = [
        store.types["vision_msgs/msg/ObjectHypothesis"](class_id=str(number), score=score) for number, score in ranked
    ]
    message = store.types[CLASS_TYPE](header=_header(stamp, store), results=results)
    return bytes(store.serialize_cdr(message, CLASS_TYPE))


def serialize_label_info(stamp: int, names: Sequence[str], threshold: float, store: Typestore) -> bytes:
    """A ``LabelInfo``: what the class numbers mean, and the least score that is reported."""
    classes = [store.types["vision_msgs/msg/VisionClass"](class_id=n, class_name=name) for n, name in enumerate(names)]
    message = store.types[INFO_TYPE](header=_header(stamp, store), class_map=classes, threshold=threshold)
    return bytes(store.serialize_cdr(message, INFO_TYPE))


def _header(stamp: int, store: Typestore) -> Any:
    time = store.types["builtin_interfaces/msg/Time"](*divmod(stamp, 10**9))
    return store.types["std_msgs/msg/Header"](stamp=time, frame_id="")


def deserialize_label(
    kind: str,
    data: bytes,
    class_names: Sequence[str] = (),
    own_names: Sequence[str] = (),
    ros1_definition: str | None = None,
) -> Label | None:
    """A label from its message, the inverse of :func:`serialize_label`; None for a class message that names no class.

    Args:
        kind: message type, as rosbags writes it.
        data: CDR bytes, or those of ROS 1.
        class_names: names of the classes in the order of the numbers that labels get.
        own_names: what the message's own numbers mean; without, or without ``class_names``, they stay as they are.
        ros1_definition: of the message type in a ROS 1 bag, with those of the types in it.

    Raises:
        EventFormatError: another message type, a class that is not one of the names, nor a number that stays, or a box
            that is not finite.
    """
    if kind not in (BOXES_TYPE, *CLASS_TYPES):
        raise EventFormatError(f"labels are {kind}, expected {BOXES_TYPE} or {CLASS_TYPE}")
    message = _deserialize(kind, data, ros1_definition)
    stamp = _stamp(message)
    number = partial(_class_number, class_names=class_names, own_names=own_names)
    if kind == BOXES_TYPE:
        detected = list(detected_boxes(message.detections))
        if broken := [box for box in detected if not box.is_finite]:
            place = ", ".join(f"{value:g}" for value in broken[0][:4])
            raise EventFormatError(f"the box of a label at {stamp / 1e9:.3f} s is {place}, expected numbers x, y, w, h")
        boxes = [(box.x, box.y, box.w, box.h, number(box.class_name)) for box in detected]
        return Label(stamp, boxes=np.array(boxes, LABEL_DTYPE))
    best = max(message.results, key=lambda result: result.score, default=None)
    return None if best is None else Label(stamp, class_id=number(_class_name(best)))


def _deserialize(kind: str, data: bytes, ros1_definition: str | None) -> Any:
    if ros1_definition is None:
        return label_typestore().deserialize_cdr(data, kind)
    return _ros1_typestore(kind, ros1_definition).deserialize_ros1(data, kind)


@lru_cache(8)
def _ros1_typestore(kind: str, definition: str) -> Typestore:
    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg(definition, kind))
    return store


def deserialize_label_info(data: bytes, store: Typestore) -> tuple[str, ...]:
    """The names of the classes from a ``LabelInfo``, the inverse of :func:`serialize_label_info`.

    Raises:
        EventFormatError: the classes are not numbered from 0 on.
    """
    message: Any = store.deserialize_cdr(data, INFO_TYPE)
    names = {int(one.class_id): str(one.class_name) for one in message.class_map}
    if sorted(names) != list(range(len(names))):
        raise EventFormatError(f"{INFO_TYPE} has the class numbers {sorted(names)}, expected all from 0 on")
    return tuple(names[number] for number in range(len(names)))


def detected_boxes(detections: Iterable[Any]) -> Iterator[DetectedBox]:
    """The boxes of a ``Detection2DArray``'s ``detections``, of ROS 2 or ROS 1; those without a class are left out."""
    for detection in detections:
        box = detection.bbox
        # In ROS 1 a result is a hypothesis itself, and the centre has no position but x and y.
        hypotheses = [getattr(result, "hypothesis", result) for result in detection.results]
        center = getattr(box.center, "position", box.center)
        if hypotheses:
            best = max(hypotheses, key=lambda hypothesis: hypothesis.score)
            left, top = center.x - box.size_x / 2, center.y - box.size_y / 2
            track = str(getattr(detection, "id", ""))
            yield DetectedBox(left, top, box.size_x, box.size_y, float(best.score), _class_name(best), track)


def deserialize_boxes(kind: str, data: bytes, ros1_definition: str | None = None) -> tuple[int, list[DetectedBox]]:
    """Stamp [ns] and boxes of a ``Detection2DArray``, with scores and tracks.

    Args:
        kind: message type, as rosbags writes it.
        data: CDR bytes, or those of ROS 1.
        ros1_definition: of the message type in a ROS 1 bag, with those of the types in it.

    Raises:
        EventFormatError: another message type.
    """
    if kind != BOXES_TYPE:
        raise EventFormatError(f"its messages are {kind}, expected {BOXES_TYPE}")
    message = _deserialize(kind, data, ros1_definition)
    return _stamp(message), list(detected_boxes(message.detections))


def _stamp(message: Any) -> int:
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


def _class_name(hypothesis: Any) -> str:
    return str(hypothesis.class_id if hasattr(hypothesis, "class_id") else hypothesis.id)


def _class_number(name: str, class_names: Sequence[str], own_names: Sequence[str]) -> int:
    found = f"the class {name!r}"
    if name.isdecimal():
        number = int(name)
        if not class_names or not own_names:
            return number
        name = own_names[number] if number < len(own_names) else "nothing"
        found = f"the class {number}, which is {name!r}"
    if name in class_names:
        return list(class_names).index(name)
    wanted = ", ".join(class_names) or "no names"
    raise EventFormatError(f"a label has {found}, expected {'' if own_names else 'a number or '}one of {wanted}")
