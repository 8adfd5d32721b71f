# SPDX-License-Identifier: Apache-2.0
"""Other cameras that look at the same kind of scenes: sensitive, noisy, slow, still, near, far, in the sun.

A detector that has only seen one camera knows that camera: how many events an edge makes there, and hardly any noise.
Real ones differ by their biases, by the light and by how far away things are (Stoffregen et al., ECCV 2020: thresholds
drawn at random in training carry over to real cameras).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aegnn_core.events.simulation.scene import SceneConfig

__all__ = ["NOISE_SPREAD", "draw_noise_hz", "vary_camera"]

#: Ranges of a camera's thresholds [log intensity], of their standard deviation as a share of them, of ON to OFF, of the
#: refractory period [µs], of leak and shot noise [1/s] and of the spread of the latter. The logarithm of all but the
#: spread is evenly distributed.
_THRESHOLD, _MISMATCH, _ON_TO_OFF = (0.12, 0.75), (0.05, 0.2), (0.75, 1.33)
_REFRACTORY_US, _LEAK_HZ, _SHOT_HZ = (100.0, 3000.0), (0.02, 0.5), (0.05, 4.0)
NOISE_SPREAD = (0.0, 2.0)

#: Smaller boxes than this share of the usual least side are left out, however far away the scene is.
_LEAST_SIDE = 0.6

#: Share of scenes in the sun, of cameras that stand still, and of those that see the scene from further away or nearer,
#: at such a scale.
_SUNNY, _STILL, _SCALED, _SCALE = 0.5, 0.4, 0.6, (0.45, 2.0)


def vary_camera(config: SceneConfig, rng: np.random.Generator) -> SceneConfig:
    """Scenes of the same kind, seen by another camera with as many pixels.

    Args:
        config: of the scenes. The further away they are, the more objects there are.
        rng: draws the camera.
    """
    threshold, ratio = _draw(_THRESHOLD, rng), _draw(_ON_TO_OFF, rng) ** 0.5
    sensor = replace(
        config.sensor,
        threshold_on=threshold * ratio,
        threshold_off=threshold / ratio,
        threshold_mismatch=threshold * _draw(_MISMATCH, rng),
        refractory_us=round(_draw(_REFRACTORY_US, rng)),
        leak_rate_hz=_draw(_LEAK_HZ, rng),
        shot_rate_hz=draw_noise_hz(rng),
        shot_spread=rng.uniform(*NOISE_SPREAD),
    )
    still = float(rng.random() < _STILL)
    scale = _draw(_SCALE, rng) if rng.random() < _SCALED else 1.0
    return replace(
        config.scaled(scale),
        sensor=sensor,
        still_camera=still,
        shadows=_SUNNY,
        labelled=_fitting(config.labelled, scale),
        clutter=_fitting(config.clutter, scale),
        min_side_px=config.min_side_px * min(max(scale, _LEAST_SIDE), 1.0),
    )


def _fitting(objects: tuple[int, int], scale: float) -> tuple[int, int]:
    """How many objects there are, fewest and most, where they are so many times as large."""
    fewest, most = objects
    return fewest, max(fewest, round(most / scale))


def draw_noise_hz(rng: np.random.Generator) -> float:
    """Events of random polarity per pixel and second of a camera."""
    return _draw(_SHOT_HZ, rng)


def _draw(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """A number of which the logarithm is evenly distributed."""
    return float(np.exp(rng.uniform(*np.log(limits))))
