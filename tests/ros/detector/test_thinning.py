# SPDX-License-Identifier: Apache-2.0
"""Events are thinned evenly, and by no more than the latency budget asks for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aegnn_core.events.filters import every_nth
from aegnn_ros.detector.thinning import LoadControl, UpdateCost, thin_evenly


@given(st.floats(1.0, 50.0), st.lists(st.integers(0, 400), max_size=12))
@example(2.8, [42])  # of which the quotient is rounded up to 15
def test_thinning_is_even_over_the_stream_for_any_split(factor: float, sizes: list[int]) -> None:
    stream = np.arange(sum(sizes))
    kept, phase = [], 0.0
    for part in np.split(stream, np.cumsum(sizes)[:-1]) if sizes else []:
        chosen, phase = thin_evenly(part, factor, phase)
        kept.append(chosen)
    everything = np.concatenate(kept) if kept else stream
    assert abs(len(everything) - len(stream) / factor) <= 1
    steps = np.diff(everything)
    assert ((steps >= np.floor(factor)) & (steps <= np.ceil(factor + 1e-9) + (factor % 1 > 0))).all()


@given(st.floats(1.0, 50.0, exclude_min=True), st.floats(0.0, 50.0), st.integers(0, 400))
@example(2.8, 0.0, 42)
@example(3.2, 0.7999999999999972, 20)
def test_a_packet_is_thinned_to_its_end_and_no_further(factor: float, phase: float, count: int) -> None:
    kept, rest = thin_evenly(np.arange(count), factor, phase)
    positions = [min(phase, factor) + factor * k for k in range(count + 1)]
    assert kept.tolist() == [int(position) for position in positions if position < count]
    assert 0 <= rest == positions[len(kept)] - count


def test_a_whole_factor_keeps_every_nth_event() -> None:
    events = np.arange(1000)
    np.testing.assert_array_equal(thin_evenly(events, 7.0, 0.0)[0], every_nth(events, 7))


def test_a_factor_that_becomes_smaller_takes_effect_at_once() -> None:
    events = np.arange(100)
    _, phase = thin_evenly(events[:1], 90.0, 0.0)
    kept, _ = thin_evenly(events[1:], 2.0, phase)
    assert kept[0] <= 3
    assert thin_evenly(events, 1.0, phase)[1] == 0.0


class Worker:
    """A worker and its camera in their own time: packets of 2 ms, and costs that can differ from the expected ones."""

    def __init__(self, cost: UpdateCost, decoding: float = 20e-9, readout: float = 1e-3) -> None:
        self.control = LoadControl(UpdateCost(0.5e-3, 2e-6))
        self.cost, self.decoding, self.readout = cost, decoding, readout
        self.now, self.worst_lag = 0.0, 0.0
        self.arrivals: list[float] = []
        self.next_packet = self.next_result = 0.0
        self.offered = self.processed = 0

    def run(self, rate_hz: float, seconds: float, budget: float = 0.05) -> None:
        """Work off ``rate_hz`` events per second for a while."""
        end, self.offered, self.processed, self.worst_lag = self.now + seconds, 0, 0, 0.0
        while self.now < end:
            while self.next_packet <= self.now:
                self.arrivals.append(self.next_packet)
                self.next_packet += 2e-3
            if not self.arrivals:
                self.now = self.next_packet
                continue
            oldest, events = self.arrivals[0], round(rate_hz * 2e-3 * len(self.arrivals))
            self.arrivals.clear()
            self.spend(events * self.decoding, self.control.note_decoding)
            factor = self.control.factor(events, self.now - oldest, self.now, budget)
            count = round(events / factor)
            self.spend(self.cost.of(count), lambda seconds, count=count: self.control.note_update(count, seconds))
            self.worst_lag = max(self.worst_lag, self.now - oldest)
            self.offered, self.processed = self.offered + events, self.processed + count
            if self.now >= self.next_result:
                self.next_result = self.now + 1 / 30
                self.spend(self.readout, self.control.note_readout)

    def spend(self, seconds: float, note) -> None:
        """Let time pass with work."""
        self.now += seconds
        note(seconds)

    @property
    def share(self) -> float:
        return self.processed / self.offered


@pytest.mark.parametrize("factor_of_cost", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("rate_hz", [1e4, 1e5, 1e6, 5e6, 2e7])
def test_the_latency_budget_holds_under_any_load(rate_hz: float, factor_of_cost: float) -> None:
    worker = Worker(UpdateCost(0.5e-3 * factor_of_cost, 2e-6 * factor_of_cost))
    worker.run(rate_hz, 1.0)
    worker.run(rate_hz, 3.0)
    assert worker.worst_lag < 0.05
    # No more is left out than has to be: 0.7 of the time that decoding leaves goes into the network.
    possible = (0.7 - rate_hz * 20e-9 - 0.03) / (rate_hz * worker.cost.per_event)
    assert worker.share > 0.999 or worker.share > 0.8 * min(1.0, possible)


def test_after_an_overload_everything_is_processed_again() -> None:
    worker = Worker(UpdateCost(0.5e-3, 2e-6))
    worker.run(5e6, 2.0)
    assert worker.share < 0.15
    worker.run(1e5, 2.0)
    worker.run(1e5, 1.0)
    assert worker.share == 1.0


def test_a_network_that_becomes_slow_is_noticed() -> None:
    worker = Worker(UpdateCost(0.5e-3, 2e-6))
    worker.run(2e5, 2.0)
    assert worker.share == 1.0
    worker.cost = UpdateCost(5e-3, 2e-5)
    worker.run(2e5, 1.0)
    worker.run(2e5, 2.0)
    assert worker.worst_lag < 0.05
    assert worker.share < 0.3
