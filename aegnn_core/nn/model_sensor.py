# SPDX-License-Identifier: Apache-2.0
"""Which sensor a network runs on behind a camera of another size or shape."""

from __future__ import annotations

from aegnn_core.nn.checkpoint import TrainedModel

__all__ = ["MODEL_SENSORS", "filled_sensor", "sensor_behind"]

#: How the sensor is chosen: the one of the training, longer in one direction where the camera's picture is; just the
#: one of the training; with twice as many pixels a side as the first, for small objects; or the camera's own.
MODEL_SENSORS = ("filled", "trained", "double", "camera")

#: Sides grow by whole multiples of this [px], which the strides of the package's networks divide.
_MULTIPLE = 8

#: The most that a side grows: a longer picture is scaled down further.
_MOST_GROWTH = 2

#: A camera with less than so many pixels for one of the training, along a side, is not scaled down to the double: some
#: pixels would have one of the camera's, others four, side by side. Unless it is much longer along the other side.
_LEAST_RATIO, _LARGEST_RATIO = 2.5, 5.0


def sensor_behind(
    model: TrainedModel, trained: tuple[int, int], camera: tuple[int, int], model_sensor: str
) -> tuple[int, int]:
    """Width and height [px] of the sensor that a model runs on.

    Args:
        model: on any sensor.
        trained: width and height [px] of the sensor that it was trained for.
        camera: width and height [px] of the sensor that events come from.
        model_sensor: one of :data:`MODEL_SENSORS`. A network that cannot run on another sensor stays on its own one
            with ``"filled"`` and ``"double"``; so does one behind a smaller camera. A camera with less than 2.5 times
            as many pixels a side as the training's is the double itself.

    Raises:
        ValueError: an unknown choice.
    """
    if model_sensor not in MODEL_SENSORS:
        raise ValueError(f"unknown sensor for the model, {model_sensor!r}, known are {', '.join(MODEL_SENSORS)}")
    if model_sensor == "camera":
        return camera
    if model_sensor == "trained" or not model.network.fits_any_sensor:
        return trained
    if model_sensor == "double":
        ratio, other = sorted((camera[0] / trained[0], camera[1] / trained[1]))
        if 1 <= ratio < _LEAST_RATIO and other < _LARGEST_RATIO:
            return camera
        trained = (2 * trained[0], 2 * trained[1]) if ratio > 1 else trained
    return filled_sensor(camera, trained)


def filled_sensor(camera: tuple[int, int], trained: tuple[int, int]) -> tuple[int, int]:
    """The sensor of the training, longer in the direction in which a camera's picture is longer than that.

    The picture then fills it and is scaled down by the smaller of the two ratios of the sides instead of the larger,
    so that objects are as large as behind a camera of the shape of the training: 1280 x 720 px on a model of 160 x 120
    become 216 x 120 (of which 213 have events) instead of 160 x 90.

    Args:
        camera: width and height [px].
        trained: width and height [px].

    Returns:
        Width and height [px]. ``trained`` where the shapes are nearly the same. A picture is not scaled up: where the
        camera has fewer pixels in one direction, the other becomes as long as the camera's.
    """
    short = 0 if camera[0] * trained[1] <= camera[1] * trained[0] else 1
    long = 1 - short
    needed = -(-camera[long] * trained[short] // max(camera[short], trained[short]))
    if needed - trained[long] < _MULTIPLE // 2:
        return trained
    grown = -(-needed // _MULTIPLE) * _MULTIPLE
    side = min(grown, _MOST_GROWTH * trained[long])
    return (side, trained[1]) if long == 0 else (trained[0], side)
