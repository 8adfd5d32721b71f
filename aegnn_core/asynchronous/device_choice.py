# SPDX-License-Identifier: Apache-2.0
"""Whether a network is better run on a GPU or on the CPU."""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

import torch

from aegnn_core.asynchronous.cuda import CudaEngine
from aegnn_core.asynchronous.event_layers import block_flops, flatten, unknown_layer
from aegnn_core.graph import GraphConfig
from aegnn_core.nn.event_network import EventNetwork
from aegnn_core.nn.graph_network import GraphNetwork

__all__ = ["LEAST_FLOPS", "DeviceChoice", "choose_device", "most_flops_per_event"]

#: FLOPs per event from which on a GPU is taken: those of the smallest networks with which one was measured. It was nine
#: times faster than all cores of its CPU with packets of a thousand events. Counts alone are faster on one core.
LEAST_FLOPS = 30_000


class DeviceChoice(NamedTuple):
    """A device, and why it was chosen."""

    device: str
    reason: str


def most_flops_per_event(network: GraphNetwork, graph: GraphConfig) -> int:
    """FLOPs of the layers on events for an event with as many neighbours as the rule allows."""
    return sum(
        block_flops(block, 1, graph.max_neighbors, 2**block.conv.dim, len(block.conv.weight), mark)
        for block, mark in flatten(network.event_blocks)
    )


def choose_device(network: EventNetwork, graph: GraphConfig) -> DeviceChoice:
    """The GPU if there is one, the network is large enough to gain by it, and its kernels pass their self-check there.

    Args:
        network: on the CPU; it stays there.
        graph: the rule on which it is to run.
    """
    if not isinstance(network, GraphNetwork):
        return DeviceChoice("cpu", "the kernels for a GPU are those of the package's own networks")
    if not torch.cuda.is_available():
        return DeviceChoice("cpu", "torch finds no CUDA device")
    if reason := unknown_layer(network.event_blocks, compiled=True):
        return DeviceChoice("cpu", f"a GPU cannot be used: {reason}")
    if (flops := most_flops_per_event(network, graph)) < LEAST_FLOPS:
        return DeviceChoice("cpu", f"{flops:,} FLOPs per event are not worth a GPU, which {LEAST_FLOPS:,} would be")
    device = "cuda"
    try:
        device = f"cuda:{torch.cuda.current_device()}"
        reason = CudaEngine.refusal(deepcopy(network).to(device), graph)
    except RuntimeError as error:  # of memory, or of a device that is lost or in use
        reason = str(error)
    if reason is not None:
        return DeviceChoice("cpu", f"{device} cannot be used: {reason}")
    return DeviceChoice(device, f"it passes its self-check, and {flops:,} FLOPs per event are worth it")
