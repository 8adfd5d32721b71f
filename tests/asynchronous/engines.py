# SPDX-License-Identifier: Apache-2.0
"""Which of the engines have something in common, taken from their table by what they refuse."""

from torch import nn

from aegnn_core import GraphConfig, network
from aegnn_core.asynchronous import ENGINES
from tests.nn.random_networks import taken_by


def refuses_undirected_graphs(engine: str) -> bool:
    module = network(taken_by(engine), dataset="nmnist", sensor=(12, 9))
    return ENGINES[engine].refusal(module, GraphConfig(directed=False)) is not None


#: Engines that run models of the user's own.
FOR_ANY_MODEL = [name for name, kind in ENGINES.items() if kind.refusal(nn.Identity(), GraphConfig()) is None]
#: Engines that compute a node's features once, which are final in directed graphs only.
KEEPING_FEATURES = [name for name in ENGINES if refuses_undirected_graphs(name)]
