# SPDX-License-Identifier: Apache-2.0
"""The graph rule word by word: slow, over all pairs of nodes, and obviously right."""

import numpy as np
from hypothesis import strategies as st

from aegnn_core.events.array import make_events
from aegnn_core.graph import GraphConfig


def live_nodes(events: np.ndarray, graph: GraphConfig, time: int, count: int | None = None) -> list[int]:
    """Numbers of the nodes among the first ``count`` that are live at ``time``."""
    count = len(events) if count is None else count
    young = [j for j in range(count) if graph.window is None or time - int(events["t"][j]) < graph.window]
    return [j for j in young if graph.max_nodes is None or j >= count - graph.max_nodes]


def neighbors_by_rule(events: np.ndarray, graph: GraphConfig) -> list[list[int]]:
    """For every node its neighbours, the most recent first."""
    lists = []
    for k in range(len(events)):
        t, x, y = (int(events[name][k]) for name in "txy")
        live = set(live_nodes(events, graph, t, k + 1))
        near = []
        for j in reversed(range(k)):
            dt = t - int(events["t"][j])
            dx, dy = x - int(events["x"][j]), y - int(events["y"][j])
            if graph.time_horizon is not None and dt > graph.time_horizon:
                continue
            if j in live and float(dx * dx + dy * dy) + (graph.time_scale * dt) ** 2 <= graph.radius**2:
                near.append(j)
        lists.append(near[: graph.max_neighbors])
    return lists


def edges_by_rule(events: np.ndarray, graph: GraphConfig, time: int | None = None) -> set[tuple[int, int]]:
    """All edges (source, target), with the node numbers that ``build_graph`` gives them."""
    if time is None:
        time = int(events["t"][-1]) if len(events) else 0
    first = 0
    if graph.resolved_expiry == "graph":
        live = live_nodes(events, graph, time)
        first = live[0] if live else len(events)
    edges = set()
    for k, sources in enumerate(neighbors_by_rule(events, graph)):
        for j in sources:
            if min(j, k) >= first:
                edges.add((j - first, k - first))
                if not graph.directed:
                    edges.add((k - first, j - first))
    return edges


@st.composite
def streams(draw: st.DrawFn, max_events: int = 120, width: int = 12, height: int = 9) -> np.ndarray:
    """Event streams with bursts, pauses, equal timestamps and crowded pixels."""
    count = draw(st.integers(0, max_events))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = rng.choice(
        [0, 0, 1, 50, 2_000, 60_000], count, p=_weights(draw(st.sampled_from(["burst", "calm", "mixed"])))
    )
    t = draw(st.sampled_from([0, 1_744_227_144_732_712])) + np.cumsum(steps)
    crowd = draw(st.integers(1, max(width, height)))
    return make_events(
        t,
        rng.integers(0, min(crowd, width), count),
        rng.integers(0, min(crowd, height), count),
        rng.integers(0, 2, count),
    )


def _weights(kind: str) -> list[float]:
    return {
        "burst": [0.5, 0.2, 0.3, 0, 0, 0],
        "calm": [0, 0, 0.1, 0.3, 0.5, 0.1],
        "mixed": [0.2, 0.1, 0.2, 0.2, 0.2, 0.1],
    }[kind]


def graph_configs(directed: bool | None = None, bounded: bool | None = None) -> st.SearchStrategy[GraphConfig]:
    """Graph configurations of every kind."""
    limits = st.none() if bounded is False else st.integers(1, 40)
    return st.builds(
        GraphConfig,
        radius=st.sampled_from([0.5, 1.0, 2.5, 3.0, 4.2]),
        max_neighbors=st.integers(1, 12),
        time_scale=st.sampled_from([5e-6, 6e-5, 1e-3]),
        directed=st.booleans() if directed is None else st.just(directed),
        time_horizon=st.none() | st.integers(1, 100_000),
        window=st.none() if bounded is False else st.none() | st.integers(1, 200_000),
        max_nodes=st.none() | limits,
        expiry=st.sampled_from([None, "readout", "graph"]) if directed is None else st.none(),
    )
