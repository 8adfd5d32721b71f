# SPDX-License-Identifier: Apache-2.0
"""The engine that runs the package's networks on a CUDA device, in Triton kernels."""

from aegnn_core.asynchronous.cuda.engine import CudaEngine
from aegnn_core.triton_support import interpreted

__all__ = ["CudaEngine", "interpreted"]
