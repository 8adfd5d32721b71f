# SPDX-License-Identifier: Apache-2.0
"""The topics on which the detector publishes the network's answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode, LifecycleState
from rclpy.lifecycle.publisher import LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import TimeReference
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from aegnn_core.drawing import EventSurface, class_color, draw_boxes, draw_title
from aegnn_ros import conversions
from aegnn_ros.detector import topics
from aegnn_ros.detector.box_messages import DetectionMessages, MarkerMessages, deleted_boxes
from aegnn_ros.detector.camera_model import CameraModel
from aegnn_ros.detector.stream_results import Readout, Trigger

__all__ = ["DetectorOutputs"]

_DEPTH = 10
#: Edges on a trigger input can follow each other closely.
_TRIGGERS_DEPTH = 1000


class DetectorOutputs:
    """Publishers below the node's name: classification, label info, markers, images, and detections of a detector.

    Args:
        node: owns the publishers; they are silent while it is not active.
        labels: names of the classes.
        detects: whether the model finds boxes; otherwise there is no topic of detections.

    Raises:
        RuntimeError: what the user has overridden of the quality of service is no such policy.
        rclpy.exceptions.ParameterException: or is of a wrong type.
    """

    def __init__(self, node: LifecycleNode, labels: tuple[str, ...], detects: bool) -> None:
        self._node, self._labels = node, labels
        self._publishers: list[LifecyclePublisher[Any]] = []
        self.camera: CameraModel | None = None  # once it is known
        try:
            self._make_publishers(detects)
        except Exception:
            self.destroy()
            raise
        self._detection_messages, self._marker_messages = DetectionMessages(), MarkerMessages()
        self._surface: EventSurface | None = None
        self._shown: set[int] = set()  # ids of the boxes that the markers so far have drawn

    def activate(self, state: LifecycleState) -> None:
        """Activate the publishers of a node that is active already, since no transition will do so."""
        for publisher in self._publishers:
            publisher.on_activate(state)

    def publish_labels(self, threshold: float) -> None:
        """Say what the class numbers mean and from which score on boxes are reported; stays for late subscribers."""
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self._label_info.publish(conversions.label_info(header, self._labels, threshold))

    def collect(self, events: np.ndarray, width: int, height: int) -> None:
        """Keep camera ``events`` for the annotated image, as long as somebody looks at it."""
        if not (self._image.get_subscription_count() or self._compressed.get_subscription_count()):
            self._surface = None
            return
        if self._surface is None or self._surface.size != (width, height):
            self._surface = EventSurface(width, height)
        self._surface.update(events)

    def publish_triggers(self, triggers: Sequence[Trigger], frame_id: str) -> None:
        """Publish edges on the camera's trigger inputs, each with both of its times, while somebody subscribes."""
        if not self._triggers.get_subscription_count():
            return
        for trigger in triggers:
            header = Header(stamp=conversions.time_message(trigger.stamp), frame_id=frame_id)
            source = f"trigger {trigger.channel} {'rising' if trigger.rising else 'falling'}"
            time_ref = conversions.time_message(1000 * trigger.time)
            self._triggers.publish(TimeReference(header=header, time_ref=time_ref, source=source))

    def publish(self, readout: Readout, frame_id: str, image_us: int, undistort: bool = False) -> None:
        """Publish a readout on every topic; ``image_us`` is how long events stay in the annotated image [µs].

        With ``undistort``, the boxes of detections are those of the rectified image, as soon as the camera is known.
        """
        header = Header(stamp=conversions.time_message(readout.stamp), frame_id=frame_id)
        if self._detections is not None and readout.detections is not None:
            boxes, camera = readout.detections, self._camera_of(readout)
            if undistort and camera is not None:
                boxes = camera.rectified(boxes)
            message = self._detection_messages.message(header, boxes, readout.tracks)
            self._detections.publish(message)
        self._classification.publish(conversions.classification(header, readout.scores))
        if self._markers.get_subscription_count():
            self._markers.publish(MarkerArray(markers=self._marker_list(header, readout)))
        if self._surface is not None:
            picture = self._annotate(self._surface.image(readout.time, image_us), readout)
            if self._image.get_subscription_count():
                self._image.publish(conversions.image(header, picture))
            if self._compressed.get_subscription_count():
                self._compressed.publish(conversions.compressed_image(header, picture))

    def clear_markers(self) -> None:
        """Delete all markers."""
        self._shown.clear()
        self._markers.publish(MarkerArray(markers=[Marker(action=Marker.DELETEALL)]))

    def destroy(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)

    def _make_publishers(self, detects: bool) -> None:
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._label_info = self._publisher(topics.LABEL_INFO, latched)
        self._classification = self._publisher(topics.CLASSIFICATION, QoSProfile(depth=_DEPTH))
        self._detections = self._publisher(topics.DETECTIONS, QoSProfile(depth=_DEPTH)) if detects else None
        self._markers = self._publisher(topics.MARKERS, QoSProfile(depth=_DEPTH))
        self._triggers = self._publisher(topics.TRIGGERS, QoSProfile(depth=_TRIGGERS_DEPTH))
        self._image = self._publisher(topics.ANNOTATED_IMAGE, QoSProfile(depth=2))
        self._compressed = self._publisher(topics.COMPRESSED_IMAGE, QoSProfile(depth=2))

    def _publisher(self, topic: topics.Interface, qos: QoSProfile) -> LifecyclePublisher[Any]:
        allowed = QoSOverridingOptions.with_default_policies()
        made = self._node.create_lifecycle_publisher(topic.kind, topic.name, qos, qos_overriding_options=allowed)
        self._publishers.append(made)
        return made

    def _marker_list(self, header: Header, readout: Readout) -> list[Marker]:
        found = readout.detections
        if found is None:
            return [conversions.text_marker(header, "class", self._best_class(readout), int(readout.scores.argmax()))]
        ids = readout.tracks if readout.tracks is not None else range(len(found))
        gone, self._shown = self._shown - set(ids), set(ids)
        captions = self._captions(found, readout.tracks)
        size = (readout.width, readout.height)
        drawn = self._marker_messages.markers(header, found, captions, ids, *size, self._camera_of(readout))
        return deleted_boxes(header, sorted(gone)) + drawn

    def _camera_of(self, readout: Readout) -> CameraModel | None:
        """The camera's calibration, if it is of the sensor that the events are of."""
        camera = self.camera
        fits = camera is not None and (camera.width, camera.height) == (readout.width, readout.height)
        return camera if fits else None

    def _annotate(self, picture: np.ndarray, readout: Readout) -> np.ndarray:
        if readout.detections is None:
            return draw_title(picture, self._best_class(readout), class_color(int(readout.scores.argmax())))
        colors = [class_color(class_id) for class_id in readout.detections["class_id"]]
        captions = self._captions(readout.detections, readout.tracks)
        return draw_boxes(picture, readout.detections, colors, captions, line_width=1, font_size=10)

    def _captions(self, detections: np.ndarray, tracks: tuple[int, ...] | None) -> list[str]:
        captions = [f"{self._labels[box['class_id']]} {box['score']:.2f}" for box in detections]
        if tracks is None:
            return captions
        return [f"{caption} #{track}" for caption, track in zip(captions, tracks, strict=True)]

    def _best_class(self, readout: Readout) -> str:
        best = int(readout.scores.argmax())
        return f"{self._labels[best]} {readout.scores[best]:.2f}"
