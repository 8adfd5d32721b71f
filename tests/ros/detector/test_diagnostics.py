# SPDX-License-Identifier: Apache-2.0
"""Diagnostics speak of the time since the last message, and warn where something is lost or late."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from aegnn_ros import installed_files
from aegnn_ros.detector.arrivals import ArrivalCounts
from aegnn_ros.detector.camera_stream import StreamCounts
from aegnn_ros.detector.detection_worker import Load
from aegnn_ros.detector.diagnostics import VALUES, NodeFacts, StreamDiagnostics

FACTS = NodeFacts(
    topic="/camera/events",
    publishers=1,
    model="m",
    device="cpu",
    device_choice="",
    camera=("evt3", 640, 480),
    sensor=(160, 120),
    problem="",
    max_latency=0.05,
    queued=1500,
)


class Stream:
    """Counts, and the diagnostics that read them."""

    def __init__(self) -> None:
        self.arrived, self.counts = ArrivalCounts(packets=5), StreamCounts(packets=5, events=100, events_processed=90)
        self.diagnostics = StreamDiagnostics("/event_detector", self.arrived, self.counts)

    def come(self, packets: int, events: int = 0) -> None:
        self.arrived.packets += packets
        self.counts.packets += packets
        self.counts.events += events
        self.counts.events_seen += 4 * events
        self.counts.events_downsampled += events
        self.counts.events_processed += events

    def status(self, load: Load | None = None, facts: NodeFacts = FACTS) -> DiagnosticStatus:
        return self.diagnostics.status(0.5, load or Load(), facts)


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    return {value.key: value.value for value in status.values}


def test_rates_cost_and_lag_are_those_of_the_interval_and_counts_are_totals() -> None:
    stream = Stream()
    stream.come(10, 5000)
    stream.arrived.largest = 3000
    stream.counts.processing_ns += 25_000_000
    status = stream.status(Load(lag=0.003, factor=1.0, results=15, readout=0.002))
    values = values_of(status)
    assert (status.level, status.name, status.hardware_id) == (DiagnosticStatus.OK, "/event_detector", "/camera/events")
    assert status.message == "10 packets, 5000 events processed"
    expected = {
        "state": "active",
        "camera": "evt3 640 x 480 px",
        "sensor": "160 x 120 px",
        "event_rate_per_s": "10000",
        "downsampled_rate_per_s": "10000",
        "downsampled_share": "0.2500",
        "processed_share": "1.0000",
        "us_per_event": "5.000",
        "lag_ms": "3.00",
        "result_rate_hz": "30.0",
        "result_ms": "2.00",
        "largest_packet_kb": "3.0",
        "queue_kb": "1.5",
        "packets": "15",
        "events": "5100",
        "events_processed": "5090",
        "processing_ms": "25.000",
    }
    assert {key: values[key] for key in expected} == expected
    assert float(values["memory_mb"]) > 10
    assert list(values) == [key for key in VALUES if key != "device_memory_mb"]

    stream.come(1)
    values = values_of(stream.status())
    assert (values["event_rate_per_s"], values["us_per_event"], values["largest_packet_kb"]) == ("0", "", "0.0")


def test_thinned_events_are_a_share_and_a_warning() -> None:
    stream = Stream()
    stream.come(10, 250)
    stream.counts.events_thinned += 750
    status = stream.status(Load(factor=4.0))
    assert values_of(status)["processed_share"] == "0.2500"
    assert values_of(status)["thinning_factor"] == "4.00"
    assert status.level == DiagnosticStatus.WARN
    assert "only 25.0% of the events processed" in status.message


@pytest.mark.parametrize(("largest", "size"), [(600_000, "loses large packets"), (900, "more than 500 kB")])
def test_lost_packets_are_a_warning_that_names_the_cure(largest: int, size: str) -> None:
    stream = Stream()
    stream.come(10)
    stream.arrived.packets_lost, stream.arrived.largest = 3, largest
    status = stream.status()
    assert status.level == DiagnosticStatus.WARN
    assert status.message.startswith("3 packets lost; ")
    assert size in status.message
    assert "FASTDDS_DEFAULT_PROFILES_FILE is " in status.message
    assert "fastdds.xml" in status.message
    stream.come(1)
    status = stream.status()
    assert status.level == DiagnosticStatus.OK
    assert values_of(status)["packets_lost"] == "3"


def test_where_the_profile_is_not_installed_the_cure_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed_files, "_share_folders", lambda: [Path("/nowhere")])
    stream = Stream()
    stream.arrived.largest = 600_000
    stream.come(10)
    stream.arrived.packets_lost = 3
    message = stream.status().message
    assert "unless FASTDDS_DEFAULT_PROFILES_FILE is a profile with more shared memory where" in message


def test_what_happens_while_the_node_is_idle_is_no_part_of_the_next_status() -> None:
    """Other nodes of the process go on, for one."""
    stream = Stream()
    begin = time.process_time()
    while time.process_time() < begin + 0.2:
        pass
    stream.arrived.packets_lost += 3
    stream.diagnostics.skip()
    stream.come(1)
    status = stream.status()
    assert float(values_of(status)["cpu_percent"]) < 20  # the 0.2 s would be 40 % of half a second
    assert (status.level, values_of(status)["packets_lost"]) == (DiagnosticStatus.OK, "3")


def test_nothing_at_all_is_a_warning_that_says_what_to_look_at() -> None:
    stream = Stream()
    status = stream.status(facts=replace(FACTS, publishers=0))
    assert (status.level, status.message) == (
        DiagnosticStatus.WARN,
        "no packets: nobody publishes on /camera/events",
    )
    status = stream.status()
    assert status.message.startswith("no packets, though /camera/events has a publisher; Fast DDS loses large packets")


def test_some_malformed_packets_are_a_warning_and_only_such_are_an_error() -> None:
    stream = Stream()
    stream.come(10)
    stream.counts.packets_malformed += 2
    assert (stream.status().level, stream.counts.packets_malformed) == (DiagnosticStatus.WARN, 2)
    stream.come(3)
    stream.counts.packets_malformed += 3
    status = stream.status()
    assert (status.level, status.message) == (DiagnosticStatus.ERROR, "3 packets malformed")


def test_dropped_packets_are_an_error() -> None:
    stream = Stream()
    stream.come(1)
    stream.arrived.packets_dropped += 4
    status = stream.status()
    assert status.level == DiagnosticStatus.ERROR
    assert status.message == "4 packets dropped, because more than queue_mb were waiting"


def test_lag_resets_and_wrong_settings_are_warnings() -> None:
    stream = Stream()
    stream.come(1)
    stream.counts.resets += 1
    status = stream.status(Load(lag=0.08), replace(FACTS, problem="squeezed"))
    assert status.level == DiagnosticStatus.WARN
    assert status.message == ("squeezed; the graph has started again 1 times; lag of 80 ms, more than max_latency_ms")
