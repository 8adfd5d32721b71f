"""How the processes that load samples start."""

from __future__ import annotations

import signal

import torch

__all__ = ["start_loader_process"]


def start_loader_process(_: int) -> None:
    """Compute in one thread, and leave Ctrl-C to the process that trains, which needs the next samples to stop well."""
    torch.set_num_threads(1)  # the graphs are small, threads would only wait for each other
    signal.signal(signal.SIGINT, signal.SIG_IGN)
