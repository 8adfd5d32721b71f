# SPDX-License-Identifier: Apache-2.0
"""Simulated scenes: the sensor model against hand-computed events, the renderer against NumPy, scenes as a whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegnn_core.events.array import check_events
from aegnn_core.events.simulation import (
    BOX_DTYPE,
    CLASSES,
    RECOGNITION_CLASSES,
    RECOGNITION_SCENE,
    EventSensor,
    SceneConfig,
    SensorModel,
    simulate_recognition,
    simulate_scene,
    vary_camera,
)
from aegnn_core.events.simulation.motion import Actor, crossing_times
from aegnn_core.events.simulation.raster import fill_backdrop, paint_polygons
from aegnn_core.events.simulation.sensor import threshold_crossings
from aegnn_core.events.simulation.shapes import Sun, draw_car, draw_clutter, draw_pedestrian, with_cast_shadow

IDEAL = SensorModel(threshold_mismatch=0.0, refractory_us=0, leak_rate_hz=0.0, shot_rate_hz=0.0)
SHORT = SceneConfig(duration_us=100_000)
PIXELS = np.eye(2, 3)  # texture coordinates that are pixel coordinates


# --- sensor ---------------------------------------------------------------------------------------------------------


def crossings_by_hand(before, after, start_us, stop_us, reference, on, off, leak_hz):
    """Twin of ``threshold_crossings``: follow each pixel's light in its own loop. Returns events and references."""
    events, reference = [], reference.copy()
    for y, x in np.ndindex(before.shape):
        leak = leak_hz * on[y, x] * (stop_us - start_us) * 1e-6
        begin, end = before[y, x] - reference[y, x], after[y, x] - reference[y, x] + leak
        step = on[y, x] if end > begin else -off[y, x]
        count = max(int(np.floor(end / step)), 0)
        for level in step * np.arange(1, count + 1):
            part = np.clip((level - begin) / (end - begin), 0, 1)
            events.append((start_us + int(part * (stop_us - start_us)), x, y, int(step > 0)))
        reference[y, x] += count * step - leak
    return events, reference


def cross(before, after, start_us=0, stop_us=1000, reference=0.0, on=0.25, off=0.25, leak_hz=0.0):
    """Run ``threshold_crossings`` on a row of pixels and return its events as tuples and the references."""
    before, after = np.atleast_2d(np.float32(before)), np.atleast_2d(np.float32(after))
    reference, on, off = (np.broadcast_to(np.float64(a), before.shape).copy() for a in (reference, on, off))
    columns = threshold_crossings(before, after, start_us, stop_us, reference, on, off, leak_hz)
    return [tuple(int(value) for value in event) for event in zip(*columns, strict=True)], reference[0]


def test_a_linear_rise_of_one_makes_four_on_events_at_quarters_of_the_interval():
    events, reference = cross([0.0], [1.0])
    assert events == [(250, 0, 0, 1), (500, 0, 0, 1), (750, 0, 0, 1), (1000, 0, 0, 1)]
    assert reference == pytest.approx([1.0])


def test_a_linear_fall_makes_off_events_with_their_own_threshold():
    events, reference = cross([0.0], [-1.0], start_us=2000, stop_us=4000, off=0.5)
    assert events == [(3000, 0, 0, 0), (4000, 0, 0, 0)]
    assert reference == pytest.approx([-1.0])


def test_a_change_within_the_thresholds_makes_no_event_and_keeps_the_reference():
    assert cross([0.0, 0.1], [0.2, -0.1])[0] == []
    assert cross([0.0], [0.2])[1] == pytest.approx([0.0])


def test_light_left_over_from_one_interval_counts_in_the_next():
    first, reference = cross([0.0], [0.375])
    second, _ = cross([0.375], [0.75], start_us=1000, stop_us=2000, reference=reference)
    assert [event[0] for event in first + second] == [666, 1333, 2000]


