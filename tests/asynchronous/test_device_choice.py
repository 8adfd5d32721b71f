# SPDX-License-Identifier: Apache-2.0
"""A GPU is chosen where it is there, right and worth it; the reason is a sentence in any case."""

import re
from typing import Any

import pytest
import torch

from aegnn_core import GraphConfig, network
from aegnn_core.asynchronous.cuda import CudaEngine
from aegnn_core.asynchronous.device_choice import choose_device, most_flops_per_event
from aegnn_core.nn.blocks import ConvBlock
from aegnn_core.nn.graph_network import GraphNetwork

SMALL: dict[str, Any] = {"name": "histogram", "dataset": "ncars"}
LARGE: dict[str, Any] = {"name": "graph_res", "dataset": "gen1"}


@pytest.mark.parametrize(
    ("options", "there", "refusal", "device", "reason"),
    [
        (LARGE, True, None, "cuda:1", "it passes its self-check, and [0-9,]+ FLOPs per event are worth it"),
        (LARGE, False, None, "cpu", "torch finds no CUDA device"),
        (SMALL, True, None, "cpu", "0 FLOPs per event are not worth a GPU, which 30,000 would be"),
        (LARGE, True, "its answer is 3 away", "cpu", "cuda:1 cannot be used: its answer is 3 away"),
        (LARGE, True, RuntimeError("CUDA error: out of memory"), "cpu", "cuda:1 cannot be used: CUDA error: out of"),
    ],
)
def test_a_gpu_is_chosen_if_it_is_there_right_and_worth_it(
    options: dict[str, Any], there: bool, refusal: Any, device: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved_to: list[str] = []

    def move(self: GraphNetwork, device: str) -> GraphNetwork:
        moved_to.append(device)
        return self

    def refuse(*_: Any) -> str | None:
        if isinstance(refusal, Exception):
            raise refusal
        return refusal

    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(GraphNetwork, "to", move)
    monkeypatch.setattr(CudaEngine, "refusal", refuse)
    choice = choose_device(network(**options), GraphConfig())
    assert choice.device == device
    assert re.match(reason, choice.reason)
    assert moved_to == (["cuda:1"] if there and options is LARGE else [])


def test_a_gpu_that_others_have_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", fail)
    choice = choose_device(network(**LARGE), GraphConfig())
    assert choice == ("cpu", "cuda cannot be used: CUDA error: all CUDA-capable devices are busy or unavailable")


def test_what_only_counts_events_has_no_layers_to_run() -> None:
    assert most_flops_per_event(network("histogram", dataset="simulated", task="detection"), GraphConfig()) == 0


def test_a_network_with_a_layer_of_another_package_stays_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(ConvBlock):
        pass

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    module = network(**LARGE)
    module.event_blocks[0].__class__ = Other
    choice = choose_device(module, GraphConfig())
    assert choice == ("cpu", "a GPU cannot be used: it knows ConvBlock and Residual, found Other")
