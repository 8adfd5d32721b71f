# SPDX-License-Identifier: Apache-2.0
"""The spline convolution is the formula, whichever way it is computed."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aegnn_core.nn import spline
from aegnn_core.nn.spline import SplineConv


def convolve_by_formula(conv: SplineConv, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
    """One edge, one kernel at a time."""
    sizes = conv.kernel_size.tolist()
    out = x.new_zeros(len(x), conv.out_channels)
    degree = [0] * len(x)
    for (j, i), u in zip(edge_index.t().tolist(), edge_attr, strict=True):
        degree[i] += 1
        for kernels in itertools.product(*(range(size) for size in sizes)):
            basis, number, stride = 1.0, 0, 1
            for kernel, size, component in zip(kernels, sizes, u.tolist(), strict=True):
                basis *= max(0.0, 1 - abs(component * (size - 1) - kernel))
                number += kernel * stride
                stride *= size
            out[i] += basis * (x[j] @ conv.weight[number])
    if conv.aggr == "mean":
        out = out / torch.tensor(degree).clamp(min=1)[:, None]
    if conv.lin is not None:
        out = out + x @ conv.lin.weight.t()
    return out if conv.bias is None else out + conv.bias


def random_graph(seed: int, nodes: int, edges: int, channels: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(nodes, channels, generator=generator, dtype=torch.float64)
    edge_index = torch.randint(nodes, (2, edges), generator=generator)
    edge_attr = torch.rand(edges, dim, generator=generator, dtype=torch.float64)
    # The ends and the knots of the axes are where indices go wrong.
    edge_attr[torch.rand(edges, dim, generator=generator) < 0.2] = 1.0
    edge_attr[torch.rand(edges, dim, generator=generator) < 0.2] = 0.0
    edge_attr[torch.rand(edges, dim, generator=generator) < 0.2] = 0.5
    return x, edge_index, edge_attr


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    dim=st.integers(1, 3),
    sizes=st.lists(st.integers(2, 5), min_size=3, max_size=3),
    aggr=st.sampled_from(["mean", "add"]),
    extras=st.booleans(),
    edges=st.integers(0, 40),
)
def test_compiled_and_torch_convolutions_are_the_formula(
    seed: int, dim: int, sizes: list[int], aggr: str, extras: bool, edges: int
) -> None:
    x, edge_index, edge_attr = random_graph(seed, 7, edges, 3, dim)
    torch.manual_seed(seed)
    conv = SplineConv(3, 4, dim, sizes[:dim], aggr=aggr, root_weight=extras, bias=extras).double()
    expected = convolve_by_formula(conv, x, edge_index, edge_attr)
    torch.testing.assert_close(conv(x, edge_index, edge_attr), expected, rtol=1e-9, atol=1e-12)
    in_torch = spline._convolve_in_torch(x, conv.weight, conv.edges(edge_index[0], edge_index[1], edge_attr, 7))
    if extras:
        in_torch = in_torch + conv.lin(x) + conv.bias
    torch.testing.assert_close(in_torch, expected, rtol=1e-9, atol=1e-12)


def test_values_by_hand() -> None:
    conv = SplineConv(1, 1, dim=2, kernel_size=2, root_weight=True)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(4, 1, 1)
        conv.lin.weight[:] = 0.5
        conv.bias[:] = 7.0
    x = torch.tensor([[2.0], [4.0], [8.0]])
    edge_index = torch.tensor([[0, 1], [2, 2]])
    edge_attr = torch.tensor([[0.25, 0.0], [1.0, 0.5]])
    # Edge 0: 2 (0.75 · 1 + 0.25 · 10) = 6.5. Edge 1: 4 (0.5 · 10 + 0.5 · 1000) = 2020. Mean 1013.25, root 4, bias 7.
    torch.testing.assert_close(conv(x, edge_index, edge_attr), torch.tensor([[8.0], [9.0], [1024.25]]))


def test_everything_is_in_full_precision_under_autocast() -> None:
    x, edge_index, edge_attr = (
        part.float() if part.is_floating_point() else part for part in random_graph(0, 7, 20, 3, 3)
    )
    conv = SplineConv(3, 4, 3, 2)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = conv(x, edge_index, edge_attr)
    assert torch.equal(mixed, conv(x, edge_index, edge_attr))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_numbers_of_16_bits_are_summed_in_32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, edge_index, edge_attr = random_graph(0, 7, 20, 3, 3)
    conv = SplineConv(3, 4, 3, 2, root_weight=False, bias=False).to(dtype)
    x = x.to(dtype)
    found = conv(x, edge_index, edge_attr)
    exact = conv.double()(x.double(), edge_index, edge_attr.float().double())
    # Rounded once, at the end: the sums of 32 bits are some millionths off, which decides how a tie is rounded.
    torch.testing.assert_close(found.double(), exact, rtol=torch.finfo(dtype).eps / 2, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(conv.to(dtype)(x, edge_index, edge_attr), found)


def test_weights_of_pygs_layer_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyG's layer can be made, though not run, without its compiled kernels."""
    module = pytest.importorskip("torch_geometric.nn.conv.spline_conv")
    monkeypatch.setattr(module, "spline_basis", object())
    theirs = module.SplineConv(3, 5, dim=2, kernel_size=[2, 4])
    ours = SplineConv(3, 5, dim=2, kernel_size=[2, 4])
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.lin.weight, theirs.lin.weight)
    with pytest.raises(RuntimeError, match=r"kernel_size is \[4, 2\], expected \[2, 4\]"):
        ours.load_state_dict(module.SplineConv(3, 5, dim=2, kernel_size=[4, 2]).state_dict())
    with pytest.raises(RuntimeError, match="closed splines"):
        ours.load_state_dict(module.SplineConv(3, 5, dim=2, kernel_size=[2, 4], is_open_spline=False).state_dict())


