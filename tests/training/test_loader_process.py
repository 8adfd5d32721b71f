# SPDX-License-Identifier: Apache-2.0
"""Processes that load samples end with the training, however that ends and however Python starts processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

#: Loads with a process of the kind that Python starts since 3.14, and waits to be killed.
TRAINING = """
import time
from torch.utils.data import DataLoader
from aegnn_core.training.samples.loader_process import start_loader_process

loader = DataLoader(
    [1, 2], num_workers=1, persistent_workers=True, worker_init_fn=start_loader_process,
    multiprocessing_context="forkserver",
)
for batch in loader:
    pass
print("loaded", flush=True)
time.sleep(600)
"""


def processes_of(session: int) -> list[str]:
    """The command lines of the processes in a session that run."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except (psutil.Error, ProcessLookupError):
            pass
    return found


def test_a_killed_training_leaves_no_process_behind() -> None:
    root = Path(__file__).parents[2]
    training = subprocess.Popen(
        [sys.executable, "-c", TRAINING], cwd=root, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert training.stdout is not None
    assert training.stdout.readline() == "loaded\n"
    assert len(processes_of(training.pid)) >= 3  # the training, the fork server, the loader

    training.kill()
    training.wait()

    give_up = time.monotonic() + 20
    while left := processes_of(training.pid):
        assert time.monotonic() < give_up, left
        time.sleep(0.1)
