# SPDX-License-Identifier: Apache-2.0
"""A model of PyTorch Geometric that is not made of this package's layers, as a network for events."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from aegnn_core.events.array import make_events
from aegnn_core.graph import GraphConfig, build_graph
from aegnn_core.nn.event_network import EventNetwork

__all__ = ["UserNetwork"]

#: Events of the graphs on which a model is tried.
_TRIED_EVENTS = 32

#: The logit of an object where there are no events.
_NO_OBJECT = -30.0


class UserNetwork(EventNetwork):
    """A module that takes a ``Data`` or a batch of them, and gives class logits or the boxes of a grid of cells.

    It is tried on two small graphs, so that what does not fit is known at once. For a graph without events it is not
    asked: all classes are as likely then, and there are no boxes.

    Args:
        module: forward takes a graph as :func:`aegnn_core.graph.build_graph` returns it, or a batch, and gives
            ``[B, classes]`` (recognition) or ``[B, rows, columns, 5 + classes]`` (detection). Its attribute ``stride``,
            if it has one, is width and height [px] of these cells, and ``fits_any_sensor = True`` says that its weights
            are right for a sensor of any size.
        sensor: width and height [px].
        task: ``"recognition"`` or ``"detection"``.
        num_classes: number of classes.

    Raises:
        ValueError: the module fails on such graphs, or gives something else.
    """

    def __init__(self, module: nn.Module, sensor: tuple[int, int], task: str, num_classes: int) -> None:
        super().__init__(sensor, task)
        self.module = module
        nothing = torch.zeros(self._tried(num_classes))
        if task == "detection":
            nothing[..., 4] = _NO_OBJECT
        self.nothing: Tensor
        self.register_buffer("nothing", nothing, persistent=False)

    def forward(self, data: Data) -> Tensor:
        """The module's output for a graph or a batch of graphs."""
        if data.x.size(0):
            output: Tensor = self.module(data)
            return output
        return self.nothing.expand(data.num_graphs if isinstance(data, Batch) else 1, *self.nothing.shape)

    @property
    def stride(self) -> tuple[float, float] | None:
        """Width and height [px] of the cells of a detector's output; None where they divide the sensor evenly."""
        stride = getattr(self.module, "stride", None)
        return None if stride is None else (float(stride[0]), float(stride[1]))

    @property
    def fits_any_sensor(self) -> bool:
        """Whether the module says that the same weights are right for a sensor of another size."""
        return getattr(self.module, "fits_any_sensor", False) is True

    def _tried(self, num_classes: int) -> tuple[int, ...]:
        """The shape of the module's output for one graph, from a trial."""
        name, training = type(self.module).__name__, self.module.training
        graph = _small_graph(self.sensor)
        try:
            with torch.no_grad():
                one, two = self.module.eval()(graph), self.module(Batch.from_data_list([graph, graph]))
        except Exception as error:  # whatever its code raises
            raise ValueError(
                f"network {name} fails on a graph of {_TRIED_EVENTS} events: {type(error).__name__}: {error}"
            ) from error
        finally:
            self.module.train(training)
        expected = "[B, classes]" if self.task == "recognition" else "[B, rows, columns, 5 + classes]"
        dimensions, last = (2, num_classes) if self.task == "recognition" else (4, 5 + num_classes)
        for output, count in ((one, 1), (two, 2)):
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            if (
                not isinstance(output, Tensor)
                or output.dim() != dimensions
                or found[:: len(found) - 1] != (count, last)
            ):
                raise ValueError(
                    f"network {name} gives {found} for {count} graph{'s' * (count > 1)} and {num_classes} classes,"
                    f" expected {expected} for {self.task}"
                )
        return tuple(one.shape[1:])


def _small_graph(sensor: tuple[int, int]) -> Data:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 10_000, _TRIED_EVENTS))
    x, y = (rng.integers(0, min(side, 8), _TRIED_EVENTS) for side in sensor)
    events = make_events(t, x, y, rng.integers(0, 2, _TRIED_EVENTS))
    return build_graph(events, GraphConfig(max_neighbors=4, expiry="graph"))