def test_leak_makes_on_events_in_the_dark_at_its_rate():
    reference, count = np.zeros(1), 0
    for start in range(0, 1_000_000, 100_000):
        events, reference = cross([0.0], [0.0], start, start + 100_000, reference, leak_hz=10.5)
        count += len(events)
        assert all(event[3] == 1 for event in events)
    assert count == 10


@settings(deadline=None)  # the first call compiles
@given(st.integers(0, 2**32 - 1), st.floats(0, 20))
def test_crossings_equal_their_numpy_twin(seed, leak_hz):
    rng = np.random.default_rng(seed)
    before, after = rng.normal(0, 1, (2, 3, 4)).astype(np.float32)
    on, off = rng.uniform(0.05, 0.5, (2, 3, 4))
    reference = before - (rng.uniform(size=on.shape) * (on + off) - off)
    expected, expected_reference = crossings_by_hand(before, after, 500, 2500, reference, on, off, leak_hz)
    t, x, y, p = threshold_crossings(before, after, 500, 2500, reference, on, off, leak_hz)
    assert [event[1:] for event in expected] == list(zip(x.tolist(), y.tolist(), p.tolist(), strict=True))
    np.testing.assert_allclose(t, [event[0] for event in expected], atol=1)
    np.testing.assert_allclose(reference, expected_reference, atol=1e-9)


def test_a_still_image_makes_noise_at_the_rates_of_the_model():
    model = SensorModel(width=100, height=100, leak_rate_hz=4.0, shot_rate_hz=2.0, refractory_us=0)
    image = np.zeros((100, 100), np.float32)
    sensor = EventSensor(model, image, 0, np.random.default_rng(0))
    sensor.advance(image, 1_000_000)  # until each pixel has leaked once
    events = np.concatenate([sensor.advance(image, t) for t in range(1_010_000, 2_000_001, 10_000)])
    check_events(events, 100, 100)
    assert len(events) == pytest.approx((4.0 + 2.0) * 100 * 100, rel=0.02)
    assert events["p"].mean() == pytest.approx((4.0 + 1.0) / 6.0, abs=0.01)


def test_the_sensor_refuses_an_image_of_another_size():
    with pytest.raises(ValueError, match=r"shape \(4, 5\).*\(120, 160\)"):
        EventSensor(SensorModel(), np.zeros((4, 5), np.float32), 0, np.random.default_rng(0))


# --- renderer -------------------------------------------------------------------------------------------------------


def paint(vertices, tone=1.0, opacity=1.0, gain=0.0, frame=PIXELS, texture=((0.0,),), size=16):
    """Paint one polygon on black; returns image and owner."""
    image, owner = np.zeros((size, size), np.float32), np.full((size, size), -1, np.int32)
    vertices = np.array(vertices, float)
    styles = np.array([(tone, opacity, 0, gain, 1)])
    owners = np.array([7], np.int32)
    starts = np.array([0, len(vertices)])
    paint_polygons(image, owner, vertices, starts, styles, owners, frame[None], np.array([texture], np.float32))
    return image, owner


def test_discs_and_capsules_cover_pixels_by_their_distance():
    y, x = np.mgrid[:16, :16]
    disc, _ = paint([(7.3, 6.8, 3.2)])
    np.testing.assert_allclose(disc, np.clip(0.5 - (np.hypot(x - 7.3, y - 6.8) - 3.2), 0, 1), atol=1e-5)
    capsule, owner = paint([(3.0, 4.0, 2.0), (12.0, 10.0, 1.0)], tone=-2.0, opacity=0.5)
    along = np.clip(((x - 3) * 9 + (y - 4) * 6) / (81 + 36), 0, 1)
    covered = np.clip(0.5 - (np.hypot(x - 3 - 9 * along, y - 4 - 6 * along) - (2 - along)), 0, 1)
    np.testing.assert_allclose(capsule, -covered, atol=1e-5)
    np.testing.assert_array_equal(owner, np.where(covered >= 0.5, 7, -1))


