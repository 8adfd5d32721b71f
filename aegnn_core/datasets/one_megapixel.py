# SPDX-License-Identifier: Apache-2.0
"""1 Megapixel Automotive Detection (Perot et al., NeurIPS 2020): 15 hours of road traffic in parts of 60 s, 720p."""

from __future__ import annotations

from functools import partial

from aegnn_core.datasets.prophesee import large_enough, prophesee_format

__all__ = ["ONE_MEGAPIXEL"]

#: Boxes with a smaller diagonal or side [px] do not count in the paper's evaluation.
_LEAST_DIAGONAL_PX, _LEAST_SIDE_PX = 60, 20

ONE_MEGAPIXEL = prophesee_format(
    name="1mpx",
    labels=("pedestrian", "two wheeler", "car", "truck", "bus", "traffic sign", "traffic light"),
    sensor=(1280, 720),
    source="the archives of https://www.prophesee.ai/2020/11/24/automotive-megapixel-event-based-dataset",
    counts=partial(large_enough, _LEAST_DIAGONAL_PX, _LEAST_SIDE_PX),
    # The only ones that the paper's mean is of.
    evaluated_labels=("pedestrian", "two wheeler", "car"),
)
