# SPDX-License-Identifier: Apache-2.0
"""Sensor and classes of AEGNN's data sets: networks are sized for them, and their recordings are read by them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

__all__ = ["GEN1", "NCALTECH101", "NCARS", "NMNIST", "KnownDataset", "split_letters"]


@dataclass(frozen=True)
class KnownDataset:
    """What a data set's recordings have in common.

    Attributes:
        sensor: width and height [px].
        labels: names of its classes.
    """

    sensor: tuple[int, int]
    labels: tuple[str, ...]


@cache
def split_letters() -> dict[str, str]:
    """For each class of N-Caltech101 the split of each of its pictures: T training, v validation, x test."""
    text = (resources.files("aegnn_core") / "datasets" / "ncaltech101_split.txt").read_text("utf8")
    return dict(line.split() for line in text.splitlines() if not line.startswith("#"))


NCARS = KnownDataset((120, 100), ("car", "background"))
NCALTECH101 = KnownDataset((240, 180), tuple(split_letters()))
GEN1 = KnownDataset((304, 240), ("car", "pedestrian"))
NMNIST = KnownDataset((34, 34), tuple(str(digit) for digit in range(10)))
