# SPDX-License-Identifier: Apache-2.0
"""The graph rule on a command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

from aegnn_core.graph.config import EXPIRY_RULES, GraphConfig

__all__ = ["add_graph_options", "graph_from_options", "graph_options"]

_NO_LIMIT = "none"


def _limit(text: str) -> int | None:
    return None if text == _NO_LIMIT else int(text)


_OPTIONS: dict[str, tuple[Callable[[str], float | None], str]] = {
    "radius": (float, "reach of an edge [px]"),
    "max_neighbors": (int, "most neighbours per node; the most recent are kept"),
    "time_scale": (float, "how many pixels one microsecond is worth [px/µs]"),
    "time_horizon": (_limit, "longest time an edge may span [µs], or none"),
    "window": (_limit, "a node is live while it is younger than this [µs], or none"),
    "max_nodes": (_limit, "a node is live while it is among this many last nodes, or none"),
}


def add_graph_options(parser: argparse.ArgumentParser, defaults: str) -> None:
    """Add an option for every part of the rule; ``defaults`` says what holds for those that are not given."""
    group = parser.add_argument_group("graph rule", defaults)
    for name, (kind, meaning) in _OPTIONS.items():
        group.add_argument(_flag(name), type=kind, default=argparse.SUPPRESS, help=meaning)
    group.add_argument(
        "--undirected",
        action="store_true",
        default=argparse.SUPPRESS,
        help="edges run both ways, not only to the present",
    )
    group.add_argument(
        "--expiry",
        choices=EXPIRY_RULES,
        default=argparse.SUPPRESS,
        help="what the end of a node's life does: it leaves the pooling only, or with all its edges (the default with"
        " --undirected)",
    )


def graph_from_options(arguments: argparse.Namespace, default: GraphConfig) -> GraphConfig:
    """The rule with the parts that were given, and the others of ``default``.

    Raises:
        ValueError: a value is out of its range.
    """
    given = {name: value for name, value in vars(arguments).items() if name in (*_OPTIONS, "expiry")}
    if hasattr(arguments, "undirected"):
        given["directed"] = False
    return replace(default, **given)


def graph_options(graph: GraphConfig) -> list[str]:
    """The options that give this rule, whatever the default is."""
    options = []
    for name in _OPTIONS:
        value = getattr(graph, name)
        options += [_flag(name), _NO_LIMIT if value is None else str(value)]
    if not graph.directed:
        options.append("--undirected")
    if graph.expiry is not None:
        options += ["--expiry", graph.expiry]
    return options


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
