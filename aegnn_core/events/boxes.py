# SPDX-License-Identifier: Apache-2.0
"""What a box is."""

from __future__ import annotations

import numpy as np

__all__ = ["BOX_DTYPE"]

#: A box: time [µs], upper left corner and size [px] (pixel k spans k to k + 1), class, number of its object.
BOX_DTYPE = np.dtype(
    [
        ("t", np.int64),
        ("x", np.float32),
        ("y", np.float32),
        ("w", np.float32),
        ("h", np.float32),
        ("class_id", np.uint8),
        ("track_id", np.int32),
    ]
)
