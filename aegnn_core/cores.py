# SPDX-License-Identifier: Apache-2.0
"""How many processor cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["usable_cores"]

_PROC, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores that the process may run on, and is given time for: its affinity, and the quota of its control groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota(_PROC, _CGROUPS))))


def _quota(proc: Path, cgroups: Path) -> float:
    """The fewest processors' time that a control group of this process may use; ``inf`` without a limit.

    Args:
        proc: file that names the groups, ``/proc/self/cgroup``.
        cgroups: where they are mounted.
    """
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / "cpu" if controllers else cgroups
        group = root / name.lstrip("/")
        # In a container the path is that of the host, and the group itself is mounted at the root.
        for folder in (*(part for part in (group, *group.parents) if root in part.parents), root):
            try:
                if controllers:
                    quota, period = (float((folder / f"cpu.cfs_{k}_us").read_text()) for k in ("quota", "period"))
                else:
                    quota, period = (float(text) for text in (folder / "cpu.max").read_text().split())
            except (OSError, ValueError):  # there is none: "max"
                continue
            if quota > 0 and period > 0:
                quotas.append(quota / period)
    return min(quotas)
