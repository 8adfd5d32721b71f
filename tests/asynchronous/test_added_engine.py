# SPDX-License-Identifier: Apache-2.0
"""An engine is added by a line in the table: it is chosen where it comes first and does not refuse, or by its name."""

import pytest
from torch import nn
from torch.testing import assert_close

from aegnn_core import GraphConfig, build_graph, make_model_asynchronous
from aegnn_core.asynchronous import ENGINES, live
from aegnn_core.asynchronous.dense_engine import DenseEngine
from aegnn_core.events import make_events
from aegnn_core.nn.graph_network import GraphNetwork
from aegnn_core.nn.networks import network

GRAPH = GraphConfig(max_neighbors=8, window=20_000)
EVENTS = make_events([0, 900, 1000, 1800], [10, 11, 12, 11], [20, 20, 21, 22], [0, 1, 1, 0])


class OnlyBoxes(DenseEngine):
    """An engine that nobody has heard of, for detectors."""

    @staticmethod
    def refusal(model: nn.Module, graph: GraphConfig) -> str | None:
        """Why this engine cannot run the model, or None."""
        return None if getattr(model, "task", None) == "detection" else "the model finds no boxes"


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "ENGINES", {"only_boxes": OnlyBoxes, **ENGINES})


def model_for(task: str) -> GraphNetwork:
    return network("graph_grid", dataset="simulated", task=task).eval()


def test_the_first_engine_that_does_not_refuse_the_model_runs_it() -> None:
    model = model_for("detection")
    running = make_model_asynchronous(model, GRAPH)
    assert running.engine_name == "only_boxes"
    running.update(EVENTS)
    assert_close(running.output(), model(build_graph(EVENTS, GRAPH)))


def test_what_the_engine_refuses_is_for_others() -> None:
    model = model_for("recognition")
    assert make_model_asynchronous(model, GRAPH).engine_name in ENGINES
    with pytest.raises(ValueError, match="only_boxes: the model finds no boxes"):
        make_model_asynchronous(model, GRAPH, engine="only_boxes")
