"""The compiled engine for directed graphs, in Numba."""

from aegnn_core.asynchronous.compiled.engine import CompiledEngine

__all__ = ["CompiledEngine"]
