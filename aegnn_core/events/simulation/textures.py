# SPDX-License-Identifier: Apache-2.0
"""Procedural textures: periodic tiles for surfaces and for the backdrop (noise, horizon, buildings, lanes)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aegnn_core.events.simulation.raster import paint_polygons

__all__ = ["GRADIENT", "NOISES", "TEXTURES", "TEXTURE_SIZE", "backdrop_tile", "surface_tiles"]

#: Number of surface tiles that a scene has to choose from, and their side [texel].
TEXTURES = 8
TEXTURE_SIZE = 64
#: Tiles 0 to NOISES - 1 are noise; GRADIENT is the tile without detail, as on glass.
NOISES = 3
GRADIENT = TEXTURES - 1


def fractal_noise(rng: np.random.Generator, height: int, width: int, slope: float, cutoff: float) -> np.ndarray:
    """Periodic noise ``[height, width]`` float32, zero mean, unit deviation, amplitude spectrum 1 / f^slope.

    Natural images have a slope near 1 (Field, 1987). Above ``cutoff`` [cycles per texel] the spectrum falls like a
    Gaussian, so that bilinear sampling does not flicker.
    """
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    # Nothing larger than 64 texels: slower changes of brightness are left to the layout of the scene.
    gain = np.maximum(frequency, 1 / 64) ** -slope * np.exp(-((frequency / cutoff) ** 2)) * np.isfinite(frequency)
    spectrum = gain * (rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape))
    noise: NDArray[np.float64] = np.fft.irfft2(spectrum, s=(height, width))
    noise /= noise.std()
    return noise.astype(np.float32)


def surface_tiles(rng: np.random.Generator) -> np.ndarray:
    """Draw the surface textures of a scene, ``[TEXTURES, TEXTURE_SIZE, TEXTURE_SIZE]``, zero mean and unit deviation.

    NOISES of them are noise of different roughness, then come stripes, checks, plaid, dots and a smooth gradient.
    """
    size = TEXTURE_SIZE
    v, u = np.mgrid[:size, :size] * (2 * np.pi / size)
    tiles = [fractal_noise(rng, size, size, slope, 0.2) for slope in rng.uniform(0.4, 1.8, NOISES)]
    waves = [np.cos(k * u + phase) for k, phase in zip(rng.integers(3, 9, 4), rng.uniform(0, 6.28, 4), strict=True)]
    crossing = [np.cos(k * v + phase) for k, phase in zip(rng.integers(3, 9, 4), rng.uniform(0, 6.28, 4), strict=True)]
    tiles += [
        np.tanh(3 * (waves[0] if rng.random() < 0.5 else crossing[0])),
        np.tanh(3 * waves[1] * crossing[1]),
        waves[2] + crossing[2],
        np.tanh(4 * (waves[3] + crossing[3] - 0.8)),
        np.cos(v + rng.uniform(0, 6.28)) + 0.5 * np.cos(u + rng.uniform(0, 6.28)),
    ]
    stack: NDArray[np.float64] = np.stack(tiles)
    stack -= stack.mean(axis=(1, 2), keepdims=True)
    stack /= stack.std(axis=(1, 2), keepdims=True)
    return stack.astype(np.float32)


def backdrop_tile(rng: np.random.Generator, width: int, height: int, textures: np.ndarray) -> np.ndarray:
    """Draw the periodic log intensity tile that moves behind a scene on a sensor of this size [px].

    The tile is at least twice as wide and 1.6 times as high as the sensor, one texel for a pixel. Two out of three
    tiles are streets (sky, buildings with windows, ground with lanes), the others are noise with patches.
    """
    tile_width, tile_height = 2 * width + 64, int(1.6 * height) + 32
    street = rng.random() < 0.65
    level = rng.uniform(-1.6, -0.7)
    contrast = rng.uniform(0.05, 0.17)
    noise = fractal_noise(rng, tile_height, tile_width, rng.uniform(0.9, 1.7), rng.uniform(0.12, 0.25))
    tile = (level + contrast * noise).astype(np.float32)
    polygons: list[tuple[np.ndarray, float, float]] = []  # vertices, tone, opacity
    if street:
        horizon = tile_height * rng.uniform(0.35, 0.5)
        sky = level + rng.uniform(0.1, 0.8)
        polygons.append((_rectangle(-9, -9, tile_width + 9, horizon), sky, 0.85))
        x = rng.uniform(0, 30.0)
        while x < tile_width - 20:
            size, top = rng.uniform(15, 70), horizon - rng.uniform(8, 0.5 * tile_height)
            if rng.random() < 0.7:
                tone = level + rng.uniform(-0.5, 0.5)
                end = min(x + size, tile_width - 2.0)
                polygons.append((_rectangle(x, top, end, horizon + 2), tone, 0.9))
                polygons += _windows(rng, x, top, end, horizon, tone)
            x += size + rng.exponential(25)
        for _ in range(rng.integers(0, 4)):
            y = horizon + rng.uniform(0.05, 0.9) * (tile_height - horizon)
            tone, thick = level + rng.uniform(-0.6, 0.8), rng.uniform(0.6, 2.2)
            dash = rng.uniform(12, 40) if rng.random() < 0.6 else tile_width + 18.0
            for left in np.arange(-9, tile_width, 1.8 * dash):
                polygons.append((_rectangle(left, y, min(left + dash, tile_width + 9.0), y + thick), tone, 0.8))
    for _ in range(rng.integers(2, 12)):
        centre = rng.uniform(0, 1, 2) * (tile_width, tile_height)
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 7)))
        spread = rng.uniform(4, 26, (len(angles), 1))
        points = centre + spread * np.stack([np.cos(angles), np.sin(angles)], 1)
        polygons.append(
            (_with_radius(points, rng.uniform(0, 3)), level + rng.uniform(-0.5, 0.5), rng.uniform(0.3, 0.9))
        )
    vertices = np.concatenate([polygon[0] for polygon in polygons])
    starts = np.concatenate([[0], np.cumsum([len(polygon[0]) for polygon in polygons])])
    styles = np.array(
        [(tone, opacity, rng.integers(TEXTURES), contrast * 0.8, 0) for _, tone, opacity in polygons], np.float64
    )
    frames = np.tile(np.eye(2, 3), (len(polygons), 1, 1))
    owner = np.empty(tile.shape, np.int32)
    paint_polygons(tile, owner, vertices, starts, styles, np.zeros(len(polygons), np.int32), frames, textures)
    return tile


def _windows(
    rng: np.random.Generator, left: float, top: float, right: float, bottom: float, tone: float
) -> list[tuple[np.ndarray, float, float]]:
    """Rows of windows on a wall."""
    pitch_x, pitch_y = rng.uniform(6, 14, 2)
    width, height = pitch_x * rng.uniform(0.3, 0.6), pitch_y * rng.uniform(0.3, 0.6)
    tone = tone + rng.choice([-1, 1]) * rng.uniform(0.2, 0.6)
    return [
        (_rectangle(x, y, x + width, y + height), tone, 0.9)
        for x in np.arange(left + 3, right - width - 2, pitch_x)
        for y in np.arange(top + 3, bottom - height - 2, pitch_y)
    ]


def _rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return _with_radius(np.array([(left, top), (right, top), (right, bottom), (left, bottom)]), 0.0)


def _with_radius(points: np.ndarray, radius: float) -> np.ndarray:
    return np.column_stack([points, np.full(len(points), radius)])
