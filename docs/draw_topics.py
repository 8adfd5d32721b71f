# SPDX-License-Identifier: Apache-2.0
"""Draw what RViz shows, from the node's topics: `python docs/draw_topics.py BAG [docs/rviz.png]`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rclpy.node import Node
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from aegnn_core.drawing import BACKGROUND
from aegnn_core.events.rosbag import read_event_packets
from aegnn_ros.conversions import nanoseconds
from aegnn_ros.playback.bag_run import BagRunner, isolate_ros

DARK = "#{:02x}{:02x}{:02x}".format(*BACKGROUND)


class Scene:
    """The annotated images, and the markers that stand at the time of each, as a viewer keeps them."""

    def __init__(self, node: Node) -> None:
        self.images: dict[int, Image] = {}
        self.markers: dict[int, list[Marker]] = {}
        self._standing: dict[tuple[str, int], Marker] = {}
        node.create_subscription(Image, "/event_detector/annotated_image", self._keep_image, 100)
        node.create_subscription(MarkerArray, "/event_detector/markers", self._keep_markers, 100)

    def _keep_image(self, image: Image) -> None:
        self.images[nanoseconds(image.header.stamp)] = image

    def _keep_markers(self, message: MarkerArray) -> None:
        for marker in message.markers:
            if marker.action == Marker.ADD:
                self._standing[marker.ns, marker.id] = marker
            elif marker.action == Marker.DELETE:
                self._standing.pop((marker.ns, marker.id), None)
            else:
                self._standing.clear()
        if message.markers and self._standing:
            stamp = nanoseconds(next(iter(reversed(self._standing.values()))).header.stamp)
            self.markers[stamp] = list(self._standing.values())


def draw(image: Image, markers: list[Marker]) -> Figure:
    """The image display on the left, the 3D view along the optical axis on the right."""
    pixels = np.array(image.data, np.uint8).reshape(image.height, image.width, 3)
    figure = Figure(figsize=(11, 4.4), facecolor=DARK, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(pixels, interpolation="nearest")
    left.set_title("~/annotated_image", color="white")
    left.axis("off")
    right.set_facecolor(DARK)
    right.set_title("~/markers, seen from the camera", color="white")
    half = image.height / image.width / 2
    right.set(xlim=(-0.55, 0.55), ylim=(half + 0.05, -half - 0.05), aspect="equal", xticks=[], yticks=[])
    for marker in markers:
        color: Any = (marker.color.r, marker.color.g, marker.color.b)
        if marker.type == Marker.LINE_STRIP:
            right.plot([p.x for p in marker.points], [p.y for p in marker.points], color=color)
        else:
            place = marker.pose.position
            right.text(place.x, place.y, marker.text, color=color, ha="center", va="center", fontsize=9)
    # The axes of the frame, as config/detect.rviz shows them: x right, y down.
    right.annotate("", (0.1, 0), (0, 0), arrowprops={"arrowstyle": "->", "color": "red"})
    right.annotate("", (0, 0.1), (0, 0), arrowprops={"arrowstyle": "->", "color": "lime"})
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bag", type=Path, help="bag with event packets, such as the demo's")
    parser.add_argument("picture", type=Path, nargs="?", default=Path("docs/rviz.png"))
    arguments = parser.parse_args()

    isolate_ros()
    with BagRunner() as runner:
        scene = Scene(runner.node)
        runner.run(read_event_packets(arguments.bag), {"model": "scenes_detector"})
    both = sorted(set(scene.images) & set(scene.markers))
    fullest = max(both, key=lambda stamp: len(scene.markers[stamp]))
    draw(scene.images[fullest], scene.markers[fullest]).savefig(arguments.picture, dpi=100)


if __name__ == "__main__":
    main()
