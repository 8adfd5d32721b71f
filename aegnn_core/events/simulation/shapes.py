# SPDX-License-Identifier: Apache-2.0
"""Procedural looks of cars, pedestrians and clutter: rounded polygons on a small skeleton of swinging bones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from aegnn_core.events.simulation.raster import SOLID
from aegnn_core.events.simulation.textures import GRADIENT, NOISES, TEXTURES

__all__ = ["Look", "Sun", "draw_car", "draw_clutter", "draw_pedestrian", "with_cast_shadow"]

Point = tuple[float, float]

#: Log intensity of a shadow that hides all of the ground, and by how much its outline is rounded.
_SHADOW_TONE, _SHADOW_EDGE = -2.8, 0.01


@dataclass(frozen=True)
class Look:
    """What one object looks like, in units of its own size; x forward, y down, the ground at y = 0.

    Polygon k has ``vertices[starts[k]:starts[k + 1]]`` and moves with ``bones[bone[k]]``. Bone 0 is the object itself.
    A bone turns about its pivot by ``offset + swing·sin(phase + shift) + turn·phase`` [rad], then as its parent does.

    Attributes:
        vertices: x, y, radius ``[V, 3]``.
        starts: first vertex of each polygon and the end ``[P + 1]``.
        styles: ``[P, 5]``, see :mod:`.raster`.
        bone: ``[P]``.
        bones: parent, pivot x, pivot y, offset, swing, shift, turn ``[B, 7]``; parents come first.
        cadence_hz: phase turns [1/s] of what walks; 0 where the phase is the distance travelled (wheels).
        sideways: seen from the side, so that it moves along x rather than towards the camera.
    """

    vertices: np.ndarray
    starts: np.ndarray
    styles: np.ndarray
    bone: np.ndarray
    bones: np.ndarray
    cadence_hz: float
    sideways: bool


@dataclass(frozen=True)
class Sun:
    """Light that casts shadows on the ground.

    Attributes:
        sideways, down: where the shadow of a point at height 1 lies in the picture, from where the point stands.
        opacity: how much of the ground the shadow hides.
    """

    sideways: float
    down: float
    opacity: float


@dataclass
class _Drawing:
    """A look in the making; polygons are painted in the order in which they are added."""

    vertices: list[np.ndarray] = field(default_factory=list)
    styles: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    bone: list[int] = field(default_factory=list)
    bones: list[tuple[float, ...]] = field(default_factory=lambda: [(0.0,) * 7])

    def add_bone(
        self,
        pivot: Point,
        parent: int = 0,
        offset: float = 0.0,
        swing: float = 0.0,
        shift: float = 0.0,
        turn: float = 0.0,
    ) -> int:
        self.bones.append((parent, *pivot, offset, swing, shift, turn))
        return len(self.bones) - 1

    def add(
        self,
        points: Sequence[Point],
        radius: float | Sequence[float],
        tone: float,
        *,
        bone: int = 0,
        cloth: tuple[int, float] = (0, 0.0),
        opacity: float = 1.0,
        solid: bool = True,
    ) -> None:
        """Add a polygon; ``cloth`` is the index of its texture and the deviation that it causes."""
        self.vertices.append(np.column_stack([np.array(points, float), np.broadcast_to(radius, len(points))]))
        self.styles.append((tone, opacity, *cloth, solid))
        self.bone.append(bone)

    def finish(self, *, stretch: float = 1.0, cadence_hz: float = 0.0, sideways: bool = True) -> Look:
        """Return the look, ``stretch`` times as wide as drawn."""
        vertices = np.concatenate(self.vertices) * (stretch, 1.0, 1.0)
        return Look(
            vertices=vertices,
            starts=np.concatenate([[0], np.cumsum([len(points) for points in self.vertices])]),
            styles=np.array(self.styles, np.float64),
            bone=np.array(self.bone),
            bones=np.array(self.bones) * (1.0, stretch, 1.0, 1.0, 1.0, 1.0, 1.0),
            cadence_hz=cadence_hz,
            sideways=sideways,
        )


def _cloth(rng: np.random.Generator, largest: float = 0.3) -> tuple[int, float]:
    """A texture of a surface; a third of them are plain."""
    return int(rng.integers(TEXTURES)), float(rng.uniform(0.03, largest)) if rng.random() < 0.67 else 0.02


def _contrasting(rng: np.random.Generator, tone: float, least: float = 0.35, most: float = 1.1) -> float:
    """Another log intensity, mostly darker or lighter as the range of materials leaves room."""
    darker = rng.random() < 0.5 if -2.3 < tone < -0.4 else tone >= -0.4
    return float(np.clip(tone + (-1 if darker else 1) * rng.uniform(least, most), -3.2, 0.6))


def _shadow(drawing: _Drawing, rng: np.random.Generator, left: float, right: float) -> None:
    if rng.random() < 0.6:
        thick = rng.uniform(0.012, 0.03)
        drawing.add([(left, -0.004), (right, -0.004)], thick, _SHADOW_TONE, opacity=rng.uniform(0.2, 0.6), solid=False)


def with_cast_shadow(look: Look, sun: Sun) -> Look:
    """The look with the shadow that it casts, behind everything else of it and not a part of its silhouette.

    The shadow has the outline of the solid polygons as they are drawn, without hollows, and does not move with bones.
    """
    solid = np.repeat(look.styles[:, SOLID] > 0, np.diff(look.starts))
    x, y, radius = look.vertices[solid].T
    around = np.linspace(0, 2 * np.pi, 8, endpoint=False)[:, None]
    x, height = (x + radius * np.cos(around)).ravel(), np.maximum(0, -y + radius * np.sin(around)).ravel()
    outline = _hull(np.column_stack([x + sun.sideways * height, sun.down * height]))
    return replace(
        look,
        vertices=np.concatenate([np.column_stack([outline, np.full(len(outline), _SHADOW_EDGE)]), look.vertices]),
        starts=np.concatenate([[0], look.starts + len(outline)]),
        styles=np.concatenate([[(_SHADOW_TONE, sun.opacity, 0, 0, 0)], look.styles]),
        bone=np.concatenate([[0], look.bone]),
    )


def _hull(points: np.ndarray) -> np.ndarray:
    """The corners ``[K, 2]`` of the convex hull of points ``[N, 2]``, in turn (Andrew, 1979)."""

    def half(ordered: np.ndarray) -> list[np.ndarray]:
        chain: list[np.ndarray] = []
        for point in ordered:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-1] - chain[-2], point - chain[-2]
                if ax * by - ay * bx > 0:
                    break
                chain.pop()
            chain.append(point)
        return chain[:-1]

    ordered = np.unique(points, axis=0)
    return np.array(half(ordered) + half(ordered[::-1]))


# --- cars -----------------------------------------------------------------------------------------------------------

#: Side views, as (low, high), in units of the length of the car, x from the rear: height; x of rear window base, roof
#: rear, roof front and cowl; then, in units of the car's height, the heights of rear deck and bonnet.
_BODIES = {
    "sedan": ((0.28, 0.34), (0.12, 0.19), (0.26, 0.34), (0.54, 0.62), (0.66, 0.74), (0.60, 0.70), (0.54, 0.64)),
    "coupe": ((0.23, 0.29), (0.06, 0.14), (0.30, 0.40), (0.50, 0.58), (0.64, 0.70), (0.62, 0.72), (0.54, 0.62)),
    "hatchback": ((0.34, 0.42), (0.02, 0.05), (0.09, 0.17), (0.54, 0.62), (0.70, 0.78), (0.52, 0.62), (0.54, 0.62)),
    "estate": ((0.29, 0.35), (0.01, 0.03), (0.05, 0.10), (0.54, 0.62), (0.67, 0.74), (0.54, 0.62), (0.54, 0.62)),
    "suv": ((0.38, 0.46), (0.01, 0.04), (0.05, 0.11), (0.55, 0.63), (0.68, 0.75), (0.54, 0.62), (0.58, 0.68)),
    "van": ((0.40, 0.50), (0.00, 0.02), (0.02, 0.05), (0.68, 0.78), (0.84, 0.92), (0.50, 0.58), (0.46, 0.54)),
    "pickup": ((0.33, 0.41), (0.40, 0.45), (0.43, 0.49), (0.60, 0.66), (0.71, 0.77), (0.50, 0.58), (0.56, 0.64)),
}


def draw_car(rng: np.random.Generator, tone: float) -> Look:
    """Draw a road vehicle around the log intensity ``tone``: a car from its side or end, a lorry or a bus."""
    kind = rng.random()
    if kind < 0.22:
        return _car_end(rng, tone)
    if kind < 0.34:
        return _lorry(rng, tone)
    return _car_side(rng, tone)


def _wheel(
    drawing: _Drawing, rng: np.random.Generator, centre: Point, radius: float, tyre: float, rim: float, spokes: int
) -> None:
    x, y = centre
    bone = drawing.add_bone(centre, offset=rng.uniform(0, 6.28), turn=1 / radius)
    drawing.add([centre], radius * 1.16, tyre - 0.3)  # the arch
    drawing.add([centre], radius, tyre)
    drawing.add([centre], radius * 0.6, rim)
    for k in range(spokes):
        reach = 0.5 * radius * np.array([np.cos(np.pi * k / spokes), np.sin(np.pi * k / spokes)])
        drawing.add([(x - reach[0], y - reach[1]), (x + reach[0], y + reach[1])], radius * 0.1, tyre, bone=bone)


def _glass(rng: np.random.Generator, tone: float) -> float:
    """Windows are dark, or bright with the sky in them, but never the tone of the body."""
    dark = tone - rng.uniform(0.5, 1.3)
    return float(dark if dark > -3.2 and rng.random() < 0.75 else tone + rng.uniform(0.4, 1.0))


def _car_side(rng: np.random.Generator, tone: float) -> Look:
    drawing = _Drawing()
    body = _BODIES[rng.choice(list(_BODIES))]
    height, rear_base, rear, front, cowl, deck, bonnet = (rng.uniform(*limits) for limits in body)
    deck, bonnet = deck * height, bonnet * height
    clearance, wheel = rng.uniform(0.045, 0.085), rng.uniform(0.066, 0.092)
    round_off, cloth, glass = rng.uniform(0.004, 0.02), _cloth(rng, 0.14), _glass(rng, tone)
    tyre = min(tone - 0.3, rng.uniform(-3.0, -2.2))
    _shadow(drawing, rng, -0.46, 0.46)
    slant = rng.uniform(0.0, 0.03)
    outline = [
        (0.01, -clearance),
        (0.0, -0.6 * deck),
        (slant, -deck),
        (max(rear_base, slant + 0.005), -deck),
        (rear, -height),
        (front, -height * rng.uniform(0.96, 1.0)),
        (cowl, -bonnet),
        (0.96, -bonnet * rng.uniform(0.82, 0.96)),
        (1.0, -0.55 * bonnet),
        (0.99, -clearance),
    ]
    # The outline grows by its radius, so it is drawn smaller.
    shrink = 1.0 - 2 * round_off
    points = [((x - 0.5) * shrink, min(y + round_off, -clearance)) for x, y in outline]
    drawing.add(points, round_off, tone, cloth=cloth)
    if rng.random() < 0.4:  # a second colour below
        lower = tone + rng.uniform(-0.7, 0.4)
        split = -rng.uniform(0.4, 0.6) * min(deck, bonnet) - clearance
        drawing.add([(-0.48, -clearance), (-0.49, split), (0.49, split), (0.48, -clearance)], 0.004, lower, cloth=cloth)
    _side_windows(drawing, rng, rear_base, rear, front, cowl, deck, bonnet, height, glass)
    line = tone - rng.uniform(0.25, 0.6)
    for x in np.sort(rng.uniform(-0.22, 0.22, rng.integers(1, 3))):  # gaps of the doors
        drawing.add([(x, -0.95 * min(deck, bonnet)), (x, -clearance - 0.02)], 0.005, line)
    drawing.add([(-0.46, -clearance - 0.01), (0.46, -clearance - 0.01)], 0.014, line)  # sill
    lamp = max(tone + 0.4, rng.uniform(-0.4, 0.5))
    drawing.add([(0.455, -0.72 * bonnet), (0.475, -0.68 * bonnet)], 0.018, lamp)
    drawing.add([(-0.48, -0.82 * deck), (-0.48, -0.66 * deck)], 0.014, _contrasting(rng, tone))
    rim, spokes = _contrasting(rng, tyre, 0.5, 1.9), int(rng.integers(2, 5))
    for x in (rng.uniform(-0.35, -0.29), rng.uniform(0.29, 0.36)):
        _wheel(drawing, rng, (x, -wheel), wheel, tyre, rim, spokes)
    if rng.random() < 0.25:  # roof rack, or a taxi's sign
        drawing.add([(rear - 0.44, -height - 0.01), (front - 0.54, -height - 0.012)], 0.008, line)
    elif rng.random() < 0.15:
        drawing.add([(0.5 * (rear + front) - 0.5, -height - 0.01)], 0.028, lamp)
    return drawing.finish(stretch=rng.uniform(0.86, 1.0))


def _side_windows(
    drawing: _Drawing,
    rng: np.random.Generator,
    rear_base: float,
    rear: float,
    front: float,
    cowl: float,
    deck: float,
    bonnet: float,
    height: float,
    glass: float,
) -> None:
    """Two to four windows between belt line and roof, cut off by the slopes of the rear window and windscreen."""
    belt, roof = max(deck, bonnet) + rng.uniform(0.0, 0.02), height - rng.uniform(0.025, 0.045)
    if roof - belt < 0.04:
        belt = roof - 0.05

    def slope(base: float, base_height: float, top: float, at: float) -> float:
        return base + (top - base) * min(max((at - base_height) / max(height - base_height, 1e-3), 0), 1)

    frame = rng.uniform(0.015, 0.035)
    corners = [
        slope(rear_base, deck, rear, belt) + frame,
        slope(rear_base, deck, rear, roof) + frame,
        slope(cowl, bonnet, front, roof) - frame,
        slope(cowl, bonnet, front, belt) - frame,
    ]
    low_left, up_left, up_right, low_right = (x - 0.5 for x in corners)
    count = int(rng.integers(2, 5)) if up_right - up_left > 0.3 else int(rng.integers(1, 3))
    first = int(rng.integers(0, 2)) if front > 0.66 else 0  # vans: closed sides, a cab window
    count = max(count, first + 1)
    pillar = rng.uniform(0.008, 0.018)
    cuts = np.linspace(0, 1, count + 1)
    if count > 1:
        cuts[1:-1] += rng.uniform(-0.25, 0.25, count - 1) / count
    for left, right in list(pairwise(cuts))[first * (count - 1) :]:
        upper = [up_left + part * (up_right - up_left) for part in (left, right)]
        lower = [low_left + part * (low_right - low_left) for part in (left, right)]
        if min(upper[1] - upper[0], lower[1] - lower[0]) < 2 * pillar + 0.01:
            continue
        quad = [
            (lower[0] + pillar, -belt),
            (upper[0] + pillar, -roof),
            (upper[1] - pillar, -roof),
            (lower[1] - pillar, -belt),
        ]
        drawing.add(quad, 0.004, glass, cloth=(GRADIENT, 0.1))
        if rng.random() < 0.3:  # somebody inside
            x = 0.5 * (lower[0] + lower[1])
            drawing.add([(x, -belt - 0.4 * (roof - belt))], 0.3 * (roof - belt), _contrasting(rng, glass, 0.3, 0.8))


def _car_end(rng: np.random.Generator, tone: float) -> Look:
    """A car from the front or rear; about half as wide as it is long, so that it fits side views in size."""
    drawing = _Drawing()
    half, height = rng.uniform(0.23, 0.30), rng.uniform(0.36, 0.56)
    clearance, belt = rng.uniform(0.05, 0.08), rng.uniform(0.52, 0.62) * height
    roof, cloth, glass = half * rng.uniform(0.62, 0.84), _cloth(rng, 0.14), _glass(rng, tone)
    tyre = min(tone - 0.3, rng.uniform(-3.0, -2.2))
    corner = rng.uniform(0.012, 0.035)
    _shadow(drawing, rng, -half, half)
    for side in (-1, 1):
        drawing.add([(side * half * 0.8, -0.03), (side * half * 0.8, -0.12)], 0.032, tyre)
    inner = half - corner
    cabin = [(-inner, -belt), (-roof, -height + corner), (roof, -height + corner), (inner, -belt)]
    drawing.add(cabin, corner, tone, cloth=cloth)
    box = [(-inner, -clearance - corner), (-inner, -belt), (inner, -belt), (inner, -clearance - corner)]
    drawing.add(box, corner, tone, cloth=cloth)
    shield = [
        (-0.84 * half, -belt - 0.01),
        (-0.88 * roof, 0.03 - height),
        (0.88 * roof, 0.03 - height),
        (0.84 * half, -belt - 0.01),
    ]
    drawing.add(shield, 0.004, glass, cloth=(GRADIENT, 0.1))
    for x in rng.uniform(-0.6, 0.6, rng.integers(0, 3)) * roof:  # heads behind the windscreen
        drawing.add([(x, -belt - 0.03)], 0.035, _contrasting(rng, glass, 0.3, 0.8))
    lamp = _contrasting(rng, tone, 0.5, 1.2)
    level, spread = -rng.uniform(0.62, 0.85) * belt, rng.uniform(0.02, 0.04)
    for side in (-1, 1):
        end = (side * (0.86 * half - rng.uniform(0, 0.06)), level + rng.uniform(-0.02, 0.03))
        drawing.add([(side * 0.86 * half, level), end], spread, lamp)
        if rng.random() < 0.6:
            drawing.add([(side * (half + 0.02), -belt - 0.01)], 0.024, tone - 0.2)  # mirrors
    grille = tone - rng.uniform(0.3, 0.8)
    reach = rng.uniform(0.3, 0.6) * half
    drawing.add([(-reach, level * 0.85), (reach, level * 0.85)], rng.uniform(0.012, 0.03), grille)
    drawing.add([(-0.9 * half, -clearance - 0.02), (0.9 * half, -clearance - 0.02)], 0.02, grille)
    drawing.add([(-0.05, -0.45 * belt), (0.05, -0.45 * belt)], 0.016, _contrasting(rng, tone, 0.4, 0.9))  # plate
    return drawing.finish(stretch=rng.uniform(0.9, 1.1), sideways=False)


def _lorry(rng: np.random.Generator, tone: float) -> Look:
    """A lorry with a cab and a box or flatbed, or a bus with a row of windows."""
    drawing = _Drawing()
    height, clearance, wheel = rng.uniform(0.34, 0.5), rng.uniform(0.06, 0.09), rng.uniform(0.055, 0.075)
    tyre, glass = min(tone - 0.3, rng.uniform(-3.0, -2.2)), _glass(rng, tone)
    _shadow(drawing, rng, -0.47, 0.47)
    if rng.random() < 0.4:  # bus
        height = rng.uniform(0.3, 0.42)
        drawing.add(
            [(-0.48, -clearance), (-0.48, -height), (0.46, -height), (0.48, -clearance)],
            0.015,
            tone,
            cloth=_cloth(rng, 0.12),
        )
        low, top, count = -0.52 * height, 0.04 - height, int(rng.integers(4, 9))
        edges = np.linspace(-0.45, 0.46, count + 1)
        for left, right in zip(edges[:-1] + 0.008, edges[1:] - 0.008, strict=True):
            drawing.add([(left, low), (left, top), (right, top), (right, low)], 0.003, glass, cloth=(GRADIENT, 0.1))
        drawing.add(
            [(-0.48, -0.36 * height), (0.48, -0.36 * height)], rng.uniform(0.008, 0.03), _contrasting(rng, tone)
        )
        wheels = [rng.uniform(-0.34, -0.26), rng.uniform(0.26, 0.36)]
    else:
        cab, cab_height = rng.uniform(0.2, 0.28), rng.uniform(0.62, 0.95) * height
        cargo, floor = _contrasting(rng, tone, 0.1, 0.9), -clearance - 0.03
        top = -height if rng.random() < 0.75 else floor - rng.uniform(0.02, 0.12)
        drawing.add([(-0.48, floor), (0.48, floor)], 0.02, tyre + 0.3)
        drawing.add(
            [(-0.49, floor), (-0.49, top), (0.47 - cab, top), (0.47 - cab, floor)],
            0.006,
            cargo,
            cloth=_cloth(rng, 0.25),
        )
        nose = rng.uniform(0.0, 0.06)
        drawing.add(
            [
                (0.49 - cab, -clearance),
                (0.49 - cab, -cab_height),
                (0.47 - nose, -cab_height),
                (0.49, -0.5 * cab_height),
                (0.49, -clearance),
            ],
            0.008,
            tone,
            cloth=_cloth(rng, 0.1),
        )
        pane = [
            (0.53 - cab, -0.52 * cab_height),
            (0.53 - cab, -0.9 * cab_height),
            (0.45 - nose, -0.9 * cab_height),
            (0.46, -0.52 * cab_height),
        ]
        drawing.add(pane, 0.004, glass, cloth=(GRADIENT, 0.1))
        wheels = [-rng.uniform(0.3, 0.38), rng.uniform(0.3, 0.38)]
        if rng.random() < 0.6:
            wheels.append(wheels[0] + 2.3 * wheel)
    rim, spokes = _contrasting(rng, tyre, 0.5, 1.7), int(rng.integers(2, 4))
    for x in wheels:
        _wheel(drawing, rng, (x, -wheel), wheel, tyre, rim, spokes)
    return drawing.finish(stretch=rng.uniform(0.86, 1.0))


# --- pedestrians ----------------------------------------------------------------------------------------------------


def draw_pedestrian(rng: np.random.Generator, tone: float) -> Look:
    """Draw a walking person around the log intensity ``tone``, from the side or from front or back."""
    drawing = _Drawing()
    sideways = bool(rng.random() < 0.65)
    child = rng.random() < 0.15
    width = rng.uniform(0.75, 1.35)
    head = rng.uniform(0.058, 0.07) * (1.25 if child else 1.0)
    hip, shoulder = -rng.uniform(0.47, 0.52), -1 + 2 * head + rng.uniform(0.03, 0.05)
    shirt, trousers, skin = (tone + rng.uniform(-0.45, 0.45) for _ in range(3))
    hair, shoes = _contrasting(rng, skin, 0.3, 1.2), trousers - rng.uniform(-0.2, 0.8)
    shirt_cloth, trouser_cloth = _cloth(rng, 0.3), _cloth(rng, 0.15)
    _shadow(drawing, rng, -0.14, 0.14)
    lean = rng.uniform(-0.03, 0.12) if sideways else rng.uniform(-0.04, 0.04)
    trunk = drawing.add_bone((0.0, hip), offset=lean, swing=0.02 if sideways else 0.035)

    stride = rng.uniform(0.32, 0.6) if sideways else rng.uniform(0.04, 0.12)
    knee_bend = rng.uniform(0.25, 0.6) if sideways else rng.uniform(0.0, 0.08)
    arm_swing = rng.uniform(0.2, 0.65) if sideways else rng.uniform(0.03, 0.12)
    elbow = -rng.uniform(0.1, 1.1) if sideways else 0.0
    leg_x = 0.0 if sideways else 0.055 * width
    arm_x = 0.0 if sideways else 0.1 * width
    leg_radius = (0.042 * width + 0.006, 0.03 * width + 0.006, 0.022)
    arm_radius = (0.028 * width + 0.004, 0.022, 0.017)
    knee, ankle = 0.5 * hip, -0.045
    elbow_y, hand_y = shoulder + 0.17, shoulder + 0.33

    def leg(side: int) -> None:
        shade = trousers - (0.15 if side < 0 else 0.0)
        thigh = drawing.add_bone((side * leg_x, hip), offset=-0.03, swing=side * stride)
        shin = drawing.add_bone(
            (side * leg_x, knee), thigh, offset=0.5 * knee_bend, swing=0.5 * knee_bend, shift=-1.9 if side > 0 else 1.24
        )
        drawing.add([(side * leg_x, hip), (side * leg_x, knee)], leg_radius[:2], shade, bone=thigh, cloth=trouser_cloth)
        drawing.add(
            [(side * leg_x, knee), (side * leg_x, ankle)], leg_radius[1:], shade, bone=shin, cloth=trouser_cloth
        )
        toe = 0.085 if sideways else side * 0.02
        drawing.add([(side * leg_x - 0.01, -0.022), (side * leg_x + toe, -0.018)], 0.02, shoes, bone=shin)

    def arm(side: int) -> None:
        shade = shirt - (0.15 if side < 0 else 0.0)
        splay = 0.0 if sideways else -side * rng.uniform(0.03, 0.2)
        upper = drawing.add_bone((side * arm_x, shoulder), trunk, offset=splay + 0.05, swing=-side * arm_swing)
        lower = drawing.add_bone(
            (side * arm_x, elbow_y), upper, offset=elbow, swing=-0.5 * side * arm_swing, shift=-0.5 if sideways else 0.0
        )
        drawing.add(
            [(side * arm_x, shoulder), (side * arm_x, elbow_y)], arm_radius[:2], shade, bone=upper, cloth=shirt_cloth
        )
        sleeve = shade if long_sleeves else skin
        drawing.add([(side * arm_x, elbow_y), (side * arm_x, hand_y)], arm_radius[1:], sleeve, bone=lower)
        drawing.add([(side * arm_x, hand_y)], 0.019, skin, bone=lower)
        if side == carrying_side:
            bag = _contrasting(rng, shirt, 0.2, 1.0)
            reach = rng.uniform(0.03, 0.08)
            x, y = side * arm_x, hand_y + 0.02
            drawing.add(
                [(x - reach, y), (x + reach, y), (x + reach, y + 0.1), (x - reach, y + 0.1)],
                0.012,
                bag,
                bone=lower,
                cloth=_cloth(rng),
            )

    long_sleeves = rng.random() < 0.6
    carrying_side = int(rng.choice([-1, 0, 0, 1]))
    arm(-1)
    leg(-1)
    leg(1)
    back = 0.065 * width if sideways else 0.095 * width
    waist = back * rng.uniform(0.75, 1.0)
    garment = rng.random()
    if garment < 0.3:  # skirt or long coat
        hem, flare = hip + rng.uniform(0.12, 0.3), rng.uniform(1.0, 1.6)
        skirt = shirt if rng.random() < 0.5 else trousers
        drawing.add(
            [(-waist, hip - 0.05), (waist, hip - 0.05), (flare * back, hem), (-flare * back, hem)],
            0.015,
            skirt,
            cloth=shirt_cloth,
        )
    if rng.random() < 0.25 and sideways:  # backpack
        pack = _contrasting(rng, shirt, 0.2, 1.0)
        drawing.add(
            [(-back - 0.05, shoulder + 0.05), (-back - 0.05, shoulder + 0.22)],
            rng.uniform(0.035, 0.055),
            pack,
            bone=trunk,
            cloth=_cloth(rng),
        )
    chest = [(-0.85 * back, shoulder + 0.015), (0.85 * back, shoulder + 0.015), (waist, hip), (-waist, hip)]
    drawing.add(chest, 0.022, shirt, bone=trunk, cloth=shirt_cloth)
    neck = rng.uniform(0.0, 0.03) if sideways else 0.0
    centre = (neck, -1 + head)
    drawing.add([(0.0, shoulder), (neck, centre[1])], 0.026, skin, bone=trunk)
    drawing.add([(neck, centre[1] - 0.006), (neck, centre[1] + 0.012)], head * 0.86, skin, bone=trunk)
    if rng.random() < 0.8:  # hair, or a hat with a brim
        shift = -0.2 * head if sideways else 0.0
        drawing.add([(neck + shift, centre[1] - 0.22 * head)], head * 0.8, hair, bone=trunk)
    else:
        brim = head * rng.uniform(0.9, 1.5)
        drawing.add(
            [(neck - 0.6 * brim, centre[1] - 0.3 * head), (neck + brim, centre[1] - 0.3 * head)],
            0.014,
            hair,
            bone=trunk,
        )
        drawing.add([(neck, centre[1] - 0.5 * head)], head * 0.66, hair, bone=trunk)
    arm(1)
    return drawing.finish(
        stretch=rng.uniform(0.85, 1.2) * (1.15 if child else 1.0),
        cadence_hz=rng.uniform(0.7, 1.3) * (1.3 if child else 1.0),
        sideways=sideways,
    )


# --- clutter --------------------------------------------------------------------------------------------------------


def draw_clutter(rng: np.random.Generator, tone: float) -> Look:
    """Draw something around the log intensity ``tone`` that is neither a vehicle nor a person; its longer side is 1."""
    drawing = _Drawing()
    draw = _CLUTTER[rng.integers(len(_CLUTTER))]
    draw(drawing, rng, tone)
    return drawing.finish(cadence_hz=rng.uniform(0.2, 1.0), sideways=bool(rng.random() < 0.7))


def _pole(drawing: _Drawing, rng: np.random.Generator, tone: float) -> None:
    thick = rng.uniform(0.012, 0.035)
    drawing.add([(0, -thick), (0, -0.97)], thick, tone, cloth=_cloth(rng))
    if rng.random() < 0.5:  # lamp
        reach = rng.uniform(-0.25, 0.25)
        drawing.add([(0, -0.97), (reach, -0.97)], 0.6 * thick, tone)
        drawing.add([(reach, -0.96)], rng.uniform(0.03, 0.07), _contrasting(rng, tone))


def _sign(drawing: _Drawing, rng: np.random.Generator, tone: float) -> None:
    thick, size = rng.uniform(0.012, 0.03), rng.uniform(0.1, 0.24)
    drawing.add([(0, -thick), (0, -0.95 + size)], thick, _contrasting(rng, tone))
    sides = rng.choice([1, 3, 4, 6])
    angles = np.arange(sides) * 2 * np.pi / sides + rng.choice([0, np.pi / sides, np.pi / 2])

    def ring(radius: float) -> list[Point]:
        return [(radius * np.cos(a), -0.97 + size + radius * np.sin(a)) for a in angles]

    if sides == 1:
        drawing.add([(0, -0.97 + size)], size, tone)
        drawing.add([(0, -0.97 + size)], 0.7 * size, _contrasting(rng, tone))
    else:
        drawing.add(ring(size), 0.01, tone)
        drawing.add(ring(0.65 * size), 0.01, _contrasting(rng, tone), cloth=_cloth(rng))


def _bush(drawing: _Drawing, rng: np.random.Generator, tone: float) -> None:
    height = rng.uniform(0.35, 1.0)
    for _ in range(rng.integers(5, 12)):
        size = rng.uniform(0.1, 0.22)
        spot = (rng.uniform(size - 0.5, 0.5 - size), -rng.uniform(size, max(height - size, size + 0.01)))
        drawing.add(
            [spot], size, tone + rng.uniform(-0.3, 0.3), cloth=(int(rng.integers(NOISES)), rng.uniform(0.15, 0.4))
        )


def _tree(drawing: _Drawing, rng: np.random.Generator, tone: float) -> None:
    thick = rng.uniform(0.02, 0.06)
    drawing.add(
        [(0, 0), (rng.uniform(-0.05, 0.05), -0.6)],
        (1.3 * thick, 0.8 * thick),
        _contrasting(rng, tone),
        cloth=_cloth(rng),
    )
    sway = drawing.add_bone((0, -0.4), swing=rng.uniform(0, 0.06))
    for _ in range(rng.integers(4, 9)):
        size = rng.uniform(0.09, 0.2)
        spot = (rng.uniform(-0.25, 0.25), -rng.uniform(0.5, 1 - size))
        drawing.add(
            [spot],
            size,
            tone + rng.uniform(-0.3, 0.3),
            bone=sway,
            cloth=(int(rng.integers(NOISES)), rng.uniform(0.15, 0.4)),
        )


def _crates(drawing: _Drawing, rng: np.random.Generator, tone: float) -> None:
    base = 0.0
    for _ in range(rng.integers(1, 4)):
        height, half, shift = rng.uniform(0.18, 0.34), rng.uniform(0.15, 0.5), rng.uniform(-0.08, 0.08)
        box = [(shift - half, base), (shift - half, base - height), (shift + half, base - height), (shift + half, base)]
        drawing.add(box, 0.008, tone + rng.uniform(-0.5, 0.5), cloth=_cloth(rng, 0.4))
        if rng.random() < 0.6:
            y = base - rng.uniform(0.3, 0.7) * height
            drawing.add(
                [(shift - 0.8 * half, y), (shift + 0.8 * half, y)], rng.uniform(0.01, 0.04), _contrasting(rng, tone)
            )
        base -= height


def _fence(drawing: _Drawing, rng: np.random.Generator, tone: float) -> None:
    height, bars, thick = rng.uniform(0.25, 0.6), int(rng.integers(4, 11)), rng.uniform(0.008, 0.03)
    for x in np.linspace(-0.48, 0.48, bars):
        drawing.add([(x, 0), (x, -height)], thick, tone, cloth=_cloth(rng))
    for y in rng.uniform(-height, -0.05, rng.integers(1, 4)):
        drawing.add([(-0.48, y), (0.48, y)], thick * 0.8, tone)


def _patch(drawing: _Drawing, rng: np.random.Generator, tone: float) -> None:
    """A random, often non-convex polygon with spots."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(4, 11)))
    reach, aspect = rng.uniform(0.2, 0.5, len(angles)), rng.uniform(0.35, 1.0)
    spin = drawing.add_bone((0, -0.5), swing=rng.uniform(0, 0.3)) if rng.random() < 0.4 else 0
    points = [(r * np.cos(a), -0.5 + aspect * r * np.sin(a)) for r, a in zip(reach, angles, strict=True)]
    drawing.add(points, rng.uniform(0.0, 0.05), tone, bone=spin, cloth=_cloth(rng, 0.45))
    for _ in range(rng.integers(0, 6)):
        spot = (rng.uniform(-0.25, 0.25), -0.5 + aspect * rng.uniform(-0.25, 0.25))
        drawing.add([spot], rng.uniform(0.02, 0.09), _contrasting(rng, tone), bone=spin)


