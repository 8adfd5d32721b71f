# SPDX-License-Identifier: Apache-2.0
"""Simulated scenes: cars, pedestrians and clutter in front of a moving backdrop, as an event camera sees them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from aegnn_core.events.array import EVENT_DTYPE, EventStream
from aegnn_core.events.boxes import BOX_DTYPE as LABEL
from aegnn_core.events.simulation.motion import Actor, Camera, crossing_times
from aegnn_core.events.simulation.raster import SOLID, fill_backdrop, paint_polygons
from aegnn_core.events.simulation.sensor import EventSensor, SensorModel
from aegnn_core.events.simulation.shapes import Sun, draw_car, draw_clutter, draw_pedestrian, with_cast_shadow
from aegnn_core.events.simulation.textures import backdrop_tile, surface_tiles

__all__ = [
    "BOX_DTYPE",
    "CLASSES",
    "RECOGNITION_CLASSES",
    "RECOGNITION_SCENE",
    "SceneConfig",
    "SimulatedSample",
    "SimulatedScene",
    "simulate_recognition",
    "simulate_scene",
]

#: Labels of the boxes of a scene; ``class_id`` is the index.
CLASSES = ("car", "pedestrian")
#: Labels of :func:`simulate_recognition`.
RECOGNITION_CLASSES = ("car", "pedestrian", "clutter")

#: One box on the sensor, and the fraction of the whole object that is neither occluded nor out of view.
BOX_DTYPE = np.dtype([*LABEL.descr, ("visible", np.float32)])

_CLUTTER_ID = -1
_DRAW = {0: draw_car, 1: draw_pedestrian, _CLUTTER_ID: draw_clutter}
#: Motion is examined at least this often to choose the time step [µs].
_KNOT_US = 10_000
#: Poses are computed for about this much time at once [µs]; it bounds memory and does not change the result.
_REEL_US = 250_000


#: Of the sun: how far to either side the shadow of a point lies at most, by its height, how far behind and in front of
#: where it stands, and how much of the ground shadows hide.
_SIDEWAYS, _DOWN, _DARKNESS = 1.3, (-0.25, 0.5), (0.25, 0.9)

#: Scenes are not enlarged, or made smaller, by more than this.
_LARGEST_SCALE = 1000

#: What of a scene is a range of lengths [px] or speeds [px/s], and grows with the number of the sensor's pixels.
_SCALED_RANGES = (
    "car_length_px",
    "pedestrian_height_px",
    "clutter_size_px",
    "object_speed",
    "backdrop_speed",
    "star_speed",
)


@dataclass(frozen=True)
class SceneConfig:
    """What a simulated scene may contain. Ranges are (low, high); lengths are in pixels of ``sensor``.

    Attributes:
        duration_us: length of the recording [µs].
        sensor: the event camera.
        labelled: how many cars and pedestrians are about at a time; each that leaves is replaced after a while.
        clutter: how many other objects are about at a time.
        car_length_px: length of a car, from 0.7 to 1.4 times that while it comes closer and goes away.
        pedestrian_height_px: height of a pedestrian, likewise.
        clutter_size_px: longer side of clutter, likewise.
        object_speed: speed of objects that move on their own [px/s]; pedestrians have 0.6 times that.
        backdrop_speed: speed of the backdrop, and of the clutter that stands on it, when the camera pans [px/s].
        still_camera: fraction of scenes whose camera does not pan; its objects then have at least 2.5 times the
            lowest ``object_speed``.
        shadows: fraction of scenes in which objects cast shadows on the ground; these are not in their boxes.
        shake_px: largest amplitude of camera shake [px].
        illumination: largest amplitude of the variation of brightness [log intensity].
        box_period_us: time between boxes [µs]; the first are at this time.
        min_visible: boxes of objects less visible than this fraction are left out.
        min_side_px: boxes with a side below this on the sensor are left out [px].
        max_step_px: nothing moves further between two renderings [px].
        star_speed: slowest and fastest image motion of the one object of :func:`simulate_recognition` [px/s].
    """

    duration_us: int = 500_000
    sensor: SensorModel = field(default_factory=SensorModel)
    labelled: tuple[int, int] = (1, 4)
    clutter: tuple[int, int] = (2, 5)
    car_length_px: tuple[float, float] = (28.0, 68.0)
    pedestrian_height_px: tuple[float, float] = (28.0, 60.0)
    clutter_size_px: tuple[float, float] = (14.0, 68.0)
    object_speed: tuple[float, float] = (14.0, 130.0)
    backdrop_speed: tuple[float, float] = (10.0, 50.0)
    still_camera: float = 0.2
    shadows: float = 0.0
    shake_px: float = 0.5
    illumination: float = 0.02
    box_period_us: int = 10_000
    min_visible: float = 0.4
    min_side_px: float = 6.0
    max_step_px: float = 0.75
    star_speed: tuple[float, float] = (25.0, 60.0)

    def __post_init__(self) -> None:
        for name in ("duration_us", "box_period_us"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a positive integer")
        if not 0 < self.max_step_px < math.inf:
            raise ValueError(f"max_step_px is {self.max_step_px}, expected a positive number")
        for name in ("labelled", "clutter"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} is ({low}, {high}), expected 0 <= low <= high")
        for name in _SCALED_RANGES:
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise ValueError(f"{name} is ({low}, {high}), expected 0 < low <= high")
        for name in ("still_camera", "shadows", "min_visible"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a fraction from 0 to 1")
        for name in ("shake_px", "illumination", "min_side_px"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a finite number that is not negative")

    def for_camera(self, camera: tuple[int, int]) -> SceneConfig:
        """The same scenes as a camera with more or fewer pixels sees them.

        Lengths and speeds, the shake and the least side of a box are multiplied by the smaller of the two ratios of the
        sensors' sides. A camera of another shape sees objects of that size on a canvas that is wider or higher.

        Args:
            camera: width and height of its sensor [px].

        Raises:
            ValueError: a size that is not from 1 to 65535 px.
        """
        width, height = camera
        sensor = replace(self.sensor, width=width, height=height)
        return replace(self.scaled(min(width / self.sensor.width, height / self.sensor.height)), sensor=sensor)

    def scaled(self, scale: float) -> SceneConfig:
        """The same scenes with everything in them that many times as large and fast, on the same sensor.

        That goes for the shake and for the least side of a box, too.

        Raises:
            ValueError: a scale at which nothing is to be seen, or nothing else than one object.
        """
        if not 1 / _LARGEST_SCALE <= scale <= _LARGEST_SCALE:
            raise ValueError(
                f"the scale of a scene is {scale}, expected a number from {1 / _LARGEST_SCALE:g} to {_LARGEST_SCALE}"
            )
        scaled: dict[str, Any] = {name: tuple(scale * end for end in getattr(self, name)) for name in _SCALED_RANGES}
        scaled |= {name: scale * getattr(self, name) for name in ("shake_px", "min_side_px")}
        return replace(self, **scaled)


#: The default of :func:`simulate_recognition`: crops in the spirit of N-Cars, filled by one object.
RECOGNITION_SCENE = SceneConfig(
    duration_us=100_000,
    sensor=SensorModel(width=120, height=100),
    labelled=(0, 0),
    clutter=(0, 3),
    car_length_px=(70.0, 108.0),
    pedestrian_height_px=(60.0, 92.0),
    clutter_size_px=(12.0, 32.0),
)


@dataclass(frozen=True)
class SimulatedScene:
    """Events of a scene, its boxes ``[B]`` (:data:`BOX_DTYPE`, by time, then track) and the names of the classes."""

    stream: EventStream
    boxes: np.ndarray
    labels: tuple[str, ...]


@dataclass(frozen=True)
class SimulatedSample:
    """Events of one dominating object and its class, an index into :data:`RECOGNITION_CLASSES`."""

    stream: EventStream
    label: int


def simulate_scene(seed: int, config: SceneConfig = SceneConfig()) -> SimulatedScene:
    """Simulate what an event camera sees of a scene with several objects.

    Args:
        seed: non-negative; the same seed and configuration give the same scene.
        config: what the scene may contain.

    Raises:
        ValueError: the seed is negative.
    """
    stage = _Stage(_generator(seed, 0), config)
    stage.populate()
    events, boxes = _film(stage, _generator(seed, 1))
    return SimulatedScene(EventStream(events, config.sensor.width, config.sensor.height), boxes, CLASSES)


def simulate_recognition(seed: int, config: SceneConfig = RECOGNITION_SCENE) -> SimulatedSample:
    """Simulate a short recording of one object, of a class drawn evenly, that fills most of the sensor.

    Args:
        seed: non-negative; the same seed and configuration give the same sample.
        config: ranges of the object (for clutter: the car's), of the small clutter around it, and the duration.

    Raises:
        ValueError: the seed is negative.
    """
    rng = _generator(seed, 2)
    label = int(rng.integers(len(RECOGNITION_CLASSES)))
    stage = _Stage(rng, config)
    stage.star(label if label < len(CLASSES) else _CLUTTER_ID)
    stage.populate()
    events, _ = _film(stage, _generator(seed, 3))
    return SimulatedSample(EventStream(events, config.sensor.width, config.sensor.height), label)


def _generator(seed: int, purpose: int) -> np.random.Generator:
    """An independent source of randomness for each purpose, so that a change of one leaves the others."""
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected a non-negative integer")
    return np.random.default_rng([purpose, seed])


class _Stage:
    """Everything that is drawn once for a scene: camera, backdrop, textures and the objects with their paths."""

    def __init__(self, rng: np.random.Generator, config: SceneConfig) -> None:
        self.config = config
        self.actors: list[Actor] = []
        self._rng = rng
        sensor = config.sensor
        self.textures = surface_tiles(rng)
        self.tile = backdrop_tile(rng, sensor.width, sensor.height, self.textures)
        self._level = float(self.tile.mean())
        self.still = bool(rng.random() < config.still_camera)
        self._sun = self._draw_sun()
        self.camera = self._draw_camera()
        self._illumination = (rng.uniform(0, config.illumination), rng.uniform(0.3, 2.0), rng.uniform(0, 2 * np.pi))

    def _draw_camera(self) -> Camera:
        rng, config = self._rng, self.config
        speed, heading = rng.uniform(*config.backdrop_speed), rng.uniform(-0.35, 0.35)
        drift = speed * np.array([rng.choice([-1, 1]) * np.cos(heading), np.sin(heading)])
        pan = np.array([rng.uniform(0, 6), rng.uniform(0, 3), rng.uniform(0.2, 0.9), *rng.uniform(0, 2 * np.pi, 2)])
        shake = np.column_stack(
            [rng.uniform(0, config.shake_px, (2, 2)), rng.uniform(3, 9, 2), rng.uniform(0, 2 * np.pi, (2, 2))]
        )
        roll = (rng.uniform(0, 0.03), rng.uniform(0.2, 0.8), rng.uniform(0, 2 * np.pi))
        zoom = (rng.uniform(0, 0.12), rng.uniform(0.1, 0.5), rng.uniform(0, 2 * np.pi))
        if self.still:
            return Camera(np.zeros(2), 0.3 * shake, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
        return Camera(drift, np.vstack([pan, shake]), roll, zoom)

    def _draw_sun(self) -> Sun | None:
        """The sun if it shines, drawn so that all else in the scene is as without it."""
        (rng,) = self._rng.spawn(1)
        if rng.random() >= self.config.shadows:
            return None
        return Sun(rng.uniform(-_SIDEWAYS, _SIDEWAYS), rng.uniform(*_DOWN), rng.uniform(*_DARKNESS))

    def illumination(self, t_us: int) -> float:
        """Change of all log intensities at a time."""
        amplitude, frequency, phase = self._illumination
        return amplitude * math.sin(2e-6 * math.pi * frequency * t_us + phase)

    def star(self, class_id: int) -> None:
        """Add one object that is in the middle of the sensor halfway through the recording."""
        sensor, rng = self.config.sensor, self._rng
        size = self.config.pedestrian_height_px if class_id == 1 else self.config.car_length_px
        actor = self._draw_actor(class_id, size, standing=False)
        points, radius = actor.look.vertices[:, :2], actor.look.vertices[:, 2:]
        low, high = (points - radius).min(0), (points + radius).max(0)
        frame = np.array([sensor.width, sensor.height])
        scale = min(actor.size / (high - low).max(), *(frame / (high - low)))
        middle = 0.5 * scale * (low + high) * (actor.facing, 1)
        centre = frame * rng.uniform(0.44, 0.56, 2)
        # Too slow, it would not show in a short recording; too fast, it would leave. The camera must not undo it.
        duration_us = self.config.duration_us
        swayed = np.diff(self.camera.shift(np.array([0.0, duration_us])), axis=0)[0] / (duration_us * 1e-6)
        speed = np.hypot(*actor.velocity)
        velocity = actor.velocity * (np.clip(speed, *self.config.star_speed) / speed) - swayed
        self.actors.append(
            replace(
                actor,
                size=scale,
                point=centre - middle,
                time_us=0.5 * duration_us,
                velocity=velocity,
                depth=rng.uniform(0.1, 0.5),
                enter_us=-math.inf,
                leave_us=math.inf,
            )
        )

    def populate(self) -> None:
        """Fill the duration with objects: each place is taken by one object after the other."""
        rng, config = self._rng, self.config
        labelled = rng.integers(config.labelled[0], config.labelled[1] + 1)
        clutter = rng.integers(config.clutter[0], config.clutter[1] + 1)
        sizes = {0: config.car_length_px, 1: config.pedestrian_height_px, _CLUTTER_ID: config.clutter_size_px}
        for place in range(labelled + clutter):
            standing = bool(place >= labelled and rng.random() < 0.5)
            end_us = -math.inf
            while end_us < config.duration_us:
                class_id = int(rng.integers(len(CLASSES))) if place < labelled else _CLUTTER_ID
                actor = self._draw_actor(class_id, sizes[class_id], standing)
                if end_us > 0:  # comes in after the last one, rather than being there from the beginning
                    delay = end_us + rng.exponential(200_000) - actor.enter_us
                    actor = replace(
                        actor,
                        time_us=actor.time_us + delay,
                        enter_us=actor.enter_us + delay,
                        leave_us=actor.leave_us + delay,
                    )
                self.actors.append(actor)
                end_us = max(actor.leave_us, 1.0)
        self.actors.sort(key=lambda actor: -actor.depth)

    def _draw_actor(self, class_id: int, size_px: tuple[float, float], standing: bool) -> Actor:
        """Draw an object and its path, on which it is somewhere in view within the first second.

        What is ``standing`` moves with the backdrop, or a little faster because it is closer.
        """
        rng, config = self._rng, self.config
        width, height = config.sensor.width, config.sensor.height
        tone = self._level + rng.choice([-1, 1]) * rng.uniform(0.35, 1.2)
        look = _DRAW[class_id](rng, tone)
        size = float(np.exp(rng.uniform(*np.log(size_px))))
        if standing:
            velocity = self.camera.drift * rng.uniform(0.9, 1.3)
            growth = (0.0, 0.0, 0.0)
        else:
            low, high = config.object_speed
            low = min(2.5 * low, high) if self.still else low
            speed = np.exp(rng.uniform(np.log(low), np.log(high))) * (0.6 if class_id == 1 else 1.0)
            speed *= 1.0 if look.sideways else 0.6
            heading = rng.normal(0, 0.12 if look.sideways else 0.7)
            velocity = speed * np.array([rng.choice([-1, 1]) * np.cos(heading), np.sin(heading)])
            growth = (rng.uniform(0, 0.3 if look.sideways else 0.35), rng.uniform(0.15, 0.6), rng.uniform(0, 2 * np.pi))
        facing = 1 if velocity[0] >= 0 else -1
        if self._sun is not None:
            look = with_cast_shadow(look, replace(self._sun, sideways=facing * self._sun.sideways))
        point = np.array([rng.uniform(0.05, 0.95) * width, rng.uniform(0.5, 1.02) * height])
        if class_id == _CLUTTER_ID and rng.random() < 0.3:
            point[1] *= rng.uniform(0.4, 1.0)  # in the air
        # In view as long as the ground point is within this margin of the sensor.
        reach = 1.1 * size * math.exp(growth[0]) * (np.abs(look.vertices[:, :2]).max(0) + 0.1)
        bound = np.array([reach[0], 0.1 * reach[1]]) + np.abs(self.camera.sway[:, :2]).sum(0)
        low_corner, high_corner = -bound, np.array([width, height]) + bound + np.array([0, reach[1]])
        time_us = rng.uniform(0, min(config.duration_us, 1_000_000))
        enter, leave = crossing_times(point, velocity, low_corner, high_corner)
        nearness = size / (70.0 if class_id == _CLUTTER_ID else 60.0)
        return Actor(
            look=look,
            class_id=class_id,
            track_id=len(self.actors),
            depth=-nearness + rng.normal(0, 0.4),
            size=size,
            growth=growth,
            facing=facing,
            tilt=rng.normal(0, 0.03),
            point=point,
            time_us=time_us,
            velocity=velocity,
            phase=rng.uniform(0, 2 * np.pi),
            texels=size * rng.uniform(0.5, 1.0),
            enter_us=time_us + 1e6 * enter,
            leave_us=time_us + 1e6 * leave,
        )


@dataclass(frozen=True)
class _Reel:
    """The poses of all objects in view at the times ``[T]`` of a part of the recording, farthest object first."""

    t_us: np.ndarray
    actors: list[Actor]
    vertices: np.ndarray
    frames: np.ndarray
    starts: np.ndarray
    styles: np.ndarray
    owners: np.ndarray
    backdrop: np.ndarray


def _pose(stage: _Stage, t_us: np.ndarray) -> _Reel:
    actors = [actor for actor in stage.actors if actor.enter_us <= t_us[-1] and actor.leave_us >= t_us[0]]
    shift = stage.camera.shift(t_us)
    poses = [actor.pose(t_us, shift) for actor in actors]
    counts = [len(actor.look.bone) for actor in actors]
    sizes = np.concatenate([[0], *(np.diff(actor.look.starts) for actor in actors)])
    sensor = stage.config.sensor
    return _Reel(
        t_us=t_us,
        actors=actors,
        vertices=np.concatenate([np.empty((len(t_us), 0, 3)), *(pose[0] for pose in poses)], axis=1),
        frames=np.concatenate([np.empty((len(t_us), 0, 2, 3)), *(pose[1] for pose in poses)], axis=1),
        starts=np.cumsum(sizes.astype(np.int64)),
        styles=np.concatenate([np.empty((0, 5)), *(actor.look.styles for actor in actors)]),
        owners=np.repeat(np.arange(len(actors), dtype=np.int32), counts),
        backdrop=stage.camera.backdrop(t_us, sensor.width, sensor.height),
    )


def _render(stage: _Stage, reel: _Reel) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the log intensity ``[H, W]`` and the index of the object seen by each pixel (-1: none) at each time.

    Both arrays are used again for the next time.
    """
    shape = (stage.config.sensor.height, stage.config.sensor.width)
    image, owner = np.empty(shape, np.float32), np.empty(shape, np.int32)
    for k, t in enumerate(reel.t_us):
        fill_backdrop(image, stage.tile, reel.backdrop[k])
        owner.fill(-1)
        paint_polygons(
            image, owner, reel.vertices[k], reel.starts, reel.styles, reel.owners, reel.frames[k], stage.textures
        )
        image += np.float32(stage.illumination(int(t)))
        yield image, owner


def _film(stage: _Stage, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Run the sensor over the whole scene; events and boxes."""
    config = stage.config
    period = config.box_period_us
    reel_us = max(1, _REEL_US // period) * period
    image, _ = next(_render(stage, _pose(stage, np.zeros(1, np.int64))))
    sensor = EventSensor(config.sensor, image, 0, rng)
    events, boxes = [np.empty(0, EVENT_DTYPE)], [np.empty(0, BOX_DTYPE)]
    for start in range(0, config.duration_us, reel_us):
        times = _render_times(stage, start, min(start + reel_us, config.duration_us))
        reel = _pose(stage, times)
        for k, (image, owner) in enumerate(_render(stage, reel)):
            events.append(sensor.advance(image, int(times[k])))
            if times[k] % period == 0:
                boxes.append(_boxes(stage, reel, k, owner))
    return np.concatenate(events), np.concatenate(boxes)


def _render_times(stage: _Stage, start_us: int, stop_us: int) -> np.ndarray:
    """Times after ``start_us`` [µs] between which nothing in view moves by more than ``max_step_px``.

    Multiples of the box period are among them.
    """
    config = stage.config
    parts = math.ceil(config.box_period_us / _KNOT_US)
    first, last = start_us // config.box_period_us, -(-stop_us // config.box_period_us)
    grid = np.arange(first * parts, last * parts + 1) * config.box_period_us // parts
    knots = np.unique(np.clip(grid, start_us, stop_us))
    reel = _pose(stage, knots)
    corners = np.array([(x, y, 1) for x in (0, config.sensor.width) for y in (0, config.sensor.height)], float)
    moved = np.hypot(*np.moveaxis(np.diff(reel.backdrop @ corners.T, axis=0), 1, 0)).max(axis=1)
    if reel.vertices.shape[1]:
        extent = np.array([config.sensor.width, config.sensor.height])
        centre, radius = reel.vertices[..., :2], reel.vertices[..., 2:]
        seen = ((centre > -radius - 16) & (centre < extent + radius + 16)).all(axis=-1)
        steps = np.hypot(*np.moveaxis(np.diff(centre, axis=0), -1, 0)) * (seen[1:] | seen[:-1])
        moved = np.maximum(moved, steps.max(axis=1))
    counts = np.maximum(1, np.ceil(moved / config.max_step_px)).astype(int)
    pieces = [np.linspace(a, b, count + 1)[1:] for a, b, count in zip(knots[:-1], knots[1:], counts, strict=True)]
    return np.unique(np.rint(np.concatenate(pieces)).astype(np.int64))


def _boxes(stage: _Stage, reel: _Reel, k: int, owner: np.ndarray) -> np.ndarray:
    """The boxes ``[B]`` of the labelled objects that are visible enough in the k-th rendering."""
    config = stage.config
    found = []
    polygon = vertex = 0
    for index, actor in enumerate(reel.actors):
        look = actor.look
        vertices = reel.vertices[k, vertex : vertex + len(look.vertices)]
        polygon, vertex = polygon + len(look.bone), vertex + len(look.vertices)
        if actor.class_id == _CLUTTER_ID:
            continue
        solid = np.repeat(look.styles[:, SOLID] > 0, np.diff(look.starts))
        points, radius = vertices[solid, :2], vertices[solid, 2:]
        # Rendering puts pixel centres at integers, boxes put pixel corners there.
        low, high = (points - radius).min(0) + 0.5, (points + radius).max(0) + 0.5
        x, y = np.maximum(low, 0.0)
        right, bottom = np.minimum(high, (config.sensor.width, config.sensor.height))
        if min(right - x, bottom - y) < max(config.min_side_px, 1e-3):
            continue
        whole = _silhouette_area(look.starts, look.styles, vertices, low, high)
        visible = min(np.count_nonzero(owner == index) / whole, 1.0) if whole else 0.0
        if visible >= config.min_visible:
            found.append((reel.t_us[k], x, y, right - x, bottom - y, actor.class_id, actor.track_id, visible))
    return np.sort(np.array(found, BOX_DTYPE), order=["t", "track_id"])


def _silhouette_area(
    starts: np.ndarray, styles: np.ndarray, vertices: np.ndarray, low: np.ndarray, high: np.ndarray
) -> int:
    """Pixels [px²] that an object would cover alone on a sensor without borders."""
    origin = np.floor(low) - 1
    width, height = (np.ceil(high - origin) + 1).astype(int)
    image, owner = np.zeros((height, width), np.float32), np.full((height, width), -1, np.int32)
    plain = styles * (1, 1, 0, 0, 1)
    frames, textures = np.zeros((len(styles), 2, 3)), np.zeros((1, 1, 1), np.float32)
    owners = np.zeros(len(styles), np.int32)
    paint_polygons(image, owner, vertices - (*origin, 0), starts, plain, owners, frames, textures)
    return int(np.count_nonzero(owner == 0))
