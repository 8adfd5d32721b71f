# SPDX-License-Identifier: Apache-2.0
"""Sensor time becomes ROS time without the stamps' jitter and without drift."""

from __future__ import annotations

import numpy as np
import pytest

from aegnn_ros.detector.sensor_clock import SensorClock

STAMP = 1_700_000_000_000_000_000


@pytest.mark.parametrize("drift", [-50e-6, 0.0, 50e-6])
def test_an_hour_of_late_stamps_and_a_wrong_crystal_cost_less_than_a_millisecond(drift: float) -> None:
    rng = np.random.default_rng(1)
    clock = SensorClock()
    worst, before = 0.0, 0
    for true_us in range(0, 3_600_000_000, 100_000):
        sensor_us = round(true_us * (1 + drift))
        late_ns = int(rng.exponential(3e6))  # 3 ms
        assert clock.jump(sensor_us, STAMP + 1000 * true_us + late_ns) == 0
        clock.follow(sensor_us, STAMP + 1000 * true_us + late_ns)
        stamp = clock.stamp(sensor_us)
        assert stamp >= before
        before = stamp
        if true_us > 10_000_000:
            worst = max(worst, abs(stamp - STAMP - 1000 * true_us) / 1e6)
    assert worst < 1.0


def test_stamps_go_back_only_with_sensor_time() -> None:
    clock = SensorClock()
    clock.follow(0, STAMP)
    assert clock.stamp(50_000) == STAMP + 50_000_000
    clock.follow(51_000, STAMP + 41_000_000)  # the packets so far came late
    assert clock.stamp(51_000) == STAMP + 50_000_000
    assert clock.stamp(45_000) == STAMP + 35_000_000
    assert clock.stamp(46_000) == STAMP + 36_000_000


@pytest.mark.parametrize("jump_s", [-100.0, -1.1, 1.1, 100.0])
def test_a_clock_that_is_set_is_a_jump(jump_s: float) -> None:
    clock = SensorClock()
    assert clock.jump(500, STAMP) == 0
    clock.follow(500, STAMP)
    assert clock.jump(1500, STAMP + 1_000_000 + 30_000_000) == 0
    assert clock.jump(1500, STAMP + 1_000_000 + int(jump_s * 1e9)) == int(jump_s * 1e9)