def _barrel(drawing: _Drawing, rng: np.random.Generator, tone: float) -> None:
    """An upright body with bands: bin, barrel, bollard, letter box; as tall and narrow as a person, or stout."""
    half, height = rng.uniform(0.12, 0.4), rng.uniform(0.7, 1.0)
    top = half * rng.uniform(0.7, 1.2)
    corner = rng.uniform(0.01, 0.1)
    drawing.add(
        [
            (-half + corner, -corner),
            (-top + corner, corner - height),
            (top - corner, corner - height),
            (half - corner, -corner),
        ],
        corner,
        tone,
        cloth=_cloth(rng, 0.3),
    )
    for y in rng.uniform(-0.9, -0.1, rng.integers(0, 4)) * height:
        drawing.add(
            [(-0.85 * min(half, top), y), (0.85 * min(half, top), y)], rng.uniform(0.01, 0.05), _contrasting(rng, tone)
        )


def _board(drawing: _Drawing, rng: np.random.Generator, tone: float) -> None:
    """A panel on two posts with stripes, lines of text or window-like fields."""
    height, low = rng.uniform(0.25, 0.55), rng.uniform(0.0, 0.3)
    post = _contrasting(rng, tone)
    for x in (-0.4, 0.4):
        drawing.add([(x, 0), (x, -low - 0.1)], 0.02, post)
    drawing.add(
        [(-0.49, -low), (-0.49, -low - height), (0.49, -low - height), (0.49, -low)], 0.01, tone, cloth=_cloth(rng, 0.3)
    )
    ink = _contrasting(rng, tone)
    columns, rows = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    fill = rng.uniform(0.4, 0.85)
    for i in range(columns):
        for j in range(rows):
            left, top = -0.45 + 0.9 * i / columns, -low - height + 0.03 + (height - 0.06) * j / rows
            right, bottom = left + fill * 0.9 / columns, top + fill * (height - 0.06) / rows
            drawing.add([(left, top), (left, bottom), (right, bottom), (right, top)], 0.002, ink)


def _rock(drawing: _Drawing, rng: np.random.Generator, tone: float) -> None:
    """A mound of a few rounded lumps, as long and low as a car."""
    height = rng.uniform(0.25, 0.5)
    x = np.concatenate([[-0.46], np.sort(rng.uniform(-0.4, 0.4, rng.integers(2, 6))), [0.46]])
    y = -np.concatenate([[0.02], rng.uniform(0.4, 1.0, len(x) - 2) * height, [0.02]])
    drawing.add(list(zip(x, y, strict=True)), 0.03, tone, cloth=_cloth(rng, 0.4))
    for _ in range(rng.integers(0, 5)):
        spot = (rng.uniform(-0.3, 0.3), -rng.uniform(0.1, 0.6) * height)
        drawing.add([spot], rng.uniform(0.02, 0.08), _contrasting(rng, tone, 0.2, 0.6))


_CLUTTER: tuple[Callable[[_Drawing, np.random.Generator, float], None], ...] = (
    _pole,
    _sign,
    _bush,
    _tree,
    _crates,
    _fence,
    _patch,
    _barrel,
    _board,
    _rock,
)
