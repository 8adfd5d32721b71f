"""The topics on which the detector publishes what the network says."""

from __future__ import annotations

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle.publisher import LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Classification, Detection2DArray, LabelInfo
from visualization_msgs.msg import MarkerArray

from aegnn_core.drawing import EventSurface, class_color, draw_boxes, draw_title
from aegnn_ros import conversions
from aegnn_ros.camera_stream import Readout

__all__ = ["DetectorOutputs"]

_DEPTH = 10


class DetectorOutputs:
    """Publishers below the node's name: classification, label info, markers, image, and detections of a detector.

    Args:
        node: owns the publishers; they are silent while it is not active.
        labels: names of the classes.
        detects: whether the model finds boxes; otherwise there is no topic of detections.
    """

    def __init__(self, node: LifecycleNode, labels: tuple[str, ...], detects: bool) -> None:
        self._node, self._labels = node, labels
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._label_info = node.create_lifecycle_publisher(LabelInfo, "~/label_info", latched)
        self._classification = node.create_lifecycle_publisher(Classification, "~/classification", _DEPTH)
        self._detections: LifecyclePublisher[Detection2DArray] | None = (
            node.create_lifecycle_publisher(Detection2DArray, "~/detections", _DEPTH) if detects else None
        )
        self._markers = node.create_lifecycle_publisher(MarkerArray, "~/markers", _DEPTH)
        self._image = node.create_lifecycle_publisher(Image, "~/annotated_image", 2)
        self._surface: EventSurface | None = None

    def publish_labels(self, threshold: float) -> None:
        """Say what the class numbers mean and from which score on boxes are reported; stays for late subscribers."""
        header = Header(stamp=self._node.get_clock().now().to_msg())
        self._label_info.publish(conversions.label_info(header, self._labels, threshold))

    def collect(self, events: np.ndarray, width: int, height: int) -> None:
        """Keep camera ``events`` for the annotated image, as long as somebody looks at it."""
        if self._image.get_subscription_count() == 0:
            self._surface = None
            return
        if self._surface is None or self._surface.size != (width, height):
            self._surface = EventSurface(width, height)
        self._surface.update(events)

    def publish(self, readout: Readout, frame_id: str, image_us: int) -> None:
        """Publish a readout on every topic; ``image_us`` is how long events stay in the annotated image [µs]."""
        header = Header(stamp=conversions.time_message(readout.stamp), frame_id=frame_id)
        self._classification.publish(conversions.classification(header, readout.scores))
        if self._detections is not None and readout.detections is not None:
            self._detections.publish(conversions.detection_array(header, readout.detections))
        if self._markers.get_subscription_count():
            self._markers.publish(self._marker_message(header, readout))
        if self._surface is not None:
            picture = self._annotate(self._surface.image(readout.time, image_us), readout)
            self._image.publish(conversions.image(header, picture))

    def destroy(self) -> None:
        """Take the topics away."""
        publishers = (self._label_info, self._classification, self._detections, self._markers, self._image)
        for publisher in publishers:
            if publisher is not None:
                self._node.destroy_lifecycle_publisher(publisher)

    def _marker_message(self, header: Header, readout: Readout) -> MarkerArray:
        if readout.detections is None:
            return conversions.text_marker(header, self._best_class(readout), int(readout.scores.argmax()))
        return conversions.box_markers(header, readout.detections, self._labels, readout.width, readout.height)

    def _annotate(self, picture: np.ndarray, readout: Readout) -> np.ndarray:
        if readout.detections is None:
            return draw_title(picture, self._best_class(readout), class_color(int(readout.scores.argmax())))
        boxes = readout.detections
        colors = [class_color(class_id) for class_id in boxes["class_id"]]
        captions = [f"{self._labels[box['class_id']]} {box['score']:.2f}" for box in boxes]
        return draw_boxes(picture, boxes, colors, captions, line_width=1, font_size=10)

    def _best_class(self, readout: Readout) -> str:
        best = int(readout.scores.argmax())
        return f"{self._labels[best]} {readout.scores[best]:.2f}"
