# SPDX-License-Identifier: Apache-2.0
"""Models that give the same for everything that they see."""

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from aegnn_core import GraphConfig
from aegnn_core.events.simulation import CLASSES, RECOGNITION_CLASSES, RECOGNITION_SCENE, SceneConfig
from aegnn_core.nn import TrainedModel
from aegnn_core.nn.user_network import UserNetwork


class Constant(nn.Module):
    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output: Tensor
        self.register_buffer("output", output, persistent=False)

    def forward(self, data: Data) -> Tensor:
        return self.output.expand(1 if data.batch is None else data.num_graphs, *self.output.shape)


def constant_model(task: str, first: float) -> TrainedModel:
    """A model for simulated scenes: a recogniser, or a detector of 2 x 3 cells, whose first logit is ``first``."""
    recognises = task == "recognition"
    labels, scene = (RECOGNITION_CLASSES, RECOGNITION_SCENE) if recognises else (CLASSES, SceneConfig())
    output = torch.zeros((len(labels),) if recognises else (2, 3, 5 + len(labels)))
    output.view(-1)[0] = first
    sensor, graph = (scene.sensor.width, scene.sensor.height), GraphConfig(window=20_000, expiry="graph")
    module = UserNetwork(Constant(output), sensor, task, len(labels))
    return TrainedModel(module.eval(), graph, labels, "constant", {})
