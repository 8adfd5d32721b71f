# SPDX-License-Identifier: Apache-2.0
"""Every kernel of the compiled engine does what a few lines of NumPy do."""

from collections import deque
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from aegnn_core.asynchronous.array_table import KIND, addresses, array_at, array_table, first_rows, parts_at
from aegnn_core.asynchronous.compiled.cells import enter_cell, leave_cell, read_cell
from aegnn_core.asynchronous.compiled.clock import nanoseconds
from aegnn_core.asynchronous.compiled.convolution import (
    activate,
    aggregate_input_kernels,
    aggregate_input_rows,
    aggregate_kernels,
    aggregate_rows,
    project,
)
from aegnn_core.asynchronous.compiled.cropped_pictures import Pictures
from aegnn_core.asynchronous.compiled.head import ClassScores, make_head
from aegnn_core.asynchronous.compiled.image_head import ImageHead, channels_last
from aegnn_core.asynchronous.compiled.plan import SplineTable
from aegnn_core.asynchronous.folded_head import TorchHead
from aegnn_core.nn import network
from aegnn_core.nn.cropped_head import CROP_OF, CroppedHead
from aegnn_core.nn.spline import SplineConv
from tests.nn.random_networks import randomize

MOST_EDGES, NODES, AHEAD = 5, 40, 7
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


def edges(batch: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[slice]]:
    """Edges per node, none included, their sources, with rubbish behind the last, and where those of each node are."""
    counts = rng.integers(0, MOST_EDGES + 1, batch)
    last = np.cumsum(counts)
    own = [slice(stop - count, stop) for stop, count in zip(last, counts, strict=True)]
    return counts, rng.integers(0, NODES, last[-1] + AHEAD).astype(np.uint32), own


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernels", [4, 8])
@pytest.mark.parametrize("channels", [1, 8, 16, 24, 40])
def test_neighbours_are_summed_per_kernel(dtype: type, kernels: int, channels: int) -> None:
    rng = np.random.default_rng(channels)
    batch, base = 7, 3
    counts, source, edges_of = edges(batch, rng)
    weight = rng.random((counts.sum(), kernels)).astype(dtype)
    features = rng.standard_normal(base + NODES * channels).astype(dtype)
    sums = np.full(batch * kernels * channels, np.nan, dtype)
    if channels == 1:
        aggregate_input_kernels(batch, counts, source, weight.ravel(), kernels, features, base, sums)
    else:
        aggregate_kernels(batch, counts, source, weight.ravel(), kernels, features, base, channels, sums, AHEAD)
    x = features[base:].reshape(NODES, channels)
    for k, own in enumerate(edges_of):
        expected = weight[own].T @ x[source[own]]
        assert_allclose(sums.reshape(batch, kernels, channels)[k], expected, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 8, 24])
def test_neighbours_are_summed_in_the_rows_that_an_edge_names(dtype: type, channels: int) -> None:
    rng = np.random.default_rng(channels)
    batch, rows, per_edge, skipped = 7, 6, 3, 2
    counts, source, edges_of = edges(batch, rng)
    row = rng.integers(skipped, skipped + rows, (counts.sum(), per_edge)).astype(np.int32)
    weight = rng.random(row.shape).astype(dtype)
    features = rng.standard_normal(NODES * channels).astype(dtype)
    sums = np.full(batch * rows * channels, np.nan, dtype)
    arguments = (batch, counts, source, row.ravel(), weight.ravel(), per_edge, skipped, rows, features, 0)
    if channels == 1:
        aggregate_input_rows(*arguments, sums)
    else:
        aggregate_rows(*arguments, channels, sums, AHEAD)
    expected = np.zeros((batch, rows, channels))
    for k, own in enumerate(edges_of):
        for e in range(own.start, own.stop):
            for j in range(per_edge):
                expected[k, row[e, j] - skipped] += weight[e, j] * features.reshape(NODES, channels)[source[e]]
    assert_allclose(sums.reshape(expected.shape), expected, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 3, 4, 9])
