# SPDX-License-Identifier: Apache-2.0
"""What ``/diagnostics`` reports about a camera's stream: rates, losses, lag and the cost of an event."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from aegnn_ros.detector.arrivals import ArrivalCounts
from aegnn_ros.detector.camera_stream import StreamCounts
from aegnn_ros.detector.detection_worker import Load
from aegnn_ros.installed_files import find_share_file, profile_variable

__all__ = ["VALUES", "NodeFacts", "StreamDiagnostics", "idle_status", "status_name"]

_OK, _WARN, _ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

#: The keys of a status and what they mean; "lately" is since the status before.
VALUES = {
    "state": "of the life cycle, or paused",
    "model": "that runs",
    "device": "on which it runs",
    "device_choice": "why, where the parameter is auto",
    "publishers": "of event packets that the node sees",
    "camera": "encoding and sensor size of the packets",
    "sensor": "that the network runs on",
    "event_rate_per_s": "events decoded lately",
    "downsampled_rate_per_s": "events on the network's sensor after downsampling, lately",
    "downsampled_share": "these divided by the events before downsampling, after filters and region of interest",
    "processed_share": "share of the events after the filters that the network got, lately; 1 is all",
    "thinning_factor": "one of this many events was processed; the largest lately",
    "lag_ms": "from a packet's arrival at the node until it was processed; the longest lately",
    "result_rate_hz": "results published lately",
    "result_ms": "time for making and publishing a result; the longest lately",
    "us_per_event": "decoding, filters and network per processed event, lately",
    "largest_packet_kb": "of those that have arrived lately",
    "queue_kb": "encoded events that are waiting now",
    "cpu_percent": "of one core, by the whole process, lately",
    "memory_mb": "of the whole process",
    "device_memory_mb": "that torch holds on the GPU; only with one",
    "packets": "received since configure",
    "packets_lost": "that never arrived, by gaps in their sequence numbers",
    "packets_dropped": "that arrived and were dropped, because more than queue_mb were waiting",
    "packets_malformed": "of which at least a part could not be decoded",
    "events": "decoded since configure",
    "events_processed": "that the network got",
    "events_filtered": "taken out by the filters (their parameters say which) or the region of interest",
    "events_downsampled": "on the network's sensor, before thinning and refractory_us",
    "events_thinned": "left out to keep max_latency_ms",
    "triggers": "edges on the camera's trigger inputs since configure",
    "resets": "how often the graph had to start again, because a clock jumped or the camera changed",
    "processing_ms": "time for decoding, filters and network since configure",
}

#: From here on Fast DDS's default shared memory may be too small [bytes].
_LARGE_PACKET = 400_000
_BYTES_PER_MB = 1 << 20


@dataclass(frozen=True)
class NodeFacts:
    """What the node knows beside the counts.

    Attributes:
        topic: that the events come from.
        publishers: on it.
        model: name.
        device: where it runs.
        device_choice: why, or empty where that was told.
        camera: encoding, width and height [px], once known.
        sensor: width and height [px] of the sensor that the network runs on.
        problem: what is wrong with the settings, or empty.
        max_latency: the budget [s].
        queued: encoded events that wait [bytes].
    """

    topic: str
    publishers: int
    model: str
    device: str
    device_choice: str
    camera: tuple[str, int, int] | None
    sensor: tuple[int, int]
    problem: str
    max_latency: float
    queued: int


@dataclass(frozen=True)
class _Interval:
    """The time between two statuses, with the counts at both of its ends.

    Attributes:
        seconds: how long it was [s].
        cpu_s: time that the process had on all cores [s].
        arrived, arrived_before: counts of what came in.
        now, before: counts of what was processed.
    """

    seconds: float
    cpu_s: float
    arrived: ArrivalCounts
    arrived_before: ArrivalCounts
    now: StreamCounts
    before: StreamCounts

    def grown(self, name: str) -> int:
        """By how much a count of what was processed has grown."""
        return int(getattr(self.now, name) - getattr(self.before, name))

    def come(self, name: str) -> int:
        """By how much a count of what came in has grown."""
        return int(getattr(self.arrived, name) - getattr(self.arrived_before, name))

    @property
    def processed_share(self) -> float:
        """Share of the events after the filters that the network got; 1 where there were none."""
        processed = self.grown("events_processed")
        offered = processed + self.grown("events_thinned")
        return processed / offered if offered else 1.0


class StreamDiagnostics:
    """Turns the counts of a stream into status messages; rates and levels are about the time since the last one.

    Args:
        name: of the status, see :func:`status_name`.
        arrived: counts of what came in.
        counts: of what was processed.
    """

    def __init__(self, name: str, arrived: ArrivalCounts, counts: StreamCounts) -> None:
        self._name, self._arrived, self._counts = name, arrived, counts
        self._last_arrived, self._last, self._last_cpu = replace(arrived), replace(counts), time.process_time()

    def status(self, interval_s: float, load: Load, facts: NodeFacts) -> DiagnosticStatus:
        """The status of an active node for the last ``interval_s`` seconds."""
        interval = self._end_interval(interval_s)
        problems = list(_problems(interval, load, facts))
        values = _present_values(interval, load, facts) | _totals(interval)
        packets, processed = interval.come("packets"), interval.grown("events_processed")
        return DiagnosticStatus(
            level=max((level for level, _ in problems), default=_OK),
            name=self._name,
            hardware_id=facts.topic,
            message="; ".join(text for _, text in problems) or f"{packets} packets, {processed} events processed",
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )

    def skip(self) -> None:
        """Begin an interval without a status: the node is not working."""
        self._end_interval(0.0)

    def _end_interval(self, seconds: float) -> _Interval:
        """The interval since the last status, of so many seconds; the next one begins."""
        cpu, now, arrived = time.process_time(), replace(self._counts), replace(self._arrived)
        interval = _Interval(seconds, cpu - self._last_cpu, arrived, self._last_arrived, now, self._last)
        self._arrived.largest = 0
        self._last_arrived, self._last, self._last_cpu = replace(arrived, largest=0), now, cpu
        return interval


def _present_values(interval: _Interval, load: Load, facts: NodeFacts) -> dict[str, object]:
    """What holds now or held lately, by the keys of :data:`VALUES`."""
    processed, seen = interval.grown("events_processed"), interval.grown("events_seen")
    downsampled = interval.grown("events_downsampled")
    values: dict[str, object] = {
        "state": "active",
        "model": facts.model,
        "device": facts.device,
        "device_choice": facts.device_choice,
        "publishers": facts.publishers,
        "camera": "" if facts.camera is None else "{} {} x {} px".format(*facts.camera),
        "sensor": "{} x {} px".format(*facts.sensor),
        "event_rate_per_s": round(interval.grown("events") / interval.seconds),
        "downsampled_rate_per_s": round(downsampled / interval.seconds),
        "downsampled_share": f"{downsampled / seen:.4f}" if seen else "",
        "processed_share": f"{interval.processed_share:.4f}",
        "thinning_factor": f"{load.factor:.2f}",
        "lag_ms": f"{1e3 * load.lag:.2f}",
        "result_rate_hz": f"{load.results / interval.seconds:.1f}",
        "result_ms": f"{1e3 * load.readout:.2f}",
        "us_per_event": f"{interval.grown('processing_ns') / 1000 / processed:.3f}" if processed else "",
        "largest_packet_kb": f"{interval.arrived.largest / 1e3:.1f}",
        "queue_kb": f"{facts.queued / 1e3:.1f}",
        "cpu_percent": f"{100 * interval.cpu_s / interval.seconds:.0f}",
        "memory_mb": f"{_memory_mb():.0f}",
    }
    if facts.device.startswith("cuda"):
        values["device_memory_mb"] = f"{torch.cuda.memory_reserved(facts.device) / _BYTES_PER_MB:.0f}"
    return values


def _totals(interval: _Interval) -> dict[str, object]:
    """What has been counted since configure, by the keys of :data:`VALUES`."""
    arrived, now = interval.arrived, interval.now
    return {
        "packets": arrived.packets,
        "packets_lost": arrived.packets_lost,
        "packets_dropped": arrived.packets_dropped,
        "packets_malformed": now.packets_malformed,
        "events": now.events,
        "events_processed": now.events_processed,
        "events_filtered": now.events_filtered,
        "events_downsampled": now.events_downsampled,
        "events_thinned": now.events_thinned,
        "triggers": now.triggers,
        "resets": now.resets,
        "processing_ms": f"{now.processing_ns / 1e6:.3f}",
    }


def _problems(interval: _Interval, load: Load, facts: NodeFacts) -> Iterator[tuple[bytes, str]]:
    """What is wrong or was lately, each with its level."""
    if facts.problem:
        yield _WARN, facts.problem
    if not interval.come("packets"):
        yield _WARN, _why_nothing_arrives(facts)
    if lost := interval.come("packets_lost"):
        yield _WARN, f"{lost} packets lost{_cure(interval.arrived.largest)}"
    if dropped := interval.come("packets_dropped"):
        yield _ERROR, f"{dropped} packets dropped, because more than queue_mb were waiting"
    if malformed := interval.grown("packets_malformed"):
        yield (_ERROR if malformed >= interval.grown("packets") else _WARN), f"{malformed} packets malformed"
    if resets := interval.grown("resets"):
        yield _WARN, f"the graph has started again {resets} times"
    if interval.processed_share < 1.0:
        yield _WARN, f"only {interval.processed_share:.1%} of the events processed, to hold the latency budget"
    if load.lag > facts.max_latency:
        yield _WARN, f"lag of {1e3 * load.lag:.0f} ms, more than max_latency_ms"


def _why_nothing_arrives(facts: NodeFacts) -> str:
    if not facts.publishers:
        return f"no packets: nobody publishes on {facts.topic}"
    return f"no packets, though {facts.topic} has a publisher{_cure(_LARGE_PACKET)}"


def status_name(node: str) -> str:
    """The name of a node's status: the node and what of it, as ROS's ``diagnostic_updater`` has it."""
    return f"{node}: event stream"


def idle_status(name: str, topic: str, state: str, failure: str) -> DiagnosticStatus:
    """The status of a node that is not working, with its state, such as ``inactive``, and what has failed."""
    return DiagnosticStatus(
        level=_ERROR if failure else _OK,
        name=name,
        hardware_id=topic,
        message=failure or state,
        values=[KeyValue(key="state", value=state), KeyValue(key="memory_mb", value=f"{_memory_mb():.0f}")],
    )


def _memory_mb() -> float:
    """What the process holds in memory now [MB]."""
    with open("/proc/self/statm") as statistics:
        return int(statistics.read().split()[1]) * resource.getpagesize() / _BYTES_PER_MB


def _cure(largest: int) -> str:
    """What to do where packets are lost and the largest of those that came has so many bytes."""
    if "fastrtps" not in rclpy.get_rmw_implementation_identifier():
        return ""
    condition = "" if largest >= _LARGE_PACKET else "if there are packets of more than 500 kB: "
    profile = find_share_file("config/fastdds.xml") or "a profile with more shared memory"
    return (
        f"; {condition}Fast DDS loses large packets by default, unless {profile_variable()} is {profile} where the"
        " camera's driver or the bag player starts"
    )
