# SPDX-License-Identifier: Apache-2.0
"""How the processes that load samples start."""

from __future__ import annotations

import torch

from aegnn_core.child_process import begin_child_process

__all__ = ["start_loader_process"]


def start_loader_process(_: int) -> None:
    """Compute in one thread, leave Ctrl-C to the process that trains, which needs the next samples to stop well, and
    end with it."""
    begin_child_process()
    torch.set_num_threads(1)  # the graphs are small, threads would only wait for each other
