# SPDX-License-Identifier: Apache-2.0
"""What ``/diagnostics`` reports about a camera's stream: rates, losses, lag and the cost of an event."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, replace

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from aegnn_ros.detector.arrivals import ArrivalCounts
from aegnn_ros.detector.camera_stream import StreamCounts
from aegnn_ros.detector.detection_worker import Load
from aegnn_ros.installed_files import profile_variable, share_file

__all__ = ["VALUES", "NodeFacts", "StreamDiagnostics", "idle_status"]

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


class StreamDiagnostics:
    """Turns the counts of a stream into status messages; rates and levels are about the time since the last one.

    Args:
        name: of the status, usually the node's.
        arrived: counts of what came in.
        counts: of what was processed.
    """

    def __init__(self, name: str, arrived: ArrivalCounts, counts: StreamCounts) -> None:
        self._name, self._arrived, self._counts = name, arrived, counts
        self._last_arrived, self._last, self._last_cpu = replace(arrived), replace(counts), time.process_time()

    def status(self, interval_s: float, load: Load, facts: NodeFacts) -> DiagnosticStatus:
        """The status of an active node for the last ``interval_s`` seconds."""
        now, last, self._last = replace(self._counts), self._last, replace(self._counts)
        arrived, last_arrived, self._last_arrived = (
            replace(self._arrived),
            self._last_arrived,
            replace(self._arrived, largest=0),
        )
        self._arrived.largest = 0
        cpu = time.process_time()
        cpu_s, self._last_cpu = cpu - self._last_cpu, cpu
        processed = now.events_processed - last.events_processed
        offered = processed + now.events_thinned - last.events_thinned
        share = processed / offered if offered else 1.0
        seen, downsampled = (getattr(now, name) - getattr(last, name) for name in ("events_seen", "events_downsampled"))
        values: dict[str, object] = {
            "state": "active",
            "model": facts.model,
            "device": facts.device,
            "device_choice": facts.device_choice,
            "publishers": facts.publishers,
            "camera": "" if facts.camera is None else "{} {} x {} px".format(*facts.camera),
            "sensor": "{} x {} px".format(*facts.sensor),
            "event_rate_per_s": round((now.events - last.events) / interval_s),
            "downsampled_rate_per_s": round(downsampled / interval_s),
            "downsampled_share": f"{downsampled / seen:.4f}" if seen else "",
            "processed_share": f"{share:.4f}",
            "thinning_factor": f"{load.factor:.2f}",
            "lag_ms": f"{1e3 * load.lag:.2f}",
            "result_rate_hz": f"{load.results / interval_s:.1f}",
            "result_ms": f"{1e3 * load.readout:.2f}",
            "us_per_event": f"{(now.processing_ns - last.processing_ns) / 1000 / processed:.3f}" if processed else "",
            "largest_packet_kb": f"{arrived.largest / 1e3:.1f}",
            "queue_kb": f"{facts.queued / 1e3:.1f}",
            "cpu_percent": f"{100 * cpu_s / interval_s:.0f}",
            "memory_mb": f"{_memory_mb():.0f}",
        }
        if facts.device.startswith("cuda"):
            values["device_memory_mb"] = f"{torch.cuda.memory_reserved(facts.device) / _BYTES_PER_MB:.0f}"
        values |= {
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
        packets = arrived.packets - last_arrived.packets
        problems = [(_WARN, facts.problem)] if facts.problem else []
        if not packets:
            problems.append((_WARN, self._why_nothing_arrives(facts)))
        if lost := arrived.packets_lost - last_arrived.packets_lost:
            problems.append((_WARN, f"{lost} packets lost{_cure(arrived.largest)}"))
        if dropped := arrived.packets_dropped - last_arrived.packets_dropped:
            problems.append((_ERROR, f"{dropped} packets dropped, because more than queue_mb were waiting"))
        if malformed := now.packets_malformed - last.packets_malformed:
            level = _ERROR if malformed >= now.packets - last.packets else _WARN
            problems.append((level, f"{malformed} packets malformed"))
        if now.resets > last.resets:
            problems.append((_WARN, f"the graph has started again {now.resets - last.resets} times"))
        if share < 1.0:
            problems.append((_WARN, f"only {share:.1%} of the events processed, to hold the latency budget"))
        if load.lag > facts.max_latency:
            problems.append((_WARN, f"lag of {1e3 * load.lag:.0f} ms, more than max_latency_ms"))
        return DiagnosticStatus(
            level=max((level for level, _ in problems), default=_OK),
            name=self._name,
            hardware_id=facts.topic,
            message="; ".join(text for _, text in problems) or f"{packets} packets, {processed} events processed",
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )

    def _why_nothing_arrives(self, facts: NodeFacts) -> str:
        if not facts.publishers:
            return f"no packets: nobody publishes on {facts.topic}"
        return f"no packets, though {facts.topic} has a publisher{_cure(_LARGE_PACKET)}"


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
    return (
        f"; {condition}Fast DDS loses large packets by default, unless {profile_variable()} is"
        f" {share_file('config/fastdds.xml')} where the camera's driver or the bag player starts"
    )
