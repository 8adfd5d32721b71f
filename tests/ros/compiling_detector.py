# SPDX-License-Identifier: Apache-2.0
"""The event detector whose model is prepared for a minute in Python that C calls, as a compiler does."""

from __future__ import annotations

import ctypes
import time

from aegnn_ros.detector import detector_node
from aegnn_ros.playback.node_process import main


def prepare(*arguments: object) -> None:
    print("compiling", flush=True)
    ctypes.CFUNCTYPE(None)(wait)()


def wait() -> None:
    for _ in range(6000):
        time.sleep(0.01)


if __name__ == "__main__":
    detector_node.prepare_model = prepare
    main()