def test_polygons_cover_their_area_even_where_they_are_not_convex():
    arrow = np.array([(2.2, 2.6), (13.1, 7.5), (2.4, 13.7), (6.1, 8.2)])
    image, _ = paint(np.column_stack([arrow, np.zeros(4)]))
    x, y = arrow.T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    assert image.sum() == pytest.approx(area, rel=0.05)
    assert image[8, 3] == 0.0
    assert image[4, 4] == 1.0


def test_what_is_thinner_than_a_pixel_covers_less_of_it():
    image, owner = paint([(2.0, 3.0, 0.1), (12.0, 9.0, 0.1)])
    assert 0 < image.max() <= 0.2 + 1e-6
    assert (owner == -1).all()


def test_textures_move_with_their_frame():
    texture = np.random.default_rng(0).normal(size=(5, 5))
    frame = np.array([(1.0, 0.0, 2.0), (0.0, 1.0, 4.0)])
    image, _ = paint([(-9, -9, 0), (30, -9, 0), (30, 30, 0), (-9, 30, 0)], 0.5, gain=0.3, frame=frame, texture=texture)
    y, x = np.mgrid[:16, :16]
    np.testing.assert_allclose(image, 0.5 + 0.3 * texture[(y + 4) % 5, (x + 2) % 5], atol=1e-5)


def test_the_backdrop_is_the_periodic_bilinear_tile():
    rng = np.random.default_rng(1)
    tile, affine = rng.normal(size=(7, 9)).astype(np.float32), rng.normal(0, 1, (2, 3)) * (1, 1, 50)
    image = np.empty((6, 8), np.float32)
    fill_backdrop(image, tile, affine)
    y, x = np.mgrid[:6, :8]
    u, v = np.einsum("ij,jyx->iyx", affine, np.stack([x, y, np.ones_like(x)]))
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    expected = sum(
        tile[(top + j) % 7, (left + i) % 9] * np.abs(1 - i - (u - left)) * np.abs(1 - j - (v - top))
        for i in (0, 1)
        for j in (0, 1)
    )
    np.testing.assert_allclose(image, expected, atol=1e-4)


@pytest.mark.parametrize("facing", [1, -1])
@pytest.mark.parametrize("draw", [draw_car, draw_pedestrian, draw_clutter])
def test_texture_coordinates_undo_the_pose(draw, facing):
    look = draw(np.random.default_rng(3), -1.0)
    actor = Actor(
        look=look,
        class_id=0,
        track_id=0,
        depth=0.0,
        size=40.0,
        growth=(0.3, 0.5, 1.0),
        facing=facing,
        tilt=0.1,
        point=np.array([70.0, 90.0]),
        time_us=0.0,
        velocity=np.array([30.0 * facing, 4.0]),
        phase=0.7,
        texels=20.0,
        enter_us=0.0,
        leave_us=1e6,
    )
    vertices, frames = actor.pose(np.array([100_000, 400_000]), np.zeros((2, 2)))
    points = vertices.copy()
    points[..., 2] = 1.0
    polygon = np.repeat(np.arange(len(look.bone)), np.diff(look.starts))
    texels = np.einsum("tvij,tvj->tvi", frames[:, polygon], points)
    np.testing.assert_allclose(texels, np.broadcast_to(20.0 * look.vertices[:, :2], texels.shape), atol=1e-6)


def test_a_point_enters_and_leaves_a_rectangle_when_its_line_does():
    low, high = np.array([0.0, 0.0]), np.array([10.0, 8.0])
    assert crossing_times(np.array([4.0, 4.0]), np.array([2.0, 0.0]), low, high) == (-2.0, 3.0)
    assert crossing_times(np.array([4.0, 4.0]), np.array([-1.0, 4.0]), low, high) == (-1.0, 1.0)
    assert crossing_times(np.array([4.0, 4.0]), np.zeros(2), low, high) == (-np.inf, np.inf)


