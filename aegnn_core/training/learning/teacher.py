# SPDX-License-Identifier: Apache-2.0
"""A trained recogniser whose answers another learns in place of the labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Batch

from aegnn_core.graph import check_same_edges
from aegnn_core.nn.checkpoint import TrainedModel, load_model
from aegnn_core.nn.graph_network import GraphNetwork

__all__ = ["Teacher"]


class Teacher:
    """Answers the samples of a training, changed as they are (Hinton et al., 2015; Beyer et al., 2022).

    Both see the same nodes: those that are live by the pupil's rule.

    Args:
        source: name or file of the model.
        pupil: what learns from it.

    Raises:
        ValueError: there is no such model, or it is no recogniser of the pupil's classes, sensor and edges.
    """

    def __init__(self, source: str, pupil: TrainedModel) -> None:
        model = load_model(source)
        for what, found, expected in (
            ("task", model.network.task, "recognition"),
            ("labels", model.labels, pupil.labels),
            ("sensor", model.network.sensor, pupil.network.sensor),
        ):
            if found != expected:
                raise ValueError(f"teacher: {model.name} has the {what} {found}, expected {expected}")
        if not isinstance(model.network, GraphNetwork) or not model.network.only_counts:
            try:
                check_same_edges(model.graph, pupil.graph)
            except ValueError as error:
                raise ValueError(f"teacher: {model.name} sees the same graphs: {error}") from error
            found_dim, expected_dim = (one.architecture.get("dim") for one in (model, pupil))
            if found_dim != expected_dim:
                raise ValueError(f"teacher: {model.name} has dim = {found_dim}, expected {expected_dim}")
        self.name = model.name
        self._network = model.network.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """The probabilities ``[B, classes]`` of the classes, on the batch's device."""
        self._network.to(batch.x.device)
        probabilities: Tensor = self._network(batch).float().softmax(1)
        return probabilities
