# SPDX-License-Identifier: Apache-2.0
"""A rule on a command line is the same rule again."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given

from aegnn_core.graph import GraphConfig
from aegnn_core.graph.options import add_graph_options, graph_from_options, graph_options
from tests.graph.reference import graph_configs


def parsed(*options: str, default: GraphConfig) -> GraphConfig:
    parser = argparse.ArgumentParser()
    add_graph_options(parser, "")
    return graph_from_options(parser.parse_args(options), default)


@given(graph=graph_configs(), default=graph_configs(directed=True))
def test_options_give_the_rule_whatever_the_default(graph: GraphConfig, default: GraphConfig) -> None:
    found = parsed(*graph_options(graph), default=default)
    assert found == graph


def test_what_is_not_given_is_the_default() -> None:
    default = GraphConfig(radius=2.0, window=50, max_nodes=7, expiry="graph")
    assert parsed(default=default) == default
    assert parsed("--window", "none", "--radius", "4", default=default) == GraphConfig(
        radius=4.0, max_nodes=7, expiry="graph"
    )
    assert parsed("--undirected", default=GraphConfig()) == GraphConfig(directed=False)
    with pytest.raises(ValueError, match="graph: max_nodes must be a whole number of at least 1, found 0"):
        parsed("--max-nodes", "0", default=default)
