# SPDX-License-Identifier: Apache-2.0
"""The command that counts FLOPs per event, and what it is made of."""

import json
from pathlib import Path

import pytest

from aegnn_core import GraphConfig, make_model_asynchronous
from aegnn_core.cli import main
from aegnn_core.evaluation.event_flops import flops_per_event, simulated_stream
from aegnn_core.nn import network


def test_the_command_prints_a_table_and_draws_a_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["flops", "--dataset", "ncars", "--device", "cpu", "--window", "300", "--events", "4"]
    assert main([*arguments, "--plot", str(tmp_path / "plot.png"), "--json", str(tmp_path / "flops.json")]) == 0
    printed = capsys.readouterr().out
    assert "directed" in printed
    assert "undirected" in printed
    assert (tmp_path / "plot.png").stat().st_size > 0
    directed, undirected = json.loads((tmp_path / "flops.json").read_text())["flops_per_event"]
    assert 0 < directed["asynchronous"] < undirected["asynchronous"] < undirected["dense"]
    assert sum(undirected["layers"].values()) == pytest.approx(undirected["asynchronous"])


def test_a_window_that_the_stream_does_not_fill_is_refused() -> None:
    model = network("graph_res", dataset="ncars")
    with pytest.raises(ValueError, match="more than the window's 20 events, found 20"):
        flops_per_event(model, simulated_stream(model.sensor, 20), 20)


@pytest.mark.parametrize("device", ["warp", "", "meta"])
def test_a_device_that_is_not_there_is_refused_in_a_sentence(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flops", "--window", "20", "--events", "2", "--device", device]) == 2
    assert capsys.readouterr().err.startswith(f"aegnn: device '{device}' is not available here, there is cpu")


def test_two_runs_of_the_command_say_the_same(tmp_path: Path) -> None:
    files = [tmp_path / f"{run}.json" for run in range(2)]
    for file in files:
        assert main(["flops", "--dataset", "ncars", "--window", "100", "--events", "2", "--json", str(file)]) == 0

    assert files[0].read_text() == files[1].read_text()


@pytest.mark.parametrize("directed", [True, False])
def test_the_dense_cost_is_that_of_the_network_on_the_last_window(directed: bool) -> None:
    """Head included, whose cost does not depend on the number of events."""
    model = network("graph_grid", dataset="ncars")
    stream = simulated_stream(model.sensor, 60, 0)
    dense = make_model_asynchronous(model, GraphConfig(directed=directed, max_nodes=20), engine="dense")
    dense.update(stream.events[-20:])
    dense.output()
    assert flops_per_event(model, stream, 20, directed=directed).dense == dense.flops().total.last
