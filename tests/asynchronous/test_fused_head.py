# SPDX-License-Identifier: Apache-2.0
"""Heads on a CUDA device whose convolutions are one launch each, in Triton's interpreter."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import elu, interpolate, relu

from aegnn_core.asynchronous.cuda import interpreted
from aegnn_core.asynchronous.cuda.fused_head import FusedHead
from aegnn_core.asynchronous.cuda.launching import Kernels
from aegnn_core.asynchronous.folded_head import fold_norms
from aegnn_core.nn import load_model
from tests.asynchronous.test_contract import assert_equal

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="the engine cuda needs Triton: pip install triton"),
    pytest.mark.skipif(not interpreted(), reason="TRITON_INTERPRET=0: the kernels are not interpreted"),
]


class Counting:
    """All kernels; notes which are launched."""

    def __init__(self) -> None:
        self.launched: list[str] = []

    def __getattr__(self, name: str) -> Any:
        from aegnn_core.asynchronous.cuda import kernels

        self.launched.append(name)
        return getattr(kernels, name)


class Head(nn.Module):
    """Layers, and what a ``forward`` makes of them and of an image."""

    def __init__(self, forward: Callable[[nn.ModuleList, Tensor], Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self._forward = nn.ModuleList(layers), forward

    def forward(self, image: Tensor) -> Tensor:
        return self._forward(self.layers, image)


def conv(inputs: int, outputs: int, *size: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, *size or (3,), **options)


def residual(layers: nn.ModuleList, image: Tensor) -> Tensor:
    return elu(image + layers[1](elu(layers[0](image))))


def changed_in_place(layers: nn.ModuleList, image: Tensor) -> Tensor:
    before = layers[0](image)
    after = layers[1](before)  # reads what is changed behind it
    relu(before, inplace=True)
    return after + before


def used_twice(layers: nn.ModuleList, image: Tensor) -> Tensor:
    first = layers[0](image)
    active = elu(first)
    return torch.cat([first, active, elu(first + image), first + first, elu(active, alpha=0.5)], 1)


def activated_in_place(layers: nn.ModuleList, image: Tensor) -> Tensor:
    first = layers[0](image)
    total = first + image
    elu(first, inplace=True)
    return torch.cat([first, total], 1)


def two_sums(layers: nn.ModuleList, image: Tensor) -> Tensor:
    return layers[0](image) + layers[1](image) + image + 1


def other_scales(layers: nn.ModuleList, image: Tensor) -> Tensor:
    small = elu(layers[0](image))
    large = interpolate(layers[1](small), size=image.shape[2:], mode="nearest")
    return torch.cat([image, large], 1).permute(0, 2, 3, 1)


HEADS = {
    "residual": Head(residual, conv(5, 5, padding=1, bias=False), conv(5, 5, padding=1)),
    "changed in place": Head(changed_in_place, conv(5, 5, padding=1), conv(5, 5, padding=1)),
    "used twice": Head(used_twice, conv(5, 5, padding=1)),
    "activated in place": Head(activated_in_place, conv(5, 5, padding=1)),
    "two sums": Head(two_sums, conv(5, 5, padding=1), conv(5, 5, 1)),
    "other scales": Head(other_scales, conv(5, 40, stride=2, padding=1), conv(40, 17, 1)),
    "any size": Head(lambda layers, image: layers[0](image), conv(5, 3, (2, 5), stride=(1, 2), padding=(1, 0))),  # type: ignore[arg-type]
    "groups": Head(lambda layers, image: elu(layers[0](image)), conv(5, 10, groups=5, padding="same")),
    "classes": nn.Sequential(conv(5, 4), nn.ELU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
    "nothing": nn.Identity(),
}


@pytest.mark.parametrize("kind", HEADS)
def test_answers_are_those_of_torch(kind: str) -> None:
    head, generator = HEADS[kind].eval(), torch.Generator().manual_seed(0)
    fused = FusedHead(head, Kernels(1))
    for _ in range(2):
        image = torch.randn(1, 5, 7, 9, generator=generator)
        with torch.no_grad():
            expected = head(image.clone())
            assert_equal(fused(image.clone()), expected, 1e-5)
            put_off = len(fused._fusion.put_off)
            fused(image.clone())
            assert len(fused._fusion.put_off) == put_off, "nothing is kept of an answer"


def test_a_convolution_of_a_packaged_head_is_one_launch() -> None:
    network = load_model("scenes_detector").network
    kernels, image = Counting(), torch.rand(1, 8, 48, 64, generator=torch.Generator().manual_seed(0))
    fused = FusedHead(fold_norms(network.head).to(memory_format=torch.contiguous_format), Kernels(1, kernels))
    with torch.no_grad():
        assert_equal(fused(image), network.head(image), 1e-5)
    convolutions = sum(isinstance(module, nn.Conv2d) for module in network.head.modules())
    assert len(kernels.launched) == convolutions
