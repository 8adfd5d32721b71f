"""What ``/diagnostics`` tells about a camera's stream: rates, losses, lag and the cost of an event."""

from __future__ import annotations

from dataclasses import replace

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from aegnn_ros.camera_stream import StreamCounts

__all__ = ["StreamDiagnostics"]


class StreamDiagnostics:
    """Turns the counts of a stream into status messages; rates and levels are about the time since the last one.

    Args:
        name: of the status, usually the node's.
        hardware_id: the topic that the events come from.
        counts: of the stream, read whenever a status is made.
    """

    def __init__(self, name: str, hardware_id: str, counts: StreamCounts) -> None:
        self._name, self._hardware_id, self._counts = name, hardware_id, counts
        self._last = replace(counts)
        self._lag_ns = 0

    def note_lag(self, lag_ns: int) -> None:
        """Remember how long after its last event a packet was processed [ns]; the longest is reported."""
        self._lag_ns = max(self._lag_ns, lag_ns)

    def status(self, interval_s: float, facts: dict[str, str]) -> DiagnosticStatus:
        """The status of the last ``interval_s`` seconds, with ``facts`` of the node added."""
        now, last, self._last = self._counts, self._last, replace(self._counts)
        lag_ms, self._lag_ns = self._lag_ns / 1e6, 0
        packets, events = now.packets - last.packets, now.events_processed - last.events_processed
        lost, malformed = now.packets_lost - last.packets_lost, now.packets_malformed - last.packets_malformed
        processing_ns = now.processing_ns - last.processing_ns
        values: dict[str, object] = {
            **facts,
            "event_rate_per_s": round((now.events - last.events) / interval_s),
            "lag_ms": f"{lag_ms:.2f}",
            "us_per_event": f"{processing_ns / 1000 / events:.3f}" if events else "",
            "packets": now.packets,
            "packets_lost": now.packets_lost,
            "packets_malformed": now.packets_malformed,
            "events": now.events,
            "events_processed": now.events_processed,
            "events_dropped": now.events_dropped,
            "resets": now.resets,
            "processing_ms": f"{now.processing_ns / 1e6:.3f}",
        }
        problems = []
        if lost:
            problems.append(f"{lost} packets lost")
        if malformed:
            problems.append(f"{malformed} packets malformed")
        if not packets:
            problems.append("no packets")
        return DiagnosticStatus(
            level=DiagnosticStatus.WARN if problems else DiagnosticStatus.OK,
            name=self._name,
            hardware_id=self._hardware_id,
            message=", ".join(problems) or f"{packets} packets, {events} events processed",
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )
