# SPDX-License-Identifier: Apache-2.0
"""A graph configuration checks itself, and says which value would be right."""

from dataclasses import replace

import pytest
import yaml

from aegnn_core.graph import GraphConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("radius", 0.0),
        ("radius", float("nan")),
        ("radius", "3"),
        ("time_scale", -1e-6),
        ("max_neighbors", 0),
        ("max_neighbors", None),
        ("max_neighbors", 2.5),
        ("time_horizon", 0),
        ("window", -5),
        ("max_nodes", True),
        ("max_nodes", 2**63),
        ("max_nodes", float("inf")),
        ("window", 2**63),
        ("time_horizon", 10**30),
        ("radius", 101),
        ("max_neighbors", 10**6),
        ("directed", 1),
        ("expiry", "never"),
    ],
)
def test_wrong_values_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"graph: {field} .*found"):
        GraphConfig(**{field: value})  # type: ignore[arg-type]


def test_expiry_follows_the_direction() -> None:
    assert GraphConfig(directed=True).resolved_expiry == "readout"
    assert GraphConfig(directed=False).resolved_expiry == "graph"
    assert GraphConfig(directed=False, expiry="readout").resolved_expiry == "readout"


def test_what_is_left_open_stays_open() -> None:
    """Equal rules behave alike, and another direction brings another expiry."""
    assert GraphConfig().expiry is None
    assert GraphConfig() != GraphConfig(expiry="readout")
    assert GraphConfig().resolved() == GraphConfig(expiry="readout")
    assert replace(GraphConfig(window=5), directed=False).resolved_expiry == "graph"
    assert replace(GraphConfig(expiry="readout"), directed=False).resolved_expiry == "readout"
    assert GraphConfig.from_dict(GraphConfig().to_dict()).expiry is None


def test_it_survives_a_dictionary_and_prints_as_yaml() -> None:
    graph = GraphConfig(radius=2, window=50_000, directed=False)
    assert GraphConfig.from_dict(graph.to_dict()) == graph
    assert yaml.safe_load(str(graph)) == graph.to_dict()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown parameters radios"):
        GraphConfig.from_dict({"radios": 3.0})
