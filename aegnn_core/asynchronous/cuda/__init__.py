# SPDX-License-Identifier: Apache-2.0
"""The engine that runs the package's networks on a CUDA device, in Triton kernels."""

from aegnn_core.asynchronous.cuda.availability import interpreted
from aegnn_core.asynchronous.cuda.engine import CudaEngine

__all__ = ["CudaEngine", "interpreted"]
