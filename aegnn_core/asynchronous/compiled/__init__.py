# SPDX-License-Identifier: Apache-2.0
"""The compiled engine for directed graphs, in Numba."""

from aegnn_core.asynchronous.compiled.engine import CompiledEngine

__all__ = ["CompiledEngine"]
