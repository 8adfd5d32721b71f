# SPDX-License-Identifier: Apache-2.0
"""Live models: networks that follow a stream of events."""

from aegnn_core.asynchronous.live import ENGINES, LiveModel, make_model_asynchronous

__all__ = ["ENGINES", "LiveModel", "make_model_asynchronous"]