# --- scenes ---------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    first, again, other = simulate_scene(5, SHORT), simulate_scene(5, SHORT), simulate_scene(6, SHORT)
    assert first.stream.events.tobytes() == again.stream.events.tobytes()
    assert first.boxes.tobytes() == again.boxes.tobytes()
    assert first.stream.events.tobytes() != other.stream.events.tobytes()


@pytest.mark.parametrize("seed", range(4))
def test_events_and_boxes_of_a_scene_keep_their_promises(seed):
    config = replace(SHORT, duration_us=205_000)
    scene = simulate_scene(seed, config)
    events, boxes = scene.stream.events, scene.boxes
    check_events(events, 160, 120)
    assert events["t"][0] >= 0
    assert events["t"][-1] <= 205_000
    pixel = events["y"].astype(int) * 160 + events["x"]
    order = np.argsort(pixel, kind="stable")
    gaps = np.diff(events["t"][order])[np.diff(pixel[order]) == 0]
    assert gaps.min() >= config.sensor.refractory_us

    assert boxes.dtype == BOX_DTYPE
    assert set(boxes["t"].tolist()) <= set(range(10_000, 200_001, 10_000))
    assert list(zip(boxes["t"], boxes["track_id"], strict=True)) == sorted(
        set(zip(boxes["t"], boxes["track_id"], strict=True))
    )
    assert min(boxes["x"].min(), boxes["y"].min()) >= 0
    assert (boxes["x"] + boxes["w"]).max() <= 160
    assert (boxes["y"] + boxes["h"]).max() <= 120
    assert min(boxes["w"].min(), boxes["h"].min()) >= config.min_side_px
    assert boxes["visible"].min() >= config.min_visible
    assert boxes["visible"].max() <= 1.0
    assert scene.labels == CLASSES
    assert boxes["class_id"].max() < len(CLASSES)
    for track in np.unique(boxes["track_id"]):
        assert len(set(boxes["class_id"][boxes["track_id"] == track])) == 1


@pytest.mark.parametrize("seed", range(6))
def test_with_nothing_else_moving_all_events_lie_in_the_boxes(seed):
    config = SceneConfig(
        duration_us=200_000,
        sensor=IDEAL,
        labelled=(1, 2),
        clutter=(0, 0),
        still_camera=1.0,
        shake_px=0.0,
        illumination=0.0,
        min_visible=0.0,
        min_side_px=0.0,
    )
    scene = simulate_scene(seed, config)
    events = scene.stream.events
    assert len(events) > 500
    inside = np.zeros(len(events), bool)
    margin = 3.0  # the objects' motion within a box period, and their shadows
    for box in scene.boxes:
        near = np.abs(events["t"] - box["t"]) <= config.box_period_us
        for axis, length in (("x", "w"), ("y", "h")):
            near &= events[axis] >= box[axis] - margin
            near &= events[axis] <= box[axis] + box[length] + margin
        inside |= near
    assert inside.mean() > 0.98


def test_events_crowd_in_the_boxes():
    inside = outside = 0.0
    for seed in range(8):
        scene = simulate_scene(seed, SHORT)
        events, boxes = scene.stream.events, scene.boxes[scene.boxes["t"] == 100_000]
        recent = events[events["t"] >= 50_000]
        mask = np.zeros((120, 160), bool)
        for box in boxes:
            rows = slice(int(box["y"]), int(np.ceil(box["y"] + box["h"])))
            mask[rows, int(box["x"]) : int(np.ceil(box["x"] + box["w"]))] = True
        hit = mask[recent["y"], recent["x"]]
        inside += hit.sum() / max(mask.sum(), 1)
        outside += (~hit).sum() / (~mask).sum()
    assert inside > 2 * outside