@pytest.mark.parametrize("at_once", [1, 2**28])
@pytest.mark.parametrize("aggr", ["mean", "add"])
def test_gradients_are_right_in_one_piece_and_in_slices(
    monkeypatch: pytest.MonkeyPatch, at_once: int, aggr: str
) -> None:
    monkeypatch.setattr(spline, "_BYTES_AT_ONCE", at_once)
    x, edge_index, edge_attr = random_graph(3, 6, 25, 2, 3)
    conv = SplineConv(2, 3, 3, 2, aggr=aggr).double()

    def run(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(conv, {"weight": weight}, (x, edge_index, edge_attr))

    assert torch.autograd.gradcheck(run, (x.requires_grad_(), conv.weight))


def test_slices_give_the_same_as_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    x, edge_index, edge_attr = random_graph(5, 50, 300, 4, 3)
    conv = SplineConv(4, 6, 3, 3).double()
    whole = conv(x, edge_index, edge_attr)
    monkeypatch.setattr(spline, "_BYTES_AT_ONCE", 7 * 27 * 4 * 8)  # seven nodes
    torch.testing.assert_close(conv(x, edge_index, edge_attr), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 3, "kernel_size": 1}, "at least 2"),
        ({"dim": 3, "kernel_size": [2, 2]}, "3 numbers"),
        ({"dim": 2, "kernel_size": 2, "aggr": "max"}, "mean or add, found 'max'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SplineConv(1, 1, **arguments)


def test_wrong_shapes_are_refused() -> None:
    conv = SplineConv(2, 3, dim=3, kernel_size=2)
    edges = torch.zeros(2, 4, dtype=torch.long)
    with pytest.raises(ValueError, match=r"edge_attr must be \[E, 3\], found \[4, 2\]"):
        conv(torch.zeros(5, 2), edges, torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"x must be \[N, 2\], found \[5, 1\]"):
        conv(torch.zeros(5, 1), edges, torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"edge_index must be \[2, E\] for 3 edge attributes, found \[2, 4\]"):
        conv(torch.zeros(5, 2), edges, torch.zeros(3, 3))


@pytest.mark.parametrize("aggr", ["mean", "add"])
@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("node", [-1, 5, 10**7])
def test_an_edge_that_is_not_between_nodes_is_refused(node: int, end: int, aggr: str) -> None:
    """What is not a node's memory is never read or written."""
    conv, edges = SplineConv(2, 3, dim=3, kernel_size=2, aggr=aggr), torch.zeros(2, 4, dtype=torch.long)
    edges[end, 2] = node
    with pytest.raises(ValueError, match=rf"edge_index must be between 0 and 4, for 5 nodes, found .*{node}"):
        conv(torch.zeros(5, 2), edges, torch.zeros(4, 3))
    assert conv(torch.zeros(5, 2), edges[:, :0], torch.zeros(0, 3)).shape == (5, 3), "no edge is none that is wrong"


@pytest.mark.parametrize("name", ["dim", "sizes"])
def test_what_the_weights_are_laid_out_for_cannot_be_changed(name: str) -> None:
    """Compiled code would write where it must not."""
    conv = SplineConv(1, 1, dim=3, kernel_size=2)
    with pytest.raises(AttributeError, match=name):
        setattr(conv, name, {"dim": 2, "sizes": (2, 2)}[name])
    assert (conv.dim, conv.sizes) == (3, (2, 2, 2))
