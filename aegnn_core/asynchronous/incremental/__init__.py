# SPDX-License-Identifier: Apache-2.0
"""The engine for any model on any graph."""

from aegnn_core.asynchronous.incremental.incremental_engine import IncrementalEngine

__all__ = ["IncrementalEngine"]
