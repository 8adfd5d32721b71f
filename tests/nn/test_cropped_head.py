# SPDX-License-Identifier: Apache-2.0
"""The head that looks at the rectangle with the events: where it is and how many make no difference."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous, network
from aegnn_core.cli import main
from aegnn_core.events import make_events
from aegnn_core.nn import TrainedModel, load_model, save_model
from aegnn_core.nn.checkpoint import trained_downsampling
from aegnn_core.nn.cropped_head import CroppedHead
from aegnn_core.nn.joined_views import join_views
from tests.nn.random_networks import randomize


def head(cell: float | None = None) -> CroppedHead:
    torch.manual_seed(0)
    return CroppedHead(2, (16, 12), (4, 6, 8), 3, 0.5, cell).double().eval()


def image_with(thing: Tensor, x: int, y: int) -> Tensor:
    image = torch.zeros(1, 2, 60, 80, dtype=torch.float64)
    image[:, :, y : y + thing.shape[1], x : x + thing.shape[2]] = thing
    return image


def a_thing() -> Tensor:
    thing = torch.rand(2, 24, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return thing * (thing > 0.4)


@pytest.mark.parametrize("cell", [None, 2.0, 3.5])
def test_the_place_of_a_thing_makes_no_difference(cell: float | None) -> None:
    here, there = image_with(a_thing(), 0, 0), image_with(a_thing(), 41, 30)
    torch.testing.assert_close(head(cell)(here), head(cell)(there), rtol=1e-12, atol=1e-12)


def test_at_one_scale_a_thing_keeps_its_size() -> None:
    """32 x 24 px in cells of 4 px are 8 x 6 cells in the middle, and half as large a thing 4 x 3."""
    thing = torch.ones(2, 24, 32, dtype=torch.float64)
    for scale, cells in ((1, 6 * 8), (2, 3 * 4)):
        picture = head(4.0).picture(image_with(thing[:, ::scale, ::scale], 7, 5))[0, 0]
        assert (picture >= 0.5 * picture.max()).sum() == cells
        torch.testing.assert_close(picture, picture.flip(0, 1))


def test_a_picture_shows_all_of_a_thing_stretched_to_its_size() -> None:
    """With whole pixels per cell and nothing but one value, that value is everywhere."""
    picture = head().picture(image_with(torch.ones(2, 24, 32, dtype=torch.float64), 7, 5))
    inside = picture[:, :, 1:-1, 1:-1]
    assert picture.shape == (1, 2, 12, 16)
    torch.testing.assert_close(inside, inside[0, 0, 0, 0].expand(inside.shape))
    assert float(picture.mean()) == pytest.approx(1 / 5, rel=0.01)


def test_a_picture_is_what_the_definition_says() -> None:
    """Against sums over pixels, written out."""
    thing, cropped = a_thing(), head()
    seen = (thing > 0).any(0).numpy()
    (y0, y1), (x0, x1) = ((np.flatnonzero(seen.any(axis))[[0, -1]]) for axis in (1, 0))
    expected = np.zeros((2, 12, 16))
    for axis_rows in range(12):
        for axis_columns in range(16):
            step_y, step_x = (y1 - y0 + 1) / 12, (x1 - x0 + 1) / 16
            y = (y0 + y1) / 2 + (axis_rows - 5.5) * step_y
            x = (x0 + x1) / 2 + (axis_columns - 7.5) * step_x
            for row in range(24):
                for column in range(32):
                    share = max(0, 1 - abs(row - y) / step_y) / step_y * max(0, 1 - abs(column - x) / step_x) / step_x
                    expected[:, axis_rows, axis_columns] += share * thing[:, row, column].numpy()
    expected /= 5 * expected.mean() + 1e-3
    np.testing.assert_allclose(cropped.picture(image_with(thing, 3, 2))[0].numpy(), expected, rtol=1e-9, atol=1e-12)


def test_a_picture_can_be_made_of_less_than_counts() -> None:
    """Three parts of the past, OFF and ON in each: against what is written out for each pixel."""
    rng = np.random.default_rng(0)
    image = torch.from_numpy(np.log1p(rng.poisson(0.2, (2, 6, 20, 24)))).contiguous(memory_format=torch.channels_last)
    expected = {"counts": image.numpy(), "occurrence": np.zeros((2, 2, 20, 24)), "recency": np.zeros((2, 2, 20, 24))}
    for b, polarity, y, x in np.ndindex(2, 2, 20, 24):
        parts = [part for part in range(3) if image[b, 2 * part + polarity, y, x] > 0]
        if parts:
            expected["occurrence"][b, polarity, y, x] = 1
            expected["recency"][b, polarity, y, x] = np.exp(-parts[0])
    for of, less in expected.items():
        seen = CroppedHead(6, (16, 12), (4, 6, 8), 3, 0.5, 2.0, of).double().eval().picture(image)
        plain = CroppedHead(less.shape[1], (16, 12), (4, 6, 8), 3, 0.5, 2.0).double().eval()
        torch.testing.assert_close(seen, plain.picture(torch.from_numpy(less)), rtol=1e-12, atol=1e-12)


def test_training_sees_other_rectangles_each_time_and_gaps_in_some() -> None:
    cropped = head().train()
    torch.manual_seed(3)
    pictures = cropped.picture(image_with(torch.ones(2, 24, 32, dtype=torch.float64), 7, 5).expand(40, -1, -1, -1))
    assert not torch.equal(pictures[0], pictures[1])
    middle = pictures[:, 0, 3:9, 4:12].flatten(1)
    assert 4 <= int((middle == 0).any(1).sum()) <= 25


def test_training_sees_other_contrasts_each_time() -> None:
    """Where three values lie far apart, their ratios differ from picture to picture and their order does not."""
    thing = torch.ones(2, 24, 32, dtype=torch.float64)
    thing[:, :, 8:16], thing[:, :, 16:] = 3, 9
    torch.manual_seed(3)
    pictures = head().train().picture(image_with(thing, 7, 5).expand(40, -1, -1, -1))
    largest = pictures.flatten(1).amax(1)
    ratios = largest / pictures.masked_fill(pictures <= 0.01 * largest[:, None, None, None], torch.inf).flatten(1).amin(
        1
    )
    assert ratios.std() > 0.5
    assert bool((pictures >= 0).all())


@pytest.mark.parametrize("widths", [[4, 6, 8], [4, 6, 8, 10]])
def test_slopes_stay_finite_where_features_are_negative_or_nothing(widths: list[int]) -> None:
    image = torch.cat([-image_with(a_thing(), 3, 2), torch.zeros(1, 2, 60, 80, dtype=torch.float64)]).requires_grad_()
    torch.manual_seed(0)
    CroppedHead(2, (16, 12), widths, 3, 0.5).double().train()(image).square().sum().backward()
    assert image.grad is not None
    assert bool(image.grad.isfinite().all())


@pytest.mark.parametrize("count", [0, 1, 400])
@pytest.mark.parametrize(
    ("name", "cell", "options"),
    [
        *((name, cell, {}) for name in ("histogram", "graph_histogram") for cell in (None, 2, [None, 2])),
        ("histogram", 2, {"crop_of": "occurrence"}),
        ("histogram", [None, 2, 3], {"crop_of": ["counts", "occurrence", "recency"]}),
    ],
)
def test_live_answers_are_the_networks_own(name: str, count: int, cell: Any, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(count)
    widths = [8, 8, 16] if cell is None else [4, 8, 8, 16]
    module = network(
        name, dataset="ncars", crop=[16, 12], crop_cell=cell, least_ages=[10_000], widths=widths, **options
    )
    module = randomize(module.double(), 1)
    t = np.sort(rng.integers(0, 60_000, count))
    events = make_events(t, rng.integers(10, 50, count), rng.integers(5, 40, count), rng.integers(0, 2, count))
    graph = GraphConfig(radius=3, max_neighbors=4, time_scale=1e-3, window=40_000)
    live = make_model_asynchronous(module, graph)
    for packet in np.array_split(events, 3):
        live.update(packet)
    with torch.no_grad():
        expected = module(build_graph(events, graph, dtype=torch.float64))
    assert expected.shape == (1, 2)
    torch.testing.assert_close(live.output(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": [64]}, "crop must be columns and rows"),
        ({"crop": [64, 4]}, "at least 8 of each"),
        ({"crop": [64, 48], "widths": [8, 16]}, "three or four numbers"),
        ({"crop": [64, 48], "widths": [8, 0, 16]}, "numbers of features behind a crop, at least 1"),
        (
            {"crop": [64, 48], "depths": [1, 1, 1, 1]},
            r"depths are for a detector, found \[1, 1, 1, 1\] for recognition",
        ),
        ({"crop": [64, 48], "dropout": 1.5}, "dropout must be a share from 0 to 1, found 1.5"),
        ({"crop": [64, 48], "crop_cell": 0}, "crop_cell must be a positive number"),
        ({"crop": [64, 48], "crop_cell": []}, "crop_cell has 0 views, expected 1 to 16"),
        ({"crop": [64, 48], "crop_cell": [2, -1]}, "crop_cell must be a positive number"),
        ({"crop_cell": 2}, "crop_cell is for a recogniser with crop"),
        ({"crop_of": "recency"}, "crop_of is for a recogniser with crop"),
        ({"crop": 5}, "option crop of network histogram is 5, expected a list of whole numbers or null"),
        ({"crop": [64, 48], "crop_of": 3}, "option crop_of .* is 3, expected a text or a list of texts"),
        ({"crop": [64, 48], "crop_cell": "x"}, "option crop_cell .* is 'x', expected a number or a list of numbers"),
        ({"crop": [64, 48], "widths": 3}, "option widths .* is 3, expected a list of whole numbers"),
        ({"voxel": [2]}, r"option voxel .* is \[2\], expected a list of 2 numbers"),
        ({"crop": [64, 48], "crop_of": "age"}, "crop_of must be one of counts, occurrence, recency, found age"),
        ({"crop": [64, 48], "crop_of": ["counts"] * 2}, "crop_of says of 2 views what they look at, crop_cell has 1"),
        ({"crop": [64, 48], "task": "detection", "dataset": "simulated"}, "crop is for recognition"),
    ],
)
def test_what_is_no_picture_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network("histogram", **{"dataset": "ncars", **options})


def trained(cell: Any, seed: int, name: str = "histogram", **options: Any) -> TrainedModel:
    architecture = {"name": name, "dataset": "ncars", "crop": [16, 12], "crop_cell": cell, **options}
    module = randomize(network(**architecture), seed)
    return TrainedModel(module, GraphConfig(window=100_000), ("car", "background"), f"model{seed}", architecture)


def test_joined_models_give_the_mean_over_their_views(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(tmp_path / f"{n}.safetensors") for n in range(3)]
    models = [trained(None, 1), trained(2, 2), trained(2, 3, crop_of="occurrence")]
    for file, model in zip(files, models, strict=True):
        save_model(file, model)
    output = tmp_path / "both.safetensors"
    main(["join", *files[:2], "--output", str(output)])
    assert capsys.readouterr().out == f"{output}: the mean over the 2 views of {files[0]}, {files[1]}\n"
    joined = load_model(output)
    rng = np.random.default_rng(0)
    x, y, p = (rng.integers(0, high, 300) for high in (50, 40, 2))
    graph = build_graph(make_events(np.sort(rng.integers(0, 90_000, 300)), x, y, p), joined.graph)
    with torch.no_grad():
        scores = [model.network(graph) for model in models]
        torch.testing.assert_close(joined.network(graph), (scores[0] + scores[1]) / 2)
        of_three = join_views([joined, models[2]])  # a mean of three, not of a mean and another
        torch.testing.assert_close(of_three.network(graph), sum(scores) / 3)
    assert of_three.architecture["crop_cell"] == [None, 2, 2]
    assert of_three.architecture["crop_of"] == ["counts", "counts", "occurrence"]
    assert [one["model"] for one in of_three.training["joined"]] == ["0", "1", "model3"]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([], "at least two models, found 1"),
        (
            [trained(2, 5, least_ages=[10_000])],
            "model model5 has the architecture .* only crop_cell and crop_of may differ",
        ),
        ([trained(2, 5, "graph_histogram")], "model model5 is graph_histogram, only histogram networks with crop"),
        (
            [replace(trained(2, 5), training={"downsampling": "coordinates"})],
            "model model5 has the downsampling coordinates, expected integrate as of model4: only crop_cell",
        ),
    ],
)
def test_what_cannot_be_joined_is_said(others: list[TrainedModel], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        join_views([trained(None, 4), *others])


def test_a_joined_model_keeps_how_the_recordings_of_its_views_were_downsampled(tmp_path: Path) -> None:
    models = [replace(trained(cell, 6), training={"downsampling": "coordinates"}) for cell in (None, 2)]
    joined = join_views(models)
    save_model(tmp_path / "both.safetensors", joined)
    assert trained_downsampling(load_model(tmp_path / "both.safetensors")) == "coordinates"
    assert trained_downsampling(join_views([joined, models[0]])) == "coordinates"
    before = replace(joined, training={"joined": joined.training["joined"]})  # as files said it once
    assert trained_downsampling(before) == "coordinates"
