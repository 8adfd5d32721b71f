# SPDX-License-Identifier: Apache-2.0
"""Pooled graphs: voxels fixed at the sensor's origin, maxima, and edges between voxels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aegnn_core.nn.pooling import CountPooling, GridPooling, VoxelPooling, segment_max


def test_a_pooled_graph_by_hand() -> None:
    pooling = VoxelPooling(sensor=(20, 10), size=(8, 4))
    x = torch.tensor([[1.0, -5], [3, -7], [2, 0], [9, 9]])
    pos = torch.tensor([[0.0, 0, 5], [7, 3, 6], [8, 3, 7], [19, 9, 8]])
    edges = torch.tensor([[0, 0, 1, 1, 2], [1, 2, 2, 0, 3]])
    graph = pooling(x, pos, edges, torch.zeros(4, dtype=torch.long), 1)
    assert graph.x.tolist() == [[3, -5], [2, 0], [9, 9]]
    # The last column and row of voxels reach beyond the sensor: 16 to 20 and 8 to 10 are left of them.
    assert graph.pos.tolist() == [[4, 2, 0], [12, 2, 0], [18, 9, 0]]
    found = dict(zip(map(tuple, graph.edge_index.t().tolist()), graph.edge_attr.tolist(), strict=True))
    assert set(found) == {(0, 1), (1, 2)}
    assert found[0, 1] == pytest.approx([0, 0.5, 0.5])
    assert found[1, 2] == pytest.approx([0.5 - 6 / 16, 0, 0.5])


def test_mean_positions_are_those_of_the_nodes() -> None:
    pooling = VoxelPooling(sensor=(8, 8), size=(8, 8), position="mean")
    pos = torch.tensor([[1.0, 2, 3], [3, 4, 9]])
    graph = pooling(torch.ones(2, 1), pos, torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, dtype=torch.long), 1)
    assert graph.pos.tolist() == [[2, 3, 6]]


@given(seed=st.integers(0, 10_000), nodes=st.integers(0, 40), edges=st.integers(0, 80))
def test_pooled_nodes_and_edges_are_the_sets_that_the_rule_says(seed: int, nodes: int, edges: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randint(30, (nodes, 3), generator=generator).float()
    batch = torch.randint(2, (nodes,), generator=generator).sort().values
    edge_index = torch.randint(nodes, (2, edges), generator=generator) if nodes else torch.zeros(2, 0, dtype=torch.long)
    edge_index = edge_index[:, batch[edge_index[0]] == batch[edge_index[1]]]
    x = torch.randn(nodes, 3, generator=generator)
    graph = VoxelPooling((30, 30), (7, 5))(x, pos, edge_index, batch, 2)

    voxels = [(int(b), int(p[1]) // 5, int(p[0]) // 7) for b, p in zip(batch, pos, strict=True)]
    names = sorted(set(voxels))
    assert graph.batch.tolist() == [name[0] for name in names]
    for n, name in enumerate(names):
        members = [i for i, voxel in enumerate(voxels) if voxel == name]
        assert torch.equal(graph.x[n], x[members].amax(0))
    expected = {(voxels[j], voxels[i]) for j, i in edge_index.t().tolist() if voxels[j] != voxels[i]}
    pairs = graph.edge_index.t().tolist()
    assert len(pairs) == len(expected)
    assert {(names[a], names[b]) for a, b in pairs} == expected


def test_grid_pooling_is_an_image_with_zeros_where_nothing_happened() -> None:
    grid = GridPooling(sensor=(8, 6), shape=(4, 2))
    image = grid(
        torch.tensor([[-1.0], [-3.0], [5.0]]), torch.tensor([[0.0, 0], [1, 2], [7, 5]]), torch.tensor([0, 0, 1]), 2
    )
    assert image.shape == (2, 1, 2, 4)
    assert image[0, 0].tolist() == [[-1, 0, 0, 0], [0, 0, 0, 0]]
    assert image[1, 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 5]]


def test_a_grid_by_age_counts_from_the_youngest_node_of_each_graph() -> None:
    grid = GridPooling(sensor=(2, 1), shape=(2, 1), least_ages=(50, 100))
    time = torch.tensor([0, 100, 125, 150, 700, 750, 800]) + 2**60
    batch = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    pos = torch.stack([torch.tensor([0.0, 0, 1, 0, 1, 1, 1]), torch.zeros(7), torch.zeros(7)], 1)
    image = grid(torch.arange(1.0, 8)[:, None], pos, batch, 2, time)
    assert image.shape == (2, 3, 1, 2)
    # A node belongs to the part that begins at its age, and the last part has no end.
    assert image[0, :, 0].tolist() == [[4, 3], [2, 0], [1, 0]]
    assert image[1, :, 0].tolist() == [[0, 7], [0, 6], [0, 5]]
    none = torch.zeros(0, dtype=torch.long)
    assert grid(torch.zeros(0, 2), torch.zeros(0, 3), none, 1, none).abs().sum() == 0
    with pytest.raises(ValueError, match=r"needs the events' times: data.t"):
        grid(torch.zeros(1, 2), torch.zeros(1, 3), torch.zeros(1, dtype=torch.long), 1)


@pytest.mark.parametrize("pooling", [GridPooling, CountPooling])
@pytest.mark.parametrize("ages", [(0,), (5, 5), (7, 3), (1.5,), (True,)])
def test_parts_of_the_past_that_do_not_follow_each_other_are_refused(pooling: type, ages: tuple) -> None:
    with pytest.raises(ValueError, match="must begin at ascending whole ages above 0 µs, found"):
        pooling((8, 6), (4, 2), ages)


def test_counts_are_those_of_every_cell_polarity_and_part_of_the_past() -> None:
    rng = np.random.default_rng(0)
    count, ages = 300, (50, 100)
    t, batch = torch.from_numpy(rng.integers(0, 180, count)), torch.from_numpy(rng.integers(0, 2, count))
    pos = torch.from_numpy(np.stack([rng.integers(0, 7, count), rng.integers(0, 5, count), np.zeros(count)], 1)).float()
    polarity = torch.from_numpy(rng.choice([-1.0, 1.0], (count, 1)))
    image = CountPooling((7, 5), (2, 2), ages)(polarity, pos, batch, 2, t)
    expected = np.zeros((2, 6, 3, 4))
    for graph in range(2):
        for k in np.flatnonzero(batch.numpy() == graph):
            age = int(t[batch == graph].max() - t[k])
            channel = 2 * sum(age >= least for least in ages) + int(polarity[k] > 0)
            expected[graph, channel, int(pos[k, 1]) // 2, int(pos[k, 0]) // 2] += 1
    np.testing.assert_allclose(image.numpy(), np.log1p(expected))


def test_segment_max_has_the_gradient_of_the_maximum() -> None:
    x = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    segment = torch.tensor([0, 2, 2, 0, 4, 4, 4, 2, 0])
    assert torch.autograd.gradcheck(lambda x: segment_max(x, segment, 5), (x,))
    assert segment_max(x, segment, 5)[[1, 3]].abs().sum() == 0
    assert torch.autograd.gradcheck(lambda x: segment_max(x, segment[:0], 5), (x[:0],))  # of no nodes at all


def test_a_node_outside_the_sensor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a node at \(20, 3\) px lies outside"):
        GridPooling((20, 10), (4, 2))(torch.zeros(1, 1), torch.tensor([[20.0, 3]]), torch.zeros(1, dtype=torch.long), 1)


@pytest.mark.parametrize("arguments", [{"size": (0, 4)}, {"size": (4, 4), "position": "median"}])
def test_wrong_arguments_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match="found"):
        VoxelPooling((20, 10), **arguments)


def test_centres_do_not_depend_on_the_type_that_torch_makes_by_default() -> None:
    pooling = VoxelPooling((1_000, 700), (3.3, 7.7))
    voxels = torch.arange(pooling.shape[0] * pooling.shape[1])
    expected = pooling.centers(voxels, torch.float32)
    for dtype in (torch.float16, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            found = pooling.centers(voxels, torch.float32)
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(found, expected)
