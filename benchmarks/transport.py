# SPDX-License-Identifier: Apache-2.0
"""What carries event packets best: `python benchmarks/transport.py [--json FILE] [--seconds 4]`.

One process publishes packets as a camera driver does, another one receives them, with nothing done to them; or both are
in one process. The time is that from publishing to the subscriber's callback, the processor time that of both ends.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from event_camera_msgs.msg import EventPacket
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aegnn_core.option_types import positive
from aegnn_ros.conversions import nanoseconds, time_message
from aegnn_ros.installed_files import large_packet_profile
from aegnn_ros.playback.packet_replay import DRIVER_QOS
from aegnn_ros.playback.ros_domain import claim_ros_domain

#: Name, environment of both ends, and whether both are in one process.
TRANSPORTS: tuple[tuple[str, dict[str, str], bool], ...] = (
    ("shared memory, the node's profile", large_packet_profile(), False),
    ("shared memory, Fast DDS's defaults", {}, False),
    ("UDP alone", {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}, False),
    ("TCP for large data", {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, False),
    ("one process", large_packet_profile(), True),
)
#: Bytes in a packet, and packets per second.
LOADS = ((10_000, 500), (100_000, 200), (400_000, 100), (1_000_000, 50))
TOPIC = "/transport/events"
SETTLING_S = 2.0
PERCENTILES = (50, 95)


def publish(node: Node, size: int, rate: float, seconds: float) -> None:
    """Publish packets evenly, once somebody listens."""
    publisher = node.create_publisher(EventPacket, TOPIC, DRIVER_QOS)
    message = EventPacket(width=1280, height=720, encoding="evt3", events=array("B", bytes(size)))
    deadline = time.monotonic() + 30
    while not publisher.get_subscription_count() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(SETTLING_S)
    begin = time.monotonic()
    for seq in range(round(rate * seconds)):
        time.sleep(max(0.0, begin + seq / rate - time.monotonic()))
        message.seq = seq
        message.header.stamp = time_message(time.monotonic_ns())
        publisher.publish(message)
    time.sleep(SETTLING_S)


def receive(node: Node, ended: threading.Event) -> list[float]:
    """Latency [ms] of every packet that comes until the end."""
    latencies: list[float] = []

    def take(message: EventPacket) -> None:
        latencies.append((time.monotonic_ns() - nanoseconds(message.header.stamp)) / 1e6)

    node.create_subscription(EventPacket, TOPIC, take, DRIVER_QOS)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not ended.is_set():
        executor.spin_once(timeout_sec=0.1)
    return latencies


def run_end(role: str, size: int, rate: float, seconds: float) -> None:
    """One end, or both, in this process; prints what it has measured as JSON."""
    rclpy.init()
    ended = threading.Event()
    found: dict[str, Any] = {}
    begin = time.process_time()
    try:
        if role == "publish":
            publish(Node("transport_camera"), size, rate, seconds)
        else:
            other = threading.Thread(target=sys.stdin.read)  # until the other process closes its end
            if role == "both":
                other = threading.Thread(target=publish, args=(Node("transport_camera"), size, rate, seconds))
            watch = threading.Thread(target=lambda: (other.start(), other.join(), ended.set()))
            watch.start()
            found["latencies_ms"] = receive(Node("transport_receiver"), ended)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    print(json.dumps(found | {"cpu_s": time.process_time() - begin}))


def measure(environment: dict[str, str], together: bool, size: int, rate: float, seconds: float) -> dict[str, float]:
    """Share of packets lost, latency [ms], and processor time per packet of both ends [ms]."""
    number, claim = claim_ros_domain()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FASTDDS_", "FASTRTPS_"))}
    kept |= {"ROS_DOMAIN_ID": str(number), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"} | environment
    command = [sys.executable, __file__, "--size", str(size), "--rate", str(rate), "--seconds", str(seconds), "--role"]
    pipes: dict[str, Any] = {"env": kept, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with claim:
        receiver = subprocess.Popen([*command, "both" if together else "receive"], **pipes)
        ends = []
        if not together:
            sender = subprocess.Popen([*command, "publish"], **pipes)
            ends.append(json.loads(sender.communicate()[0]))
        found = json.loads(receiver.communicate()[0])
    latencies = found["latencies_ms"]
    sent = round(rate * seconds)
    cpu_s = found["cpu_s"] + sum(end["cpu_s"] for end in ends)
    p50, p95 = np.percentile(latencies, PERCENTILES) if latencies else (np.nan, np.nan)
    return {"lost": 1 - len(latencies) / sent, "p50_ms": p50, "p95_ms": p95, "cpu_ms_per_packet": 1e3 * cpu_s / sent}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=positive, default=4.0, help="how long each is measured")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    parser.add_argument("--role", choices=("publish", "receive", "both"), help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, default=0, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.role:
        return run_end(parsed.role, parsed.size, parsed.rate, parsed.seconds)
    table = Table("transport", "packets", "lost", "p50 ms", "p95 ms", "CPU ms/packet")
    rows = []
    for (name, environment, together), (size, rate) in track([(t, load) for t in TRANSPORTS for load in LOADS]):
        row = measure(environment, together, size, rate, parsed.seconds)
        rows.append({"transport": name, "bytes": size, "rate_hz": rate, **row})
        figures = [f"{row[key]:.2f}" for key in ("p50_ms", "p95_ms", "cpu_ms_per_packet")]
        table.add_row(name, f"{size // 1000} kB, {rate}/s", f"{row['lost']:.1%}", *figures)
    Console().print(table)
    if parsed.json:
        parsed.json.write_text(json.dumps(rows, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
