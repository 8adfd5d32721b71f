# SPDX-License-Identifier: Apache-2.0
"""Whether Triton kernels can run: what they need of the machine, and the message where it is missing."""

from __future__ import annotations

import os
from importlib.util import find_spec

import torch

__all__ = ["LEAST_CAPABILITY", "interpreted", "unavailable"]

#: Compute capability of the oldest devices that the kernels are compiled for.
LEAST_CAPABILITY = (8, 0)


def interpreted() -> bool:
    """Whether Triton's interpreter was asked for: kernels then run on the CPU, thousands of times slower."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on")


def unavailable(device: torch.device) -> str | None:
    """Why kernels cannot run on tensors on such a device, or None."""
    if device.type not in ("cuda", "cpu"):
        return f"it runs on a CUDA device, the model is on {device}"
    if device.type == "cpu" and not interpreted():
        return (
            "it runs on a CUDA device, the model is on the CPU (with TRITON_INTERPRET=1 that works, slowly, for tests)"
        )
    if find_spec("triton") is None:
        return "its kernels need Triton, which is not installed: pip install triton"
    if device.type == "cuda":
        if interpreted():
            return "TRITON_INTERPRET is set, with which kernels run on the CPU: unset it to use the device"
        if torch.version.hip is not None:
            return "it was made for CUDA, this torch is for ROCm"
        if (found := torch.cuda.get_device_capability(device)) < LEAST_CAPABILITY:
            needed, found_text = (".".join(map(str, version)) for version in (LEAST_CAPABILITY, found))
            return f"it needs a device of compute capability {needed} or above, {device} has {found_text}"
    return None
