# SPDX-License-Identifier: Apache-2.0
"""The event detector with five diagnostics a second, so that tests need not wait for them."""

from __future__ import annotations

from aegnn_ros.detector import detector_node
from aegnn_ros.playback.node_process import main

if __name__ == "__main__":
    detector_node._DIAGNOSTICS_PERIOD_S = 0.2
    main()