@pytest.mark.parametrize(("rows", "outputs"), [(1, 8), (8, 16), (33, 24), (16, 40)])
def test_a_product_is_added(dtype: type, batch: int, rows: int, outputs: int) -> None:
    rng = np.random.default_rng(rows)
    stride, at = rows + 2, 5
    sums = rng.standard_normal((batch, stride)).astype(dtype)
    weight = rng.standard_normal(at + rows * outputs).astype(dtype)
    out = rng.standard_normal((batch, outputs)).astype(dtype)
    expected = out + sums[:, :rows] @ weight[at:].reshape(rows, outputs)
    project(batch, rows, sums.ravel(), stride, weight, at, outputs, out.reshape(-1))
    assert_allclose(out, expected, atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_activation_is_exact_to_rounding_everywhere(dtype: type) -> None:
    """Near 0, where exp(x) - 1 cancels, as far down as it goes, and above 0."""
    small = np.geomspace(1e-30, 100, 4000)
    x = np.concatenate([-small, [0.0, -0.0], small]).astype(dtype)
    x = x[: len(x) // 8 * 8]
    expected = np.where(x > 0, x, np.expm1(x.astype(np.float64)))
    out = x.copy()
    constants = np.concatenate([np.full(8, 2.0), np.full(8, -0.5)]).astype(dtype)
    activate(len(x) // 8, 8, out, constants, 0, 8)
    assert_allclose(out, 2 * expected - 0.5, rtol=2e-7 if dtype == np.float32 else 1e-15)
    plain = x.copy()
    activate(len(x) // 8, 8, plain, np.concatenate([np.ones(8), np.zeros(8)]).astype(dtype), 0, 8)
    assert_allclose(plain, expected, rtol=4e-7 if dtype == np.float32 else 1e-15)


@pytest.mark.parametrize("sizes", [(2, 2, 2), (2, 2), (3, 2, 4), (8, 8, 8), (4, 5)])
@pytest.mark.parametrize("classes", [3, 60])
@pytest.mark.parametrize("time_varies", [True, False])
def test_a_spline_table_is_the_spline(sizes: tuple[int, ...], classes: int, time_varies: bool) -> None:
    """The rows and weights of an edge of every class, times the mixed weights, is what the convolution does with it."""
    time_varies = time_varies and len(sizes) == 3
    rng = np.random.default_rng(classes)
    attributes = rng.random((classes, len(sizes)))
    attributes[0], attributes[1] = 0, 1
    table = SplineTable.make(sizes, attributes, time_varies=time_varies)
    assert table.dense == all(size == 2 for size in sizes)
    conv = SplineConv(2, 3, len(sizes), list(sizes), aggr="add", root_weight=False, bias=False).double()
    nn.init.normal_(conv.weight)
    mixed = table.mix(conv.weight.detach().numpy())
    x = torch.randn(1, 2, dtype=torch.float64)
    for n in range(classes):
        moved = attributes[n].copy()
        if time_varies:
            moved[-1] = rng.choice([0.0, 0.3, 1.0])
        weights = np.zeros(table.rows)
        if table.dense:
            low, high = table.linear()
            weights[:] = low[n] + (moved[-1] if table.times == 2 else 0) * high[n]
        else:
            position = moved[-1] * (table.times - 1) if time_varies else 0.0
            kernel = int(position)
            for slot, weight in zip(table.slot[n], table.weight[n], strict=True):
                weights[kernel * table.slots + slot] += weight * (1 - (position - kernel))
                later = min(kernel + 1, table.times - 1)
                weights[later * table.slots + slot] += weight * (position - kernel)
        found = x.numpy()[0] @ np.einsum("r,rio->io", weights, mixed)
        with torch.no_grad():
            expected = conv(x, torch.zeros(2, 1, dtype=torch.long), torch.from_numpy(moved)[None])[0]
        assert_allclose(found, expected.numpy(), atol=1e-12)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["enter", "leave", "read", "read"]), st.integers(0, 2)), max_size=120))
