# SPDX-License-Identifier: Apache-2.0
"""Compiled loops on several threads give the same bits as on one; a fork of the process has its own threads."""

import multiprocessing
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from aegnn_core.nn import pooling, spline
from aegnn_core.nn.pooling import segment_max
from aegnn_core.nn.spline import SplineConv
from aegnn_core.worker_threads import in_parts


@pytest.fixture(autouse=True)
def threads_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(spline, "_EDGES_PER_THREAD", 10)
    monkeypatch.setattr(pooling, "_NODES_PER_THREAD", 10)
    yield
    torch.set_num_threads(1)


def results(threads: int) -> list[torch.Tensor]:
    """Features and gradients of a convolution with few kernels, one with many, and maxima."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=generator).requires_grad_()
    edge_index = torch.randint(200, (2, 900), generator=generator)
    attr = torch.rand(900, 3, generator=generator)
    torch.manual_seed(0)
    found = []
    for size in (2, 3):
        conv = SplineConv(3, 16, 3, size)
        y = conv(x, edge_index, attr)
        cells = segment_max(y, edge_index[0, :200] % 50, 60)
        found += [y.detach(), *torch.autograd.grad(cells.square().sum(), (x, conv.weight))]
    return found


def send_parts(connection: multiprocessing.connection.Connection) -> None:
    parts: list[tuple[int, int]] = []
    in_parts(lambda first, last: parts.append((first, last)), 0, 20, np.arange(21), 10)
    connection.send(sorted(parts))


def test_any_number_of_threads_gives_the_same_bits() -> None:
    expected = results(1)
    for threads in (2, 3):
        assert all(torch.equal(a, b) for a, b in zip(results(threads), expected, strict=True))


def test_a_fork_has_threads_of_its_own() -> None:
    torch.set_num_threads(2)
    in_parts(lambda first, last: None, 0, 20, np.arange(21), 10)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=send_parts, args=(there,), daemon=True)
    process.start()
    assert here.poll(60)
    assert here.recv() == [(0, 10), (10, 20)]
    process.join()


@pytest.mark.parametrize("failing", [0, 10, 20])
def test_an_error_in_any_part_is_raised_when_all_have_ended(failing: int) -> None:
    torch.set_num_threads(3)
    ended = []

    def loop(first: int, last: int) -> None:
        if first == failing:
            raise ValueError("this part")
        time.sleep(first / 100)
        ended.append(first)

    with pytest.raises(ValueError, match="this part"):
        in_parts(loop, 0, 30, np.arange(31), 10)
    assert sorted(ended) == [first for first in (0, 10, 20) if first != failing]