def test_a_scene_of_clutter_only_has_events_but_no_boxes():
    scene = simulate_scene(2, replace(SHORT, labelled=(0, 0), clutter=(4, 4)))
    assert len(scene.stream) > 1000
    assert len(scene.boxes) == 0
    assert scene.boxes.dtype == BOX_DTYPE


def test_a_scene_may_be_empty_but_for_its_backdrop():
    scene = simulate_scene(2, replace(SHORT, labelled=(0, 0), clutter=(0, 0), still_camera=0.0))
    assert len(scene.stream) > 100
    assert len(scene.boxes) == 0


def test_shadows_make_events_beside_objects_and_leave_the_boxes_as_they_are():
    config = replace(SHORT, duration_us=200_000, still_camera=1.0, clutter=(0, 0))
    counts = []
    for seed in range(6):
        plain, sunny = (simulate_scene(seed, replace(config, shadows=share)) for share in (0.0, 1.0))
        assert np.array_equal(sunny.boxes, plain.boxes)
        counts.append([])
        for scene in (plain, sunny):
            events, beside = scene.stream.events, np.ones(len(scene.stream), bool)
            for box in scene.boxes[scene.boxes["t"] == 200_000]:
                left, top = box["x"] - 6, box["y"] - 6
                in_x = (events["x"] >= left) & (events["x"] < left + box["w"] + 12)
                beside &= ~(in_x & (events["y"] >= top) & (events["y"] < top + box["h"] + 12))
            counts[-1].append(beside.sum())
    plain_count, sunny_count = np.array(counts).T
    assert (sunny_count >= plain_count).all()  # a shadow may lie behind its object, or on what is as dark
    assert sunny_count.sum() > 1.1 * plain_count.sum()
    half = [simulate_scene(seed, replace(config, shadows=0.5)) for seed in range(6)]
    drawn = [simulate_scene(seed, replace(config, shadows=1.0)) for seed in range(6)]
    assert 0 < sum(np.array_equal(a.stream.events, b.stream.events) for a, b in zip(half, drawn, strict=True)) < 6


def test_a_shadow_is_the_outline_laid_on_the_ground_behind_the_object():
    look = with_cast_shadow(draw_car(np.random.default_rng(3), -1.0), Sun(0.5, 0.25, 0.7))
    plain = draw_car(np.random.default_rng(3), -1.0)
    corners = look.starts[1]
    assert np.array_equal(look.vertices[corners:], plain.vertices)
    assert np.array_equal(look.starts[1:] - corners, plain.starts)
    assert np.array_equal(look.styles[1:], plain.styles)
    assert look.styles[0].tolist() == [-2.8, 0.7, 0, 0, 0]
    assert look.bone.tolist() == [0, *plain.bone]
    # Each point of the car, by its height, is to the side and down from where it stands; the outline holds all.
    solid = np.repeat(plain.styles[:, 4] > 0, np.diff(plain.starts))
    x, y, _ = plain.vertices[solid].T
    height = np.maximum(0, -y)
    laid = np.stack([x + 0.5 * height, 0.25 * height], 1)
    outline = look.vertices[:corners, :2]
    edges = np.roll(outline, -1, 0) - outline
    offset = laid[:, None] - outline
    turned = edges[:, 0] * offset[..., 1] - edges[:, 1] * offset[..., 0]
    assert turned.min() > -1e-12
    assert outline[:, 1].max() == pytest.approx(0.25 * (-plain.vertices[solid, 1] + plain.vertices[solid, 2]).max())


