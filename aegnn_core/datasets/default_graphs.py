# SPDX-License-Identifier: Apache-2.0
"""The graph rules for training unless another is chosen."""

from __future__ import annotations

from aegnn_core.graph import GraphConfig

__all__ = ["DEFAULT_GRAPHS"]

#: By task. In whole recordings of one object the radius corresponds to 100 ms; in scenes 50 ms, in which time an edge
#: at 60 px/s covers as many pixels.
DEFAULT_GRAPHS = {
    "recognition": GraphConfig(radius=3.0, max_neighbors=16, time_scale=3e-5),
    "detection": GraphConfig(radius=3.0, max_neighbors=16, time_scale=6e-5, window=50_000),
}
