# SPDX-License-Identifier: Apache-2.0
"""A detector that was started in a process of its own does not outlive whoever started it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

STARTER = """
import sys, time
from aegnn_ros.playback.node_process import NodeProcess

with NodeProcess({"model": sys.argv[1], "autostart": True}) as process:
    print(process.pid, flush=True)
    while "listening to" not in process.log():
        process.check()
        time.sleep(0.1)
    print("active", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("state", ["starting", "active"])
def test_a_node_ends_when_the_process_that_started_it_is_killed(models: dict[str, Path], state: str) -> None:
    command = [sys.executable, "-c", STARTER, str(models["detection"])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        try:
            assert starter.stdout is not None
            node = int(starter.stdout.readline())
            if state == "active":
                assert starter.stdout.readline() == "active\n"
            assert runs(node)
        finally:
            starter.kill()
    deadline = time.monotonic() + 30
    while runs(node):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(process: int) -> bool:
    """Whether there is such a process, and one that has not ended."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
