# SPDX-License-Identifier: Apache-2.0
"""Gen1 Automotive Detection (de Tournemire et al., 2020): 39 hours of road traffic in parts of 60 s, 304 × 240 px."""

from __future__ import annotations

from functools import partial

from aegnn_core import known_datasets
from aegnn_core.datasets.prophesee import large_enough, prophesee_format

__all__ = ["GEN1"]

#: Boxes with a smaller diagonal or side [px] do not count in the paper's evaluation. The toolbox's defaults are for the
#: 1 Mpx data set; AEGNN took them for this one.
_LEAST_DIAGONAL_PX, _LEAST_SIDE_PX = 30, 10

GEN1 = prophesee_format(
    name="gen1",
    labels=known_datasets.GEN1.labels,
    sensor=known_datasets.GEN1.sensor,
    source="the archives of https://www.prophesee.ai/2020/01/24/prophesee-gen1-automotive-detection-dataset",
    counts=partial(large_enough, _LEAST_DIAGONAL_PX, _LEAST_SIDE_PX),
)
