# SPDX-License-Identifier: Apache-2.0
"""Compiled loops on torch's threads: every step once, the same results, and really more than one thread."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from aegnn_core import GraphConfig, torch_threads
from aegnn_core.atomics import add, load_acquire, yield_processor
from aegnn_core.datasets.samples import EventSample, labelled_graph
from aegnn_core.events import make_events
from aegnn_core.graph import build_graph, neighbors
from aegnn_core.machine_code import kernel
from aegnn_core.nn import spline, spline_kernels
from aegnn_core.nn.networks import network
from aegnn_core.nn.pooling import segment_max
from aegnn_core.torch_threads import ALONE, Team, in_shares, torch_team


@kernel
def _count(begin, end, times):
    for n in range(begin, end):
        times[n] += 1


@kernel
def count(team, first, last, least, times):
    in_shares(team, first, last, least, _count, (times,))


@kernel
def _meet(begin, end, words, looks, met):
    """Whether, within so many looks, as many threads were here as there are parts."""
    for n in range(begin, end):
        add(words, 0, 1)
        while looks > 0 and load_acquire(words, 0) < len(met):
            yield_processor()
            looks -= 1
        met[n] = load_acquire(words, 0)


@kernel
def meet(team, words, looks, met):
    in_shares(team, 0, len(met), 1, _meet, (words, looks, met))


@pytest.fixture
def threads() -> Iterator[None]:
    """As many of torch's threads as before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def team_of(number: int) -> Team:
    """Torch's threads, so many of them."""
    torch.set_num_threads(number)
    team = torch_team()
    assert team.threads == number
    if not team.start:
        pytest.skip("torch computes without an OpenMP that we know")
    return team


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(("first", "last", "least"), [(0, 1000, 1), (7, 1001, 3), (0, 5, 100), (4, 4, 1), (3, 4, 1)])
def test_every_step_is_done_once(number: int, first: int, last: int, least: int) -> None:
    times = np.zeros(1002, np.int64)
    count(team_of(number), first, last, least, times)
    assert (times[first:last] == 1).all()
    assert times.sum() == last - first


def test_without_openmp_the_caller_does_it_all() -> None:
    times = np.zeros(100, np.int64)
    count(Team(0, 4), 0, 100, 1, times)
    assert (times == 1).all()


@pytest.mark.usefixtures("threads")
def test_threads_are_at_work_at_the_same_time() -> None:
    met = np.zeros(2, np.int64)
    meet(team_of(2), np.zeros(1, np.int64), 10_000_000, met)
    assert met.tolist() == [2, 2]
    meet(ALONE, np.zeros(1, np.int64), 10, met)
    assert met.tolist() == [1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot fork here")
def test_a_forked_process_has_no_team() -> None:
    assert torch_team().threads == torch.get_num_threads()
    child = os.fork()
    if child == 0:
        os._exit(0 if torch_team() == ALONE else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(
    "rule",
    [
        GraphConfig(radius=3.0, max_neighbors=8, window=20_000),
        GraphConfig(radius=2.5, max_neighbors=4, max_nodes=50, directed=False),
        GraphConfig(radius=4.0, max_neighbors=16, time_horizon=5_000),
    ],
)
def test_graphs_are_the_same_with_any_number_of_threads(monkeypatch: pytest.MonkeyPatch, rule: GraphConfig) -> None:
    monkeypatch.setattr(neighbors, "_LEAST_SHARE", 10)
    rng, size = np.random.default_rng(0), 700
    t = np.sort(rng.integers(0, 50_000, size))
    events = make_events(t, rng.integers(0, 20, size), rng.integers(0, 12, size), rng.integers(0, 2, size))
    torch.set_num_threads(1)
    expected = build_graph(events, rule)
    for number in (2, 3, 7):
        team_of(number)
        graph = build_graph(events, rule)
        assert torch.equal(graph.edge_index, expected.edge_index)
        assert torch.equal(graph.edge_attr, expected.edge_attr)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("kernel_size", [2, [2, 3, 2]])
def test_sums_of_a_spline_convolution_are_the_same_bits(kernel_size: int | list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    nodes, edges = 3000, 20_000
    ends = torch.randint(nodes, (2, edges), generator=generator)
    attr = torch.rand(edges, 3, generator=generator)
    found = []
    for number in (1, 2, 3):
        team_of(number)
        torch.manual_seed(0)
        conv = spline.SplineConv(16, 8, 3, kernel_size)
        for by_source in (False, True):
            described = conv.edges(ends[0], ends[1], attr, nodes)
            assert isinstance(described, spline.EdgeSplines)
            x = torch.randn(nodes, 16, generator=torch.Generator().manual_seed(1))
            parts = spline._sums(x, described, len(conv.weight), by_source=by_source, nodes=nodes)
            found.append(torch.cat([sums.clone() for _, _, sums in parts]))
    assert edges > 2 * spline_kernels._LEAST_EDGES
    assert nodes > 2 * spline_kernels._LEAST_NODES
    for n in range(2):
        assert torch.equal(found[n], found[n + 2])
        assert torch.equal(found[n], found[n + 4])


@pytest.mark.usefixtures("threads")
def test_maxima_of_segments_and_their_gradients_are_the_same_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    segment = torch.randint(5000, (20_000,), generator=generator)
    values = torch.randn(20_000, 6, generator=generator)
    weight = torch.randn(5000, 6, generator=generator)
    found = []
    for number in (1, 2, 3):
        team_of(number)
        x = values.clone().requires_grad_()
        maxima = segment_max(x, segment, 5000)
        (maxima * weight).sum().backward()
        assert x.grad is not None
        found.append((maxima, x.grad))
    for maxima, gradient in found[1:]:
        assert torch.equal(maxima, found[0][0])
        assert torch.equal(gradient, found[0][1])


@pytest.mark.usefixtures("threads")
def test_a_network_learns_alike_with_any_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 100_000, 4000))
    events = make_events(t, rng.integers(0, 120, 4000), rng.integers(0, 100, 4000), rng.integers(0, 2, 4000))
    rule = GraphConfig(radius=3.0, max_neighbors=8)
    found = []
    for number in (1, 2):
        team_of(number)
        torch.manual_seed(0)
        net = network("graph_res", dataset="ncars").double().train()
        graph = labelled_graph(EventSample(events, 1, None), rule)
        graph.x, graph.pos, graph.edge_attr = graph.x.double(), graph.pos.double(), graph.edge_attr.double()
        torch.nn.functional.cross_entropy(net(graph), graph.y).backward()
        found.append([parameter.grad for parameter in net.parameters() if parameter.grad is not None])
    assert len(found[0]) > 10
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_address_is_that_of_the_library_that_torch_uses() -> None:
    """Where torch computes with OpenMP on Linux, as all its wheels do, loops must not fall back to one thread."""
    if "OpenMP" not in torch.__config__.parallel_info():
        pytest.skip("torch computes without OpenMP")
    assert torch_threads._openmp() != 0
