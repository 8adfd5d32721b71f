# SPDX-License-Identifier: Apache-2.0
"""The spline convolution of CUDA devices, in Triton's interpreter: it is the CPU's, forwards and backwards."""

from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from aegnn_core.nn import SplineConv, spline, spline_triton
from aegnn_core.nn.spline_triton import OrderedEdges, disagreement
from aegnn_core.triton_support import interpreted
from tests.nn.test_spline import random_graph

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="the kernels need Triton: pip install triton")
needs_interpreter = pytest.mark.skipif(not interpreted(), reason="TRITON_INTERPRET=0: the kernels are not interpreted")


def results(conv: SplineConv, x: Tensor, *edges: Tensor) -> list[Tensor]:
    """The output, and the gradients of features and parameters."""
    x = x.clone().requires_grad_()
    out = conv(x, *edges)
    # Not in the order of memory, and neither is the gradient that comes back.
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.t().shape).t()
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), [x, *conv.parameters()])]


@needs_interpreter
@pytest.mark.parametrize(
    ("sizes", "aggr", "inputs", "outputs"),
    [((4,), "add", 3, 5), ((3, 2), "mean", 1, 18), ((2, 3, 2), "mean", 9, 2)],
)
def test_output_and_gradients_are_those_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], aggr: str, inputs: int, outputs: int
) -> None:
    x, *edges = random_graph(1, 9, 24, inputs, len(sizes))
    conv = SplineConv(inputs, outputs, len(sizes), sizes, aggr=aggr).double()
    expected = results(conv, x, *edges)
    monkeypatch.setattr(spline, "_runs_in_triton", lambda *_: True)
    monkeypatch.setattr(spline_triton, "is_right", lambda *_: True)
    monkeypatch.setattr(spline_triton, "_MOST_CHANNELS", 16)  # the widest layers have two blocks
    monkeypatch.setattr(spline_triton, "_INTERPRETED_NODES", 8)
    found = results(conv, x, *edges)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert all(map(torch.equal, found, results(conv, x, *edges)))


@needs_interpreter
def test_gradients_are_right() -> None:
    x, (source, target), attr = random_graph(3, 4, 9, 2, 2)
    edges = OrderedEdges(source, target, torch.rand(4, dtype=torch.float64), attr, (2, 2))
    weight = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, weight: spline_triton.convolve(x, weight, edges), (x.requires_grad_(), weight), fast_mode=True
    )


@needs_interpreter
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_numbers_are_summed_in_32(dtype: torch.dtype) -> None:
    """2,048 and a hundred times 1 are 2,048 in either type, if each is added by itself."""
    x, weight = torch.tensor([[2_048.0], [1.0]], dtype=dtype), torch.full((2, 1, 1), 2**-6, dtype=dtype)
    source = (torch.arange(101) > 0).long()
    edges = OrderedEdges(source, torch.zeros(101, dtype=torch.long), torch.ones(1), torch.zeros(101, 1), (2,))
    out = spline_triton.convolve(x, weight, edges)
    assert out.dtype == dtype
    assert float(out) == pytest.approx(2_148 / 64, rel=4e-3)


@needs_interpreter
def test_nodes_without_edges_and_graphs_without_nodes() -> None:
    nowhere = torch.zeros(2, 0, dtype=torch.long)
    for nodes in (0, 3):
        edges = OrderedEdges(*nowhere, torch.ones(nodes), torch.zeros(0, 1), (2,))
        x, weight = torch.ones(nodes, 1, requires_grad=True), torch.ones(2, 1, 2, requires_grad=True)
        out = spline_triton.convolve(x, weight, edges)
        out.sum().backward()
        assert torch.equal(out, torch.zeros(nodes, 2))
        assert torch.equal(weight.grad, torch.zeros(2, 1, 2))


@needs_interpreter
def test_a_layer_whose_kernels_are_wrong_runs_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    from aegnn_core.nn import spline_triton_kernels as kernels

    class Halved:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            def launch(
                start: Any, other: Any, attr: Any, features: Any, grad: Any, out: Tensor, *rest: Any, **sizes: Any
            ):
                kernels.weight_gradient[grid](start, other, attr, features, grad, out, *rest, **sizes)
                out /= 2

            return launch

    layer = (torch.device("cpu"), torch.float32, (2,), 1, 2)
    wrong = SimpleNamespace(convolve=kernels.convolve, weight_gradient=Halved())
    with torch.inference_mode():  # in which a layer may be called first
        assert disagreement(*layer, nodes=6) is None
    assert "gradient of the weights is 0.5 of its largest number away" in str(disagreement(*layer, wrong, nodes=6))
    assert "failed with AttributeError" in str(disagreement(*layer, SimpleNamespace(), nodes=6))

    monkeypatch.setattr(spline, "_runs_in_triton", lambda *_: True)
    monkeypatch.setattr(spline_triton, "disagreement", lambda *found: disagreement(*found, wrong, nodes=6))
    spline_triton.is_right.cache_clear()
    x, *edges = random_graph(1, 5, 12, 1, 1)
    conv = SplineConv(1, 2, 1, 2)
    with pytest.warns(UserWarning, match=r"1 → 2 with kernels \(2,\) is computed in torch on cpu, and slower"):
        found = conv(x.float(), *edges)
    spline_triton.is_right.cache_clear()
    monkeypatch.undo()
    torch.testing.assert_close(found, conv(x.float(), *edges))


@needs_interpreter
def test_kernels_for_which_there_was_no_memory_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    layer = (torch.device("cpu"), torch.float32, (2,), 2, 3)
    spline_triton.is_right.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(spline_triton, "convolve", full)
        with pytest.raises(torch.OutOfMemoryError):
            spline_triton.is_right(*layer)
    assert spline_triton.is_right(*layer)


@pytest.mark.cuda
@pytest.mark.skipif(interpreted() or not torch.cuda.is_available(), reason="needs a CUDA device and TRITON_INTERPRET=0")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("sizes", "inputs", "outputs"), [((2, 2, 2), 1, 8), ((2, 2, 2), 16, 32), ((4, 4), 64, 128), ((8, 8, 8), 32, 128)]
)
def test_a_device_agrees_with_the_cpu(sizes: tuple[int, ...], inputs: int, outputs: int, dtype: torch.dtype) -> None:
    assert disagreement(torch.device("cuda"), dtype, sizes, inputs, outputs) is None
