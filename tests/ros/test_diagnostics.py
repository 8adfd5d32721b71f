"""Diagnostics speak of the time since the last message, and warn where something is lost."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus

from aegnn_ros.camera_stream import StreamCounts
from aegnn_ros.diagnostics import StreamDiagnostics


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    return {value.key: value.value for value in status.values}


def test_rates_cost_and_lag_are_those_of_the_interval_and_counts_are_totals() -> None:
    counts = StreamCounts(packets=5, events=100, events_processed=90, processing_ns=10**9)
    diagnostics = StreamDiagnostics("/event_detector", "/camera/events", counts)
    counts.packets += 10
    counts.events += 5000
    counts.events_processed += 4000
    counts.events_dropped += 1000
    counts.processing_ns += 20_000_000
    diagnostics.note_lag(3_000_000)
    diagnostics.note_lag(1_000_000)
    status = diagnostics.status(0.5, {"device": "cpu"})
    values = values_of(status)
    assert (status.level, status.name, status.hardware_id) == (DiagnosticStatus.OK, "/event_detector", "/camera/events")
    assert values["device"] == "cpu"
    assert values["event_rate_per_s"] == "10000"
    assert values["us_per_event"] == "5.000"
    assert values["lag_ms"] == "3.00"
    assert (values["packets"], values["events"], values["events_processed"]) == ("15", "5100", "4090")
    assert values["events_dropped"] == "1000"
    assert values["processing_ms"] == "1020.000"

    counts.packets += 1
    values = values_of(diagnostics.status(0.5, {}))
    assert (values["event_rate_per_s"], values["us_per_event"], values["lag_ms"]) == ("0", "", "0.00")


def test_what_is_lost_or_malformed_is_a_warning_in_the_interval_in_which_it_happens() -> None:
    counts = StreamCounts()
    diagnostics = StreamDiagnostics("node", "topic", counts)
    counts.packets, counts.packets_lost, counts.packets_malformed = 10, 3, 2
    status = diagnostics.status(1.0, {})
    assert status.level == DiagnosticStatus.WARN
    assert status.message == "3 packets lost, 2 packets malformed"
    counts.packets += 1
    status = diagnostics.status(1.0, {})
    assert status.level == DiagnosticStatus.OK
    assert (values_of(status)["packets_lost"], values_of(status)["packets_malformed"]) == ("3", "2")


def test_no_packets_is_a_warning() -> None:
    status = StreamDiagnostics("node", "topic", StreamCounts()).status(1.0, {})
    assert (status.level, status.message) == (DiagnosticStatus.WARN, "no packets")
