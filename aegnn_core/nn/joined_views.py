# SPDX-License-Identifier: Apache-2.0
"""Recognisers that look at the same counts in different ways, as one whose scores are the mean over all views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from aegnn_core.nn.checkpoint import TrainedModel, trained_downsampling
from aegnn_core.nn.cropped_head import CroppedHead, CroppedViews
from aegnn_core.nn.networks import network

__all__ = ["join_views"]

#: The options in which views differ.
_OF_VIEWS = ("crop_cell", "crop_of")


def join_views(models: Sequence[TrainedModel], name: str = "joined") -> TrainedModel:
    """One model whose class scores are the mean over the views of several models, which stay as they are.

    What they count is counted once. A model that is itself of several views adds each of them.

    Args:
        models: at least two ``histogram`` networks with ``crop``, alike but for ``crop_cell``, ``crop_of`` and their
            weights, and trained on recordings that were downsampled in the same way.
        name: of the joined model.

    Raises:
        ValueError: fewer than two, another network, or a difference that no view has.
    """
    if len(models) < 2:
        raise ValueError(f"joining needs at least two models, found {len(models)}")
    first, *others = models
    cells: list[float | None] = []
    of: list[str] = []
    weights: dict[str, Tensor] = {}
    for model in models:
        head: Any = getattr(model.network, "head", None)
        views: list[Any] = list(head.views) if isinstance(head, CroppedViews) else [head]
        if model.architecture["name"] != "histogram" or not all(isinstance(view, CroppedHead) for view in views):
            raise ValueError(
                f"model {model.name} is {model.architecture['name']}, only histogram networks with crop can be joined"
            )
        for view in views:
            weights |= {f"head.views.{len(cells)}.{key}": value for key, value in view.state_dict().items()}
            cells.append(view.cell)
            of.append(view.of)
    for other in others:
        for what, value, found in (
            ("labels", first.labels, other.labels),
            ("graph", first.graph, other.graph),
            ("architecture", _without_view(first.architecture), _without_view(other.architecture)),
            ("downsampling", trained_downsampling(first), trained_downsampling(other)),
        ):
            if value != found:
                raise ValueError(
                    f"model {other.name} has the {what} {found}, expected {value} as of {first.name}: only"
                    f" {' and '.join(_OF_VIEWS)} may differ"
                )
    architecture = {**first.architecture, "crop_cell": cells, "crop_of": of}
    module = network(**architecture)
    module.load_state_dict({**_beside_head(first), **weights})
    module.graph = first.graph
    trainings: list[dict[str, Any]] = []
    for model in models:
        trainings += model.training.get("joined") or [{"model": model.name, **model.training}]
    training = {"downsampling": trained_downsampling(first), "joined": trainings}
    return replace(first, network=module, name=name, architecture=architecture, training=training)


def _without_view(architecture: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in architecture.items() if key not in _OF_VIEWS}


def _beside_head(model: TrainedModel) -> dict[str, Any]:
    return {key: value for key, value in model.network.state_dict().items() if not key.startswith("head.")}
