# SPDX-License-Identifier: Apache-2.0
"""Which sensor a network runs on behind a camera of another shape."""

from dataclasses import replace

import pytest

from aegnn_core.events.letterbox import Letterbox
from aegnn_core.nn import filled_sensor, load_model, network, sensor_behind

TRAINED = (160, 120)


@pytest.mark.parametrize(
    ("camera", "sensor"),
    [
        ((160, 120), TRAINED),
        ((640, 480), TRAINED),
        ((346, 260), TRAINED),  # a third of a pixel too long
        ((1280, 720), (216, 120)),
        ((720, 960), (160, 216)),
        ((1280, 800), (192, 120)),
        ((480, 480), (160, 160)),
        ((720, 1280), (160, 240)),  # at most twice as long
        ((5000, 120), (320, 120)),
        ((128, 128), (160, 128)),  # a camera with fewer columns
        ((640, 100), (320, 120)),
        ((90, 66), TRAINED),
        ((1, 1), TRAINED),
    ],
)
def test_the_sensor_is_longer_where_the_cameras_picture_is(camera: tuple[int, int], sensor: tuple[int, int]) -> None:
    assert filled_sensor(camera, TRAINED) == sensor
    if sensor not in (TRAINED, (160, 128), (160, 240), (320, 120)):  # the picture fills all but less than eight pixels
        box = Letterbox(camera, sensor)
        assert box.scale == min(camera[0] / TRAINED[0], camera[1] / TRAINED[1])
        assert all(side - camera[axis] / box.scale < 8 for axis, side in enumerate(sensor))


def test_a_network_that_knows_places_stays_on_its_own_sensor() -> None:
    model = load_model("scenes_detector")
    flat = replace(model, network=network("graph_res", dataset="simulated", task="detection"))
    assert sensor_behind(flat, TRAINED, (1280, 720), "filled") == TRAINED
    assert sensor_behind(model, TRAINED, (1280, 720), "filled") == (216, 120)
    assert sensor_behind(model, TRAINED, (1280, 720), "trained") == TRAINED
    assert sensor_behind(model, TRAINED, (1280, 720), "camera") == (1280, 720)
    for camera, double in (
        ((1280, 720), (432, 240)), ((640, 480), (320, 240)), ((346, 260), (346, 260)), ((160, 120), (160, 120)),
        ((128, 128), filled_sensor((128, 128), TRAINED)), ((200, 65_535), (320, 480)),
    ):  # fmt: skip
        assert sensor_behind(model, TRAINED, camera, "double") == double
    assert sensor_behind(flat, TRAINED, (1280, 720), "double") == TRAINED