def test_a_cell_knows_the_maximum_over_its_queue(steps: list[tuple[str, int]]) -> None:
    """Against a list per cell, for every younger part of the queue that can be asked for."""
    capacity, channels, cells = 128, 8, 3
    rng = np.random.default_rng(0)
    features = rng.standard_normal((capacity, channels))
    original = features.copy()
    link = np.zeros(capacity, np.int32)
    front, back, back_oldest = (np.full(cells, -1, np.int64) for _ in range(3))
    back_maximum = np.full(cells * channels, np.nan)
    queue: deque[tuple[int, int]] = deque()
    size = 0
    flat = features.reshape(-1)
    for action, cell in steps:
        if action == "enter":
            enter_cell(size, size, cell, flat, 0, channels, link, back, back_oldest, back_maximum)
            queue.append((size, cell))
            size += 1
        elif action == "leave" and queue:
            number, left = queue.popleft()
            leave_cell(number, capacity - 1, left, flat, 0, channels, link, front, back)
        elif action == "read":
            oldest = queue[0][0] if queue else size
            for first in (oldest, oldest + 1, (oldest + size) // 2, size):
                rows = [original[number] for number, of in queue if of == cell and number >= first]
                out = np.zeros(channels)
                found = read_cell(
                    first, capacity - 1, cell, flat, 0, channels, link, front, back, back_oldest, back_maximum, out
                )
                assert found == bool(rows)
                if rows:
                    assert_array_equal(out, np.max(rows, 0))


def test_compiled_code_reads_arrays_by_their_addresses() -> None:
    @njit
    def read(table, kind):
        return array_at(table, 0, np.int16)[2], array_at(table, 1, kind).sum(), len(array_at(table, 2, np.bool_))

    arrays = [np.arange(5, dtype=np.int16), np.ones((2, 3)), np.zeros(0, np.bool_)]
    assert read(addresses(arrays), 0.0) == (2, 6.0, 0)
    with pytest.raises(ValueError, match="must be contiguous"):
        addresses([np.ones((4, 4))[:, 1]])


class Numbers(NamedTuple):
    whole: Annotated[np.ndarray, np.int16]
    floats: Annotated[np.ndarray, KIND]


class Flags(NamedTuple):
    flags: Annotated[np.ndarray, np.bool_]
    more: Annotated[np.ndarray, KIND]


FIRST, SECOND = first_rows((Numbers, Flags))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_code_reads_named_tuples_as_they_are_declared(dtype: type) -> None:
    @njit
    def read(table, kind):
        numbers, flags = parts_at(table, FIRST, Numbers, kind), parts_at(table, SECOND, Flags, kind)
        return numbers.whole[2], numbers.floats.sum(), flags.flags[0], flags.more[1], len(flags.more)

    numbers = Numbers(np.arange(5, dtype=np.int16), np.ones(3, dtype))
    flags = Flags(np.ones(1, bool), np.array([0.5, 1.5], dtype))
    assert read(array_table((numbers, flags), (Numbers, Flags), dtype), dtype(0)) == (2, 3.0, True, 1.5, 2)
    with pytest.raises(TypeError, match="expected Numbers, found Flags"):
        array_table((flags, numbers), (Numbers, Flags), dtype)
    with pytest.raises(TypeError, match=r"Numbers\.whole must be int16, found int64"):
        array_table((numbers._replace(whole=np.arange(5)), flags), (Numbers, Flags), dtype)


def test_a_field_has_to_say_what_its_elements_are() -> None:
    class Silent(NamedTuple):
        values: np.ndarray

    with pytest.raises(TypeError, match="field values of Silent does not say what its elements are"):
        array_table((Silent(np.ones(1)),), (Silent,), np.float64)


def test_compiled_code_reads_the_clock() -> None:
    @njit
    def moments():
        return nanoseconds(), nanoseconds()

    first, second = moments()
    assert 0 <= second - first < 10**9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("name", "task", "sensor", "kind", "options"),
    [
        ("graph_grid", "recognition", (160, 120), ClassScores, {}),
        ("graph_res", "recognition", (160, 120), TorchHead, {}),
        (
            "graph_res",
            "recognition",
            (120, 100),
            ClassScores,
            {"voxel": [2, 2], "widths": [24, 32, 40], "halving": True},
        ),
        ("histogram", "recognition", (50, 40), TorchHead, {}),
        ("histogram", "recognition", (50, 40), ClassScores, {"crop": [24, 17], "widths": [16, 24, 40]}),
        (
            "histogram",
            "recognition",
            (50, 40),
            ClassScores,
            {"crop": [33, 16], "crop_cell": [None, 2.5], "widths": [8] * 4},
        ),
        (
            "histogram",
            "recognition",
            (50, 40),
            ClassScores,
            {
                "crop": [24, 17],
                "crop_cell": [None, 2, 3.5, 2],
                "crop_of": ["counts", "recency", "occurrence", "counts"],
                "widths": [8, 8, 16],
                "least_ages": [10_000],
            },
        ),
        ("graph_grid", "detection", (150, 117), ImageHead, {}),
        ("histogram", "detection", (1, 1), ImageHead, {}),
        ("histogram", "detection", (12, 9), ImageHead, {}),
        ("histogram", "detection", (77, 130), ImageHead, {}),
    ],
)
def test_a_head_as_it_runs_fastest_gives_the_same(
    name: str, task: str, sensor: tuple[int, int], kind: type, options: dict[str, Any], dtype: torch.dtype
) -> None:
    """Also after a few pixels have changed, which is then the same to the bit as all anew."""
    module = network(name, dataset="simulated", task=task, sensor=sensor, num_classes=2, **options).to(dtype)
    module = randomize(module, 0)
    pooling = module.counts if name == "histogram" else module.grid
    shape = (pooling.channels if name == "histogram" else 32, *pooling.shape[::-1])
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, *shape, dtype=dtype, generator=generator)
    image *= torch.rand(1, 1, *shape[1:], generator=generator) < 0.2  # many pixels are empty, as counts are
    kernels = np.float32 if dtype == torch.float32 else np.float64
    heads = [make_head(module.head, shape, kernels, threads=3)]
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    for changed in (0, 1, 1, 30, 0):
        for _ in range(changed):
            place = [int(torch.randint(size, (1,), generator=generator)) for size in shape]
            image[0, place[0], place[1], place[2]] += 1
        if changed > 1:
            image[0, :, : shape[1] // 2] = 0
        heads[1:] = [make_head(module.head, shape, kernels)]
        with torch.no_grad():
            answer, anew, reference = heads[0](image), heads[1](image), module.head(image)
        assert all(type(head) is kind for head in heads)
        assert torch.equal(answer, anew)
        assert float((answer - reference).abs().max()) <= tolerance * float(reference.abs().max())
        assert heads[0].flops <= heads[1].flops
        assert heads[1].flops > 0


@pytest.mark.parametrize(("dtype", "kernels"), [(torch.float32, np.float32), (torch.float64, np.float64)])
@pytest.mark.parametrize(
    "seen", [(0, 0, 0, 0), (0, 1, 0, 1), (39, 40, 49, 50), (7, 8, 3, 45), (5, 31, 20, 33), (0, 40, 0, 50)]
)
def test_pictures_are_cut_out_as_by_the_heads(
    seen: tuple[int, int, int, int], dtype: torch.dtype, kernels: type
) -> None:
    """Of the rows and columns that have events: none, one pixel in a corner, a line, a part, all."""
    top, bottom, left, right = seen
    image = torch.zeros(1, 6, 40, 50, dtype=dtype)
    part = image[:, :, top:bottom, left:right]
    generator = torch.Generator().manual_seed(0)
    part[:] = torch.randn(part.shape, dtype=dtype, generator=generator).abs() + 0.1
    part *= torch.rand(part.shape, generator=generator) < (0.3 if part.numel() > 100 else 1)
    heads = [
        CroppedHead(6, size, (8, 8, 8), 2, 0, cell, of).eval()
        for size in ((24, 17), (64, 48))
        for cell in (None, 2, 0.3, 9.5)
        for of in CROP_OF
    ]
    pictures = Pictures(heads, (6, 40, 50), kernels)
    for _ in range(2):  # nothing is left of an image before
        found: list[np.ndarray] = [np.full(shape, np.nan, kernels).ravel() for shape in pictures.shapes]
        pictures.take(channels_last(torch.rand(1, 6, 40, 50).to(dtype)), found)
        pictures.take(channels_last(image), found)
        for head, picture, shape in zip(heads, found, pictures.shapes, strict=True):
            expected = channels_last(head.picture(image))
            channels, rows, columns = shape
            tolerance = 1e-10 if dtype == torch.float64 else 2e-5
            np.testing.assert_allclose(picture.reshape(rows, columns, channels), expected, tolerance, tolerance)


class OneConvolution(nn.Module):
    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.elu(self.conv(image)).permute(0, 2, 3, 1)


@pytest.mark.parametrize(("dtype", "kernels"), [(torch.float32, np.float32), (torch.float64, np.float64)])
def test_images_with_pixels_of_any_size(dtype: torch.dtype, kernels: type) -> None:
    """Pixels of words of eight bytes and others are compared in different ways; empty ones are not multiplied."""
    module = OneConvolution(3, 16).to(dtype)
    head = make_head(module, (3, 7, 9), kernels)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        image = torch.randn(1, 3, 7, 9, dtype=dtype, generator=generator)
        image *= torch.rand(1, 1, 7, 9, generator=generator) < 0.1
        torch.testing.assert_close(head(image), module(image).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dtype", "kernels"), [(torch.float32, np.float32), (torch.float64, np.float64)])
@pytest.mark.parametrize("is_compiled", [True, False])
def test_a_head_of_counts_sees_their_logarithms(is_compiled: bool, dtype: torch.dtype, kernels: type) -> None:
    module: nn.Module = OneConvolution(6, 16).to(dtype)
    if not is_compiled:
        module = nn.Sequential(module, nn.Tanh())
    head = make_head(module, (6, 7, 9), kernels, threads=2, of_counts=True)
    assert isinstance(head, ImageHead) == is_compiled
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(1, 7, 9, 6, dtype=torch.int32)
    for largest in (0, 1, 3, 10_000, 3):
        changed = torch.rand(counts.shape, generator=generator) < 0.1
        counts[changed] = torch.randint(largest + 1, counts.shape, generator=generator, dtype=torch.int32)[changed]
        image = torch.log1p(counts.double()).to(dtype).permute(0, 3, 1, 2)
        answer = head(counts.permute(0, 3, 1, 2))
        torch.testing.assert_close(answer, module(image).detach(), rtol=1e-5, atol=1e-5)
        anew = make_head(module, (6, 7, 9), kernels, of_counts=True)(counts.permute(0, 3, 1, 2))
        assert torch.equal(answer, anew)


def test_a_fault_in_the_compiled_head_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aegnn_core.asynchronous.compiled.image_plan.REGISTER_BITS", None)
    with pytest.raises(TypeError):
        make_head(OneConvolution(8, 16).double(), (8, 4, 5), np.float64)


def test_flops_of_a_head_by_hand() -> None:
    small, large = (make_head(OneConvolution(8, 16).double(), (8, *shape), np.float64) for shape in ((4, 5), (9, 10)))
    small(torch.zeros(1, 8, 4, 5, dtype=torch.float64))
    assert small.flops == 20 * 16 * (2 * 9 * 8 + 1 + 1)
    image = torch.zeros(1, 8, 9, 10, dtype=torch.float64)
    large(image)
    tile = 16 * 2 * 8 * 16 + 32 * 8 + 24 * 16 + 4 * 16 * 2
    assert large.flops == 5 * 5 * tile
    image[0, 3, 4, 4] = 1  # in the 4 x 4 pixels of two tiles along each axis
    large(image)
    assert large.flops == 4 * tile


def test_a_head_that_was_interrupted_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    module = randomize(network("histogram", dataset="simulated", task="detection", sensor=(40, 30)).double(), 0)
    head = make_head(module.head, (2, 30, 40), np.float64)
    image = torch.rand(1, 2, 30, 40, dtype=torch.float64)
    head(image)
    with monkeypatch.context() as patch:
        patch.setattr("aegnn_core.asynchronous.compiled.image_head.run_image_layers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            head(image + 1)
    with torch.no_grad():
        torch.testing.assert_close(head(image + 1), module.head(image + 1), rtol=1e-9, atol=1e-9)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("dtype", "kernels"), [(torch.float32, np.float32), (torch.float64, np.float64)])
@pytest.mark.parametrize("outputs", [3, 16])
def test_a_rectified_image_keeps_what_is_not_a_number(outputs: int, dtype: torch.dtype, kernels: type) -> None:
    module = nn.Sequential(nn.Conv2d(3, outputs, 1), nn.ReLU(inplace=True)).to(dtype)
    image = torch.randn(1, 3, 6, 7, dtype=dtype)
    image[0, 1, 2, 3] = torch.nan
    head = make_head(module, (3, 6, 7), kernels)
    assert isinstance(head, ImageHead)
    expected = module(image).detach()
    assert all(bool(found.any()) for found in (expected.isnan(), expected == 0, expected > 0))
    torch.testing.assert_close(head(image), expected, rtol=1e-5, atol=1e-6, equal_nan=True)


def hooked(head: Any) -> None:
    head.register_forward_hook(lambda module, inputs, output: 3 * output)


def hooked_view(head: Any) -> None:
    head.views[1].register_forward_hook(lambda module, inputs, output: 3 * output)


def hooked_layers(head: Any) -> None:
    head.views[0].layers.register_forward_hook(lambda module, inputs, output: output.sigmoid())


def forward_of_its_own(head: Any) -> None:
    head.forward = lambda image: image.sum((1, 3))[:, :3]


def other_class(head: Any) -> None:
    class Other(type(head.views[1])):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(image)

    head.views[1].__class__ = Other


@pytest.mark.parametrize("change", [hooked, hooked_view, hooked_layers, forward_of_its_own, other_class])
def test_class_scores_that_do_more_than_the_packages_are_left_to_torch(change: Any) -> None:
    options = {"crop": [24, 17], "crop_cell": [None, 2], "widths": [8, 8, 16, 16], "sensor": (50, 40)}
    head = randomize(network("histogram", dataset="simulated", **options).double(), 0).head
    image = torch.rand(1, 2, 40, 50, dtype=torch.float64)
    with torch.no_grad():
        plain = head(image)
        change(head)
        expected = head(image)
        assert not torch.equal(plain, expected)
        made = make_head(head, (2, 40, 50), np.float64)
        assert isinstance(made, TorchHead)
        torch.testing.assert_close(made(image), expected, rtol=1e-9, atol=1e-9)


class OnesHead(CroppedHead):
    """Makes its pictures of something else than the package's."""

    def _pictured(self, image: torch.Tensor) -> torch.Tensor:
        return 3 + super()._pictured(image)


@pytest.mark.parametrize("cells", [None, [None, 2]])
def test_pictures_of_another_class_are_left_to_torch(cells: list[float | None] | None) -> None:
    options = {"crop": [24, 17], "crop_cell": cells, "widths": [8, 8, 16, 16], "sensor": (50, 40)}
    head = randomize(network("histogram", dataset="simulated", **options).double(), 0).head
    view = head.views[1] if cells else head
    image = torch.rand(1, 2, 40, 50, dtype=torch.float64)
    for change in (lambda: setattr(view, "__class__", OnesHead), lambda: setattr(view, "picture", lambda image: image)):
        with torch.no_grad():
            before = head(image)
            change()
            made, expected = make_head(head, (2, 40, 50), np.float64), head(image)
            assert isinstance(made, ClassScores)
            assert not torch.equal(before, expected)
            torch.testing.assert_close(made(image), expected, rtol=1e-9, atol=1e-9)


def test_flops_of_a_picture_by_hand() -> None:
    head = CroppedHead(2, (8, 10), (8, 8, 8), 2, 0, 1.0).eval()
    pictures = Pictures([head], (2, 20, 20), np.float64)
    image = np.zeros((20, 20, 2))
    image[4:7, 5:10] = 1  # cells lie between two pixels of these, each of which is seen by two
    (shape,) = pictures.shapes
    pictures.take(image, [np.empty(shape).ravel()])
    assert pictures.flops == 2 * (2 * 3 * 5 * 2 + 2 * 5 * 10 * 2 + 8 * 10 * 2)


class OddHead(nn.Module):
    """Does with an image what a compiled head could take for something else, or cannot do."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.conv, self.what = nn.Conv2d(3, 3, 3, padding=1), what
        self.second = nn.Conv2d(3, 3, 3, padding=1, dilation=2 if what == "dilation" else 1)
        self.point, self.wider, self.widest = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 8, 1), nn.Conv2d(3, 11, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = self.conv(image)
        y = nn.functional.elu(x, alpha=2.0 if self.what == "alpha" else 1.0, inplace=self.what == "in place")
        if self.what == "before and after":
            y = x + y
        elif self.what == "in place":
            y = y + self.second(x)
        elif self.what == "relu":
            y = nn.functional.relu(self.second(nn.functional.relu(y + self.second(y), inplace=True)))
        elif self.what == "function":
            y = y.sigmoid()
        elif self.what == "twice":
            y = nn.functional.elu(y)
        elif self.what == "sum of the input":
            y = self.second(y) + image
        elif self.what == "sum with a later one":
            y = self.conv(image)
            y = self.second(image) + y
        elif self.what == "three":
            y = image + (image + self.second(y))
        elif self.what == "dilation":
            y = self.second(y)
        elif self.what == "active when enlarged":
            y = nn.functional.elu(nn.functional.interpolate(y, size=(18, 16)))
        elif self.what == "concatenated answer":
            y = torch.cat([y, self.second(image)], 1)
        elif self.what == "sum with channels elsewhere":
            y = torch.cat([y, self.wider(image)], 1) + self.widest(image)
        elif self.what == "sum with what changes in more pixels":
            y = y + self.point(image)
        elif self.what == "comparison":
            y = x * (image != 0)
        elif self.what == "tensors only":
            assert isinstance(image, torch.Tensor)
        elif self.what == "nothing":
            y = image
        return y.permute(0, 2, 3, 1) if self.what != "channels first" else y


@pytest.mark.parametrize(
    "what",
    ["alpha", "before and after", "relu", "in place", "function", "twice", "sum of the input", "sum with a later one",
     "three", "dilation", "channels first", "active when enlarged", "concatenated answer",
     "sum with channels elsewhere", "sum with what changes in more pixels", "comparison", "tensors only", "nothing"],
)  # fmt: skip
def test_a_head_that_does_something_else_gives_the_same(what: str) -> None:
    head = OddHead(what).double()
    compiled = make_head(head, (3, 9, 8), np.float64)
    image = torch.randn(1, 3, 9, 8, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(compiled(image), head(image.clone()), rtol=1e-9, atol=1e-9)
            image[0, 1, 4, 4] += 1


class Standardised(nn.Conv2d):
    """A convolution that divides its weights by their deviation."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(image, self.weight / self.weight.std(), self.bias)


class Around(nn.Sequential):
    """A sequence that adds what its first layer gives to what its last one does."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self[0](image)
        return self[1](first) + first


@pytest.mark.parametrize(
    ("sequence", "conv", "norm"),
    [
        (nn.Sequential, nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8)),
        (nn.Sequential, nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8, affine=False)),
        (nn.Sequential, nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)),
        (nn.Sequential, nn.Conv2d(2, 8, 3), nn.InstanceNorm2d(8)),
        (nn.Sequential, nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 8, 3)), nn.BatchNorm2d(8)),
        (nn.Sequential, Standardised(2, 8, 3), nn.BatchNorm2d(8)),
        (Around, nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8)),
    ],
)
def test_a_norm_is_folded_only_where_that_changes_nothing(
    sequence: type[nn.Sequential], conv: nn.Module, norm: nn.Module
) -> None:
    head, image = sequence(conv, norm), torch.randn(1, 2, 9, 8, dtype=torch.float64)
    head.double()(image)  # in training mode: statistics that are not 0 and 1
    with torch.no_grad():
        expected = head.eval()(image)
        torch.testing.assert_close(make_head(head, (2, 9, 8), np.float64)(image), expected, rtol=1e-9, atol=1e-9)
        head.train()
        torch.testing.assert_close(make_head(head, (2, 9, 8), np.float64)(image), expected, rtol=1e-9, atol=1e-9)