def test_objects_come_and_go_in_a_long_scene():
    config = SceneConfig(
        duration_us=6_000_000,
        sensor=SensorModel(width=64, height=48),
        car_length_px=(14.0, 30.0),
        pedestrian_height_px=(14.0, 26.0),
        object_speed=(30.0, 80.0),
        labelled=(3, 3),
        box_period_us=50_000,
        max_step_px=1.5,
    )
    scene = simulate_scene(1, config)
    check_events(scene.stream.events, 64, 48)
    second = scene.boxes["t"] // 1_000_000
    assert set(second.tolist()) >= set(range(6))
    assert len(np.unique(scene.boxes["track_id"])) > 4
    assert (np.bincount(scene.stream.events["t"] // 1_000_000, minlength=6)[:6] > 500).all()


def test_the_two_classes_are_balanced():
    config = replace(SHORT, duration_us=10_000, labelled=(4, 4), clutter=(0, 0))
    count: Counter[int] = Counter()
    for seed in range(40):
        count.update(simulate_scene(seed, config).boxes["class_id"].tolist())
    assert 0.4 < count[0] / count.total() < 0.6


def test_the_event_rate_is_that_of_a_busy_scene():
    rates = [len(simulate_scene(seed, SHORT).stream) / 100 for seed in range(24)]
    assert 40 < np.mean(rates) < 120


def test_finer_time_steps_hardly_change_the_events():
    config = replace(SHORT, sensor=IDEAL)
    coarse, fine = (len(simulate_scene(4, replace(config, max_step_px=step)).stream) for step in (0.75, 0.2))
    assert coarse == pytest.approx(fine, rel=0.03)


# --- recognition ----------------------------------------------------------------------------------------------------


def test_recognition_samples_are_deterministic_short_and_on_their_sensor():
    first, again = simulate_recognition(11), simulate_recognition(11)
    assert first.stream.events.tobytes() == again.stream.events.tobytes()
    assert first.label == again.label
    assert (first.stream.width, first.stream.height) == (120, 100)
    check_events(first.stream.events, 120, 100)
    assert first.stream.events["t"][-1] <= 100_000
    assert len(first.stream) > 1000


def test_recognition_classes_are_balanced():
    config = replace(RECOGNITION_SCENE, duration_us=1_000, clutter=(0, 0))
    labels = Counter(simulate_recognition(seed, config).label for seed in range(150))
    assert set(labels) == set(range(len(RECOGNITION_CLASSES)))
    assert min(labels.values()) > 30


# --- configuration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"duration_us": 0}, "duration_us is 0"),
        ({"duration_us": 0.5}, r"duration_us is 0\.5"),
        ({"box_period_us": -1}, "box_period_us is -1"),
        ({"max_step_px": 0.0}, r"max_step_px is 0\.0"),
        ({"labelled": (3, 1)}, r"labelled is \(3, 1\)"),
        ({"clutter": (-1, 1)}, r"clutter is \(-1, 1\)"),
        ({"car_length_px": (0.0, 5.0)}, r"car_length_px is \(0\.0, 5\.0\)"),
        ({"object_speed": (9.0, 5.0)}, r"object_speed is \(9\.0, 5\.0\)"),
        ({"still_camera": 1.5}, r"still_camera is 1\.5"),
        ({"shadows": -0.5}, r"shadows is -0\.5"),
        ({"min_visible": float("nan")}, "min_visible is nan"),
        ({"shake_px": -0.1}, r"shake_px is -0\.1"),
    ],
)
def test_a_wrong_scene_is_refused_by_name_and_value(values, message):
    with pytest.raises(ValueError, match=message):
        SceneConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 0}, "width is 0 px"),
        ({"height": 70_000}, "height is 70000 px"),
        ({"threshold_on": 0.0}, r"threshold_on is 0\.0"),
        ({"threshold_off": float("nan")}, "threshold_off is nan"),
        ({"refractory_us": -1}, "refractory_us is -1"),
        ({"shot_rate_hz": float("inf")}, "shot_rate_hz is inf"),
        ({"shot_spread": -1.0}, r"shot_spread is -1\.0"),
    ],
)
def test_a_wrong_sensor_is_refused_by_name_and_value(values, message):
    with pytest.raises(ValueError, match=message):
        SensorModel(**values)


