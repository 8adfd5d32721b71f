# SPDX-License-Identifier: Apache-2.0
"""A package of somebody else, with networks and a data set: its code, and what pip notes of it when it is installed."""

import sys
from pathlib import Path

import pytest

from aegnn_core.datasets.event_dataset import FORMATS
from aegnn_core.nn.networks import NETWORKS

_CODE = """
import torch
import torch_geometric.nn as pyg
from torch import nn

from aegnn_core.datasets.class_folders import find_in_class_folders
from aegnn_core.datasets.dataset_format import DatasetFormat
from aegnn_core.nn import NETWORKS
from aegnn_core.nn.pooling import GridPooling

NUMBER = 7


@NETWORKS.register("their_classifier")
class Classifier(nn.Module):
    def __init__(self, num_classes, hidden=8):
        super().__init__()
        self.first = pyg.GCNConv(1, hidden)
        self.second = pyg.GATv2Conv(hidden, hidden, edge_dim=3)
        self.second.lin_r.weight = self.second.lin_l.weight
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, data):
        x = nn.functional.elu(self.first(data.x, data.edge_index))
        x = x + self.second(x, data.edge_index, data.edge_attr).relu()
        return self.head(pyg.global_mean_pool(x, data.batch))


class Detector(nn.Module):
    def __init__(self, num_classes, sensor):
        super().__init__()
        self.conv = pyg.GraphConv(1, 8)
        self.grid = GridPooling(sensor, (8, 6))
        self.head = nn.Conv2d(8, 5 + num_classes, 3, padding=1)

    def forward(self, data):
        x = self.conv(data.x, data.edge_index).relu()
        batch = x.new_zeros(len(x), dtype=torch.long) if data.batch is None else data.batch
        graphs = 1 if data.batch is None else data.num_graphs
        return self.head(self.grid(x, data.pos, batch, graphs)).permute(0, 2, 3, 1)


class Fixed(nn.Module):
    fits_any_sensor = True

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, data):
        graphs = 1 if data.batch is None else data.num_graphs
        return data.x.new_ones(graphs, self.num_classes).cumsum(1)


def broken(num_classes):
    raise RuntimeError("no such weights")


def misshapen(task, num_classes):
    return Classifier(num_classes + 1)


LETTERS = DatasetFormat(
    name="letters",
    labels=("a", "b"),
    sensor=(34, 34),
    tasks=("recognition",),
    symmetric=True,
    source="a letter to us",
    find=lambda folder, split, task: find_in_class_folders(folder / split, ("a", "b")),
)
"""

_ENTRY_POINTS = """
[aegnn_core.networks]
their_classifier = their_package.models:Classifier
their_lost = their_package.lost:Network

[aegnn_core.datasets]
letters = their_package.models:LETTERS
their_lost = their_package.lost:LETTERS
"""


def install_user_package(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install ``their_package`` into a folder in the path of Python, until the end of the test."""
    _write(site)
    monkeypatch.syspath_prepend(site)
    for registry in (NETWORKS, FORMATS):
        monkeypatch.setattr(registry, "_values", dict(registry._values))
        monkeypatch.delitem(registry.__dict__, "_entry_points", raising=False)
    for name in ("their_package.models", "their_package"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def forget_user_package() -> None:
    """Let the process be as one that has not imported the package, nor trusted it."""
    for path in [path for path in NETWORKS._values if path.startswith("their_package")]:
        del NETWORKS._values[path]
    del sys.modules["their_package.models"]


def _write(site: Path) -> None:
    (site / "their_package").mkdir(parents=True)
    (site / "their_package" / "__init__.py").touch()
    (site / "their_package" / "models.py").write_text(_CODE)
    notes = site / "their_package-1.0.dist-info"
    notes.mkdir()
    (notes / "METADATA").write_text("Metadata-Version: 2.1\nName: their_package\nVersion: 1.0\n")
    (notes / "entry_points.txt").write_text(_ENTRY_POINTS)