def test_a_camera_with_more_pixels_sees_the_same_things_larger_and_faster():
    small = SceneConfig()
    large, wide = small.for_camera((640, 480)), small.for_camera((1280, 720))
    assert (large.sensor.width, large.sensor.height) == (640, 480)
    assert large.sensor.threshold_on == small.sensor.threshold_on
    for name in ("car_length_px", "pedestrian_height_px", "clutter_size_px", "object_speed", "backdrop_speed"):
        assert getattr(large, name) == tuple(4 * end for end in getattr(small, name))
        assert getattr(wide, name) == tuple(6 * end for end in getattr(small, name))
    assert (large.shake_px, large.min_side_px) == (4 * small.shake_px, 4 * small.min_side_px)
    assert (large.duration_us, large.labelled, large.max_step_px) == (small.duration_us, (1, 4), small.max_step_px)
    assert small.for_camera((160, 120)) == small
    assert RECOGNITION_SCENE.for_camera((240, 200)).star_speed == (50.0, 120.0)
    with pytest.raises(ValueError, match="width is 0 px"):
        small.for_camera((0, 480))


def test_a_scene_of_a_larger_camera_has_its_boxes_there():
    config = replace(SceneConfig(), duration_us=50_000, labelled=(3, 3)).for_camera((480, 360))
    scene = simulate_scene(4, config)
    check_events(scene.stream.events, 480, 360)
    assert scene.boxes["h"].max() > 60  # more than on 160 x 120 px
    assert (scene.boxes["x"] + scene.boxes["w"]).max() <= 480


def test_other_cameras_see_the_same_kind_of_scene_otherwise():
    config = SceneConfig()
    cameras = [vary_camera(config, np.random.default_rng(seed)) for seed in range(300)]
    thresholds = np.array([camera.sensor.threshold_on for camera in cameras])
    assert thresholds.min() < 0.15
    assert thresholds.max() > 0.6
    assert np.median(thresholds) == pytest.approx(np.sqrt(0.12 * 0.75), rel=0.25)
    assert {camera.still_camera for camera in cameras} == {0.0, 1.0}
    assert {camera.shadows for camera in cameras} == {0.5}
    lengths = np.array([camera.car_length_px[0] for camera in cameras]) / config.car_length_px[0]
    assert np.mean(lengths == 1) == pytest.approx(0.4, abs=0.1)
    assert lengths.min() < 0.5
    assert lengths.max() > 1.8
    for camera, scale in zip(cameras, lengths, strict=True):
        assert (camera.sensor.width, camera.sensor.height) == (160, 120)
        assert camera.object_speed[1] == pytest.approx(scale * config.object_speed[1])
        assert camera.labelled[1] == max(1, round(4 / scale))
    assert vary_camera(config, np.random.default_rng(5)) == cameras[5]


@pytest.mark.parametrize("shape", [(3, 4), (4, 2), (12,)])
def test_images_of_another_size_are_refused(shape):
    model, image, rng = SensorModel(3, 4), np.zeros((4, 3), np.float32), np.random.default_rng(0)
    other = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match="the sensor expects"):
        EventSensor(model, other, 0, rng)
    with pytest.raises(ValueError, match="the sensor expects"):
        EventSensor(model, image, 0, rng).advance(other, 1000)


def test_hot_pixels_make_more_of_the_noise_and_the_rate_stays():
    image = np.zeros((100, 120), np.float32)
    counts = []
    for spread in (0.0, 2.0):
        model = SensorModel(120, 100, shot_rate_hz=4.0, leak_rate_hz=0.0, refractory_us=0, shot_spread=spread)
        events = EventSensor(model, image, 0, np.random.default_rng(3)).advance(image, 1_000_000)
        assert len(events) == pytest.approx(4 * 12_000, rel=0.03)
        counts.append(np.bincount(events["y"].astype(int) * 120 + events["x"], minlength=12_000))
    assert counts[0].max() < 20
    assert counts[1].max() > 200
    assert np.median(counts[1]) < 2


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed is -1"):
        simulate_scene(-1)
